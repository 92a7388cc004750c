"""Studies that wait to be scored, and the process that does it, from the side of the server."""

import itertools
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from haemo.pipeline.serving.scored import Scored, Task
from haemo.pipeline.serving.worker import serve_tasks

__all__ = ["Job", "ScoringQueue"]

# A fresh process: a fork would take along the locks of the threads that answer, in whatever state.
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(eq=False)
class Job:
    """One study on its way.

    Attributes
    ----------
    task : Task
    urgent : bool
        Whether somebody has it open.
    state : str
        ``waiting``, ``scoring``, ``scored`` or ``failed``.
    done, total : int
        Slices of the present step.
    step : str
        As the library calls it: ``segment`` or ``predict``.
    result : Scored or None
    reason : str
        Why it failed.
    """

    task: Task
    urgent: bool = False
    state: str = "waiting"
    done: int = 0
    total: int = 0
    step: str = ""
    result: Scored | None = None
    reason: str = ""
    number: int = field(default=0)


class ScoringQueue:
    """Scores studies one at a time, those that somebody has open first.

    Parameters
    ----------
    folder : Path
        For what the process that scores writes on its way.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._closed = False
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._work, name="haemo-serve-queue", daemon=True)

    def __enter__(self) -> "ScoringQueue":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._process is not None:
            _kill(self._process)
        self._thread.join()

    def add(self, task: Task, *, urgent: bool) -> Job:
        """Have a study scored."""
        job = Job(task, urgent, number=next(self._numbers))
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()
        return job

    def hurry(self, job: Job) -> None:
        """Put a study before those that nobody has open."""
        job.urgent = True

    def forget(self, folder: Path) -> None:
        """Score nothing that lies in a folder any more."""
        with self._changed:
            self._waiting = [job for job in self._waiting if not job.task.paths[0].is_relative_to(folder)]

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job.state = "scoring"
            try:
                self._do(job)
            except (EOFError, OSError):
                self._stop()
                job.reason = "the process that scores has ended; it may have run out of memory"
                job.state = "failed"
        self._stop()

    def _next(self) -> Job | None:
        with self._changed:
            while not (self._waiting or self._closed):
                self._changed.wait()
            if self._closed:
                return None
            job = min(self._waiting, key=lambda one: (not one.urgent, one.number))
            self._waiting.remove(job)
            return job

    def _do(self, job: Job) -> None:
        connection = self._started()
        connection.send(job.task)
        while True:
            match connection.recv():
                case ("progress", done, total, step):
                    job.done, job.total, job.step = done, total, step
                case ("scored", result):
                    job.result = result
                    job.state = "scored"
                    return
                case ("failed", reason):
                    job.reason = reason
                    job.state = "failed"
                    return

    def _started(self) -> Connection:
        if self._connection is None:
            self._connection, theirs = _SPAWN.Pipe()
            with self._changed:
                if self._closed:
                    raise EOFError
                self._process = _SPAWN.Process(target=serve_tasks, args=(theirs, self._folder))
                self._process.start()
            theirs.close()
        return self._connection

    def _stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            _kill(self._process)
            self._process.join()
            self._process = None


def _kill(process: BaseProcess) -> None:
    """End a process that scores, and those that it started: they are of its group, once it has one."""
    if process.pid is None:  # it was never started
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
