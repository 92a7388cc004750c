"""One connected region of a slice: its outline, its size, and how it is written."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from haemo.atomic import write_text
from haemo.features.pixels.packed import PackedMask
from haemo.features.views.head_box import Box

__all__ = ["OUTLINES", "Region", "axes", "joined", "pieces", "write_outlines"]

OUTLINES = "regions.geojson"
"""Name of the file of outlines in a folder of pictures."""


@dataclass(frozen=True, eq=False)
class Region:
    """One connected region.

    Attributes
    ----------
    mask : ndarray of shape (height, width), bool
    peak : tuple of int
        Row and column of what it is ranked by.
    evidence : float
        There: of a map of evidence, in units of the score, the highest evidence, and in blood the highest of
        evidence times blood; of a segmenter the highest probability.
    is_blood : bool
        Whether it was narrowed to the HU of blood; else it is all that is hot.
    spacing_mm : tuple of float or None
        Row and column spacing.
    """

    mask: np.ndarray
    peak: tuple[int, int]
    evidence: float
    is_blood: bool
    spacing_mm: tuple[float, float] | None

    def __reduce__(self) -> tuple[Any, ...]:
        # Between processes a mask takes a bit a pixel at most.
        return _unpacked, (
            PackedMask.of(self.mask),
            self.peak,
            self.evidence,
            self.is_blood,
            self.spacing_mm,
        )

    @property
    def box(self) -> tuple[int, int, int, int]:
        """First row, first column, last row, last column; inclusive."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return int(rows[0]), int(columns[0]), int(rows[-1]), int(columns[-1])

    @property
    def area_mm2(self) -> float | None:
        """Area; None where the spacing is not known."""
        if self.spacing_mm is None:
            return None
        return float(self.mask.sum() * self.spacing_mm[0] * self.spacing_mm[1])

    @property
    def diameter_mm(self) -> float | None:
        """Longest distance between corners of two of its pixels; None where the spacing is not known."""
        return None if self.spacing_mm is None else axes(self.mask, self.spacing_mm)[0]

    @property
    def diameter_pixels(self) -> float:
        """The same in pixels."""
        return axes(self.mask, (1.0, 1.0))[0]

    def rings(self) -> list[list[list[float]]]:
        """Outline as closed rings of (column, row), the outer one first, then those of holes.

        Pixel centres are whole numbers, the first pixel is (0, 0), as in DICOM's graphic annotations but for
        their start at 1. The outer ring runs counter-clockwise where rows point up, as GeoJSON asks.
        """
        from scipy import ndimage
        from skimage.measure import find_contours

        top, left, bottom, right = self.box
        own = np.pad(self.mask[top : bottom + 1, left : right + 1], 1)
        filled = ndimage.binary_fill_holes(own)
        holes, count = ndimage.label(filled & ~own)
        rings = []
        for number, part in enumerate([filled, *(holes == place for place in range(1, count + 1))]):
            (line, *_) = find_contours(part.astype(float), 0.5)
            ring = (line[:, ::-1] + (left - 1, top - 1)).round(2)
            if (_signed_area(ring) > 0) != (number == 0):
                ring = ring[::-1]
            rings.append(ring.tolist())
        return rings

    def feature(self, **properties: Any) -> dict[str, Any]:
        """A GeoJSON feature in pixel coordinates, with measures and `properties`."""
        row, column = self.peak
        return {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": self.rings()},
            "properties": {
                **properties,
                "evidence": self.evidence,
                "peak": [column, row],
                "box": [self.box[1], self.box[0], self.box[3], self.box[2]],
                "narrowed_to_blood": self.is_blood,
                "area_pixels": int(self.mask.sum()),
                "area_mm2": self.area_mm2,
                "diameter_pixels": self.diameter_pixels,
                "diameter_mm": self.diameter_mm,
            },
        }


def _unpacked(mask: PackedMask, *others: Any) -> Region:
    return Region(mask.unpack(), *others)


def pieces(
    chosen: np.ndarray,
    strength: np.ndarray,
    is_blood: bool,
    spacing_mm: tuple[float, float] | None,
) -> list[Region]:
    """The connected regions of a mask, each with its peak in `strength`, the strongest first."""
    from scipy import ndimage

    if not chosen.any():
        return []
    box = Box.around(chosen)
    labels, _ = ndimage.label(box.cut(chosen))
    regions = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        own = labels == number
        inside = np.where(own[place], box.cut(strength)[place], -np.inf)
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        peak = int(row + place[0].start + box.top), int(column + place[1].start + box.left)
        mask = box.paste(own, chosen.shape)
        regions.append(Region(mask, peak, float(strength[peak]), is_blood, spacing_mm))
    return sorted(regions, key=lambda region: -region.evidence)


def axes(mask: np.ndarray, spacing: tuple[float, float]) -> tuple[float, float]:
    """The longest distance between corners of two pixels of a mask, and its extent at a right angle to it."""
    from scipy.spatial import ConvexHull

    # The two ends are corners of the hull, and of each row only the outermost pixels can be on it.
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    ends = np.concatenate([np.column_stack([rows + down, ends]) for ends in (first, last) for down in (0, 1)])
    corners = ends[ConvexHull(ends).vertices] * np.array(spacing)
    difference = corners[:, None] - corners[None]
    lengths = np.sqrt((difference**2).sum(axis=2))
    one, other = np.unravel_index(lengths.argmax(), lengths.shape)
    direction = difference[one, other] / lengths[one, other]
    return float(lengths[one, other]), float(np.ptp(corners @ np.array([-direction[1], direction[0]])))


def write_outlines(path: Path, features: Sequence[dict[str, Any]]) -> None:
    """Write GeoJSON features of regions as one collection, atomically."""
    collection = {"type": "FeatureCollection", "features": list(features)}
    write_text(path, json.dumps(collection) + "\n")


def joined(regions: Sequence[Region], shape: tuple[int, int]) -> np.ndarray:
    """All pixels of some regions as one mask of `shape`."""
    mask = np.zeros(shape, dtype=bool)
    for region in regions:
        mask |= region.mask
    return mask


def _signed_area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)
