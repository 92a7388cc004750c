"""Stage one: slices to embeddings, each computed once, whatever happens in between."""

import shlex
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from haemo.errors import BadDataset, DamagedStore, UnreadableSlice
from haemo.features.extraction.decoding import Decoded, Decoder, in_order
from haemo.features.failures import Failure
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.reading.address import file_of
from haemo.features.reading.formats import stamp_of
from haemo.features.reading.reader import SliceReader
from haemo.features.store.contents import Contents, KnownFile, is_gone
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
    extractor: "Embedder", preprocessing: "Preprocessing", dtype: str = "float32"
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
    fingerprint = embedding_fingerprint(extractor, preprocessing, request.dtype)
    notes = {"engine": str(extractor.engine), "batch": str(extractor.batch)}
    _remove_leftovers(store_path)
    with Shards(store_path, fingerprint, request.dtype, notes) as shards:
        shards.adopt(discard_others=request.new)
        base = _usable_store(store_path, fingerprint, request.new, bool(shards.paths), request.anew)
        extraction = Extraction(manifest, extractor, ROTATIONS[request.rotations], shards)
        extraction.recall([*base, *shards.paths], Contents(contents_path(store_path)))
        workers = request.workers or usable_processors()
        with SliceReader(workers) as read:
            extraction.compute(Decoder(preprocessing, extraction.missing, read), workers, progress)
        files = extraction.files_in_order()
        order = [known.content for known in files]
        rows = merge(store_path, [*base, *shards.paths], order, not request.new, notes, progress)
    if rows:
        # Of a file that is gone nothing has changed that is known; any other that failed may be another now.
        forget = [row.slice_id for row in manifest if row.slice_id not in extraction.gone]
        Contents(contents_path(store_path)).replace(files, forget)
    remove_parts(store_path)
    return ExtractionReport(
        cached=len(files) - extraction.computed,
        shared=len(files) - len(set(order)),
        computed=extraction.computed,
        colour=extraction.colour,
        askew=extraction.askew,
        failures=extraction.failures,
        rows=rows,
        fingerprint=fingerprint,
    )


class Extraction:
    """Which embeddings are there, which are wanted, and the way from one to the other.

    Parameters
    ----------
    manifest : Manifest
    extractor : Embedder
    variants : tuple of int
        Of each slice.
    parts : PartsSink
        Takes what is finished.

    Attributes
    ----------
    files : dict of str to KnownFile
        The slices that could be used, by slice id.
    failures : list of Failure
    gone : set of str
        Ids of those slices that failed because there is no such file any more.
    computed, colour, askew : int
        As in `ExtractionReport`.
    """

    def __init__(
        self, manifest: Manifest, extractor: "Embedder", variants: tuple[int, ...], parts: PartsSink
    ):
        self._manifest = manifest
        self._extractor = extractor
        self._variants = variants
        self._parts = parts
        self._held: set[tuple[str, int]] = set()
        self._in_network: deque[tuple[str, str, int]] = deque()
        self._part = _Part(extractor.dimension)
        self.files: dict[str, KnownFile] = {}
        self.failures: list[Failure] = []
        self.gone: set[str] = set()
        self.computed = 0
        self.colour = 0
        self.askew = 0
        self._new: set[str] = set()

    def missing(self, content: str) -> tuple[int, ...]:
        """Variants that are wanted of these pixels and neither stored nor on their way."""
        return tuple(variant for variant in self._variants if (content, variant) not in self._held)

    def recall(self, sources: Sequence[Path], contents: Contents) -> None:
        """Find the slices that are done, by what the stores hold and which files have not changed."""
        for path in sources:
            with FeatureStore(path) as source:
                self._held.update(source.keys.pairs())
        for row in self._manifest:
            try:
                stamp = stamp_of(row.path)
            except UnreadableSlice:
                continue  # the decoder will say why
            path = str(row.path)
            content = contents.recall(path, *stamp)
            if content and not self.missing(content):
                self.files[row.slice_id] = KnownFile(row.slice_id, path, *stamp, content)

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

    def files_in_order(self) -> list[KnownFile]:
        """The usable slices, in the order of the manifest."""
        return [self.files[row.slice_id] for row in self._manifest if row.slice_id in self.files]

    def _batches(self, decoder: Decode, workers: int, progress: Progress) -> Iterator[np.ndarray]:
        """Planes in full batches, filled across slices, patients and variants."""
        rows = [row for row in self._manifest if row.slice_id not in self.files]
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
        if isinstance(result, UnreadableSlice):
            self.failures.append(Failure(str(row.path), "features", str(result)))
            if is_gone(file_of(row.path)):
                self.gone.add(row.slice_id)
            return
        known = KnownFile(row.slice_id, str(row.path), result.size, result.mtime_ns, result.content)
        self.files[row.slice_id] = known
        self._part.files.append(known)
        # A slice with the same pixels may have come between the decoding and now.
        wanted = self.missing(result.content)
        if wanted:
            self._new.add(result.content)
        self.computed += result.content in self._new
        self.colour += result.is_colour
        self.askew += result.is_askew
        for variant, plane in zip(result.variants, result.planes, strict=True):
            if variant in wanted:
                self._held.add((result.content, variant))
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


class _Part:
    """Embeddings that are not on disk yet."""

    def __init__(self, dimension: int):
        capacity = max(1, _PART_BYTES // (4 * dimension * CHUNK_ROWS)) * CHUNK_ROWS
        self.embeddings = np.empty((capacity, dimension), np.float32)
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
