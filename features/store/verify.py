"""Reading a feature store back: is every bit as it was written, and if not, which rows are still good?"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from haemo.atomic import parse_json
from haemo.errors import DamagedStore
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import anew_command, empty_store, missing_store
from haemo.features.store.storefile import (
    CHUNK_ROWS,
    RowKeys,
    open_store_file,
    row_checksum,
    seal_problem,
    write_store_file,
)
from haemo.progress import Progress, silent

__all__ = ["Verification", "repair_store", "verify_store"]

_COLUMNS = ("slice_id", "content", "variant", "checksum", "embedding")
_FLETCHER_BYTES = 4  # they stand behind the rows of a chunk


@dataclass(frozen=True, slots=True)
class Verification:
    """What a store was found to be.

    Attributes
    ----------
    rows : int
        Rows the store was written with.
    damaged : list of str
        Rows that do not fit their checksum, as ``row 17 (scan3/004.png)``, with the name as it now stands.
    problem : str or None
        What is wrong with the file as a whole; None if not one bit has changed since it was written.
    """

    rows: int
    damaged: list[str]
    problem: str | None

    @property
    def sound(self) -> bool:
        """Whether not one bit has changed."""
        return self.problem is None and not self.damaged


def verify_store(path: Path, progress: Progress = silent, anew: str | None = None) -> Verification:
    """Check the seal of the whole file and the checksum of every row. Nothing is changed.

    Parameters
    ----------
    path : Path
    progress : Progress
    anew : str, optional
        The command that makes the store anew as it was made, for the error that says that it is needed.

    Raises
    ------
    MissingStep
        If there is no such file.
    DamagedStore
        If the tables of the file are damaged, so that no row can be told good.
    """
    with _Remains(path, anew) as remains:
        damaged = [row.name for row in remains.rows(progress) if row.embedding is None]
        return Verification(len(remains), damaged, seal_problem(path))


def repair_store(path: Path, progress: Progress = silent, anew: str | None = None) -> Verification:
    """Write the store anew from its good rows, if anything is wrong with it.

    The next extraction embeds what was dropped, and the store then has the bytes it had at first.

    Parameters
    ----------
    path : Path
    progress : Progress
    anew : str, optional
        The command that makes the store anew as it was made, for the error that says that it is needed.

    Returns
    -------
    Verification
        Of the store as it was before.

    Raises
    ------
    MissingStep
        If there is no such file.
    DamagedStore
        If no row can be told good; the file is left as it is.
    """
    with _Remains(path, anew) as remains:
        good = []
        damaged = []
        for row in remains.rows(progress):
            if row.embedding is None:
                damaged.append(row.name)
            else:
                good.append((row.slice_id, row.content, row.variant))
        found = Verification(len(remains), damaged, seal_problem(path))
        if found.sound:
            return found
        if not good:
            raise DamagedStore(
                f"{path}: no row fits its checksum; make the features anew: {anew or anew_command(path)}"
            )
        write_store_file(
            path,
            RowKeys(*(list(column) for column in zip(*good, strict=True))),
            _chunks(row.embedding for row in remains.rows(silent) if row.embedding is not None),
            remains.dimension,
            remains.dtype.name,
            remains.fingerprint,
            remains.notes,
        )
        return found


def _chunks(embeddings: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Rows in blocks of a chunk: HDF5 would read and write a large chunk again for every single row."""
    while some := list(islice(embeddings, CHUNK_ROWS)):
        yield np.stack(some)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row as it stands in the file; without an embedding if it does not fit its checksum."""

    number: int
    slice_id: str
    content: str
    variant: int
    embedding: np.ndarray | None

    @property
    def name(self) -> str:
        return f"row {self.number} ({self.slice_id}{f', variant {self.variant}' if self.variant else ''})"


class _Remains:
    """A store read below HDF5's own checksums, which withhold 64 rows for one wrong bit."""

    def __init__(self, path: Path, anew: str | None):
        self._path = Path(path)
        self._anew = anew or anew_command(self._path)
        if not self._path.exists():
            raise missing_store(self._path)
        if not self._path.stat().st_size:
            raise empty_store(self._path, anew)
        try:
            self._file = open_store_file(self._path)
        except OSError as error:
            raise self._lost(error) from error
        try:
            self.fingerprint = Fingerprint.from_json(self._file.attrs["fingerprint"])
            if self.fingerprint.hash != self._file.attrs["fingerprint_sha256"]:
                raise ValueError("the fingerprint does not fit its hash")
            self.notes: dict[str, str] = parse_json(self._file.attrs["notes"])
            count, self.dimension = self._file["embedding"].shape
            self._kinds = {name: self._file[name].dtype for name in _COLUMNS}
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            self._file.close()
            raise self._lost(error) from error
        self._count = int(count)
        self.dtype = self._kinds["embedding"]

    def _lost(self, error: Exception) -> DamagedStore:
        return DamagedStore(
            f"{self._path}: its tables are damaged, so that no row can be told good ({error}); "
            f"make the features anew: {self._anew}"
        )

    def __enter__(self) -> "_Remains":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def rows(self, progress: Progress) -> Iterator[_Row]:
        """Every row in its order, chunk by chunk."""
        starts = range(0, self._count, CHUNK_ROWS)
        for start in progress(starts, total=len(starts), label="blocks read back"):
            columns = {name: self._chunk(name, start) for name in _COLUMNS}
            for offset in range(min(CHUNK_ROWS, self._count - start)):
                yield self._row(start + offset, {name: column[offset] for name, column in columns.items()})

    def _row(self, number: int, found: dict[str, Any]) -> _Row:
        slice_id, content, checksum = (
            bytes(found[name]).rstrip(b"\0").decode(errors="surrogateescape")
            for name in ("slice_id", "content", "checksum")
        )
        variant, embedding = int(found["variant"]), found["embedding"]
        good = row_checksum(slice_id, content, variant, embedding) == checksum
        return _Row(number, slice_id, content, variant, embedding if good else None)

    def _chunk(self, name: str, start: int) -> np.ndarray:
        """One chunk of one column as it lies on disk; zeros, which fit no checksum, where it is lost."""
        dataset = self._file[name]
        kind = self._kinds[name]
        kind = np.dtype(f"S{kind.itemsize}") if kind.kind in "SO" else kind
        shape = dataset.chunks
        try:
            _, raw = dataset.id.read_direct_chunk((start,) + (0,) * (len(shape) - 1))
            return np.frombuffer(raw[:-_FLETCHER_BYTES], kind).reshape(shape)
        except (OSError, RuntimeError, ValueError):
            return np.zeros(shape, kind)
