"""Regions of interest on a slice: what is hot in a map of evidence, narrowed to blood where HU are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.features.reading.slice import Slice

__all__ = ["HOT_SHARE", "Region", "blood_likelihood", "find_regions", "joined"]

HOT_SHARE = 0.5
"""A pixel is hot from this share of the highest evidence on its slice."""

# Acute blood is 50 to 80 HU, gray matter 37 to 45. A pixel counts in between in proportion.
_BLOOD_FROM_HU, _BLOOD_FULL_HU = 48.0, 58.0
_BONE_FROM_HU = 100.0
_SMOOTHING_MM = 1.5
_OPENING_MM = 3.0
_BROAD_MM = 2.0
_LEAST_BLOOD_MM2 = 20.0
_USUAL_SPACING_MM = 0.45  # of a head CT of 230 mm in 512 pixels; for HU slices that do not say theirs


@dataclass(frozen=True, eq=False)
class Region:
    """One connected region.

    Attributes
    ----------
    mask : ndarray of shape (height, width), bool
    peak : tuple of int
        Row and column of what it is ranked by.
    evidence : float
        There, in units of the score: the highest evidence; in blood, the highest of evidence times blood.
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
        return None if self.spacing_mm is None else self._diameter(self.spacing_mm)

    @property
    def diameter_pixels(self) -> float:
        """The same in pixels."""
        return self._diameter((1.0, 1.0))

    def _diameter(self, spacing: tuple[float, float]) -> float:
        from scipy.spatial import ConvexHull

        # The two ends are corners of the hull, and of each row only the outermost pixels can be on it.
        rows = np.flatnonzero(self.mask.any(axis=1))
        first = self.mask[rows].argmax(axis=1)
        last = self.mask.shape[1] - self.mask[rows, ::-1].argmax(axis=1)
        ends = np.concatenate(
            [np.column_stack([rows + down, ends]) for ends in (first, last) for down in (0, 1)]
        )
        corners = ends[ConvexHull(ends).vertices] * np.array(spacing)
        difference = corners[:, None] - corners[None]
        return float(np.sqrt((difference**2).sum(axis=2)).max())

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


def joined(regions: Sequence[Region], shape: tuple[int, int]) -> np.ndarray:
    """All pixels of some regions as one mask of `shape`."""
    mask = np.zeros(shape, dtype=bool)
    for region in regions:
        mask |= region.mask
    return mask


def find_regions(
    evidence: np.ndarray,
    blood: np.ndarray | None,
    spacing_mm: tuple[float, float] | None,
    share: float = HOT_SHARE,
) -> list[Region]:
    """Outline what speaks for a bleed.

    Hot is what has at least `share` of the highest evidence. Where it is known what looks like blood, the
    patches of blood of at least 20 mm2 with any evidence for a bleed take its place, whole; if there is none,
    what is hot stands as it is. Evidence is coarse and blood is not, so patches are ranked, and their peaks
    found, by the product of both.

    Parameters
    ----------
    evidence : ndarray of shape (height, width)
        On the slice's own pixels; above 0 speaks for a bleed.
    blood : ndarray of shape (height, width), in 0..1, or None
        From `blood_likelihood`; None where the slice is not in HU.
    spacing_mm : tuple of float or None
        Row and column spacing.
    share : float in 0..1

    Returns
    -------
    list of Region
        The strongest first; empty where nothing speaks for a bleed.
    """
    from scipy import ndimage

    highest = float(evidence.max())
    if highest <= 0:
        return []
    strength, chosen = evidence, evidence >= share * highest
    patches = np.zeros_like(chosen) if blood is None else _patches_of_blood(blood, evidence > 0, spacing_mm)
    is_blood = bool(patches.any())
    if is_blood:
        strength, chosen = evidence * _broad(blood, spacing_mm), patches
    labels, _ = ndimage.label(chosen)
    regions = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        mask = labels == number
        inside = np.where(mask[place], strength[place], -np.inf)
        row, column = np.unravel_index(inside.argmax(), inside.shape)
        peak = int(row + place[0].start), int(column + place[1].start)
        regions.append(Region(mask, peak, float(strength[peak]), is_blood, spacing_mm))
    return sorted(regions, key=lambda region: -region.evidence)


def blood_likelihood(image: Slice) -> np.ndarray:
    """How much each pixel of an HU slice looks like acute blood inside the skull.

    HU are smoothed over brain tissue alone (bone and what it blurs into are left out of the mean, so that the
    inner table does not look like blood), then 48 to 58 HU become 0 to 1. The brain is the largest piece of
    soft tissue that is left after an opening by 3 mm.

    Returns
    -------
    ndarray of shape (height, width), float32, in 0..1
    """
    from scipy import ndimage

    spacing = image.spacing_mm or (_USUAL_SPACING_MM, _USUAL_SPACING_MM)
    pixel = float(np.sqrt(spacing[0] * spacing[1]))
    brain = _brain(image.pixels, pixel)
    tissue = (brain & (image.pixels > -20) & (image.pixels < _BONE_FROM_HU)).astype(np.float32)
    weight = ndimage.gaussian_filter(tissue, _SMOOTHING_MM / pixel)
    total = ndimage.gaussian_filter(image.pixels * tissue, _SMOOTHING_MM / pixel)
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0.15)
    return np.clip((mean - _BLOOD_FROM_HU) / (_BLOOD_FULL_HU - _BLOOD_FROM_HU), 0, 1) * brain


def _brain(hu: np.ndarray, pixel_mm: float) -> np.ndarray:
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(np.clip(hu, -200, 150), 1.0 / pixel_mm)
    soft = (smooth > 5) & (smooth < _BONE_FROM_HU)
    # Opening by a disc, through distances: pieces that hang together by less than its width come apart. On
    # every second pixel, which is fine enough for that and four times as fast.
    coarse, reach = soft[::2, ::2], _OPENING_MM / (2 * pixel_mm)
    labels, count = ndimage.label(ndimage.distance_transform_edt(coarse) > reach)
    if not count:
        return np.zeros(hu.shape, dtype=bool)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    grown = ndimage.binary_fill_holes((ndimage.distance_transform_edt(~largest) <= reach) & coarse)
    return grown.repeat(2, axis=0).repeat(2, axis=1)[: hu.shape[0], : hu.shape[1]]


def _patches_of_blood(
    blood: np.ndarray, with_evidence: np.ndarray, spacing_mm: tuple[float, float] | None
) -> np.ndarray:
    from scipy import ndimage

    height, width = spacing_mm or (_USUAL_SPACING_MM, _USUAL_SPACING_MM)
    labels, count = ndimage.label(blood >= 0.5)
    areas = np.bincount(labels.ravel(), minlength=count + 1) * height * width
    touched = np.bincount(labels[with_evidence], minlength=count + 1) > 0
    chosen = touched & (areas >= _LEAST_BLOOD_MM2)
    chosen[0] = False
    return chosen[labels]


def _broad(blood: np.ndarray, spacing_mm: tuple[float, float] | None) -> np.ndarray:
    """What looks like blood, the middle of a broad patch highest."""
    from scipy import ndimage

    height, width = spacing_mm or (_USUAL_SPACING_MM, _USUAL_SPACING_MM)
    return ndimage.gaussian_filter(blood, (_BROAD_MM / height, _BROAD_MM / width))


def _signed_area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)
