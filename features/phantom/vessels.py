"""Vessels of the brain: the arteries of its base, deep veins, and small ones in the fluid of the sulci."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from haemo.features.phantom.anatomy import ramp
from haemo.features.phantom.base import rod
from haemo.features.phantom.blood import Region
from haemo.features.phantom.changes import Change
from haemo.features.phantom.volume import SmoothNoise

__all__ = ["VesselTree", "Vessels"]

# Courses in canonical mm, of the right side where there are two: read off the ICBM 152 average's cisterns.
_PAIRED = (
    ((8, 2, -24), (14, 4, -21), (27, 4, -18), (38, 2, -16), (43, -2, -6), (44, -12, 4), (48, -26, 12)),  # MCA
    ((38, 2, -16), (42, 8, -8), (43, 14, 4), (46, 16, 14)),
    ((8, 2, -24), (2, 16, -20), (1.5, 34, -10), (1.5, 44, 6), (1.5, 38, 24), (1.5, 22, 34)),  # ACA
    ((0, -16, -24), (10, -20, -17), (18, -28, -13), (20, -38, -8), (14, -56, -2)),  # PCA
    ((1.5, 2, 10), (2, -14, 12), (1.5, -30, 10)),  # internal cerebral vein
    ((12, -12, -20), (18, -26, -12), (10, -38, 0), (0, -42, 6)),  # basal vein
)
_MIDDLE = (
    ((0, -26, -48), (0, -20, -38), (0, -16, -24)),  # basilar artery
    ((0, -30, 9), (0, -38, 7), (0, -46, 10), (0, -62, 4)),  # vein of Galen, straight sinus
)
_CELL_MM = 13.0
_DEEPEST_MM = 26.0


@dataclass(frozen=True)
class VesselTree:
    """What was drawn for the vessels of one head.

    Attributes
    ----------
    hu : float
        Blood that flows: of a haematocrit that differs from patient to patient.
    radius_mm : float
        Of the middle cerebral artery; others in proportion.
    small_mm : float
        Radius of the small vessels in sulci.
    """

    hu: float
    radius_mm: float
    small_mm: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "VesselTree":
        """Draw the vessels of a head."""
        return cls(rng.uniform(42, 60), rng.uniform(0.9, 1.8), rng.uniform(0.6, 1.5))


class Vessels(Change):
    """The vessels of one head, ready to be painted; they move with the brain."""

    def __init__(self, tree: VesselTree, rng: np.random.Generator):
        self._drawn = tree
        self._wander = SmoothNoise(rng, 18.0, 3)
        self._small = SmoothNoise(rng, _CELL_MM, 2)

    def paint_inside(self, hu: np.ndarray, region: Region) -> None:
        """Paint arteries and veins where there is fluid, or on their course."""
        self._paint_small(hu, region)
        if not len(hu):
            return
        low, high = region.brain[:, 2].min() - 6, region.brain[:, 2].max() + 6
        for course in (*_PAIRED, *_MIDDLE):
            for side in (-1, 1) if course in _PAIRED else (1,):
                points = np.float32(course) * np.float32([side, 1, 1])
                points = points + self._wander(points) * np.float32([1.5, 1.5, 1.5])
                for start, end in pairwise(points):
                    if max(start[2], end[2]) > low and min(start[2], end[2]) < high:
                        self._paint_rod(hu, region.brain, start, end)

    def _paint_rod(self, hu: np.ndarray, brain: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
        radius = np.float32(self._drawn.radius_mm)
        corner, opposite = np.minimum(start, end) - radius - 1, np.maximum(start, end) + radius + 1
        near = np.flatnonzero((brain[:, 0] > corner[0]) & (brain[:, 0] < opposite[0]))
        near = near[((brain[near] > corner) & (brain[near] < opposite)).all(axis=1)]
        if not len(near):
            return
        share = ramp(rod(brain[near], start, end, radius), 1.2)
        hu[near] += share * (self._drawn.hu - hu[near])

    def _paint_small(self, hu: np.ndarray, region: Region) -> None:
        """Two random functions are both zero along curves: those are the small vessels."""
        near = np.flatnonzero((region.skull > -_DEEPEST_MM) & (region.fluid > 0.25) & (region.ventricle > 4))
        if not len(near):
            return
        off = np.hypot(*self._small(region.brain[near]).T) * np.float32(_CELL_MM / 1.8)
        share = ramp(np.float32(self._drawn.small_mm) - off, 1.0) * np.clip(
            3 * region.fluid[near] - 0.75, 0, 1
        )
        hu[near] += share * (self._drawn.hu - hu[near])
