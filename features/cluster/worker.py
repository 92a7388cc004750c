"""What runs on a worker: it says who it is, and embeds batches of slices by their paths."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from haemo.errors import FingerprintMismatch, HaemoError
from haemo.features.cluster.hosts import this_host
from haemo.features.cluster.messages import Batch, Card, Done, Introduction, Load, Session
from haemo.features.extraction.decoding import Decoder
from haemo.features.extraction.extract import Extraction, embedding_fingerprint
from haemo.features.extraction.ledger import Ledger
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.reading.reader import SliceReader
from haemo.features.store.contents import KnownFile
from haemo.features.store.shards import parts_of
from haemo.features.store.store import FeatureStore
from haemo.features.store.storefile import RowKeys, seal_of, write_store_file
from haemo.progress import silent

if TYPE_CHECKING:
    from haemo.models.networks.frozen import Embedder

__all__ = ["dask_setup", "embed_batch", "introduce"]


class _Loaded:
    """Network and preprocessing of a session, and what its store holds already."""

    def __init__(self, load: Load, notes: dict[str, str]):
        self.notes = notes
        self.extractor, self.preprocessing = load(notes or None)
        self._held: set[tuple[str, int]] | None = None

    def held(self, session: Session) -> set[tuple[str, int]]:
        """Contents and variants that need not be embedded, as far as this worker sees the store."""
        if self._held is None:
            self._held = set()
            base = [session.store_path] if session.base and session.store_path.exists() else []
            for path in [*base, *parts_of(session.store_path)]:
                with FeatureStore(path) as source:
                    self._held.update(source.keys.pairs())
        return self._held


class _Parts:
    """Collects what `Extraction` hands over."""

    def __init__(self, dimension: int):
        self.keys = RowKeys([], [], [])
        self.blocks = [np.empty((0, dimension), np.float32)]

    def put(self, keys: RowKeys, embeddings: np.ndarray, files: Sequence[KnownFile]) -> None:
        del files  # the extraction has them all
        self.keys.slice_ids.extend(keys.slice_ids)
        self.keys.contents.extend(keys.contents)
        self.keys.variants.extend(keys.variants)
        self.blocks.append(embeddings)

    def settle(self) -> None:
        """Nothing is under way."""


# One network in a worker, of the session that was asked for last, and one batch at a time: a worker may have
# several threads for tasks, and a batch takes all its processors.
_turn = threading.Lock()
_loaded: dict[str, _Loaded] = {}


def dask_setup(worker: object) -> None:
    """Called by Dask as a worker of this host starts: Ctrl-C is for the command, which ends its workers."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def introduce(asked: Introduction) -> Card:
    """Say who this worker is; make the network ready where nothing stands against it."""
    card = Card(
        **vars(this_host(asked.versions)),
        writes=_can_write(asked),
        unseen=next((path for path, size in asked.samples.items() if _size(Path(path)) != size), ""),
        facts={},
    )
    if asked.objection(card):
        return card
    try:
        with _turn:
            ready = _ready(asked.token, asked.load, asked.notes)
    except HaemoError as error:
        return replace(card, problem=str(error))
    extractor = ready.extractor
    return replace(
        card,
        facts=extractor.describe(),
        preprocessing=ready.preprocessing,
        engine=extractor.engine,
        batch=extractor.batch,
        dimension=extractor.dimension,
        layer=extractor.layer,
        origin=extractor.weights.origin,
    )


def embed_batch(session: Session, batch: Batch, threads: int, writes: bool) -> Done:
    """Read and embed a batch, and write its part, or hand it back where that cannot be.

    Parameters
    ----------
    session : Session
    batch : Batch
    threads : int
        Of the network, and as many that decode.
    writes : bool
        Whether the part is written to the session's folder.

    Raises
    ------
    FingerprintMismatch
        If this worker's network is another one than it was.
    BadDataset
        If an embedding is not finite.
    OSError
        If the part cannot be written.
    """
    with _turn:
        start = time.monotonic()
        ready = _ready(session.token, session.load, session.notes)
        extractor = ready.extractor
        found = embedding_fingerprint(extractor, ready.preprocessing, session.dtype)
        if found != session.fingerprint:
            raise FingerprintMismatch("the network on this worker is no longer the one that it was")
        if "torch" in sys.modules:  # there are networks without it
            sys.modules["torch"].set_num_threads(threads)
        parts = _Parts(extractor.dimension)
        rows = [ManifestRow(name, Path(path), "", name, name) for name, path in batch.slices]
        ledger = Ledger(Manifest(rows), session.variants)
        if writes:
            ledger.held |= ready.held(session)
        with SliceReader(threads) as read:
            decoder = Decoder(ready.preprocessing, ledger.missing, read)
            Extraction(ledger, extractor, parts).compute(decoder, threads, silent)
        embeddings, part, seal = np.concatenate(parts.blocks), None, b""
        if writes and len(parts.keys):
            part = session.folder / f"batch-{batch.number:06d}.h5"
            write_store_file(
                part,
                parts.keys,
                [embeddings],
                extractor.dimension,
                session.dtype,
                session.fingerprint,
                session.notes,
            )
            seal = seal_of(part)
        return Done(
            files=ledger.files_in_order(),
            failures=ledger.failures,
            gone=ledger.gone,
            colour=ledger.colour,
            askew=ledger.askew,
            part=part,
            seal=seal,
            keys=RowKeys([], [], []) if part else parts.keys,
            embeddings=embeddings[:0] if part else embeddings,
            seconds=time.monotonic() - start,
        )


def _ready(token: str, load: Load, notes: dict[str, str]) -> _Loaded:
    found = _loaded.get(token)
    if found is None or (notes and found.notes != notes and not _as_noted(found.extractor, notes)):
        _loaded.clear()
        found = _loaded[token] = _Loaded(load, notes)
    return found


def _as_noted(extractor: "Embedder", notes: dict[str, str]) -> bool:
    return (str(extractor.engine), str(extractor.batch)) == (notes["engine"], notes["batch"])


def _can_write(asked: Introduction) -> bool:
    """Whether the folder here is the one of who asks, and takes a file that is written as parts are."""
    mark = asked.folder / f"probe-{socket.gethostname()}-{os.getpid()}"
    try:
        if (asked.folder / "probe").read_text(encoding="utf-8") != asked.token:
            return False
        mark.write_text(asked.token, encoding="utf-8")
        mark.unlink()
    except OSError:
        return False
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
