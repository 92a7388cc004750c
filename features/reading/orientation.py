"""How a stored slice is turned so that it is seen as heads are: nose up, the patient's left on the right."""

import math
from dataclasses import dataclass

import numpy as np

from haemo.errors import NotASlice, UnreadableSlice

__all__ = ["MOST_TILT_DEG", "View", "seen_as"]

# Gantries tilt up to 30 degrees, and heads lie a little askew.
MOST_TILT_DEG = 35.0
_PLANES = ("sagittal", "coronal")


@dataclass(frozen=True, slots=True)
class View:
    """Turns by quarters and mirrors that bring a stored plane to how it is seen.

    Attributes
    ----------
    transposed, rows_flipped, columns_flipped : bool
        Applied in this order.
    normal : tuple of float
        Unit vector across the slice that points up, in DICOM's coordinates (left, back, up); places along it
        are positions of slices.
    tilt_deg : float
        Between the normal and the long axis of the patient.
    """

    transposed: bool = False
    rows_flipped: bool = False
    columns_flipped: bool = False
    normal: tuple[float, float, float] = (0.0, 0.0, 1.0)
    tilt_deg: float = 0.0

    def turn(self, plane: np.ndarray) -> np.ndarray:
        """Give a stored plane as it is seen; a view of it, not a copy."""
        plane = plane.T if self.transposed else plane
        return plane[:: -1 if self.rows_flipped else 1, :: -1 if self.columns_flipped else 1]

    def turn_back(self, plane: np.ndarray) -> np.ndarray:
        """Give what is seen as it is stored."""
        plane = plane[:: -1 if self.rows_flipped else 1, :: -1 if self.columns_flipped else 1]
        return plane.T if self.transposed else plane

    def of_pair(self, pair: tuple[float, float]) -> tuple[float, float]:
        """Two numbers of rows and columns, such as spacings, in the order in which these are seen."""
        return (pair[1], pair[0]) if self.transposed else pair


def seen_as(right: np.ndarray, down: np.ndarray) -> View:
    """Find out how a plane is to be turned.

    Parameters
    ----------
    right, down : ndarray of shape (3,)
        Where the next column and the next row of the stored plane lie, in DICOM's coordinates: to the
        patient's left, to the back, up. Of any length but 0.

    Raises
    ------
    NotASlice
        If the plane is not axial; the message says what it is.
    UnreadableSlice
        If rows and columns point the same way.
    """
    right, down = (np.asarray(axis, dtype=float) / np.linalg.norm(axis) for axis in (right, down))
    normal = np.cross(right, down)
    length = np.linalg.norm(normal)
    if not length > 0.5:  # NaN too
        raise UnreadableSlice("its rows and columns point the same way: where the picture lies is unknown")
    normal = normal / length
    tilt = math.degrees(math.acos(min(1.0, abs(normal[2]))))
    if tilt > MOST_TILT_DEG:
        across = int(np.argmax(np.abs(normal)))
        name = (
            f"an oblique slice, tilted by {tilt:.0f} degrees" if across == 2 else f"a {_PLANES[across]} slice"
        )
        raise NotASlice(f"{name}, not an axial one")
    transposed = abs(right[0]) < abs(down[0])
    if transposed:
        right, down = down, right
    return View(
        transposed=transposed,
        rows_flipped=bool(down[1] < 0),
        columns_flipped=bool(right[0] < 0),
        normal=tuple(float(part) for part in (normal if normal[2] > 0 else -normal)),
        tilt_deg=round(tilt, 2),
    )
