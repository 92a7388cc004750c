"""A slice turned so that the midline of the head stands upright in its middle column."""

from dataclasses import dataclass

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.slice import Slice
from haemo.features.views.head_grid import HeadGrid, largest_piece
from haemo.features.views.midline import Midline, find_midline

__all__ = ["TURN_SCHEMA", "Turn", "upright_turn"]

TURN_SCHEMA = 1
"""Part of the fingerprint: another rule gives other embeddings, and must have another number."""

_AIR_HU = -1000.0
_BLACK = 0.0

_AGREE_DEG = 6.0
_MOST_DEG = 24.0
# Tissue is held to so much about the brain's median, and bone is so far above it: what is dense on one side
# only, as a bleed, then weighs less than the skull and the dark that runs along the midline.
_TISSUE_HU = 15.0
_BONE_HU = 30.0


@dataclass(frozen=True, eq=False)
class Turn:
    """Where the pixels of a turned slice come from; both slices have the same shape.

    Attributes
    ----------
    angle_deg : float
        By which the slice is turned clockwise: the angle of its midline from the vertical.
    matrix : ndarray of shape (2, 2), float64
    offset : ndarray of shape (2,), float64
        What is at (row, column) of the turned slice lies at ``matrix @ (row, column) + offset`` of the slice.
    """

    angle_deg: float
    matrix: np.ndarray
    offset: np.ndarray

    def there(self, image: Slice) -> np.ndarray:
        """The pixels of a slice, turned and interpolated linearly; from outside comes air, or black."""
        outside = _AIR_HU if image.is_hu else _BLACK
        return _resampled(image.pixels, self.matrix, self.offset, outside)

    def back(self, values: np.ndarray) -> np.ndarray:
        """Values of a turned slice, put where they lie on the slice as it was; 0 where they know nothing."""
        inverse = np.linalg.inv(self.matrix)
        return _resampled(values, inverse, -inverse @ self.offset, 0.0)


def upright_turn(image: Slice) -> Turn | None:
    """The turn that stands the midline of the head upright, and shifts it to the slice's middle column.

    Two midlines are found, to about 1.5 degrees each: that of the inside of the skull (`HeadGrid.midline`),
    and that of the whole head with its skull, in which a bleed weighs little. On a round head, or one in
    which a bleed has moved everything, either may go astray: the slice is turned, by the second, only where
    they are less than 6 degrees apart, and by at most 24 degrees, as far as midlines are looked for before
    they are refined. The head is turned about a point of its midline half way down, and keeps its height on
    the slice.

    Parameters
    ----------
    image : Slice

    Returns
    -------
    Turn or None
        None where no head is found, or its midline is not clear.
    """
    shape = image.pixels.shape
    try:
        grid = HeadGrid.of(image)
    except UnreadableSlice:  # smaller than any head
        return None
    midline = _clear_midline(grid)
    if midline is None:
        return None
    # Of a pixel: the grid has whole millimetres, so this differs from the spacing by a part of a percent.
    mm = np.divide(grid.hu.shape, shape)
    angle = np.deg2rad(midline.angle_deg)
    cosine, sine = np.cos(angle), np.sin(angle)
    # Of millimetres: a step down the turned slice is one along the midline, a step right one across it.
    turning = np.array([[cosine, -sine], [sine, cosine]])
    matrix = turning * mm / mm[:, None]
    point = (np.array([midline.row, midline.column]) + 0.5) / mm - 0.5
    middle = np.array([point[0], (shape[1] - 1) / 2])
    return Turn(float(midline.angle_deg), matrix, point - matrix @ middle)


def _clear_midline(grid: HeadGrid) -> Midline | None:
    if grid.midline is None:
        return None
    head = largest_piece(grid.inside | grid.bone)
    if not head.any():
        return None
    tissue = np.clip(grid.hu - grid.median_hu, -_TISSUE_HU, _TISSUE_HU)
    found = find_midline(np.where(grid.bone, np.float32(_BONE_HU), tissue), head)
    apart = abs(found.angle_deg - grid.midline.angle_deg)
    return found if apart < _AGREE_DEG and abs(found.angle_deg) <= _MOST_DEG else None


def _resampled(values: np.ndarray, matrix: np.ndarray, offset: np.ndarray, outside: float) -> np.ndarray:
    from scipy import ndimage

    return ndimage.affine_transform(
        values, matrix, offset, output=np.float32, order=1, mode="constant", cval=outside
    )
