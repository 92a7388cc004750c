"""The midline of a head on one slice: the line about which it mirrors best."""

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Midline", "find_midline"]

_STEP = 3  # pixels of 1 mm; falx and skull are smooth enough for that
_COARSE_DEG = np.arange(-24.0, 25.0, 6.0)
_FINE_DEG = (3.0, 1.5)
_OFFSETS_MM = np.arange(-12.0, 13.0, 1.5)


@dataclass(frozen=True)
class Midline:
    """A line on a grid of 1 mm.

    Attributes
    ----------
    row, column : float
        A point of it.
    angle_deg : float
        From the vertical, anticlockwise as seen on the picture.
    """

    row: float
    column: float
    angle_deg: float

    def across(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Signed distance of points from the line, in mm; above 0 to the right of the picture."""
        cosine, sine = self._direction
        return (columns - self.column) * cosine + (rows - self.row) * sine

    def along(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Place of points along the line, in mm from its point; above 0 downwards."""
        cosine, sine = self._direction
        return (rows - self.row) * cosine - (columns - self.column) * sine

    def mirrored(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the points on the other side."""
        cosine, sine = self._direction
        twice = 2 * self.across(rows, columns)
        return rows - twice * sine, columns - twice * cosine

    def reflection(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrix of shape (2, 2) and offset of shape (2,) that give the (row, column) on the other side."""
        cosine, sine = self._direction
        normal = np.array([sine, cosine])
        return np.eye(2) - 2 * np.outer(normal, normal), 2 * normal * (normal @ (self.row, self.column))

    @property
    def _direction(self) -> tuple[float, float]:
        angle = math.radians(self.angle_deg)
        return math.cos(angle), -math.sin(angle)


def find_midline(levels: np.ndarray, inside: np.ndarray) -> Midline:
    """Find the line about which the inside of the skull, and what is in it, mirrors best.

    Every third pixel is mirrored about lines near the middle of the inside, turned by up to 24 degrees to
    either side; the line of the least squared difference is refined once and again.

    Parameters
    ----------
    levels : ndarray of shape (height, width)
        HU less the brain's median, on a grid of 1 mm.
    inside : ndarray of the same shape, bool
        Not empty.
    """
    from scipy import ndimage

    # What is outside is far below any tissue, so that the skull's outline has its say.
    image = np.where(inside, np.clip(levels, -40, 40), np.float32(-80))[::_STEP, ::_STEP]
    image = ndimage.gaussian_filter(image, 1.0)
    rows, columns = np.nonzero(inside[::_STEP, ::_STEP])
    middle = rows.mean() * _STEP, columns.mean() * _STEP
    found = np.empty_like(image)

    def difference(angle: float, offset: float) -> float:
        turn, origin = _line(middle, angle, offset).reflection()
        ndimage.affine_transform(
            image, turn, origin / _STEP, order=1, mode="constant", cval=-80.0, output=found
        )
        np.subtract(found, image, out=found)
        return float(np.vdot(found, found)) / found.size

    angle, offset = min(
        ((angle, offset) for angle in _COARSE_DEG for offset in _OFFSETS_MM[::4]),
        key=lambda pair: difference(*pair),
    )
    reach = 6.0
    for step in _FINE_DEG:
        reach /= 2
        angle, offset = min(
            (
                (angle + turn, offset + shift)
                for turn in (-step, 0.0, step)
                for shift in (-reach, -reach / 2, 0.0, reach / 2, reach)
            ),
            key=lambda pair: difference(*pair),
        )
    return _line(middle, float(angle), float(offset))


def _line(middle: tuple[float, float], angle_deg: float, offset_mm: float) -> Midline:
    angle = math.radians(angle_deg)
    return Midline(
        middle[0] - offset_mm * math.sin(angle), middle[1] + offset_mm * math.cos(angle), angle_deg
    )
