"""Stage one: slices to embeddings, each computed once, whatever happens in between."""

import shlex
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from haemo.errors import BadDataset, DamagedStore, UnreadableSlice
from haemo.features.extraction.decoding import Decoded, Decoder, in_order
from haemo.features.extraction.ledger import Ledger
from haemo.features.failures import Failure
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.reading.reader import SliceReader
from haemo.features.store.contents import KnownFile
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.shards import Shards, merge, remove_parts
from haemo.features.store.store import FeatureStore, contents_path, empty_store
from haemo.features.store.storefile import CHUNK_ROWS, SCHEMA_VERSION, RowKeys, seal_problem
from haemo.processors import usable_processors
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.features.views.preprocess import Preprocessing
    from haemo.models.networks.frozen import Embedder

__all__ = [
    "ROTATIONS",
    "Extraction",
    "ExtractionReport",
    "ExtractionRequest",
    "embedding_fingerprint",
    "extract_features",
    "fill_store",
    "rows_of_a_part",
]

# Name of a set of rotations -> the variants of a slice that are embedded.
ROTATIONS = {"none": (0,), "paper": tuple(range(7))}

# A part is finished when it holds this much: some seconds of work on a slow machine.
_PART_BYTES = 16 << 20


Decode = Callable[[Path], Decoded | UnreadableSlice]
"""Makes the planes of a slice, as `Decoder` does; may be called from several threads."""


class PartsSink(Protocol):
    """Takes finished embeddings, part by part, as `Shards` does."""

    def put(self, keys: RowKeys, embeddings: np.ndarray, files: Sequence[KnownFile]) -> None:
        """Take one part, which may be without a row; nobody changes the embeddings afterwards."""
        ...

    def settle(self) -> None:
        """Return when every part is where it belongs."""
        ...


class Described(Protocol):
    """A network, here or elsewhere, by what its embeddings depend on."""

    def describe(self) -> dict[str, Any]:
        """Give the facts for the fingerprint, as `Embedder` does."""
        ...


@dataclass(frozen=True, slots=True)
class ExtractionReport:
    """What an extraction did.

    Attributes
    ----------
    cached : int
        Slices whose embeddings were there before, under whatever name.
    shared : int
        Slices with the same pixels as another before them in the manifest.
    computed : int
        Slices that went through the network in this call, or have the pixels of one that did.
    colour : int
        Slices decoded in this call that were colour pictures and were converted to gray.
    askew : int
        Slices embedded in this call that were to be turned upright and, without a clear midline, stayed as
        they are.
    failures : list of Failure
        Slices that could not be used.
    rows : int
        Embeddings in the store; without any, no store is written.
    fingerprint : Fingerprint
    """

    cached: int
    shared: int
    computed: int
    colour: int
    askew: int
    failures: list[Failure]
    rows: int
    fingerprint: Fingerprint


def embedding_fingerprint(
    extractor: Described, preprocessing: "Preprocessing", dtype: str = "float32"
) -> Fingerprint:
    """Everything that changes an embedding made with these two and kept as `dtype`."""
    from haemo.features.views.augment import PAPER_ANGLES_DEG

    return Fingerprint(
        {
            "schema": SCHEMA_VERSION,
            **extractor.describe(),
            "preprocessing": preprocessing.describe(),
            "rotations_deg": PAPER_ANGLES_DEG,
            "stored_as": dtype,
        }
    )


@dataclass(frozen=True, kw_only=True)
class ExtractionRequest:
    """What is kept of each slice, and what becomes of a store that is there.

    Attributes
    ----------
    rotations : {'none', 'paper'}
        Which variants of each slice are wanted.
    dtype : {'float32', 'float16'}
        How embeddings are kept.
    workers : int, optional
        Threads that decode; by default one for each CPU this process may use.
    new : bool
        Start afresh: rows of the present store are not used. What an interrupted extraction of the same
        fingerprint has finished is.
    anew : str, optional
        The command that makes the store anew as it was made, for the error that says that it is needed.
    """

    rotations: str = "none"
    dtype: str = "float32"
    workers: int | None = None
    new: bool = False
    anew: str | None = None


def extract_features(
    manifest: Manifest,
    store_path: Path,
    extractor: "Embedder",
    preprocessing: "Preprocessing",
    request: ExtractionRequest | None = None,
    *,
    progress: Progress = silent,
) -> ExtractionReport:
    """Embed every slice of a manifest that is not embedded yet, and write the feature store.

    A slice whose file is gone fails, and keeps the embedding it has. One whose file is there and cannot be
    used keeps none: nobody knows what it shows now.

    Finished parts are kept at every moment; an interrupted call, repeated, goes on from them and ends with
    the same bytes as an undisturbed one. The caller must hold the run (`features.claim.claim`).

    Parameters
    ----------
    manifest : Manifest
    store_path : Path
        Replaced in one rename when all is done.
    extractor : Embedder
    preprocessing : Preprocessing
    request : ExtractionRequest, optional
    progress : Progress

    Returns
    -------
    ExtractionReport

    Raises
    ------
    FingerprintMismatch
        If the store, or the parts an interrupted extraction left, were made in another way.
    BadDataset
        If an embedding is not finite; the message names the slice.
    DamagedStore
        If the present store cannot be read.
    OSError
        If the disk is full or cannot be written. What was finished before is kept.
    """
    request = request or ExtractionRequest()
    workers = request.workers or usable_processors()

    def embed(ledger: Ledger, shards: Shards) -> None:
        with SliceReader(workers) as read:
            decoder = Decoder(preprocessing, ledger.missing, read)
            Extraction(ledger, extractor, shards).compute(decoder, workers, progress)
        notes["batch"] = str(extractor.batch)  # less than at first where the memory of a GPU ran out

    fingerprint = embedding_fingerprint(extractor, preprocessing, request.dtype)
    notes = {"engine": str(extractor.engine), "batch": str(extractor.batch)}
    return fill_store(manifest, store_path, fingerprint, notes, request, embed, progress=progress)


def fill_store(
    manifest: Manifest,
    store_path: Path,
    fingerprint: Fingerprint,
    notes: dict[str, str],
    request: ExtractionRequest,
    embed: Callable[[Ledger, Shards], None],
    *,
    progress: Progress = silent,
) -> ExtractionReport:
    """Do as `extract_features`, wherever the network runs.

    Parameters
    ----------
    manifest, store_path, request, progress
        As for `extract_features`.
    fingerprint : Fingerprint
        Of the embeddings that are made.
    notes : dict of str to str
        Engine and batch.
    embed : callable
        Takes the ledger and the parts: makes what is waiting, and tells both.
    """
    _remove_leftovers(store_path)
    with Shards(store_path, fingerprint, request.dtype, notes) as shards:
        shards.adopt(discard_others=request.new)
        base = _usable_store(store_path, fingerprint, request.new, bool(shards.paths), request.anew)
        ledger = Ledger(manifest, ROTATIONS[request.rotations])
        ledger.recall([*base, *shards.paths], shards.contents)
        embed(ledger, shards)
        files = ledger.files_in_order()
        order = [known.content for known in files]
        names = {known.content: known.slice_id for known in reversed(files)}
        sources = [*base, *shards.paths]
        rows = merge(store_path, sources, order, not request.new, notes, progress, names)
    if rows:
        # Of a file that is gone nothing has changed that is known; any other that failed may be another now.
        forget = [row.slice_id for row in manifest if row.slice_id not in ledger.gone]
        shards.contents.replace(files, forget)
    remove_parts(store_path)
    return ExtractionReport(
        cached=len(files) - ledger.computed,
        shared=len(files) - len(set(order)),
        computed=ledger.computed,
        colour=ledger.colour,
        askew=ledger.askew,
        failures=ledger.failures,
        rows=rows,
        fingerprint=fingerprint,
    )


class Extraction:
    """The way from slices that are wanted to embeddings in parts.

    Parameters
    ----------
    ledger : Ledger
        Says which slices are wanted, and is told what becomes of them.
    extractor : Embedder
    parts : PartsSink
        Takes what is finished.
    """

    def __init__(self, ledger: Ledger, extractor: "Embedder", parts: PartsSink):
        self._ledger = ledger
        self._extractor = extractor
        self._parts = parts
        self._in_network: deque[tuple[str, str, int]] = deque()
        self._part = _Part(extractor.dimension)

    def compute(self, decoder: Decode, workers: int, progress: Progress) -> None:
        """Decode and embed all that is not done; whatever stops this, finished embeddings are kept."""
        try:
            with (
                closing(self._batches(decoder, workers, progress)) as batches,
                closing(self._extractor.stream(batches)) as stream,
            ):
                for embeddings in stream:
                    self._take(embeddings)
        finally:
            self._hand_over()
            self._parts.settle()

    def _batches(self, decoder: Decode, workers: int, progress: Progress) -> Iterator[np.ndarray]:
        """Planes in full batches, filled across slices, patients and variants."""
        rows = self._ledger.waiting()
        size = self._extractor.batch
        planes: list[np.ndarray] = []
        decoded = in_order(rows, lambda row: decoder(row.path), workers, ahead=2 * size)
        for row, result in progress(decoded, total=len(rows), label="slices"):
            for plane in self._accept(row, result):
                planes.append(plane)
                if len(planes) == size:
                    yield np.stack(planes)
                    planes.clear()
        if planes:
            yield np.stack(planes)

    def _accept(self, row: ManifestRow, result: Decoded | UnreadableSlice) -> Iterator[np.ndarray]:
        """Note what became of one file, and give the planes that have to be embedded."""
        known = self._ledger.note(row, result)
        if known is None or isinstance(result, UnreadableSlice):
            return
        self._part.files.append(known)
        # A slice with the same pixels may have come between the decoding and now.
        wanted = self._ledger.missing(result.content)
        for variant, plane in zip(result.variants, result.planes, strict=True):
            if variant in wanted:
                self._ledger.held.add((result.content, variant))
                self._in_network.append((row.slice_id, result.content, variant))
                yield plane

    def _take(self, embeddings: np.ndarray) -> None:
        """Put embeddings, in the order of their planes, into the part, and hand it over when it is full."""
        finite = np.isfinite(embeddings).all(axis=1)
        for embedding, is_finite in zip(embeddings, finite, strict=True):
            key = self._in_network.popleft()
            if not is_finite:
                raise BadDataset(
                    f"the embedding of {key[0]} is not finite; check the weights, or use --precision float32"
                )
            if self._part.add(key, embedding):
                self._hand_over()

    def _hand_over(self) -> None:
        part, self._part = self._part, _Part(self._extractor.dimension)
        self._parts.put(part.keys(), part.embeddings[: len(part.rows)], part.files)


def rows_of_a_part(dimension: int) -> int:
    """Embeddings in a finished part."""
    return max(1, _PART_BYTES // (4 * dimension * CHUNK_ROWS)) * CHUNK_ROWS


class _Part:
    """Embeddings that are not on disk yet."""

    def __init__(self, dimension: int):
        self.embeddings = np.empty((rows_of_a_part(dimension), dimension), np.float32)
        self.rows: list[tuple[str, str, int]] = []
        self.files: list[KnownFile] = []

    def add(self, key: tuple[str, str, int], embedding: np.ndarray) -> bool:
        """Add one row; True when the part is full."""
        self.embeddings[len(self.rows)] = embedding
        self.rows.append(key)
        return len(self.rows) == len(self.embeddings)

    def keys(self) -> RowKeys:
        return RowKeys(*([row[column] for row in self.rows] for column in range(3)))


def _usable_store(
    path: Path, fingerprint: Fingerprint, new: bool, parts: bool, anew: str | None
) -> list[Path]:
    """The present store, if its rows may be used: none or one path."""
    if new or not path.exists():
        return []
    if not path.stat().st_size:
        raise empty_store(path, anew)
    problem = seal_problem(path)
    if problem:
        raise DamagedStore(
            f"{path} is damaged: {problem}. Drop the damaged rows with: haemo verify --run "
            f"{shlex.quote(str(path.parent))} --repair; then run this again"
        )
    with FeatureStore(path) as store:
        if parts and store.fingerprint != fingerprint:
            return []  # an interrupted --new left the parts, and goes on
        store.fingerprint.require(
            fingerprint, str(path), "Use another run directory, or replace it with --new"
        )
    return [path]


def _remove_leftovers(store_path: Path) -> None:
    """Delete the temporary files of processes that were killed; the claim keeps living ones away."""
    for path in (store_path, contents_path(store_path)):
        for leftover in path.parent.glob(f".{path.name}.*.tmp"):
            leftover.unlink()
