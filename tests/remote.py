"""Stand-ins for networks that workers of a cluster load; they find them here by name."""

import errno
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from stand_ins import SIZE, Network

from haemo.errors import WeightsUnavailable
from haemo.features.cluster.elsewhere import Elsewhere
from haemo.features.cluster.hosts import this_host
from haemo.features.extraction.extract import ExtractionReport, ExtractionRequest, fill_store
from haemo.features.manifest import Manifest
from haemo.features.store.store import FeatureStore
from haemo.features.views.preprocess import Preprocessing
from haemo.models.networks.engine import Engine
from haemo.progress import silent

__all__ = ["RemoteNetwork", "extract_elsewhere", "scaled"]


class RemoteNetwork(Network):
    """A stand-in that says where its weights are from."""

    engine = Engine("cpu", "float32", "contiguous")
    weights = SimpleNamespace(origin="made up")
    layer = "only"


class Deadly(RemoteNetwork):
    """Ends its process at a plane that is black throughout."""

    def stream(self, batches):
        def seen():
            for planes in batches:
                if not planes.reshape(len(planes), -1).any(axis=1).all():
                    os.kill(os.getpid(), signal.SIGKILL)
                yield planes

        return super().stream(seen())


class Broken(RemoteNetwork):
    """Fails at every batch, as a host does whose disk is broken."""

    def stream(self, batches):
        raise OSError(errno.EIO, "Input/output error")
        yield


class Half(RemoteNetwork):
    """Computes in another precision."""

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "precision": "bfloat16"}


class Marked(RemoteNetwork):
    """Notes in a folder how many planes it saw."""

    def __init__(self, folder: Path):
        super().__init__()
        self._folder = folder

    def stream(self, batches):
        for embeddings in super().stream(batches):
            (self._folder / f"{os.getpid()}-{time.monotonic_ns()}").write_text(str(len(embeddings)))
            yield embeddings


def first(mark: Path) -> bool:
    """Whether this process was the first one to ask, and only it."""
    try:
        with mark.open("x") as stream:
            stream.write(str(os.getpid()))
    except FileExistsError:
        return mark.read_text() == str(os.getpid())
    return True


def load(notes: dict[str, str] | None, pause: float = 0.0, batch: int | None = None, **_: Any):
    del notes
    network = RemoteNetwork(pause=pause)
    network.batch = batch or network.batch
    return network, Preprocessing(size=SIZE)


def load_of_settings(settings, notes=None, batch=None, progress=None):
    del settings, progress
    return load(notes, batch=batch)


def load_deadly(notes: dict[str, str] | None):
    del notes
    return Deadly(), Preprocessing(size=SIZE)


def load_marked(notes: dict[str, str] | None, folder: Path):
    del notes
    return Marked(folder), Preprocessing(size=SIZE)


def load_other(notes: dict[str, str] | None, mark: Path):
    """One worker has other weights."""
    del notes
    return RemoteNetwork(seed=int(first(mark))), Preprocessing(size=SIZE)


def load_half(notes: dict[str, str] | None, mark: Path):
    """One worker computes in another precision."""
    return Half() if first(mark) else load(notes)[0], Preprocessing(size=SIZE)


def load_slow(notes: dict[str, str] | None, mark: Path):
    """One worker takes its time."""
    return load(notes, pause=2.0 if first(mark) else 0.0)


def load_broken(notes: dict[str, str] | None, mark: Path):
    """One worker fails."""
    return Broken() if first(mark) else load(notes)[0], Preprocessing(size=SIZE)


def load_or_refuse(notes: dict[str, str] | None, mark: Path | None = None):
    """One worker has no weights, or without a mark none has."""
    if mark is None or first(mark):
        raise WeightsUnavailable("no weights are there; give --weights FILE")
    return load(notes)


def scaled(shared: np.ndarray, factor: int, mark: Path | None = None) -> float:
    """A piece of work; with a mark its first worker is killed at it."""
    if mark is not None and first(mark):
        os.kill(os.getpid(), signal.SIGKILL)
    return float(shared.sum() * factor)


def broken_host(names):
    """Fails when it is asked who it is."""
    raise OSError(errno.EIO, "Input/output error")


def host_that_waits(names, folder: Path, count: int):
    """Says who it is once so many workers have been asked, or the file ``go`` is there."""
    (folder / str(os.getpid())).touch()
    end = time.monotonic() + 20
    while len(list(folder.iterdir())) < count and not (folder / "go").exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{count} workers were not asked at once")
        time.sleep(0.01)
    return this_host(names)


def host_that_hangs(names, mark: Path, folder: Path):
    """One worker says nothing before the file ``go`` is there."""
    return host_that_waits(names, folder, 99) if first(mark) else this_host(names)


def extract_elsewhere(client, manifest: Manifest, run: Path, loader=load, **options: Any) -> ExtractionReport:
    """Extract the features of a manifest into run/features.h5, on the workers of a client."""
    run.mkdir(exist_ok=True)
    progress = options.pop("progress", silent)
    hands_back = options.pop("hands_back", False)
    carries_on = options.pop("carries_on", False)
    request = ExtractionRequest(**options)
    store_path = run / "features.h5"
    notes, fingerprint = {}, None
    if carries_on:
        with FeatureStore(store_path) as store:
            notes, fingerprint = store.notes, store.fingerprint
    with Elsewhere(
        client, loader, manifest, store_path, request, notes=notes, fingerprint=fingerprint, patience=300.0
    ) as elsewhere:
        if hands_back:
            for member in elsewhere._crew.useful():
                object.__setattr__(member.card, "writes", False)
        return fill_store(
            manifest,
            store_path,
            elsewhere.fingerprint,
            elsewhere.notes,
            request,
            lambda ledger, shards: elsewhere.embed(ledger, shards, progress),
            progress=silent,
        )
