"""Where the voxels of a volume lie: as they are in its file, or unpacked once into a temporary one."""

import math
import mmap
import os
import tempfile
import threading
import weakref
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.slice import check_size

__all__ = ["Stored", "Voxels", "inflated_start"]

# The longest scan of a head has some 1,000 slices.
_MOST_SLICES = 8192
_MOST_BYTES = 1 << 32
# No deflate stream unpacks to more than 1,032 times its length.
_MOST_RATIO = 1032
_CHUNK_BYTES = 1 << 20
# Of what may follow the voxels in a compressed file.
_MOST_AFTER = 1 << 26
_EITHER_HEAD = zlib.MAX_WBITS | 32  # gzip or zlib


@dataclass(frozen=True, slots=True)
class Stored:
    """How voxels are stored.

    Attributes
    ----------
    file : Path
    dtype : dtype
    shape : tuple of int
        Voxels along three axes, the fastest first.
    offset : int
        Of the first voxel: in the file, or in what its compressed stream unpacks to.
    stream_at : int or None
        Where in the file a gzip or zlib stream begins; None where voxels are stored as they are.
    """

    file: Path
    dtype: np.dtype
    shape: tuple[int, int, int]
    offset: int = 0
    stream_at: int | None = None

    @property
    def byte_count(self) -> int:
        """Of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize

    def check(self) -> None:
        """Hold what the header declares against the file, before room is made for it.

        Raises
        ------
        UnreadableSlice
            If there are no voxels, too many, or more than the file can hold.
        """
        for axis in range(3):
            check_size(*(side for other, side in enumerate(self.shape) if other != axis))
        sides = " x ".join(map(str, self.shape))
        if max(self.shape) > _MOST_SLICES or self.byte_count > _MOST_BYTES:
            raise UnreadableSlice(
                f"{sides} voxels are too many for one scan (limit {_MOST_SLICES:,} along an axis, "
                f"{_MOST_BYTES >> 30} GiB)"
            )
        try:
            length = self.file.stat().st_size
        except OSError as error:
            raise UnreadableSlice(f"{self.file.name}: cannot be read: {error.strerror or error}") from error
        most = length - self.offset if self.stream_at is None else (length - self.stream_at) * _MOST_RATIO
        if self.byte_count > most:
            at_most = "" if self.stream_at is None else " at most"
            raise UnreadableSlice(
                f"the header says {sides} voxels, {self.byte_count:,} bytes; the file holds {max(0, most):,}"
                f"{at_most}: it is cut short, or its header is damaged"
            )


class Voxels:
    """Planes of stored voxels across one of the three axes; may be used by several threads.

    Planes across the slowest axis lie in the file in one piece, and are read as they are asked for. Where
    that is not so, or the file is compressed, all voxels are unpacked into a temporary file, once.

    Parameters
    ----------
    stored : Stored
    axis : int
        Across which planes lie: 0 is the fastest one.
    """

    def __init__(self, stored: Stored, axis: int):
        self._stored = stored
        self._axis = axis
        self._lock = threading.Lock()
        self._spool: int | None = None
        self._failed = ""

    def plane(self, index: int) -> np.ndarray:
        """Stored numbers of one plane, its slower axis first.

        Raises
        ------
        UnreadableSlice
            If the file is cut short or damaged.
        """
        stored = self._stored
        if self._axis == 2:
            size = stored.byte_count // stored.shape[2]
            data = self._bytes(size, index * size)
            return np.frombuffer(data, stored.dtype).reshape(stored.shape[1], stored.shape[0])
        descriptor = self._unpacked()
        with mmap.mmap(descriptor, stored.byte_count, access=mmap.ACCESS_READ) as whole:
            voxels = np.frombuffer(whole, stored.dtype).reshape(stored.shape[::-1])
            plane = np.take(voxels, index, axis=2 - self._axis)
            del voxels
        return plane

    def _bytes(self, size: int, start: int) -> bytes:
        if self._stored.stream_at is not None:
            return os.pread(self._unpacked(), size, start)
        try:
            with self._stored.file.open("rb") as stream:
                stream.seek(self._stored.offset + start)
                data = stream.read(size)
        except OSError as error:
            raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error
        if len(data) < size:
            raise UnreadableSlice(f"the file is cut short: {len(data):,} of {size:,} bytes of the slice")
        return data

    def _unpacked(self) -> int:
        """Descriptor of a file without a name that holds all voxels, and is gone when nobody needs it."""
        with self._lock:
            if self._failed:
                raise UnreadableSlice(self._failed)
            if self._spool is None:
                try:
                    self._spool = self._unpack()
                except UnreadableSlice as error:
                    self._failed = str(error)
                    raise
            return self._spool

    def _unpack(self) -> int:
        stored = self._stored
        try:
            with tempfile.TemporaryFile() as spool, stored.file.open("rb") as stream:
                if stored.stream_at is None:
                    stream.seek(stored.offset)
                    _copy(stream, spool, stored.byte_count)
                else:
                    stream.seek(stored.stream_at)
                    _inflate(stream, spool, stored.offset, stored.byte_count)
                spool.flush()
                descriptor = os.dup(spool.fileno())
        except OSError as error:
            raise UnreadableSlice(
                f"cannot be unpacked into {tempfile.gettempdir()}: {error.strerror or error}; there must be "
                f"room for {stored.byte_count / 1e6:,.0f} MB, TMPDIR names another place"
            ) from error
        weakref.finalize(self, os.close, descriptor)
        return descriptor


def inflated_start(stream: IO[bytes], size: int) -> bytes:
    """Unpack the first bytes of a gzip file; fewer where it holds fewer.

    Raises
    ------
    UnreadableSlice
        If it is damaged there.
    """
    inflater, start = zlib.decompressobj(_EITHER_HEAD), b""
    try:
        while len(start) < size and not inflater.eof and (data := stream.read(1 << 12)):
            start += inflater.decompress(data, size - len(start))
    except zlib.error as error:
        raise UnreadableSlice(f"the file is damaged: its gzip stream cannot be unpacked ({error})") from error
    return start


def _copy(stream: IO[bytes], spool: IO[bytes], size: int) -> None:
    left = size
    while left and (data := stream.read(min(left, _CHUNK_BYTES))):
        spool.write(data)
        left -= len(data)
    if left:
        raise UnreadableSlice(f"the file is cut short: {size - left:,} of {size:,} bytes of voxels")


def _inflate(stream: IO[bytes], spool: IO[bytes], skip: int, size: int) -> None:
    """Unpack a stream piece by piece, also of several gzip members, to its end, where its checksum is."""
    inflater, place, data = zlib.decompressobj(_EITHER_HEAD), 0, b""
    try:
        while True:
            data = data or stream.read(_CHUNK_BYTES)
            if not data:
                break
            piece = inflater.decompress(data, _CHUNK_BYTES)
            data = inflater.unconsumed_tail
            wanted = piece[max(0, skip - place) : max(0, skip + size - place)]
            spool.write(wanted)
            place += len(piece)
            if place > skip + size + _MOST_AFTER:
                raise UnreadableSlice(
                    f"it unpacks to more than the {skip + size:,} bytes of its header; it is damaged"
                )
            if inflater.eof:
                data = inflater.unused_data.lstrip(b"\0") or stream.read(_CHUNK_BYTES).lstrip(b"\0")
                if not data:
                    break
                inflater = zlib.decompressobj(_EITHER_HEAD)
    except zlib.error as error:
        raise UnreadableSlice(
            f"the file is damaged: its compressed voxels cannot be unpacked ({error})"
        ) from error
    if place < skip + size or not inflater.eof:
        raise UnreadableSlice(
            f"the file is cut short: {max(0, place - skip):,} of {size:,} bytes of voxels can be unpacked"
        )
