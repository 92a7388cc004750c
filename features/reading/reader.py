"""Reading slices so that no file can do harm: what native code decodes is decoded in other processes.

A file that makes a decoder crash, hang or ask for all memory costs itself, and not the machine or the run.
"""

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from haemo.features.reading.address import SliceAddress
from haemo.features.reading.decoders import DecodersOf, Limits
from haemo.features.reading.dicom_format import starts_like_dicom
from haemo.features.reading.formats import decode_slice, read_header, read_slice
from haemo.features.reading.freed_memory import keep_freed_memory
from haemo.features.reading.plain import START_BYTES, is_plain
from haemo.features.reading.slice import Slice, SliceHeader

__all__ = ["SliceReader", "end_processes", "read_guarded", "read_header_guarded"]

# The largest slice, 8192 x 8192, takes 1 GB at most beside what a process has, in any of these codecs.
_MEMORY_MB = 2048
_SECONDS = 20.0
_MOST_BYTES_AT_ONCE = 1 << 24  # a common slice; what is not read here after all is read in vain
_all_decoders: list[DecodersOf] = []


class SliceReader:
    """Reads one file after another; may be called from several threads.

    Parameters
    ----------
    workers : int
        Processes at work at once, at most. They are shared by all readers of this process, and end with it.
    read : callable
        A function of a module that takes a path and gives a slice.
    memory_mb : int
        That a file may take beside what the process has; kept on Linux only.
    seconds : float
        Of CPU that a file may take, and 4 s more for each megapixel of a file over 1 MB.
    """

    def __init__(
        self,
        workers: int,
        read: Callable[[Path], Slice] = read_slice,
        *,
        memory_mb: int = _MEMORY_MB,
        seconds: float = _SECONDS,
    ):
        keep_freed_memory()
        self._read = read
        self._decoders = _decoders(read, Limits(memory_mb, seconds))
        self._turns = threading.BoundedSemaphore(workers)

    def __enter__(self) -> "SliceReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the processes to the next reader."""

    def __call__(self, path: Path) -> Slice:
        """Read one slice.

        Raises
        ------
        UnreadableSlice
            If it cannot be used; also if its decoder crashed or passed a limit, which takes down a process
            but not this one.
        """
        address = SliceAddress.of(path)
        plain = _plain_bytes(address) if self._read is read_slice else None
        if plain is not None:
            return decode_slice(plain, address)
        if _stays_here(address):
            return self._read(path)
        with self._turns:
            return self._decoders.read(path)


def read_guarded(path: Path, read: Callable[[Path], Slice] = read_slice) -> Slice:
    """Read one slice as a `SliceReader` with that `read` does, where there are few to read."""
    return _reader(read)(path)


def read_header_guarded(path: Path) -> SliceHeader:
    """Read the header of one slice; pixels that have to tell their unit are read by `read_guarded`."""
    return read_header(path, read_guarded)


def end_processes() -> None:
    """End the processes that wait for files, as the end of this one does; the next file starts new ones."""
    for decoders in list(_all_decoders):
        decoders.end()


@functools.cache
def _reader(read: Callable[[Path], Slice]) -> SliceReader:
    return SliceReader(8, read)


@functools.cache
def _decoders(read: Callable[[Path], Slice], limits: Limits) -> DecodersOf:
    decoders = DecodersOf(read, limits)
    _all_decoders.append(decoders)
    return decoders


def _plain_bytes(address: SliceAddress) -> bytes | None:
    """All bytes of a plain file, read once; None where it is another one, a large one, or cannot be read."""
    if address.number is not None:
        return None
    try:
        with address.file.open("rb", buffering=0) as stream:
            if os.fstat(stream.fileno()).st_size > _MOST_BYTES_AT_ONCE:
                return None
            data = stream.read()
    except OSError:
        return None
    return data if is_plain(data[:START_BYTES]) else None


def _stays_here(address: SliceAddress) -> bool:
    try:
        with address.file.open("rb", buffering=0) as stream:
            start = stream.read(START_BYTES)
    except OSError:
        return True  # the reader will say why
    if address.number is not None and not starts_like_dicom(start):
        return True  # of a volume: Python reads it, and keeps it open for the next slice
    return is_plain(start)
