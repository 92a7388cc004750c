"""One state folder and all that works on it: opened once, by one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from haemo.pipeline.pacs.inbox import Inbox, Limits
from haemo.pipeline.pacs.state import State
from haemo.pipeline.run.claim import claim

__all__ = ["STATE_FILE", "Service", "opened"]

STATE_FILE = "studies.sqlite"


@dataclass(frozen=True)
class Service:
    """An open state folder.

    Attributes
    ----------
    inbox : Inbox
    state : State
    again : int
        How many studies a process that was killed had left half done.
    """

    inbox: Inbox
    state: State
    again: int


@contextmanager
def opened(folder: Path, limits: Limits) -> Iterator[Service]:
    """Open a state folder, which is made if it is not there; only its owner may look into it.

    Raises
    ------
    RunLocked
        If another process works in it.
    BadDataset
        If its state is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    with claim(folder, "pacs"):
        state = State(folder / STATE_FILE)
        try:
            yield Service(Inbox(folder, state, limits), state, state.restore())
        finally:
            state.close()
