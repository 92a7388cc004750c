"""The HDF5 file of embeddings as it lies on disk: its layout, its checksums and its seal.

Three guards, each for another question. Fletcher-32 of every chunk: HDF5 itself refuses to hand out a damaged
chunk. A sha256 of every row: which rows are damaged, and are the others good? The seal, a sha256 of the whole
file in the 512 bytes that HDF5 leaves to its user at the front: is there a flipped bit anywhere at all?
"""

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.atomic import replacing
from haemo.errors import BadDataset
from haemo.features.store.fingerprint import Fingerprint

if TYPE_CHECKING:
    import h5py

__all__ = [
    "CHUNK_ROWS",
    "SCHEMA_VERSION",
    "RowKeys",
    "open_store_file",
    "row_checksum",
    "seal_of",
    "seal_problem",
    "write_store_file",
]

SCHEMA_VERSION = 1
CHUNK_ROWS = 64

# 'earliest' metadata has no checksums; from HDF5 1.10 on, the file's own tables have them.
_FORMAT = ("v110", "v110")
_SEAL_BYTES = 512
_BLOCK_BYTES = 1 << 22
_EMPTY = "the file is empty"


@dataclass(frozen=True, slots=True)
class RowKeys:
    """What each row of a store is the embedding of.

    Attributes
    ----------
    slice_ids : list of str
        The slice whose file was decoded for the row; others with equal pixels share it.
    contents : list of str
        sha256 of the decoded pixels, 64 hexadecimal digits.
    variants : list of int
        0 for the slice as it is, 1 and up for its rotations.
    """

    slice_ids: list[str]
    contents: list[str]
    variants: list[int]

    def __len__(self) -> int:
        return len(self.slice_ids)

    def pairs(self) -> list[tuple[str, int]]:
        """Content and variant of every row: what a row is found by."""
        return list(zip(self.contents, self.variants, strict=True))


def row_checksum(slice_id: str, content: str, variant: int, embedding: np.ndarray) -> str:
    """Sha256 over all that one row holds.

    Parameters
    ----------
    slice_id, content, variant
        As in `RowKeys`.
    embedding : ndarray of shape (d,)
        In the number type of the store.
    """
    digest = hashlib.sha256(f"{slice_id}\0{content}\0{variant}\0".encode(errors="surrogateescape"))
    digest.update(np.ascontiguousarray(embedding))
    return digest.hexdigest()


def write_store_file(
    path: Path,
    keys: RowKeys,
    blocks: Iterable[np.ndarray],
    dimension: int,
    dtype: str,
    fingerprint: Fingerprint,
    notes: dict[str, str] | None = None,
) -> None:
    """Write a whole store, sealed and synced, under a temporary name, and rename it to `path`.

    Equal arguments give equal bytes with the same versions of HDF5 and of the packages named in it.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    keys : RowKeys
    blocks : iterable of ndarray of shape (any, dimension), float32
        The embeddings, in the order of `keys`.
    dimension : int
    dtype : {'float32', 'float16'}
        How the numbers are kept.
    fingerprint : Fingerprint
    notes : dict of str to str, optional
        Facts that do not change the embeddings but are worth keeping, such as the engine.

    Raises
    ------
    BadDataset
        If an embedding is not finite; the message names the slice.
    OSError
        If the disk is full or the folder cannot be written; `path` is then as it was.
    """
    with replacing(path) as temporary:
        _write(temporary, keys, blocks, dimension, dtype, fingerprint, notes or {})


def _write(
    path: Path,
    keys: RowKeys,
    blocks: Iterable[np.ndarray],
    dimension: int,
    dtype: str,
    fingerprint: Fingerprint,
    notes: dict[str, str],
) -> None:
    import h5py

    count = len(keys)
    rows = min(CHUNK_ROWS, count)
    checksums = []
    with (
        _ForgivingFile(path) as guard,
        h5py.File(guard, "w", libver=_FORMAT, userblock_size=_SEAL_BYTES) as file,
    ):
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["fingerprint"] = fingerprint.to_json()
        file.attrs["fingerprint_sha256"] = fingerprint.hash
        # JSON, and not an attribute each: up to eight stay in the header, where a checksum covers them.
        file.attrs["software"] = _software()
        file.attrs["notes"] = json.dumps(notes, sort_keys=True)
        embedding = file.create_dataset(
            "embedding", (count, dimension), dtype, chunks=(rows, dimension), fletcher32=True
        )
        start = 0
        for block in blocks:
            block = _narrowed(block, embedding.dtype, keys.slice_ids[start : start + len(block)])
            embedding[start : start + len(block)] = block
            for row, values in enumerate(block, start):
                checksums.append(
                    row_checksum(keys.slice_ids[row], keys.contents[row], keys.variants[row], values)
                )
            start += len(block)
            guard.check()
        if start != count:
            raise ValueError(f"{count} rows were announced and {start} were given")
        _write_text_column(file, "slice_id", keys.slice_ids, rows)
        _write_text_column(file, "content", keys.contents, rows)
        _write_text_column(file, "checksum", checksums, rows)
        file.create_dataset(
            "variant", data=np.array(keys.variants, np.uint8), chunks=(rows,), fletcher32=True
        )
    with path.open("r+b") as stream:
        stream.write(_seal(path))


@cache
def _software() -> str:
    """Versions of what wrote a file, as JSON; reading metadata takes milliseconds, and a part is a file."""
    versions = {package: metadata.version(package) for package in ("haemo", "numpy", "h5py")}
    return json.dumps(versions, sort_keys=True)


def _narrowed(block: np.ndarray, dtype: np.dtype, slice_ids: list[str]) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrowed = np.ascontiguousarray(block, dtype=dtype)
    finite = np.isfinite(narrowed).all(axis=1)
    if not finite.all():
        name = slice_ids[int(np.argmin(finite))]
        raise BadDataset(
            f"the embedding of {name} has values that are not finite in {dtype}; nothing is stored of it"
        )
    return narrowed


def _write_text_column(file: "h5py.File", name: str, values: list[str], rows: int) -> None:
    """Strings of one fixed length: HDF5 keeps those in the chunks, where its checksums reach."""
    import h5py

    encoded = [value.encode(errors="surrogateescape") for value in values]
    kind = h5py.string_dtype("utf-8", max(map(len, encoded)))
    file.create_dataset(name, data=np.array(encoded, kind), chunks=(rows,), fletcher32=True)


def _seal(path: Path) -> bytes:
    """The front block of a finished file: a line to read, the sha256 of all bytes after it, zeros."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        stream.seek(_SEAL_BYTES)
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    text = f"haemo feature store (HDF5 from byte {_SEAL_BYTES})\nsha256 of the rest: {digest.hexdigest()}\n"
    return text.encode().ljust(_SEAL_BYTES, b"\0")


def seal_of(path: Path) -> bytes:
    """The front block of a finished file: it is another one wherever any bit of the file is."""
    with Path(path).open("rb") as stream:
        return stream.read(_SEAL_BYTES)


def seal_problem(path: Path) -> str | None:
    """What is wrong with the seal; None if not one bit of the file has changed since it was written."""
    found = seal_of(path)
    if not found:
        return _EMPTY
    if found == _seal(Path(path)):
        return None
    if not found.startswith(b"haemo feature store"):
        return "the first 512 bytes are not those of a feature store"
    return "the sha256 of the file is not the one it was sealed with"


class _ForgivingFile:
    """The binary file that HDF5 writes through: it keeps the first error to itself until the end.

    HDF5 does not survive a disk that is full. Its file can no longer be closed, and the process dies of a
    segmentation fault later. So after an error every write seems to succeed, HDF5 closes in peace, and
    leaving the block raises what went wrong. Nor may an exception leave a method that HDF5 calls: so Ctrl-C
    waits too, until the next `check`.
    """

    def __init__(self, path: Path):
        self._path = path
        self._error: OSError | None = None
        self._is_stopped = False
        self._on_stop: Any = None

    def __enter__(self) -> "_ForgivingFile":
        self._file = self._path.open("x+b", buffering=0)
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if handler is signal.default_int_handler:
                self._on_stop = handler
                signal.signal(signal.SIGINT, self._stop)
        return self

    def _stop(self, *_: object) -> None:
        self._is_stopped = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._on_stop is not None:
            signal.signal(signal.SIGINT, self._on_stop)
        self.check()

    def check(self) -> None:
        """Raise the error that was kept, if there is one, with the name of the file."""
        if self._is_stopped:
            raise KeyboardInterrupt
        if self._error:
            raise OSError(self._error.errno, self._error.strerror, str(self._path)) from self._error

    def write(self, data: memoryview) -> int:
        """Write all of `data`, or nothing more once a write has failed."""
        left = memoryview(data)
        try:
            while len(left) and not self._error:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._error = error
        return len(data)

    def truncate(self, size: int) -> int:
        """Set the length of the file."""
        try:
            if not self._error:
                self._file.truncate(size)
        except OSError as error:
            self._error = error
        return size

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes; h5py knows a file object by this method."""
        return self._file.read(size) or b""

    def readinto(self, buffer: memoryview) -> int:
        """Read back what was written; what lies past the end of the file comes as zeros."""
        count = self._file.readinto(buffer)
        memoryview(buffer)[count:] = bytes(len(buffer) - count)
        return len(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place in the file."""
        return self._file.tell()

    def flush(self) -> None:
        """Nothing waits in a buffer."""


def open_store_file(path: Path) -> Any:
    """Open for reading; without a lock: files are replaced, never changed, and a disk may be read-only."""
    import h5py

    if not path.stat().st_size:
        raise OSError(_EMPTY)
    return h5py.File(path, "r", locking=False, rdcc_nbytes=0)
