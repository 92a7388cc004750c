"""Slices as they come, files or pixels, to embeddings in memory; a feature store can remember them."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from haemo.errors import DamagedStore, UnreadableSlice
from haemo.features.extraction.decoding import Decoded, Decoder
from haemo.features.extraction.extract import Extraction, embedding_fingerprint
from haemo.features.extraction.ledger import Ledger
from haemo.features.failures import Failure
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.reading.reader import SliceReader
from haemo.features.reading.slice import Slice, content_hash
from haemo.features.store.contents import Contents, KnownFile
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.shards import Shards, merge, remove_parts
from haemo.features.store.store import FeatureStore, contents_path
from haemo.features.store.storefile import RowKeys, seal_problem
from haemo.processors import usable_processors
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.features.views.preprocess import Preprocessing
    from haemo.models.networks.frozen import Embedder

__all__ = ["embed_slices"]

_NAMED = 5


def embed_slices(
    slices: Sequence[Path | Slice],
    extractor: "Embedder",
    preprocessing: "Preprocessing",
    store_path: Path | None = None,
    *,
    keep: bool = True,
    workers: int | None = None,
    progress: Progress = silent,
) -> np.ndarray:
    """Embed slices, those with equal pixels once.

    With a store, what it holds is taken from there, by pixels, and what is new is added to it. Its other
    rows, and what its slices are called, stay as they are: the store may be that of a run. What a call that
    fails or is stopped has finished is used by the next one. The caller must hold the store's folder
    (`pipeline.run.claim`), unless nothing is to be kept.

    Parameters
    ----------
    slices : sequence of Path or Slice
    extractor : Embedder
    preprocessing : Preprocessing
    store_path : Path, optional
        The folder must exist.
    keep : bool
        Whether embeddings that are new go to the store.
    workers : int, optional
        Threads that decode; by default one for each CPU this process may use.
    progress : Progress

    Returns
    -------
    ndarray of shape (n, dimension), float32
        In the order of `slices`. The bits are those that `extract_features` keeps as float32.

    Raises
    ------
    UnreadableSlice
        If files cannot be used; up to five are named.
    FingerprintMismatch
        If the store was made in another way.
    DamagedStore
        If the store is not as it was written.
    BadDataset
        If an embedding is not finite.
    OSError
        If the store cannot be written.
    """
    fingerprint = embedding_fingerprint(extractor, preprocessing)
    names, rows, pixels = _named(slices)
    first = {name: place for place, name in reversed(list(enumerate(names)))}
    result = np.empty((len(names), extractor.dimension), np.float32)
    workers = workers or usable_processors()
    with ExitStack() as stack:
        store = None if store_path is None else _Store(store_path, fingerprint, extractor, keep)
        shards = stack.enter_context(store.shards) if store and store.shards else None
        sink = _Sink(result, first, shards)
        ledger = Ledger(Manifest(rows), (0,))
        if store:
            ledger.recall(store.sources(), Contents(contents_path(store_path)))
        decoder = Decoder(preprocessing, ledger.missing, stack.enter_context(SliceReader(workers)))

        def decode(path: Path) -> Decoded | UnreadableSlice:
            return decoder.of_slice(pixels[path]) if path in pixels else decoder(path)

        Extraction(ledger, extractor, sink).compute(decode, workers, progress)
        if ledger.failures:
            raise UnreadableSlice(_unusable(ledger.failures))
        if store:
            store.take_in(extractor.batch, progress)
    contents = [ledger.files[name].content for name in names]
    stored = [place for place, content in enumerate(contents) if content not in sink.computed]
    if stored:
        with FeatureStore(store_path) as held:
            result[stored] = held.read_rows([held.row_of(contents[place]) for place in stored])
    for place, content in enumerate(contents):
        if sink.computed.get(content, place) != place:
            result[place] = result[sink.computed[content]]
    return result


def _named(slices: Sequence[Path | Slice]) -> tuple[list[str], list[ManifestRow], dict[Path, Slice]]:
    """A name for each slice, a row for each name, and the slices that have no file, by their row's path."""
    names: list[str] = []
    rows: dict[str, ManifestRow] = {}
    pixels: dict[Path, Slice] = {}
    for one in slices:
        if isinstance(one, Slice):
            name = content_hash(one)
            pixels[Path(name)] = one
        else:
            name = str(one.absolute())
        names.append(name)
        rows.setdefault(name, ManifestRow(name, Path(name), "", name, name))
    return names, list(rows.values()), pixels


class _Sink:
    """Fills an array with finished parts, and hands them on to a store that is to keep them.

    Attributes
    ----------
    computed : dict of str to int
        Content of each slice that went through the network, and its place in the array.
    """

    def __init__(self, result: np.ndarray, places: dict[str, int], shards: Shards | None):
        self._result = result
        self._places = places
        self._shards = shards
        self.computed: dict[str, int] = {}

    def put(self, keys: RowKeys, embeddings: np.ndarray, files: Sequence[KnownFile]) -> None:
        places = [self._places[name] for name in keys.slice_ids]
        self._result[places] = embeddings
        self.computed.update(zip(keys.contents, places, strict=True))
        if self._shards:
            known = [file if file.size >= 0 else replace(file, path="") for file in files]
            self._shards.put(keys, embeddings, known)

    def settle(self) -> None:
        if self._shards:
            self._shards.settle()


class _Store:
    """The store that remembers, and what an earlier call left beside it."""

    def __init__(self, path: Path, fingerprint: Fingerprint, extractor: "Embedder", keep: bool):
        self.path = path
        if path.exists():
            with FeatureStore(path) as store:
                store.fingerprint.require(
                    fingerprint,
                    str(path),
                    "Give the settings that it was made with, or name another store",
                )
        self._notes = {"engine": str(extractor.engine), "batch": str(extractor.batch)}
        self.shards = Shards(path, fingerprint, "float32", self._notes) if keep else None
        if self.shards:
            self.shards.adopt()

    def sources(self) -> list[Path]:
        """The store and its finished parts, as far as they are there."""
        return [*([self.path] if self.path.exists() else []), *(self.shards.paths if self.shards else [])]

    def take_in(self, batch: int, progress: Progress) -> None:
        """Make one store of it and its parts: its own rows first, as they were; `batch` is noted in it."""
        if not (self.shards and self.shards.paths):
            return
        problem = seal_problem(self.path) if self.path.exists() else None
        if problem:
            raise DamagedStore(f"{self.path} is damaged: {problem}; delete it, or name another store")
        merge(self.path, self.sources(), [], True, {**self._notes, "batch": str(batch)}, progress)
        remove_parts(self.path)


def _unusable(failures: Sequence[Failure]) -> str:
    listed = "; ".join(f"{failure.path}: {failure.reason}" for failure in failures[:_NAMED])
    more = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
    return f"{listed}{more}. Leave out what cannot be used"
