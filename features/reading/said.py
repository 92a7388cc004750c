"""What native code says on standard error: the only place where libtiff tells of damage that it gets over."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["said_on_stderr"]

_STDERR = 2
_MOST_BYTES = 4096
_one_at_a_time = threading.Lock()


@contextmanager
def said_on_stderr() -> Iterator[list[str]]:
    """Keep what is written to standard error; at the end the list holds its lines, and nothing was shown.

    This holds for the whole process: it is for those that decode and do nothing else.
    """
    said: list[str] = []
    with _one_at_a_time, tempfile.TemporaryFile() as kept:
        try:
            shown = os.dup(_STDERR)
        except OSError:  # closed: nothing can be said there
            yield said
            return
        os.dup2(kept.fileno(), _STDERR)
        try:
            yield said
        finally:
            os.dup2(shown, _STDERR)
            os.close(shown)
            kept.seek(0)
            said += kept.read(_MOST_BYTES).decode(errors="replace").splitlines()
