"""Where haemo keeps what it fetched or measured on this host, outside any run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from haemo.atomic import temporary_beside

__all__ = ["cache_directory", "replacing"]


def cache_directory() -> Path:
    """Give the folder: HAEMO_CACHE if set, else haemo below XDG_CACHE_HOME, else ~/.cache/haemo.

    It need not exist; `replacing` makes it.
    """
    chosen = os.environ.get("HAEMO_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "haemo"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a stream; what is written to it is put at `path` when the block ends well, else nothing is.

    Raises
    ------
    OSError
        If the folder cannot be made or written to; it names `path`, not the temporary file.
    """
    _make(path.parent)
    with temporary_beside(path) as temporary:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)


def _make(folder: Path) -> None:
    """Make a folder where it is missing; the cache is for its owner alone, unless HAEMO_CACHE names it."""
    own = cache_directory()
    if own in (folder, *folder.parents):
        own.parent.mkdir(parents=True, exist_ok=True)
        own.mkdir(mode=0o700, exist_ok=True)
        if not os.environ.get("HAEMO_CACHE"):
            with suppress(OSError):  # not ours, or on a disk that knows no modes
                own.chmod(0o700)
    folder.mkdir(parents=True, exist_ok=True)
