"""The head of a grid of 1 mm as a plane: upright, and from edge to edge of its skull."""

from dataclasses import dataclass

import numpy as np

from haemo.features.views.head_grid import BLACK_HU, WHITE_HU, HeadGrid, largest_piece

__all__ = ["HEAD_PLANE_SCHEMA", "HeadPlane"]

HEAD_PLANE_SCHEMA = 1
"""Part of what a pixel classifier is bound to: another plane gives other numbers."""

_MARGIN_MM = 3.0  # of muscle about the skull, which the box of a head has too


@dataclass(frozen=True, eq=False)
class HeadPlane:
    """A plane on which the midline of a head is the middle column.

    It shows about what `features.views.preprocess` makes of a slice with ``crop="head"`` and ``upright``, but
    follows from the grid alone. Height and width are those of the skull, and stretched to a square.

    Attributes
    ----------
    gray : ndarray of shape (side, side), uint8
        0 HU to 80 HU; black beyond the grid.
    matrix : ndarray of shape (2, 2), float64
    offset : ndarray of shape (2,), float64
        What is at (row, column) of the grid lies at ``matrix @ (row, column) + offset`` of the plane.
    """

    gray: np.ndarray
    matrix: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, grid: HeadGrid, side: int) -> "HeadPlane | None":
        """Make the plane of a grid; None where nothing is inside."""
        from scipy import ndimage

        line = grid.midline
        if line is None:
            return None
        head = largest_piece(grid.inside | grid.bone)
        rows, columns = _ends(head if head.any() else grid.inside)
        across, along = line.across(rows, columns), line.along(rows, columns)
        half = float(np.abs(across).max()) + _MARGIN_MM
        first, last = float(along.min()) - _MARGIN_MM, float(along.max()) + _MARGIN_MM
        # Steps of the grid for one down the plane and one right; its middle lies on the line.
        angle = np.deg2rad(line.angle_deg)
        down, right = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        back = np.stack([down * (last - first), right * 2 * half], axis=1) / (side - 1)
        middle = np.array([line.row, line.column]) + down * (first + last) / 2
        start = middle - back @ np.full(2, (side - 1) / 2)
        levels = ndimage.affine_transform(
            grid.hu, back, start, (side, side), output=np.float32, order=1, mode="constant", cval=BLACK_HU
        )
        gray = np.rint((levels - np.float32(BLACK_HU)) * np.float32(255 / (WHITE_HU - BLACK_HU)))
        matrix = np.linalg.inv(back)
        return cls(gray.astype(np.uint8), matrix, -matrix @ start)

    def places(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where pixels of the grid lie: rows and columns of the plane, which need not be whole numbers."""
        (a, b), (c, d) = self.matrix
        return a * rows + b * columns + self.offset[0], c * rows + d * columns + self.offset[1]


def _ends(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the first and last pixel in each row of a mask: no line leaves it elsewhere."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    return np.concatenate([rows, rows]), np.concatenate([first, last])
