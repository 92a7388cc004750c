"""Reading slices from many threads: those whose decoder keeps Python's lock are read in other processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType

from haemo.errors import UnreadableSlice
from haemo.features.reading.formats import read_slice
from haemo.features.reading.slice import Slice

__all__ = ["SliceReader"]

# Transfer syntaxes JPEG, JPEG-LS, JPEG 2000 (1.2.840.10008.1.2.4.*) and RLE (.5), in the first bytes of a
# file. Their decoders keep Python's lock, so that threads take turns: JPEG 2000 for 22 ms a slice, JPEG-LS
# for 6 ms, RLE for 5 ms. PNG and JPEG pictures are decoded outside it, plain DICOM in under a millisecond.
_LOCKING = (b"1.2.840.10008.1.2.4.", b"1.2.840.10008.1.2.5")
_META_BYTES = 1024


class SliceReader:
    """Reads one file after another; may be called from several threads.

    Parameters
    ----------
    workers : int
        Processes to start, if any are needed. A script that extracts compressed DICOM must then guard its
        main part with ``if __name__ == "__main__"``, as always where Python starts processes.
    read : callable
        A function of a module that takes a path and gives a slice.
    """

    def __init__(self, workers: int, read: Callable[[Path], Slice] = read_slice):
        self._workers = workers
        self._read = read
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "SliceReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def __call__(self, path: Path) -> Slice:
        """Read one slice.

        Raises
        ------
        UnreadableSlice
            If it cannot be used; also if its decoder crashed, which takes down a process but not this one.
        """
        if not _keeps_the_lock(path):
            return self._read(path)
        pool = self._shared_pool()
        try:
            return pool.submit(self._read, path).result()
        except BrokenProcessPool:
            self._discard(pool)
        # Some file has crashed its decoder, and all that were being read beside it are lost. Alone in a
        # process of its own, each shows whether it was the one.
        with _new_pool(1) as own:
            try:
                return own.submit(self._read, path).result()
            except BrokenProcessPool:
                raise UnreadableSlice("its decoder crashed; the file is damaged") from None

    def _shared_pool(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = _new_pool(self._workers)
            return self._pool

    def _discard(self, pool: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None


def _keeps_the_lock(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            start = stream.read(_META_BYTES)
    except OSError:
        return False  # the reader will say why
    return start[128:132] == b"DICM" and any(syntax in start for syntax in _LOCKING)


def _new_pool(workers: int) -> ProcessPoolExecutor:
    """Fresh processes: a fork would take along the locks of the network's threads, in whatever state."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """Leave Ctrl-C to the parent, and end with it, also where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
