"""The process that scores: what a study is given there, and what comes back.

It is another process than the one that answers, and a nicer one, so that scrolling never waits for a network.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from haemo.errors import HaemoError
from haemo.pipeline.serving.scored import Scorer
from haemo.progress import Progress

__all__ = ["serve_tasks"]

_NICENESS = 10
_SECONDS_BETWEEN_REPORTS = 0.2


def serve_tasks(connection: Connection, folder: Path) -> None:
    """Do one `Task` after another, until the other end is closed.

    Sends ``("progress", done, total, label)`` now and then, and in the end ``("scored", Scored)`` or
    ``("failed", reason)``.
    """
    os.setsid()  # Ctrl-C is for the server, and with this process end all that it started
    os.nice(_NICENESS)
    tempfile.tempdir = str(folder)  # is deleted with all that it holds, however this process ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    score = Scorer()
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            answer = ("scored", score(task, _telling(connection)))
        except (HaemoError, OSError) as error:
            answer = ("failed", str(error))
        except Exception as error:  # one study costs itself, whatever it leads to, and not the next one
            answer = ("failed", f"a fault of haemo: {type(error).__name__}: {error}")
        connection.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _telling(connection: Connection) -> Progress:
    def tell(items: Iterable[Any], *, total: int | None = None, label: str = "") -> Iterator[Any]:
        last = 0.0
        for done, item in enumerate(items):
            now = time.monotonic()
            if now - last > _SECONDS_BETWEEN_REPORTS and total:
                connection.send(("progress", done, total, label))
                last = now
            yield item

    return tell
