"""The process that decodes: it takes paths and gives pixels, within limits of memory and time.

What it runs is native code that damaged files lead astray. So it may crash, hang or ask for all memory, and
says nothing that has to be trusted: a line of JSON, and pixels as plain numbers.
"""

import importlib
import json
import mmap
import os
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.address import file_of
from haemo.features.reading.formats import read_header
from haemo.features.reading.freed_memory import keep_freed_memory
from haemo.features.reading.slice import Slice

__all__ = ["ARENA_BYTES", "serve"]

# What passes through shared memory: 2048 x 2048 pixels. Larger slices are rare, and go through the pipe.
ARENA_BYTES = 2048 * 2048 * 4
# Of CPU, so that it does not matter what else the machine does. JPEG 2000, the slowest, takes 0.5 s.
_SECONDS_A_MEGAPIXEL = 4.0
# A smaller file has the seconds that all have, whatever it declares: time goes with what is packed.
_SMALL_BYTES = 1_000_000


def serve(requests: str, replies: str, arena: str, read: str, memory_mb: str, seconds: str) -> None:
    """Answer one path after another, until the process that asks has gone.

    Parameters
    ----------
    requests, replies : str
        Numbers of the pipes' ends.
    arena : str
        Number of the file to share memory by; -1 where there is none.
    read : str
        ``module:function`` that takes a path and gives a slice.
    memory_mb, seconds : str
        Limits of a file; more seconds are given to large pictures.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is told of Ctrl-C, and ends this process
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    shared = None if int(arena) < 0 else mmap.mmap(int(arena), ARENA_BYTES)
    inbox, outbox = Connection(int(requests), writable=False), Connection(int(replies), readable=False)
    module, _, name = read.partition(":")
    decode = getattr(importlib.import_module(module), name)
    keep_freed_memory()
    _limit_memory(int(memory_mb))
    outbox.send_bytes(b"{}")
    while True:
        try:
            path = Path(os.fsdecode(inbox.recv_bytes()))
            _answer(path, decode, float(seconds), shared, outbox)
        except (EOFError, OSError):
            os._exit(0)


def _answer(
    path: Path, decode: Callable[[Path], Slice], seconds: float, shared: mmap.mmap | None, outbox: Connection
) -> None:
    # The signal ends the process also in the middle of native code, which no exception reaches.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    more = _seconds_for_pixels(path)
    if more:
        signal.setitimer(signal.ITIMER_PROF, seconds + more)
        _tell(outbox, seconds=seconds + more)
    read = _decoded(path, decode)
    signal.setitimer(signal.ITIMER_PROF, 0)
    if isinstance(read, Slice):
        _send(read, shared, outbox)
    else:
        _tell(outbox, **read)


def _decoded(path: Path, decode: Callable[[Path], Slice]) -> Slice | dict[str, Any]:
    """The slice, or why there is none."""
    try:
        return decode(path)
    except UnreadableSlice as error:
        return {"refused": str(error), "memory": isinstance(error.__cause__, MemoryError)}
    except MemoryError:
        return {"refused": "not enough memory", "memory": True}
    # Of a plug-in too, whose errors nobody knows; this process goes on with the next file.
    except Exception as error:
        return {"refused": f"its decoder failed ({type(error).__name__}: {error})", "memory": False}


def _seconds_for_pixels(path: Path) -> float:
    """What a large picture is given beside what all are given; 0 for a small file."""
    try:
        if file_of(path).stat().st_size <= _SMALL_BYTES:
            return 0.0
        height, width = read_header(path).size
    except (OSError, UnreadableSlice):
        return 0.0  # the decoder will say why
    return _SECONDS_A_MEGAPIXEL * height * width / 1e6


def _send(slice_: Slice, shared: mmap.mmap | None, outbox: Connection) -> None:
    pixels = np.ascontiguousarray(slice_.pixels, dtype=np.float32)
    is_shared = shared is not None and pixels.nbytes <= ARENA_BYTES
    if is_shared:
        np.frombuffer(shared, np.float32, pixels.size)[:] = pixels.ravel()
    _tell(
        outbox,
        shape=pixels.shape,
        is_hu=bool(slice_.is_hu),
        spacing_mm=slice_.spacing_mm and [float(length) for length in slice_.spacing_mm],
        mode=slice_.mode,
        is_colour=bool(slice_.is_colour),
        is_shared=is_shared,
    )
    if not is_shared:
        outbox.send_bytes(pixels.data.cast("B"))


def _tell(outbox: Connection, **facts: Any) -> None:
    outbox.send_bytes(json.dumps(facts).encode())


def _limit_memory(memory_mb: int) -> None:
    """Bound the address space of this process by what it has now and `memory_mb`; on Linux only."""
    status = Path("/proc/self/statm")
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY and status.exists():
        size = int(status.read_text().split()[0]) * resource.getpagesize() + memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
