"""A file under a temporary name beside the one that it will be: put in its place whole, or gone."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["temporary_beside"]


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
