"""Heads of children: small, thin-boned, with little fluid, and open sutures at first."""

from dataclasses import replace

import numpy as np

from haemo.features.phantom.anatomy import CORONAL_Y_MM, LAMBDOID_Y_MM, Anatomy
from haemo.features.phantom.changes import Change
from haemo.features.phantom.volume import SmoothNoise

__all__ = ["OpenSutures", "as_child"]

# Head circumference by age over that of adults (about 35 cm at birth, 46 at one year, 51 at five, 56 grown).
_AGES, _SIZES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 16.0), (0.64, 0.77, 0.83, 0.87, 0.91, 0.95, 0.99)
# Bone normal to the skull: from a shell at birth to the grown one. A choice in the order of published means.
_SKULLS_MM = (1.5, 1.8, 2.1, 2.5, 3.2, 3.9, 4.5)
_CLOSED_YEARS = 3.0
_WIDEST_MM = 3.0


def as_child(anatomy: Anatomy, age_years: float, rng: np.random.Generator) -> Anatomy:
    """The same head at another age; white matter that is not myelinated yet is dark."""
    size = float(np.interp(age_years, _AGES, _SIZES))
    young = float(np.clip(1 - age_years / 2.5, 0, 1))
    white = rng.uniform(25.0, 31.0) - 5.0 * young
    return replace(
        anatomy,
        age_years=age_years,
        size=tuple(size * value for value in anatomy.size),
        atrophy_mm=0.0,
        ventricle_mm=rng.uniform(-1.4, 0.4),
        sulcal_gain=rng.uniform(0.25, 0.75) + 0.4 * young,
        skull_mm=float(np.interp(age_years, _AGES, _SKULLS_MM)) * rng.uniform(0.85, 1.2),
        scalp_mm=anatomy.scalp_mm * rng.uniform(0.5, 0.9),
        table_hu=anatomy.table_hu * float(np.interp(age_years, (0, 6), (0.6, 1.0))),
        white_hu=white,
        gray_hu=white + rng.uniform(5.0, 9.0),
        leukoaraiosis_hu=0.0,
        pneumatisation=anatomy.pneumatisation * float(np.clip(age_years / 8, 0, 1)),
        frontal_sinus=anatomy.frontal_sinus if age_years > 8 else 0.0,
    )


class OpenSutures(Change):
    """Gaps in the vault of a young child along coronal, sagittal and lambdoid suture."""

    def __init__(self, age_years: float, rng: np.random.Generator):
        self._width = np.float32(_WIDEST_MM * max(0.0, 1 - age_years / _CLOSED_YEARS))
        self._wander = SmoothNoise(rng, 14.0, 2)

    def opening(self, canonical: np.ndarray) -> np.ndarray | None:
        """Half the width of the gap less the distance from its middle."""
        if not self._width:
            return None
        x, y, z = canonical.T
        along, across = self._wander(canonical).T
        # The coronal suture leans forwards, the lambdoid one runs down and forwards from the midline.
        coronal = abs(y - (CORONAL_Y_MM - 14) - 0.25 * (70 - z) - 2 * along)
        lambdoid = abs(y - LAMBDOID_Y_MM - 0.3 * abs(x) + 0.35 * (50 - z) - 2 * along)
        sagittal = np.where((y < CORONAL_Y_MM) & (y > LAMBDOID_Y_MM), abs(x - 1.5 * across), 99)
        off = np.minimum(np.minimum(coronal, lambdoid), sagittal)
        return np.where(z > 0, np.float32(self._width / 2) - off.astype(np.float32), np.float32(-9))
