"""Files that are written whole or not at all."""

import functools
import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = [
    "MOST_IN_LINE",
    "json_of",
    "lines_of",
    "parse_json",
    "read_text",
    "remove_leftovers",
    "replacing",
    "sync_directory",
    "temporary_beside",
    "write_text",
]

MOST_IN_LINE = 1 << 24
"""Characters that are read of a line at once: files of strangers may have lines of gigabytes."""
# A split of 2 million slices. A value takes up to 100 bytes of memory for each sign that sets it off.
_MOST_VALUES = 2_500_000
_MOST_JSON_BYTES = 1 << 26

_TEMPORARY = re.compile(r"(?s)\..*\.([0-9a-f]{8})\.(\d+)\.[0-9a-f]{8}\.tmp")
_SECONDS_OF_OTHERS = 86_400.0


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Give a name beside `path` for the block to write to and rename; if it raises, the file is removed.

    Raises
    ------
    OSError
        As the block does, but it names `path` where it would name the temporary file.
    """
    # Not tempfile: it lets nobody but the owner read, and a run directory may be shared.
    temporary = path.with_name(f".{path.name}.{_kernel()}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
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


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that processes left which were killed while they wrote.

    Those of living processes stay, and those of another kernel, on a shared disk, for a day.
    """
    with suppress(OSError):  # whoever may not delete there is not kept from working
        for entry in os.scandir(folder):
            match = _TEMPORARY.fullmatch(entry.name)
            if match and _is_dead(entry, *match.groups()):
                with suppress(FileNotFoundError):
                    Path(entry).unlink()


def _is_dead(entry: os.DirEntry[str], kernel: str, pid: str) -> bool:
    if kernel != _kernel():
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _SECONDS_OF_OTHERS
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    return False


@functools.cache
def _kernel() -> str:
    """Which kernel this process runs on, where its number is its own: by host name and boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    with suppress(OSError):
        return hashlib.sha256(f"{socket.gethostname()} {boot.read_text()}".encode()).hexdigest()[:8]
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically; what killed processes left beside it is removed.

    Bytes of a file name that are not UTF-8, as Linux allows them, pass through unchanged.
    """
    remove_leftovers(Path(path).parent)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON that a file or a request holds.

    Raises
    ------
    ValueError
        If it is none, nested deeper than Python goes, or of more values than memory should be filled with, as
        only hostile files are.
    """
    if isinstance(text, str):
        values = sum(text.count(sign) for sign in ",:[{")
    else:
        values = sum(text.count(sign) for sign in b",:[{")
    if values > _MOST_VALUES:
        raise ValueError(f"it holds more than {_MOST_VALUES:,} values")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def json_of(path: Path) -> Any:
    """Parse a JSON file, in UTF-8, as `parse_json` does.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no JSON, or larger than any that haemo writes.
    """
    size = Path(path).stat().st_size
    if size > _MOST_JSON_BYTES:
        raise ValueError(f"{size:,} bytes, more than any such file has")
    return parse_json(Path(path).read_text(encoding="utf-8"))


def lines_of(path: Path, newline: str = "") -> Iterator[str]:
    """Read what `write_text` wrote line by line, each with its end; one that has none comes in pieces.

    Parameters
    ----------
    path : Path
    newline : str
        What ends a line, as `open` takes it: nothing for any end.
    """
    with Path(path).open(encoding="utf-8", errors="surrogateescape", newline=newline) as stream:
        while line := stream.readline(MOST_IN_LINE):
            yield line


def read_text(path: Path) -> str:
    """Read what `write_text` wrote, line ends as they are."""
    with Path(path).open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return stream.read()
