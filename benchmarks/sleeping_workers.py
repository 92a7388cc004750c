"""Stage one on a Dask cluster whose workers sleep in place of reading and embedding: all else is as it is.

`make bench-scale ARGS="--only cluster"` runs it. Scheduler, hand-out of batches, sealed parts, ledger and
merge are haemo's own; embeddings are random numbers.
"""

import hashlib
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from haemo.features.cluster import dispatch, elsewhere
from haemo.features.cluster.connection import Cluster, connected
from haemo.features.cluster.messages import Batch, Done, Session
from haemo.features.extraction.extract import ExtractionRequest, fill_store
from haemo.features.manifest import Manifest
from haemo.features.store.contents import KnownFile
from haemo.features.store.storefile import RowKeys, seal_of, write_store_file
from haemo.features.views.preprocess import Preprocessing
from haemo.models.networks.engine import Engine

__all__ = ["extract_asleep"]

ROWS_OF_A_BATCH = 1024  # as many as 16 MiB of fc7 are


class SleepingNetwork:
    """What a worker says of the network that it has not."""

    batch, engine, layer = 64, Engine("cpu", "float32", "contiguous"), "none"
    weights = SimpleNamespace(origin="none")

    def __init__(self, dimension: int):
        self.dimension = dimension

    def describe(self) -> dict:
        """Give the facts of the fingerprint."""
        return {"network": "sleeping", "precision": "float32"}


def load(notes: dict[str, str] | None, dimension: int) -> tuple[SleepingNetwork, Preprocessing]:
    """Make network and preprocessing on a worker."""
    del notes
    return SleepingNetwork(dimension), Preprocessing()


def sleep_batch(
    session: Session, batch: Batch, threads: int, writes: bool, *, seconds: float, dimension: int
) -> Done:
    """Sleep for as long as the slices would take, and write their part."""
    del threads
    assert writes, "the workers are on this host"
    start = time.monotonic()
    time.sleep(seconds * len(batch.slices))
    names = [name for name, _ in batch.slices]
    contents = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    embeddings = np.random.default_rng(batch.number).random((len(names), dimension), np.float32)
    part = session.folder / f"batch-{batch.number:06d}.h5"
    keys = RowKeys(names, contents, [0] * len(names))
    write_store_file(part, keys, [embeddings], dimension, session.dtype, session.fingerprint, session.notes)
    files = [
        KnownFile(name, path, 0, 0, content)
        for (name, path), content in zip(batch.slices, contents, strict=True)
    ]
    return Done(
        files=files,
        failures=[],
        gone=set(),
        colour=0,
        askew=0,
        part=part,
        seal=seal_of(part),
        keys=RowKeys([], [], []),
        embeddings=embeddings[:0],
        seconds=time.monotonic() - start,
    )


def extract_asleep(run: Path, dimension: int, workers: int, ms_a_slice: float) -> None:
    """Fill the store of a run from its manifest, and say what each stretch took."""
    manifest, store_path = Manifest.read(run / "manifest.csv"), run / "features.h5"
    request, took = ExtractionRequest(new=True), {}
    asleep = partial(sleep_batch, seconds=ms_a_slice / 1000, dimension=dimension)
    start = time.monotonic()
    # The clients of both modules look these up here; what they call on a worker is pickled.
    dispatch.embed_batch, elsewhere.rows_of_a_part = asleep, lambda _: ROWS_OF_A_BATCH
    with connected(Cluster.parse(f"local:{workers}")) as client:
        client.wait_for_workers(workers)
        loader = partial(load, dimension=dimension)
        with elsewhere.Elsewhere(
            client, loader, manifest, store_path, request, notes={}, fingerprint=None, patience=60.0
        ) as crew:
            took["start"] = time.monotonic() - start

            def embed(ledger, shards) -> None:
                begun = time.monotonic()
                crew.embed(ledger, shards)
                took["batches"] = time.monotonic() - begun

            begun = time.monotonic()
            report = fill_store(manifest, store_path, crew.fingerprint, crew.notes, request, embed)
            took["ledger and merge"] = time.monotonic() - begun - took["batches"]
    assert report.rows == len(manifest), report
    asleep_seconds = len(manifest) * ms_a_slice / 1000 / workers
    shown = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in took.items())
    print(f"{workers} workers, {ms_a_slice:g} ms a slice, that is {asleep_seconds:.0f} s asleep: {shown}")
