"""Memory that one slice gave back, kept for the next one.

Each slice takes and frees some megabytes, many times over. glibc hands them back to the kernel each time,
and the kernel gives them out again page by page, each filled with zeros: up to a quarter of the time of
decoding.
"""

import numpy as np

__all__ = ["keep_freed_memory"]

# More than the planes of a slice of 1024 x 1024, and less than the 32 MB up to which glibc follows.
_LARGE_BYTES = 16 << 20


def keep_freed_memory() -> None:
    """Have this process keep up to 32 MB that it has freed, where the allocator is that of glibc.

    Notes
    -----
    When a block is freed that was larger than any before, glibc takes its size for that of blocks which come
    and go: it no longer maps smaller ones anew, and keeps twice as much (mallopt(3), M_MMAP_THRESHOLD). The
    block is not written to, so it costs nothing.
    """
    np.empty(_LARGE_BYTES, np.uint8)
