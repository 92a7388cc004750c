"""Who reads: one session a browser, each with a folder of its own that is deleted when it ends."""

import fcntl
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from haemo.pipeline.serving.studies import Study
from haemo.pipeline.serving.uploads import Limits, Meter, Upload

__all__ = ["Session", "Sessions", "working_folder"]

_PREFIX = "haemo-serve-"
_LOCK = "lock"
_IDLE_SECONDS = 12 * 3600.0
_MOST_SESSIONS = 64


@dataclass(eq=False)
class Session:
    """One browser that has shown the token.

    Attributes
    ----------
    key : str
        What its cookie holds.
    csrf : str
        What its pages send back with everything that changes something.
    folder : Path
        What it dropped lies here, and nowhere else.
    meter : Meter
        How much it has dropped.
    uploads : dict of str to Upload
        Drops that are on their way.
    studies : dict of str to Study
        Dropped by this session, and seen by it alone.
    """

    key: str
    csrf: str
    folder: Path
    meter: Meter
    uploads: dict[str, Upload] = field(default_factory=dict)
    studies: dict[str, Study] = field(default_factory=dict)
    used: float = field(default_factory=time.monotonic)


class Sessions:
    """All sessions of a server.

    Parameters
    ----------
    folder : Path
        Gets a folder for each session.
    token : str
        What the printed address holds; who shows it gets a session.
    limits : Limits, optional
        Of what a session may drop.
    """

    def __init__(self, folder: Path, token: str, limits: Limits | None = None):
        self.folder = folder
        self.ended: Callable[[Session], None] = lambda session: None
        self._token = token
        self._limits = limits or Limits()
        self._all: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self, token: str) -> Session | None:
        """A new session for who shows the right token, else None."""
        if not secrets.compare_digest(token.encode(errors="replace"), self._token.encode()):
            return None
        self._end_idle()
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), folder, Meter(self._limits))
        with self._lock:
            self._all[session.key] = session
        return session

    def find(self, key: str) -> Session | None:
        """The session of a cookie, or None."""
        with self._lock:
            session = self._all.get(key)
        if session is not None:
            session.used = time.monotonic()
        return session

    def end(self, session: Session) -> None:
        """Forget a session, and delete all that it dropped; `ended` is told first."""
        with self._lock:
            self._all.pop(session.key, None)
        self.ended(session)
        shutil.rmtree(session.folder, ignore_errors=True)

    def _end_idle(self) -> None:
        with self._lock:
            oldest_first = sorted(self._all.values(), key=lambda one: one.used)
        too_many = max(0, len(oldest_first) - _MOST_SESSIONS + 1)
        before = time.monotonic() - _IDLE_SECONDS
        for number, session in enumerate(oldest_first):
            if number < too_many or session.used < before:
                self.end(session)


@contextmanager
def working_folder() -> Iterator[Path]:
    """A folder for what is dropped, that nobody else may read; it is deleted at the end.

    What a server left that was killed is deleted too: nobody holds the lock in its folder any more.
    """
    _delete_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with suppress(OSError):  # a disk that knows no locks: then nothing is taken for abandoned either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _delete_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            descriptor = os.open(folder / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
