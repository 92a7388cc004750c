"""Control groups of Linux: where the limits lie that a container or a batch job sets a process."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["control_groups", "lines_of"]

_OCTAL = re.compile(r"\\([0-7]{3})")


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Folders of the groups of this process that may limit something, and of all groups around them.

    Parameters
    ----------
    controller : str
        What is limited, as version 1 calls it: ``cpu``, ``memory``. Version 2 has one tree for all.
    root : Path
        Where proc and the control groups are looked for.
    """
    mounts = list(_mounts(controller, root))
    for line in lines_of(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and controller not in controllers.split(","):
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


def _mounts(controller: str, root: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, top group and place of every mounted tree of groups that may limit it."""
    for line in lines_of(root / "proc/self/mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        fields, kinds = mount.split(), filesystem.split()
        if len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2" or (kinds[0] == "cgroup" and controller in kinds[2].split(",")):
            yield kinds[0], _unescaped(fields[3]), _unescaped(fields[4])


def lines_of(path: Path) -> list[str]:
    """Lines of a file of the kernel; none where there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _unescaped(path: str) -> str:
    """A path of mountinfo, where spaces and their like stand as octal numbers."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), path)
