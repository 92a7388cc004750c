"""What of a file on disk changes when it is written."""

from pathlib import Path

__all__ = ["as_written"]


def as_written(path: Path) -> tuple[int, int, int]:
    """Number, size and time of the last write of a file; not of the last read, which reading moves."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
