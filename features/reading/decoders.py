"""Processes that decode, seen from the one that asks: started when needed, kept, replaced when they die."""

import atexit
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import BrokenInstallation, UnreadableSlice
from haemo.features.reading.slice import MAX_PIXELS, Slice
from haemo.features.reading.worker import ARENA_BYTES

__all__ = ["DecodersOf", "Limits"]

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from haemo.features.reading.worker import serve; serve(*sys.argv[2:])"
)
_MOST_FACTS_BYTES = 1 << 20
# By the clock: a process that waits for a disk uses no CPU, and one that waits for ever neither.
_PATIENCE = 10.0
_SECONDS_TO_START = 300.0
# Sent by others: the kernel short of memory, a person. The file may not be to blame, and is tried once more.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
_SECONDS_TO_END = 2.0


@dataclass(frozen=True)
class Limits:
    """What one file may take.

    Attributes
    ----------
    memory_mb : int
        Of address space, beside what the process has when it starts; kept on Linux only.
    seconds : float
        Of CPU, and 4 s more for each megapixel of a file over 1 MB.
    """

    memory_mb: int
    seconds: float


class DecodersOf:
    """Processes that read files by one function within limits; one file at a time each.

    Parameters
    ----------
    read : callable
        A function of a module that takes a path and gives a slice.
    limits : Limits
    """

    def __init__(self, read: Callable[[Path], Slice], limits: Limits):
        self._read = f"{read.__module__}:{read.__qualname__}"
        self._limits = limits
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        os.register_at_fork(after_in_child=self._idle.clear)  # they answer to the one that started them
        atexit.register(self.end)

    def read(self, path: Path) -> Slice:
        """Read one file.

        Raises
        ------
        UnreadableSlice
            If it cannot be used; also if its decoder crashed or passed a limit.
        BrokenInstallation
            If no process can be started.
        """
        try:
            return self._attempt(path)
        except _TryAgain:
            # In a process that has read no other file it shows whether it was this one.
            return self._attempt(path, last=True)

    def end(self) -> None:
        """End the processes that wait."""
        with self._lock:
            processes = self._idle[:]
            self._idle.clear()
        for process in processes:
            process.end()

    def _attempt(self, path: Path, last: bool = False) -> Slice:
        process = None
        if not last:
            with self._lock:
                process = self._idle.pop() if self._idle else None
        process = process or _Process(self._read, self._limits)
        try:
            slice_ = process.read(path, last)
        except UnreadableSlice:
            self._keep(process)
            raise
        except BaseException:
            process.end(kill=True)
            raise
        self._keep(process)
        return slice_

    def _keep(self, process: "_Process") -> None:
        if process.is_alive:
            with self._lock:
                self._idle.append(process)


class _TryAgain(Exception):
    """The file may not be to blame."""


class _Process:
    def __init__(self, read: str, limits: Limits):
        self._limits = limits
        self._shared, arena = _shared_memory()
        asked, requests = os.pipe()
        replies, answered = os.pipe()
        ends = [asked, answered] + ([arena] if arena >= 0 else [])
        command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(asked), str(answered)]
        command += [str(arena), read, str(limits.memory_mb), str(limits.seconds)]
        quiet = subprocess.DEVNULL
        self._requests = Connection(requests, readable=False)
        self._replies = Connection(replies, writable=False)
        try:
            self._child = subprocess.Popen(  # noqa: S603 - this Python, and the function that was given
                command, stdin=quiet, stdout=quiet, stderr=quiet, pass_fds=ends
            )
        except BaseException:
            self._requests.close()
            self._replies.close()
            raise
        finally:
            for end in ends:
                os.close(end)
        self.is_alive = True
        self._files = 0
        try:
            self._facts(_SECONDS_TO_START)
        except (EOFError, OSError, ValueError, TimeoutError) as error:
            self.end(kill=True)
            raise BrokenInstallation(
                f"the process that decodes slices cannot start (exit code {self._child.returncode}); try "
                "'haemo doctor'"
            ) from error

    def read(self, path: Path, last: bool) -> Slice:
        seconds = self._limits.seconds
        try:
            self._requests.send_bytes(os.fsencode(os.path.abspath(path)))  # noqa: PTH100 - links stay
            facts = self._facts(_PATIENCE * seconds)
            if "seconds" in facts:
                seconds = float(facts["seconds"])
                facts = self._facts(_PATIENCE * seconds)
            self._files += 1
            if "refused" in facts:
                return self._refuse(facts, last)
            return self._slice(facts)
        except TimeoutError:
            self.end(kill=True)
            raise UnreadableSlice(f"its decoder took more than {_PATIENCE * seconds:.3g} s") from None
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, UnreadableSlice):
                raise
            self.end()
        if not last and -self._child.returncode in _FROM_OUTSIDE:
            raise _TryAgain
        took = f"took more than {seconds:.3g} s of CPU"
        what = took if self._child.returncode == -signal.SIGPROF else "crashed"
        raise UnreadableSlice(f"its decoder {what}; the file is damaged")

    def end(self, kill: bool = False) -> None:
        """End it; it ends by itself where nobody asks any more."""
        self.is_alive = False
        self._requests.close()
        self._replies.close()
        if kill:
            self._child.kill()
        try:
            self._child.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _refuse(self, facts: dict[str, Any], last: bool) -> Slice:
        if not facts["memory"]:
            raise UnreadableSlice(str(facts["refused"]))
        self.end(kill=True)
        if not last and self._files > 1:
            raise _TryAgain  # files that were read before may have left little
        raise UnreadableSlice(f"its decoder asked for more than {self._limits.memory_mb} MB of memory")

    def _facts(self, seconds: float) -> dict[str, Any]:
        if not self._replies.poll(seconds):
            raise TimeoutError
        facts = json.loads(self._replies.recv_bytes(_MOST_FACTS_BYTES))
        if not isinstance(facts, dict):
            raise ValueError("no facts")
        return facts

    def _slice(self, facts: dict[str, Any]) -> Slice:
        height, width = (int(side) for side in facts["shape"])
        if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
            raise ValueError("no slice")
        if facts["is_shared"]:
            if self._shared is None or height * width * 4 > ARENA_BYTES:
                raise ValueError("no slice")
            pixels = np.frombuffer(self._shared, np.float32, height * width).copy()
        else:
            pixels = np.frombuffer(bytearray(self._replies.recv_bytes(height * width * 4)), np.float32)
        return Slice(
            pixels.reshape(height, width),
            is_hu=bool(facts["is_hu"]),
            spacing_mm=None if facts["spacing_mm"] is None else tuple(facts["spacing_mm"]),
            mode=str(facts["mode"]),
            is_colour=bool(facts["is_colour"]),
        )


def _shared_memory() -> tuple[mmap.mmap | None, int]:
    """Memory for the pixels of a slice, and the file to share it by; none where the system gives none."""
    try:
        if hasattr(os, "memfd_create"):
            file = os.memfd_create("haemo-slice")
        else:
            with tempfile.TemporaryFile() as stream:
                file = os.dup(stream.fileno())
        try:
            os.ftruncate(file, ARENA_BYTES)
            return mmap.mmap(file, ARENA_BYTES), file
        except (OSError, ValueError):
            os.close(file)
    except OSError:
        pass  # what is read goes through the pipe
    return None, -1
