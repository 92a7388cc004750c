"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "read_text",
    "replacing",
    "sync_directory",
    "temporary_beside",
    "write_text",
]


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Give a name beside `path` for the block to write to and rename; if it raises, the file is removed.

    Raises
    ------
    OSError
        As the block does, but it names `path` where it would name the temporary file.
    """
    # Not tempfile: it lets nobody but the owner read, and a run directory may be shared.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) == str(temporary):
            error.filename = str(path)
            if error.filename2 is not None:  # that of a rename; set to None it would be printed
                del error.filename2
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, sync it and rename it into place.

    A reader sees the old file or the new one, never a part. If the block raises, the temporary file is
    removed and `path` is as it was.

    Parameters
    ----------
    path : Path
        Where the finished file shall be. Its directory must exist.

    Yields
    ------
    Path
        The name to write to; the block must have closed it when it ends.

    Raises
    ------
    OSError
        If the file cannot be written; it names `path`, not the temporary one.
    """
    path = Path(path)
    with temporary_beside(path) as temporary:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make renames in `directory` last through a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically.

    Bytes of a file name that are not UTF-8, as Linux allows them, pass through unchanged.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def read_text(path: Path) -> str:
    """Read what `write_text` wrote, line ends as they are."""
    with Path(path).open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return stream.read()
