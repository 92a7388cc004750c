"""Where haemo keeps what it fetched or measured on this host, outside any run."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

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
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: it lets nobody but the owner read, and a run directory may be shared.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) == str(temporary):
            error.filename = str(path)
            if error.filename2 is not None:  # that of a rename; set to None it would be printed
                del error.filename2
        raise
