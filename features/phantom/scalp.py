"""Blood in the scalp, which is no brain haemorrhage."""

from dataclasses import dataclass

import numpy as np

from haemo.features.phantom.anatomy import ramp
from haemo.features.phantom.atlas import Atlas
from haemo.features.phantom.bleeds import surface_point
from haemo.features.phantom.changes import Change
from haemo.features.phantom.volume import SmoothNoise

__all__ = ["ScalpHaematoma", "SwollenScalp"]


@dataclass(frozen=True)
class ScalpHaematoma:
    """What was drawn for a swelling of the scalp.

    Attributes
    ----------
    centre_mm : tuple of float
        Canonical point of the inner table below it.
    radius_mm, thickness_mm : float
    hu : float
    """

    centre_mm: tuple[float, float, float]
    radius_mm: float
    thickness_mm: float
    hu: float

    @classmethod
    def draw(cls, rng: np.random.Generator, atlas: Atlas) -> "ScalpHaematoma":
        """Draw one anywhere above the base of the skull."""
        centre = surface_point(atlas, rng.uniform(0, 360), rng.uniform(-10, 55))
        return cls(centre, rng.uniform(18, 48), rng.uniform(3, 14), rng.uniform(40, 68))


class SwollenScalp(Change):
    """A swelling of the scalp, ready to be painted: blood between bone and fat."""

    def __init__(self, haematoma: ScalpHaematoma, rng: np.random.Generator):
        self._drawn = haematoma
        self._lumps = SmoothNoise(rng, 12.0)

    def bulge(self, canonical: np.ndarray) -> tuple[float, np.ndarray]:
        """The surface stands out, the brain does not."""
        return 0.0, self._thickness(canonical)

    def paint_scalp(
        self, hu: np.ndarray, canonical: np.ndarray, depth: np.ndarray, outward: np.ndarray
    ) -> None:
        """Blood from the bone outwards."""
        layer = (
            ramp(self._thickness(canonical) - outward, 1.5) * ramp(outward + 1, 1.5) * ramp(depth - 2.5, 1.5)
        )
        hu += layer * (self._drawn.hu - hu)

    def _thickness(self, canonical: np.ndarray) -> np.ndarray:
        offset = (canonical - np.float32(self._drawn.centre_mm)) / np.float32(self._drawn.radius_mm)
        profile = np.clip(1 - np.einsum("ij,ij->i", offset, offset), 0, 1)
        lumps = 1 + np.float32(0.25) * self._lumps(canonical)[:, 0]
        return np.float32(self._drawn.thickness_mm) * profile * lumps
