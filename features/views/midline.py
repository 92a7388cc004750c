"""The midline of a head on one slice: the line about which it mirrors best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Midline", "find_midline"]

_STEP = 3  # pixels of 1 mm; falx and skull are smooth enough for that
_COARSE_DEG = np.arange(-24.0, 25.0, 6.0)
_FINE_DEG = (3.0, 1.5)
_OFFSETS_MM = np.arange(-12.0, 13.0, 1.5)
_OUTSIDE = -80.0
_ROUNDING = 1e-3
_LINES = 8  # at a time: what is computed of their pixels stays in the second cache


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

    def shifted(self, rows: float, columns: float) -> "Midline":
        """The same line where rows and columns are counted from elsewhere, and so are that much more."""
        return Midline(self.row + rows, self.column + columns, self.angle_deg)

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
    image = np.where(inside, np.clip(levels, -40, 40), np.float32(_OUTSIDE))[::_STEP, ::_STEP]
    image = ndimage.gaussian_filter(image, 1.0)
    rows, columns = np.nonzero(inside[::_STEP, ::_STEP])
    middle = rows.mean() * _STEP, columns.mean() * _STEP
    search = _Search(image, middle)
    angle, offset = search.best([(angle, offset) for angle in _COARSE_DEG for offset in _OFFSETS_MM[::4]])
    reach = 6.0
    for step in _FINE_DEG:
        reach /= 2
        angle, offset = search.best(
            [
                (angle + turn, offset + shift)
                for turn in (-step, 0.0, step)
                for shift in (-reach, -reach / 2, 0.0, reach / 2, reach)
            ]
        )
    return _line(middle, float(angle), float(offset))


class _Search:
    """Mirrors an image about lines, and finds that of the least squared difference.

    The difference over the pixels of the head alone is never more than that over all. It is quickly had, and
    in most lines is already more than the least over all: these are not mirrored whole.
    """

    def __init__(self, image: np.ndarray, middle: tuple[float, float]) -> None:
        self._image, self._middle = image, middle
        self._mirrored = np.empty_like(image)
        rows, columns = np.nonzero(image > _OUTSIDE + 1)
        self._values = image[rows, columns]
        self._rows, self._columns = rows.astype(np.float32), columns.astype(np.float32)
        # Zeros beyond the lower and right edge, which are asked for and have no weight.
        self._padded = np.pad(image, ((0, 1), (0, 1)))

    def best(self, lines: Sequence[tuple[float, float]]) -> tuple[float, float]:
        """Of angles and offsets those of the least difference, of several the first."""
        turns = np.array(lines)
        parts = range(0, len(lines), _LINES)
        at_least = np.concatenate([self._of_head(*turns[start : start + _LINES].T) for start in parts])
        least, found = np.inf, 0
        for number in at_least.argsort(kind="stable").tolist():
            if at_least[number] > least:
                break
            difference = self._whole(*lines[number])
            if (difference, number) < (least, found):
                least, found = difference, number
        return lines[found]

    def _of_head(self, angles_deg: np.ndarray, offsets_mm: np.ndarray) -> np.ndarray:
        """What `_whole` of each of some lines is at least."""
        angles = np.radians(angles_deg)
        cosine, sine = np.cos(angles), np.sin(angles)
        # The place that mirrors to the first pixel: `Midline.mirrored` of it.
        twice = 2 * (self._middle[0] * sine - self._middle[1] * cosine - offsets_mm)
        first, second = twice * sine, -twice * cosine
        height, width = self._image.shape

        def short(values: np.ndarray) -> np.ndarray:
            return values.astype(np.float32)[:, None]

        cosine, sine = short(np.cos(2 * angles)), short(np.sin(2 * angles))
        row = self._rows * cosine
        row += self._columns * sine
        row += short(first / _STEP)
        column = self._rows * sine
        column -= self._columns * cosine
        column += short(second / _STEP)
        above, left = row.clip(0, height - 1), column.clip(0, width - 1)
        known = (above == row) & (left == column)  # the others may be anything
        np.floor(above, out=above)
        np.floor(left, out=left)
        row -= above
        column -= left
        above *= width + 1
        above += left
        place = above.astype(np.intp)
        flat = self._padded.reshape(-1)
        upper, after, lower, below = (
            flat[skipped:].take(place, mode="clip") for skipped in (0, 1, width + 1, width + 2)
        )
        after -= upper
        after *= column
        upper += after
        below -= lower
        below *= column
        lower += below
        lower -= upper
        lower *= row
        upper += lower
        upper -= self._values
        upper *= known
        # Less what rounding to 32 bits may have added.
        total = np.einsum("ij,ij->i", upper, upper).astype(float) * (1 - _ROUNDING)
        return (total - _ROUNDING * upper.shape[1]) / self._image.size

    def _whole(self, angle_deg: float, offset_mm: float) -> float:
        from scipy import ndimage

        turn, origin = _line(self._middle, angle_deg, offset_mm).reflection()
        found = self._mirrored
        ndimage.affine_transform(
            self._image, turn, origin / _STEP, order=1, mode="constant", cval=_OUTSIDE, output=found
        )
        np.subtract(found, self._image, out=found)
        return float(np.vdot(found, found)) / found.size


def _line(middle: tuple[float, float], angle_deg: float, offset_mm: float) -> Midline:
    angle = math.radians(angle_deg)
    return Midline(
        middle[0] - offset_mm * math.sin(angle), middle[1] + offset_mm * math.cos(angle), angle_deg
    )
