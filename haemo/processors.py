"""How many processors this process may use: by its affinity, and by the quota of its control groups.

A container or a batch job often sees all processors of its host and may use the time of a few. As many
threads as it sees would then wait for each other, most of them stopped by the kernel.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from haemo.control_groups import control_groups, lines_of

__all__ = ["Processors", "processors", "usable_processors"]


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
    quotas = [quota for folder in control_groups("cpu", root) if (quota := _quota(folder)) is not None]
    return Processors(allowed, min(quotas, default=None))


def _quota(folder: Path) -> float | None:
    """Processors that one group is granted; None where it has no limit, or none that can be read."""
    numbers = " ".join(lines_of(folder / "cpu.max")).split()
    if not numbers:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        numbers = [line for name in names for line in lines_of(folder / name)]
    try:
        quota, period = map(int, numbers)
    except ValueError:
        return None  # "max", or nothing that is known
    return quota / period if quota > 0 and period > 0 else None
