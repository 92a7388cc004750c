"""The probability of blood over a slice: where it peaks, what it outlines, and one number for the slice."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from haemo.features.pixels.blurs import blurred_part
from haemo.features.pixels.region import Region, pieces
from haemo.features.reading.slice import Slice
from haemo.features.views.head_box import Box
from haemo.features.views.head_grid import HeadGrid

__all__ = ["BloodMap"]

_SMOOTHING_MM = 0.7  # of outlines: single pixels are noise
_SCORE_SMOOTHING_MM = 1.5
_PEAK_SMOOTHING_MM = 3.0  # a bulk of blood, and not the edge of bone
_REACH_MM = 9  # beyond the inside, to which any of these goes
_SCORED_MM2 = 50.0  # the most probable; a bleed of 8 mm across
_LEAST_MM2 = 10.0


@dataclass(frozen=True, eq=False)
class BloodMap:
    """Where the blood is on one slice.

    Attributes
    ----------
    probability : ndarray of the slice's shape, float32, in 0..1
        Smoothed by 0.7 mm; 0 outside the skull.
    peak : tuple of int
        Row and column where the probability, smoothed by 3 mm, is highest.
    score : float in 0..1
        Mean of the 50 mm2 where it is highest, smoothed by 1.5 mm.
    spacing_mm : tuple of float or None
        That the slice says it has.
    grid : HeadGrid
        What was found of the head.
    is_hu : bool
        Whether the slice has HU, and is no picture.
    """

    probability: np.ndarray
    peak: tuple[int, int]
    score: float
    spacing_mm: tuple[float, float] | None
    grid: HeadGrid
    is_hu: bool = True

    @classmethod
    def of(cls, image: Slice, grid: HeadGrid, inside: np.ndarray) -> "BloodMap":
        """Put probabilities of the pixels inside the skull, in the order of `describe`, on the slice."""
        raw = np.zeros(grid.hu.shape, dtype=np.float32)
        raw[grid.inside] = inside
        box = Box.around(grid.inside if len(inside) else raw == 0).wider(_REACH_MM, raw.shape)
        fine, scored, broad = (
            blurred_part(raw, box, sigma_mm)
            for sigma_mm in (_SMOOTHING_MM, _SCORE_SMOOTHING_MM, _PEAK_SMOOTHING_MM)
        )
        count = min(int(_SCORED_MM2), scored.size)
        score = float(np.partition(scored, -count, axis=None)[-count:].mean())
        row, column = np.unravel_index(broad.argmax(), broad.shape)
        peak = tuple(
            min(int((place + 0.5) * side / size), side - 1)
            for place, side, size in zip(
                (row + box.top, column + box.left), grid.shape, raw.shape, strict=True
            )
        )
        probability = np.clip(grid.on_slice(box.paste(fine, raw.shape)), 0, 1)
        return cls(probability, peak, score, image.spacing_mm, grid, image.is_hu)

    @property
    def has_head(self) -> bool:
        """Whether anything was found inside a skull; without, all is 0."""
        return self.grid.midline is not None

    @cached_property
    def left_share(self) -> np.ndarray:
        """1 on the left of the picture's midline, 0 on the right: float32, of the slice's shape."""
        if self.grid.midline is None:
            return np.full(self.grid.shape, 0.5, dtype=np.float32)
        rows, columns = np.indices(self.grid.hu.shape)
        return self.grid.on_slice(self.grid.midline.across(rows, columns) < 0)

    def regions(self, threshold: float) -> list[Region]:
        """Connected pixels from a probability on, of 10 mm2 and more; the most probable first.

        Where the slice does not say its spacing, pixels are those of a head of usual size.
        """
        some = pieces(self.probability >= threshold, self.probability, True, self.spacing_mm)
        pixel_mm2 = float(np.prod(self.grid.pixel_mm))
        return [region for region in some if region.mask.sum() * pixel_mm2 >= _LEAST_MM2]

    def bulk(self, region: Region) -> float:
        """How much speaks for a region: its mean probability times the root of its thickness in mm.

        Grain, and bone that shines on the brain beside it, give regions that are thin. So what is thin must
        be the more probable. Thickness is that of the widest disc that fits in.
        """
        from scipy import ndimage

        top, left, bottom, right = region.box
        mask = np.pad(region.mask[top : bottom + 1, left : right + 1], 1)
        depth_mm = ndimage.distance_transform_edt(mask, sampling=self.grid.pixel_mm).max()
        return float(self.probability[region.mask].mean() * np.sqrt(2 * depth_mm))
