"""Who works on a step of a run: one process at a time, and a process that died is no obstacle."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from haemo.atomic import parse_json
from haemo.errors import RunLocked

__all__ = ["Holder", "claim"]


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, told apart from every other, also from a later one that was given the same number.

    Attributes
    ----------
    pid : int
    host : str
    boot : str
        Boot id of the kernel; empty where the system does not tell.
    started : str
        When the process started, in clock ticks since boot; empty where the system does not tell.
    """

    pid: int
    host: str
    boot: str
    started: str

    @classmethod
    def me(cls) -> "Holder":
        """This process."""
        return cls(os.getpid(), socket.gethostname(), _boot_id(), _start_of(os.getpid()))

    @classmethod
    def parse(cls, text: str) -> "Holder | None":
        """Read a claim; None where it is empty or not one, as after a power cut."""
        try:
            return cls(**parse_json(text))
        except (ValueError, TypeError):
            return None

    def may_be_alive(self, lock_taken: bool) -> bool:
        """Whether the process could still be at work, seen from here.

        Parameters
        ----------
        lock_taken : bool
            Whether we hold the lock that it would hold. The kernel takes a lock back from the dead, but on
            some network disks a lock is not seen by other hosts.
        """
        me = Holder.me()
        if self.boot == me.boot and me.boot:
            # The same kernel: its locks are true, and without locks it can be asked.
            return not lock_taken and self.started == _start_of(self.pid)
        if self.host == me.host:
            return not me.boot and not lock_taken  # another boot id: this host has been restarted since
        return True


@contextmanager
def claim(folder: Path, step: str = "features") -> Iterator[None]:
    """Hold the right to do one step in `folder`: to write its features, or to train one model.

    Parameters
    ----------
    folder : Path
        A run directory; it must exist.
    step : str
        ``features``, or the name of a head or network.

    Raises
    ------
    RunLocked
        If another process holds it; the message says which, and what to do.
    OSError
        If the folder cannot be written.
    """
    path = Path(folder) / f".{step}.claim"
    # Never deleted: a process could lock the file that another has just unlinked, and both go on.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        locked = _lock(descriptor)
        holder = Holder.parse(os.pread(descriptor, 4096, 0).decode(errors="replace"))
        if locked is False or (holder and holder.may_be_alive(lock_taken=locked is True)):
            raise RunLocked(_refusal(path, step, holder, sure=locked is False))
        _write(descriptor, json.dumps(asdict(Holder.me())))
        try:
            yield
        finally:
            _write(descriptor, "")
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Take the lock: True if it is ours, False if another process has it, None if the disk knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
    os.fsync(descriptor)


def _refusal(path: Path, step: str, holder: Holder | None, sure: bool) -> str:
    who = f"process {holder.pid} on {holder.host}" if holder else "another process"
    if sure:
        return (
            f"{step} in {path.parent} is in use by {who}; wait until it is done, or use another run directory"
        )
    return f"{step} in {path.parent} is claimed by {who}; if that is no longer at work, delete {path}"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """Field 22 of /proc/PID/stat; empty where there is no such process or no such file."""
    try:
        # The second field, the name, may hold spaces and brackets; what follows its last bracket does not.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
