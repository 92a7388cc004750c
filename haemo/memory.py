"""How much memory this process may still take: what the host has free, and what its control groups leave."""

import os
from pathlib import Path

from haemo.control_groups import control_groups, lines_of

__all__ = ["free_memory"]


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may take now without being ended for it.

    Parameters
    ----------
    root : Path
        Where proc and the control groups are looked for.

    Notes
    -----
    A group on the way up leaves its limit less what it uses; files that are cached there give way and are not
    counted as used: ``memory.max`` and ``memory.current`` of version 2, ``memory.limit_in_bytes`` and
    ``memory.usage_in_bytes`` of version 1, each with the inactive files of ``memory.stat`` (Linux,
    Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst).
    """
    rooms = [room for folder in control_groups("memory", root) if (room := _room(folder)) is not None]
    return min([_of_host(root), *rooms])


def _of_host(root: Path) -> int:
    kilobytes = _numbers(root / "proc/meminfo")
    if "MemAvailable:" in kilobytes:
        return kilobytes["MemAvailable:"] * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _room(folder: Path) -> int | None:
    """Bytes that one group leaves; None where it has no limit, or none that can be read."""
    for limit, usage, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, used = (int("".join(lines_of(folder / name))) for name in (limit, usage))
        except ValueError:
            continue  # "max", or not of this version
        return max(0, most - used + _numbers(folder / "memory.stat").get(cached, 0))
    return None


def _numbers(path: Path) -> dict[str, int]:
    """First word and first number of each line."""
    words = (line.split() for line in lines_of(path))
    return {found[0]: int(found[1]) for found in words if len(found) > 1 and found[1].isdigit()}
