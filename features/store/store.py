"""The feature store: embeddings of slices in one HDF5 file, found by what was seen and never by position."""

import hashlib
import logging
import shlex
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np

from haemo.atomic import parse_json
from haemo.errors import BadDataset, DamagedStore, MissingStep
from haemo.features.manifest import ManifestRow
from haemo.features.store.contents import Contents, KnownFile
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.storefile import (
    CHUNK_ROWS,
    SCHEMA_VERSION,
    RowKeys,
    open_store_file,
    write_store_file,
)

__all__ = [
    "SETS",
    "FeatureStore",
    "anew_command",
    "contents_path",
    "create_store",
    "empty_store",
    "features_command",
    "imported_content",
    "missing_store",
    "options_of",
]

SETS = "feature-sets"
"""Folder of a run with the sets of features that have names, a folder each."""

_LOG = logging.getLogger("haemo")


class FeatureStore:
    """Reader of one feature store, and a context manager.

    A slice id leads to its content through ``contents.csv`` beside the store, since several slices may have
    equal pixels and a slice may change its name. Without that file, the ids written in the store serve. Where
    it is damaged they do not: a slice that it has lost may be one that it has forgotten on purpose, since its
    file is another one now.

    Parameters
    ----------
    path : Path
        The HDF5 file, usually ``features.h5`` of a run.

    Raises
    ------
    MissingStep
        If there is no such file.
    DamagedStore
        If it cannot be opened, or comes from a newer haemo; where slices are asked for, also if
        ``contents.csv`` is damaged.

    Attributes
    ----------
    path : Path
    fingerprint : Fingerprint
        How the embeddings were made.
    dimension : int
        Numbers in an embedding.
    dtype : str
        ``float32`` or ``float16``: how they are kept. They are always given as float32.
    keys : RowKeys
        What every row is the embedding of, in the order of the rows.
    notes : dict of str to str
        What was noted beside the embeddings, such as the engine.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        if not self.path.exists():
            raise missing_store(self.path)
        try:
            self._file = open_store_file(self.path)
        except OSError as error:
            raise self._damaged(error) from error
        try:
            self._read_tables()
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            self._file.close()
            if isinstance(error, DamagedStore):
                raise
            raise self._damaged(error) from error

    def _read_tables(self) -> None:
        version = int(self._file.attrs["schema_version"])
        if version > SCHEMA_VERSION:
            raise DamagedStore(
                f"{self.path} has layout {version}, this haemo reads up to {SCHEMA_VERSION}; update haemo"
            )
        self.fingerprint = Fingerprint.from_json(self._file.attrs["fingerprint"])
        self.notes: dict[str, str] = parse_json(self._file.attrs["notes"])
        self._embedding = self._file["embedding"]
        self.dimension = int(self._embedding.shape[1])
        self.dtype = str(self._embedding.dtype)
        self.keys = RowKeys(
            self._text_column("slice_id"), self._text_column("content"), self._file["variant"][:].tolist()
        )

    @cached_property
    def _rows(self) -> dict[tuple[str, int], int]:
        return {pair: row for row, pair in enumerate(self.keys.pairs())}

    @cached_property
    def _known(self) -> dict[str, KnownFile]:
        beside = contents_path(self.path)
        mend = f"{features_command(self.path)} (one pass of decoding)"
        contents = Contents(beside)
        sound = not contents.unreadable and (len(contents) or not len(self))
        if beside.exists() and sound:
            if contents.torn:
                _LOG.warning("%s ends in half a line; go on with: %s", beside, mend)
            return {known.slice_id: known for known in contents}
        keys = list(zip(self.keys.slice_ids, self.keys.contents, strict=True))
        # Embeddings from elsewhere are of ids alone, whatever became of any file.
        imported = all(content == imported_content(slice_id) for slice_id, content in keys)
        if beside.exists() and not imported:
            problem = (
                f"has damaged lines ({contents.unreadable:,})" if contents.unreadable else "knows no slice"
            )
            raise DamagedStore(
                f"{beside} {problem}, so that nobody can tell which slices the embeddings are of; "
                f"mend it: {mend}"
            )
        if not imported:
            _LOG.warning(
                "%s is not there: slices are known by the ids in the store alone, and nobody can tell "
                "whether their files are still the same ones; look with: %s",
                beside,
                mend,
            )
        return {slice_id: KnownFile(slice_id, "", -1, -1, content) for slice_id, content in keys}

    def _text_column(self, name: str) -> list[str]:
        return self._file[name].asstr(errors="surrogateescape")[:].tolist()

    def _damaged(self, error: Exception) -> DamagedStore:
        return DamagedStore(
            f"{self.path} is damaged ({error}); "
            f"see what is left of it with: haemo verify {options_of(self.path)}"
        )

    def __enter__(self) -> "FeatureStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.keys)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def variants(self) -> tuple[int, ...]:
        """Variants that occur, ascending: (0,) without rotations, (0, 1, .. 6) with those of the paper."""
        return tuple(sorted(set(self.keys.variants)))

    def row_of(self, content: str, variant: int = 0) -> int | None:
        """Position of the row that embeds these pixels, for `read_rows`; None where there is none."""
        return self._rows.get((content, variant))

    def has(self, slice_ids: Sequence[str], variant: int = 0) -> np.ndarray:
        """Which slices have an embedding.

        Returns
        -------
        ndarray of shape (n,), bool
        """
        return np.array([self._row(slice_id, variant) is not None for slice_id in slice_ids], dtype=bool)

    def covers(self, rows: Sequence[ManifestRow], variant: int = 0) -> np.ndarray:
        """Which slices of a manifest have an embedding, made from the very file that the manifest names.

        Data sets often use the same names. A run that was indexed anew, from another folder, must not find
        the embeddings of the slices that bore those names before.

        Returns
        -------
        ndarray of shape (n,), bool
        """
        has = self.has([row.slice_id for row in rows], variant)
        same = [
            there and self._known[row.slice_id].path in ("", str(row.path))
            for row, there in zip(rows, has, strict=True)
        ]
        return np.array(same, dtype=bool)

    def embeddings(self, slice_ids: Sequence[str], variant: int = 0) -> np.ndarray:
        """The embeddings of some slices, in the order asked for.

        Parameters
        ----------
        slice_ids : sequence of str
        variant : int
            0 for the slice as it is, 1 and up for its rotations.

        Returns
        -------
        ndarray of shape (n, dimension), float32

        Raises
        ------
        MissingStep
            If a slice has no embedding; up to five are named.
        DamagedStore
            If a chunk fails its checksum.
        """
        return self.read_rows(self.find(slice_ids, variant))

    def blocks(self, slice_ids: Sequence[str], rows: int = 1024, variant: int = 0) -> Iterator[np.ndarray]:
        """The same embeddings in blocks of at most `rows`, so that memory stays flat."""
        found = self.find(slice_ids, variant)
        for start in range(0, len(found), rows):
            yield self.read_rows(found[start : start + rows])

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the store by position, in the order asked for, as float32 of shape (n, dimension)."""
        rows = np.asarray(rows, dtype=np.intp)
        result = np.empty((len(rows), self.dimension), np.float32)
        order = np.argsort(rows, kind="stable")
        chunks = rows[order] // CHUNK_ROWS
        # Runs of up to 16 neighbouring chunks are read at once: HDF5 is slow when asked for single rows.
        ends = np.flatnonzero((np.diff(chunks) > 1) | (np.diff(chunks // 16) > 0)) + 1
        for run in np.split(order, ends) if len(order) else ():
            first, last = int(rows[run[0]]), int(rows[run[-1]])
            result[run] = self._read(first, last + 1)[rows[run] - first]
        return result

    def _read(self, start: int, stop: int) -> np.ndarray:
        try:
            return self._embedding[start:stop]
        except OSError as error:
            raise self._damaged(error) from error

    def find(self, slice_ids: Sequence[str], variant: int = 0) -> np.ndarray:
        """Positions of the rows of some slices, for `read_rows`.

        Returns
        -------
        ndarray of shape (n,), int

        Raises
        ------
        MissingStep
            If a slice has no embedding; up to five are named.
        """
        rows = [self._row(slice_id, variant) for slice_id in slice_ids]
        missing = [slice_id for slice_id, row in zip(slice_ids, rows, strict=True) if row is None]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            rotated = f", variant {variant}" if variant else ""
            raise MissingStep(
                f"{self.path} has no embedding of {', '.join(missing[:5])}{more}{rotated}; "
                f"run: {features_command(self.path)}" + (" --rotations paper" if variant else "")
            )
        return np.array(rows, dtype=np.intp)

    def _row(self, slice_id: str, variant: int) -> int | None:
        known = self._known.get(slice_id)
        return None if known is None else self.row_of(known.content, int(variant))


def features_command(path: Path) -> str:
    """What to type to make the store at `path`, or to complete it."""
    return f"haemo features {options_of(path)}"


def options_of(path: Path) -> str:
    """How a command is told of the store at `path`: ``--run RUN``, and ``--name SET`` where it has one."""
    folder = path.parent
    if folder.parent.name == SETS:
        return f"--run {shlex.quote(str(folder.parent.parent))} --name {folder.name}"
    return f"--run {shlex.quote(str(folder))}"


def anew_command(path: Path) -> str:
    """What to type to make a store anew, where nobody knows with which options it was made."""
    return f"{features_command(path)} --new"


def empty_store(path: Path, anew: str | None) -> DamagedStore:
    """The error for a store without a byte; `anew` is the command that makes it anew."""
    return DamagedStore(f"{path} is empty; make the features anew: {anew or anew_command(path)}")


def missing_store(path: Path) -> MissingStep:
    """The error for a store that is not there."""
    return MissingStep(f"{path} is not there; make it first: {features_command(path)}")


def contents_path(store_path: Path) -> Path:
    """Where ``contents.csv`` of a store lies."""
    return Path(store_path).with_name("contents.csv")


def imported_content(slice_id: str) -> str:
    """Stand-in for the content hash of a slice whose pixels were never seen, only its embedding."""
    return hashlib.sha256(f"imported\0{slice_id}".encode(errors="surrogateescape")).hexdigest()


def create_store(
    path: Path,
    slice_ids: Sequence[str],
    embeddings: np.ndarray,
    fingerprint: Fingerprint,
    contents: Sequence[str] | None = None,
    variants: Sequence[int] | None = None,
    notes: dict[str, str] | None = None,
) -> None:
    """Write a whole store and its ``contents.csv``, for embeddings that were made elsewhere.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    slice_ids : sequence of str
        One for each row; an id may come again with another variant.
    embeddings : ndarray of shape (n, d), float32 or float16
        Kept in their own type; other types become float32.
    fingerprint : Fingerprint
    contents : sequence of str, optional
        sha256 of the decoded pixels; slices that share it share a row. By default a stand-in made of the id.
    variants : sequence of int, optional
        By default 0 throughout.
    notes : dict of str to str, optional

    Raises
    ------
    BadDataset
        If there are no rows, the lengths differ, a slice comes twice, or a value is not finite.
    """
    embeddings = np.asarray(embeddings)
    count = len(slice_ids)
    contents = [imported_content(name) for name in slice_ids] if contents is None else list(contents)
    variants = [0] * count if variants is None else [int(variant) for variant in variants]
    if embeddings.ndim != 2 or not count or not embeddings.shape[1]:
        raise BadDataset(f"embeddings must have the shape (slices, numbers), not {embeddings.shape}")
    if not len(embeddings) == len(contents) == len(variants) == count:
        raise BadDataset(f"{count} slice ids do not fit embeddings of shape {embeddings.shape}")
    if len(set(zip(slice_ids, variants, strict=True))) < count:
        raise BadDataset("two rows are the embedding of the same slice and variant")
    # Slices with equal pixels share one row, the first.
    rows: dict[tuple[str, int], int] = {}
    for row, key in enumerate(zip(contents, variants, strict=True)):
        first = rows.setdefault(key, row)
        if first != row and not np.array_equal(embeddings[first], embeddings[row]):
            raise BadDataset(f"{slice_ids[first]} and {slice_ids[row]} share pixels, not their embedding")
    kept = list(rows.values())
    keys = RowKeys(*([column[row] for row in kept] for column in (slice_ids, contents, variants)))
    dtype = "float16" if embeddings.dtype == np.float16 else "float32"
    write_store_file(path, keys, [embeddings[kept]], embeddings.shape[1], dtype, fingerprint, notes)
    known = [KnownFile(name, "", -1, -1, content) for name, content in zip(slice_ids, contents, strict=True)]
    file = contents_path(path)
    file.unlink(missing_ok=True)
    Contents(file).replace(known)
