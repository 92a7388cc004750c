"""Reading slices from many threads: those whose decoder keeps Python's lock are read in other processes.

These have limits of memory and time, as decoders are native code that damaged files lead astray: a file that
passes one costs itself, and not the machine or the run.
"""

import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType

from haemo.errors import UnreadableSlice
from haemo.features.reading.address import file_of
from haemo.features.reading.formats import read_slice
from haemo.features.reading.slice import Slice

__all__ = ["SliceReader"]

# Transfer syntaxes JPEG, JPEG-LS, JPEG 2000 (1.2.840.10008.1.2.4.*) and RLE (.5), in the first bytes of a
# file. Their decoders keep Python's lock, so that threads take turns: JPEG 2000 for 22 ms a slice, JPEG-LS
# for 6 ms, RLE for 5 ms. PNG and JPEG pictures are decoded outside it, plain DICOM in under a millisecond.
_LOCKING = (b"1.2.840.10008.1.2.4.", b"1.2.840.10008.1.2.5")
_META_BYTES = 1024
# Fresh processes: a fork would take along the locks of the network's threads, in whatever state.
_SPAWN = multiprocessing.get_context("spawn")
# The largest slice, 8192 x 8192, takes 1 GB at most beside what a process has, in any of these codecs.
_MEMORY_MB = 2048
# Of CPU, so that it does not matter what else the machine does. JPEG 2000, the slowest, takes 0.2 s a MB.
_SECONDS = 30.0
_SECONDS_A_MB = 2.0


class SliceReader:
    """Reads one file after another; may be called from several threads.

    Parameters
    ----------
    workers : int
        Processes to start, if any are needed. A script that extracts compressed DICOM must then guard its
        main part with ``if __name__ == "__main__"``, as always where Python starts processes.
    read : callable
        A function of a module that takes a path and gives a slice.
    memory_mb : int
        That a file read in a process may take beside what the process has; kept on Linux only.
    seconds : float
        Of CPU that a file read in a process may take, and 2 s more for each MB of its size.
    """

    def __init__(
        self,
        workers: int,
        read: Callable[[Path], Slice] = read_slice,
        *,
        memory_mb: int = _MEMORY_MB,
        seconds: float = _SECONDS,
    ):
        self._workers = workers
        self._read = read
        self._limits = (memory_mb, seconds)
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
            If it cannot be used; also if its decoder crashed or passed a limit, which takes down a process
            but not this one.
        """
        if not _keeps_the_lock(path):
            return self._read(path)
        pool = self._shared_pool()
        try:
            return pool.submit(_read_within, self._read, path, *self._limits).result()
        except BrokenProcessPool:
            self._discard(pool)
        # Some file has ended its process, and all that were being read beside it are lost. Alone in a
        # process of its own, each shows whether it was the one.
        return self._read_alone(path)

    def _read_alone(self, path: Path) -> Slice:
        receiver, sender = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=_answer, args=(sender, self._read, path, *self._limits), daemon=True)
        process.start()
        sender.close()
        try:
            answer = receiver.recv()
        except (EOFError, OSError):
            process.join()
            took = f"took more than {_seconds_for(path, self._limits[1]):.3g} s of CPU"
            what = took if process.exitcode == -signal.SIGPROF else "crashed"
            raise UnreadableSlice(f"its decoder {what}; the file is damaged") from None
        finally:
            receiver.close()
            process.kill()
            process.join()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _shared_pool(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self._workers, _SPAWN, initializer=_begin)
            return self._pool

    def _discard(self, pool: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None


def _keeps_the_lock(path: Path) -> bool:
    try:
        with file_of(path).open("rb") as stream:
            start = stream.read(_META_BYTES)
    except OSError:
        return False  # the reader will say why
    return start[128:132] == b"DICM" and any(syntax in start for syntax in _LOCKING)


def _begin() -> None:
    """Leave Ctrl-C to the parent, and end with it, also where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _answer(sender: Connection, read: Callable[[Path], Slice], path: Path, *limits: float) -> None:
    """Send the slice, or the error that says why there is none."""
    _begin()
    try:
        sender.send(_read_within(read, path, *limits))
    except Exception as error:
        sender.send(error)


def _read_within(read: Callable[[Path], Slice], path: Path, memory_mb: float, seconds: float) -> Slice:
    """Read a file in this process, which ends where that takes more CPU than it may."""
    _limit_memory(memory_mb)
    # The signal ends the process also in the middle of native code, which no exception reaches.
    signal.setitimer(signal.ITIMER_PROF, _seconds_for(path, seconds))
    try:
        return read(path)
    except (UnreadableSlice, MemoryError) as error:
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            raise UnreadableSlice(f"its decoder asked for more than {memory_mb} MB of memory") from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory(memory_mb: float) -> None:
    """Bound the address space of this process, once, by what it has now."""
    status = Path("/proc/self/statm")
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY and status.exists():
        size = int(status.read_text().split()[0]) * resource.getpagesize() + int(memory_mb * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def _seconds_for(path: Path, seconds: float) -> float:
    try:
        return seconds + _SECONDS_A_MB * file_of(path).stat().st_size / 1e6
    except OSError:
        return seconds  # the reader will say why
