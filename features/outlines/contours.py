"""RTSTRUCT: regions as polygons on slices (PS3.3 A.19, C.8.8.5, C.8.8.6)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.outlines.drawing import AUTOMATIC, MANUFACTURER, Drawing, Piece, Segment, referenced
from haemo.features.outlines.plane import PlacedSlice
from haemo.features.reading.dicom_header import Elements, items

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["ELEMENTS", "Contours", "inside_polygon"]

_REGIONS, _NUMBER, _NAME, _FRAME_OF_REGION = 0x30060020, 0x30060022, 0x30060026, 0x30060024
_ALGORITHM = 0x30060036
_OUTLINES, _OF_REGION, _CONTOURS = 0x30060039, 0x30060084, 0x30060040
_TYPE, _DATA, _IMAGES = 0x30060042, 0x30060050, 0x30060016
_OBSERVATIONS, _OBSERVED, _CODES, _MEANING = 0x30060080, 0x30060085, 0x30060086, 0x00080104
_REFERENCED_FRAMES, _REFERENCED_STUDIES, _REFERENCED_SERIES = 0x30060010, 0x30060012, 0x30060014
ELEMENTS = (_REGIONS, _OUTLINES, _OBSERVATIONS, _REFERENCED_FRAMES)
# An outline crosses a line of pixels a few times, and would take gigabytes if each point did them all.
_MOST_CROSSED = 10_000_000
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True, eq=False)
class _Polygon(Piece):
    points: np.ndarray


class Contours(Drawing):
    """Regions as closed polygons; of polygons of a region on one slice, one within another is a hole.

    Parameters
    ----------
    path : Path
    dataset : Dataset
        With the elements `ELEMENTS`.

    Raises
    ------
    UnreadableSlice
        If it is damaged.
    """

    def __init__(self, path: Path, dataset: "Dataset"):
        self.path = path
        self._not_closed: dict[int, str] = {}
        self._referenced: frozenset[tuple[str, int | None]] = frozenset()
        self.maker = Elements(dataset).text(MANUFACTURER)
        names: dict[int, tuple[str, bool]] = {}
        frames = []
        for region in map(Elements, items(dataset, _REGIONS)):
            names[_number(region, _NUMBER)] = region.text(_NAME), region.text(_ALGORITHM) == AUTOMATIC
            frames.append(region.text(_FRAME_OF_REGION))
        meanings: dict[int, str] = {}
        for item in items(dataset, _OBSERVATIONS):
            said = [Elements(code).text(_MEANING) for code in items(item, _CODES)]
            said.append(Elements(item).text(_OBSERVED))
            meanings.setdefault(_number(Elements(item), _OF_REGION), next(filter(None, said), ""))
        self.segments = {
            number: Segment(name, meanings.get(number, ""), is_automatic)
            for number, (name, is_automatic) in names.items()
        }
        self.frame_of_reference = next(filter(None, frames), "")
        self._polygons = [piece for item in items(dataset, _OUTLINES) for piece in self._read(item)]
        listed = referenced(
            items(dataset, _REFERENCED_FRAMES, _REFERENCED_STUDIES, _REFERENCED_SERIES, _IMAGES)
        )
        self.instances = frozenset(name for name, _ in listed | self._referenced)

    def _read(self, region: "Dataset") -> Iterator[_Polygon]:
        number = _number(Elements(region), _OF_REGION)
        for item in items(region, _CONTOURS):
            contour, refers_to = Elements(item), referenced(items(item, _IMAGES))
            self._referenced |= refers_to
            kind, values = contour.text(_TYPE), contour.numbers(_DATA)
            if kind not in _CLOSED:
                self._not_closed[number] = kind or "of no type"
                continue
            if len(values) < 9 or len(values) % 3:
                name = self.segments.get(number, Segment("")).shown
                raise UnreadableSlice(f"a contour of {name!r} has no three points")
            points = np.array(values).reshape(-1, 3)
            yield _Polygon(number, refers_to, points.mean(axis=0), points)

    def pieces(self, wanted: Sequence[int]) -> Iterator[Piece]:
        """Polygons of some regions.

        Raises
        ------
        UnreadableSlice
            If a region has points or open lines, which hold no pixels: its slices are not normal for that.
        """
        for number in wanted:
            if number in self._not_closed:
                name, kind = self.segments[number].shown, self._not_closed[number]
                raise UnreadableSlice(f"contours of {name!r} are {kind}, not closed, and so hold no pixels")
        return (piece for piece in self._polygons if piece.segment in wanted)

    def draw(self, piece: Piece, on: PlacedSlice) -> np.ndarray:
        """Give the pixels of a slice whose centres lie in the polygon."""
        if on.plane is None:
            raise UnreadableSlice(
                f"{on.path.name} does not say where it lies, so no contour can be drawn on it"
            )
        return inside_polygon(*on.plane.places(cast("_Polygon", piece).points), on.size)

    def join(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """One of them and not both: a polygon in another is a hole, as in PS3.3 section C.8.8.6.1."""
        return first ^ second


def inside_polygon(rows: np.ndarray, columns: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Find the pixels whose centres lie in a closed polygon, by the even-odd rule.

    A channel that leads to an inner border and back (a keyhole) thus makes a hole. A centre on an edge counts
    as inside where the inside lies to its right, or below it.

    Parameters
    ----------
    rows, columns : ndarray of shape (n,)
        Corners, in pixels: the centre of the first pixel is at 0, 0.
    size : tuple of int
        Rows and columns.

    Returns
    -------
    ndarray of shape `size`, bool
    """
    after_rows, after_columns = np.roll(rows, -1), np.roll(columns, -1)
    # An edge crosses the lines of pixels from the first that is not above both of its ends.
    first = np.clip(np.ceil(np.minimum(rows, after_rows)), 0, size[0])
    last = np.clip(np.ceil(np.maximum(rows, after_rows)), 0, size[0])
    crossed = (last - first).astype(np.int64)
    if crossed.sum() > _MOST_CROSSED:
        raise UnreadableSlice(f"a contour of {len(rows):,} points that runs to and fro all over the slice")
    edges = np.repeat(np.arange(len(rows)), crossed)
    line = np.arange(len(edges)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edges]
    share = (line - rows[edges]) / (after_rows - rows)[edges]
    at = columns[edges] + share * (after_columns - columns)[edges]
    turns = np.zeros((size[0], size[1] + 1), np.int64)
    np.add.at(turns, (line.astype(np.int64), np.clip(np.ceil(at), 0, size[1]).astype(np.int64)), 1)
    return np.cumsum(turns, axis=1)[:, :-1] % 2 == 1


def _number(elements: Elements, tag: int) -> int:
    return int(elements.first_number(tag) or 0)
