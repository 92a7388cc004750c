"""A volume whose voxels lie on a regular grid: NIfTI, NRRD and MetaImage alike."""

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.orientation import seen_as
from haemo.features.reading.slice import DicomTags, Unitless
from haemo.features.reading.volume import Volume
from haemo.features.reading.volumes.voxels import Stored, Voxels

__all__ = ["Grid", "GridVolume"]

# A scan whose slices were made along the head from front to back, or from side to side, has voxels that are
# this much longer than wide when it is looked at from below.
_MOST_STRETCH = 3.0


@dataclass(frozen=True, eq=False)
class Grid:
    """What the header of a volume says.

    Attributes
    ----------
    stored : Stored
    steps_mm : ndarray of shape (3, 3)
        Column n is the way from a voxel to the next along axis n, in DICOM's coordinates: to the patient's
        left, to the back, up.
    origin_mm : ndarray of shape (3,)
        Where the first voxel lies.
    mode : str
        ``NIfTI int16``.
    slope, intercept : float
        Values are stored numbers x slope + intercept.
    has_place : bool
        Whether the header says how the head lies.
    """

    stored: Stored
    steps_mm: np.ndarray
    origin_mm: np.ndarray
    mode: str
    slope: float = 1.0
    intercept: float = 0.0
    has_place: bool = True


class GridVolume(Volume):
    """Axial slices of a grid.

    Parameters
    ----------
    grid : Grid

    Raises
    ------
    UnreadableSlice
        If the header declares more than the file holds, or there is no axial slice in it.

    Attributes
    ----------
    grid : Grid
    axis : int
        The axis of the grid across which slices lie.
    view : View
        How a stored plane is turned to be seen.
    """

    def __init__(self, grid: Grid):
        grid.stored.check()
        if not np.isfinite(grid.steps_mm).all() or abs(np.linalg.det(grid.steps_mm)) < 1e-9:
            raise UnreadableSlice(
                "its header says of no three directions where the voxels lie; it is damaged"
            )
        self.grid = grid
        self.mode = grid.mode if grid.has_place else f"{grid.mode}, orientation not said"
        self.axis = _axis_up(grid.steps_mm)
        self.count = grid.stored.shape[self.axis]
        self._voxels = Voxels(grid.stored, self.axis)
        fast, slow = (axis for axis in range(3) if axis != self.axis)
        self.view = seen_as(right=grid.steps_mm[:, fast], down=grid.steps_mm[:, slow])
        lengths = np.linalg.norm(grid.steps_mm, axis=0)
        self._spacing_mm = self.view.of_pair((_rounded(lengths[slow]), _rounded(lengths[fast])))
        self._thickness_mm = _rounded(abs(float(grid.steps_mm[:, self.axis] @ self.view.normal)))
        if max(self._spacing_mm) > _MOST_STRETCH * min(self._spacing_mm):
            raise UnreadableSlice(
                f"slices across the head have pixels of {self._spacing_mm[0]:g} x {self._spacing_mm[1]:g} "
                "mm: it was made in another plane than the axial one"
            )

    def size(self, number: int) -> tuple[int, int]:
        """Height and width of a slice in pixels."""
        del number
        return self._size

    @cached_property
    def _size(self) -> tuple[int, int]:
        fast, slow = (axis for axis in range(3) if axis != self.axis)
        shape = self.grid.stored.shape
        return (shape[fast], shape[slow]) if self.view.transposed else (shape[slow], shape[fast])

    def values(self, number: int) -> Unitless:
        """Numbers of one slice after slope and intercept, float32; NaN stays.

        Raises
        ------
        UnreadableSlice
            If the file is damaged or cut short.
        """
        pixels = np.ascontiguousarray(self.view.turn(self._voxels.plane(number - 1))).astype(np.float32)
        if self.grid.slope != 1:
            pixels *= np.float32(self.grid.slope)
        if self.grid.intercept != 0:
            pixels += np.float32(self.grid.intercept)
        return Unitless(pixels, self._spacing_mm, self.mode)

    def tags(self, number: int) -> DicomTags:
        """Where one slice lies."""
        place = self.grid.origin_mm + (number - 1) * self.grid.steps_mm[:, self.axis]
        return DicomTags(
            z_mm=round(float(place @ self.view.normal), 4),
            instance_number=float(number),
            tilt_deg=self.view.tilt_deg,
            thickness_mm=self._thickness_mm,
            sides_known=self.grid.has_place,
        )


def _axis_up(steps_mm: np.ndarray) -> int:
    """The axis of the grid that runs most along the body, when each axis stands for one direction."""
    cosines = np.abs(steps_mm / np.linalg.norm(steps_mm, axis=0))
    best = max(permutations(range(3)), key=lambda order: sum(cosines[row, order[row]] for row in range(3)))
    return best[2]


def _rounded(length_mm: float) -> float:
    """As DICOM writes it: single precision leaves digits behind that mean nothing."""
    return round(float(length_mm), 6)
