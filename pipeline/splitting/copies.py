"""Rotated copies of slices, for the protocol that deals them to its two sides as if they were slices."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from haemo.errors import BadDataset
from haemo.features.manifest import ManifestRow
from haemo.features.views.augment import PAPER_ANGLES_DEG, rotate_planes

__all__ = ["VARIANTS", "SliceCopy", "copies_of"]

VARIANTS = tuple(range(1 + len(PAPER_ANGLES_DEG)))
"""Variant numbers of a slice: itself, then its six rotations."""


@dataclass(frozen=True, slots=True)
class SliceCopy(ManifestRow):
    """A slice as it is (variant 0) or one of its rotations, under an id of its own.

    Attributes
    ----------
    original : str
        slice_id of the slice.
    variant : int
        Place in `VARIANTS`.
    """

    original: str = ""
    variant: int = 0

    @property
    def angle_deg(self) -> int:
        """Degrees that it is turned by, to the left."""
        return PAPER_ANGLES_DEG[self.variant - 1] if self.variant else 0

    def turned(self, plane: np.ndarray) -> np.ndarray:
        """The plane (size, size), uint8, of the slice as this copy has it."""
        return rotate_planes(plane[None])[0, self.variant]


def copies_of(rows: Iterable[ManifestRow]) -> list[SliceCopy]:
    """All slices as they are, under their own ids, then all in the first rotation, and so on.

    The id of a rotated copy is that of its slice and the angle, in degrees to the left: ``a.png@-70``.

    Raises
    ------
    BadDataset
        If a slice is called as a rotated copy of another one would be.
    """
    rows = list(rows)
    copies = [
        SliceCopy(
            **{**asdict(row), "slice_id": _name(row.slice_id, variant)},
            original=row.slice_id,
            variant=variant,
        )
        for variant in VARIANTS
        for row in rows
    ]
    if len({copy.slice_id for copy in copies}) < len(copies):
        taken = {row.slice_id for row in rows}
        name = next(copy.slice_id for copy in copies[len(rows) :] if copy.slice_id in taken)
        raise BadDataset(f"the slice {name!r} is called like a rotated copy of another one; rename its file")
    return copies


def _name(slice_id: str, variant: int) -> str:
    return f"{slice_id}@{PAPER_ANGLES_DEG[variant - 1]}" if variant else slice_id
