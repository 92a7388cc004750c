"""Headers of volumes that are text: numbers in them, and the file beside them that they name."""

import math
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from haemo.errors import UnreadableSlice

__all__ = ["MOST_BYTES", "file_beside", "not_ct", "numbers_of", "three_sides"]

MOST_BYTES = 1 << 17
_BETWEEN = re.compile(r"[\s,]+")


def numbers_of(text: str) -> list[float]:
    """Give the numbers in a text, between spaces or commas; none where one of them is no finite number."""
    try:
        numbers = [float(part) for part in _BETWEEN.split(text.strip()) if part]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def three_sides(text: str) -> tuple[int, int, int]:
    """Give the voxels along three axes; more axes must be of one voxel.

    Raises
    ------
    UnreadableSlice
        If there are fewer, they are no whole numbers from 1 on, or there are several volumes.
    """
    sides = numbers_of(text)
    if len(sides) < 3 or any(side < 1 or side != int(side) or side > 1 << 31 for side in sides):
        raise UnreadableSlice("the header is damaged: it has no sound number of voxels along three axes")
    if math.prod(sides[3:]) > 1:
        raise UnreadableSlice(f"it has {len(sides)} axes: several volumes, or colours; save one as a file")
    return int(sides[0]), int(sides[1]), int(sides[2])


def file_beside(header: Path, name: str) -> Path:
    """Give the file of voxels that a header names, which lies in its folder or below.

    Raises
    ------
    UnreadableSlice
        If it would lie elsewhere, or is not there.
    """
    leaves = any(
        parsed.is_absolute() or parsed.drive or ".." in parsed.parts
        for parsed in (PurePosixPath(name), PureWindowsPath(name))
    )
    if leaves or "\0" in name:
        raise UnreadableSlice(f"its voxels would lie outside of its folder ({name!r}); put both into one")
    file = header.parent / name
    if not file.is_file():
        raise UnreadableSlice(f"its voxels would lie in {name}, which is not there")
    return file


def not_ct(kind: str) -> UnreadableSlice:
    """Give the error for voxels of a type, as the header calls it, that CT values do not have."""
    return UnreadableSlice(
        f"its voxels are of the type {kind or 'that the header does not say'}, not CT values"
    )
