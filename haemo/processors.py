"""How many processors this process may use: by its affinity, and by the quota of its control groups.

A container or a batch job often sees all processors of its host and may use the time of a few. As many
threads as it sees would then wait for each other, most of them stopped by the kernel.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["Processors", "processors", "usable_processors"]

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Processors:
    """What this process may use of the machine.

    Attributes
    ----------
    allowed : int
        Processors it may run on.
    quota : float or None
        Processors whose whole time its control groups grant it; None where they grant all.
    """

    allowed: int
    quota: float | None = None

    @property
    def usable(self) -> int:
        """How many threads or processes can work at once; a part of a processor counts as one."""
        return self.allowed if self.quota is None else max(1, min(self.allowed, math.ceil(self.quota)))


def usable_processors() -> int:
    """How many threads or processes of this process can work at once."""
    return processors().usable


def processors(root: Path = Path("/")) -> Processors:
    """Look at what this process may use now.

    Parameters
    ----------
    root : Path
        Where proc and the control groups are looked for.

    Notes
    -----
    The quota is the smallest of those on the way from the group of the process up to the top that it can see:
    ``cpu.max`` of version 2, ``cpu.cfs_quota_us`` over ``cpu.cfs_period_us`` of version 1 (Linux,
    Documentation/admin-guide/cgroup-v2.rst and Documentation/scheduler/sched-bwc.rst).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _groups(root) if (quota := _quota(folder)) is not None]
    return Processors(allowed, min(quotas, default=None))


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the groups of this process that may have a quota, and of all groups around them."""
    mounts = list(_mounts(root))
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for version, top, place in mounts:
            if (version == "cgroup") != bool(controllers):
                continue
            # Inside a container the group may be named as the host names it, or lie outside of what is seen.
            path, outer = PurePosixPath(group), PurePosixPath(top)
            below = path.relative_to(outer) if path.is_relative_to(outer) else PurePosixPath()
            if ".." in below.parts:
                below = PurePosixPath()
            folder = root / place.lstrip("/")
            yield folder
            for part in below.parts:
                folder /= part
                yield folder


def _mounts(root: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, top group and place of every mounted tree of groups that may have a quota of processor time."""
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        fields, kinds = mount.split(), filesystem.split()
        if len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2" or (kinds[0] == "cgroup" and "cpu" in kinds[2].split(",")):
            yield kinds[0], _unescaped(fields[3]), _unescaped(fields[4])


def _quota(folder: Path) -> float | None:
    """Processors that one group is granted; None where it has no limit, or none that can be read."""
    numbers = " ".join(_lines(folder / "cpu.max")).split()
    if not numbers:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        numbers = [line for name in names for line in _lines(folder / name)]
    try:
        quota, period = map(int, numbers)
    except ValueError:
        return None  # "max", or nothing that is known
    return quota / period if quota > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _unescaped(path: str) -> str:
    """A path of mountinfo, where spaces and their like stand as octal numbers."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), path)
