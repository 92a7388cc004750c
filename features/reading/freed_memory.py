"""Memory that one slice gave back, kept for the next one.

Each slice takes and frees some megabytes, many times over. glibc hands them back to the kernel each time,
and the kernel gives them out again page by page, each filled with zeros: up to a quarter of the time of
decoding.
"""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_LARGE_BYTES = 16 << 20  # more than the planes of a slice of 1024 x 1024


def keep_freed_memory() -> None:
    """Have this process keep up to 32 MB that it has freed, where the allocator is that of glibc.

    Notes
    -----
    Blocks up to 16 MB are no longer mapped each by itself, and up to 32 MB at the end of the heap stay
    (mallopt(3)). glibc comes to these numbers by itself once a block of 16 MB has been freed, but not where
    MALLOC_TRIM_THRESHOLD_ is set, as Dask sets it for its workers, and in the process that starts them.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGE_BYTES)
