"""One patient's head: how it differs from the atlas, and what lies at each of its points."""

from dataclasses import dataclass

import numpy as np

from haemo.features.phantom.atlas import Atlas
from haemo.features.phantom.volume import SmoothNoise

__all__ = ["Anatomy", "Head", "ramp"]

_REACH_OF_ATROPHY_MM = 25.0
_REACH_OF_VENTRICLES_MM = 13.0
# Sutures in canonical mm; an epidural bleed stops at them.
CORONAL_Y_MM, LAMBDOID_Y_MM = 8.0, -72.0


def ramp(distance: np.ndarray, width: float) -> np.ndarray:
    """Share of a pixel of `width` on the positive side of a border at signed `distance`: 0..1."""
    return np.clip(distance * np.float32(1 / width) + np.float32(0.5), 0, 1)


@dataclass(frozen=True)
class Anatomy:
    """What was drawn for one head.

    Attributes
    ----------
    age_years : float
        Drives atrophy, ventricle width and calcification; bleeds do not depend on it.
    size : tuple of float
        Size along x, y, z relative to the atlas.
    warp_mm, sulcal_warp_mm : float
        Strength of the smooth deformation of the whole head and of that of the brain alone.
    atrophy_mm, ventricle_mm : float
        How far the cortex recedes from the skull; how far the ventricle walls stand off from the atlas's.
    sulcal_gain : float
        Widening of sulci, as a factor on the share of fluid in a voxel.
    skull_mm, scalp_mm : float
        Mean thickness.
    diploe_hu, table_hu : float
        Spongy and compact bone.
    csf_hu, white_hu, gray_hu, dura_hu, muscle_hu, fat_hu : float
    leukoaraiosis_hu : float
        Darkening of white matter beside the ventricles, of old age.
    pneumatisation : float
        How much of mastoids and sinuses is air, 0..1.
    frontal_sinus : float
        Size of the frontal sinus, 0..1.5.
    """

    age_years: float
    size: tuple[float, float, float]
    warp_mm: float
    sulcal_warp_mm: float
    atrophy_mm: float
    ventricle_mm: float
    sulcal_gain: float
    skull_mm: float
    scalp_mm: float
    diploe_hu: float
    table_hu: float
    csf_hu: float
    white_hu: float
    gray_hu: float
    dura_hu: float
    muscle_hu: float
    fat_hu: float
    leukoaraiosis_hu: float
    pneumatisation: float
    frontal_sinus: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Anatomy":
        """Draw a head."""
        age = rng.uniform(18, 92)
        old = (age - 18) / 74
        size = rng.normal(1.0, 0.03)
        white = rng.uniform(26.5, 30.0)
        return cls(
            age_years=age,
            size=tuple(float(size * factor) for factor in rng.normal(1.0, (0.025, 0.025, 0.02))),
            warp_mm=rng.uniform(1.0, 2.2),
            sulcal_warp_mm=rng.uniform(1.2, 2.4),
            atrophy_mm=max(0.0, 2.8 * old**1.5 + rng.normal(0, 0.5)),
            ventricle_mm=max(-1.6, -1.0 + 6.5 * old**1.6 + rng.normal(0, 1.0)),
            sulcal_gain=max(0.4, 0.6 + 1.2 * old + rng.normal(0, 0.2)),
            skull_mm=float(np.clip(rng.normal(6.0, 1.1), 4.0, 9.0)),
            scalp_mm=rng.uniform(3.5, 7.0),
            diploe_hu=rng.uniform(450, 900),
            table_hu=rng.uniform(1200, 1750),
            csf_hu=rng.uniform(3.0, 11.0),
            white_hu=white,
            gray_hu=max(37.0, white + rng.uniform(6.0, 9.0)),
            dura_hu=rng.uniform(44, 56),
            muscle_hu=rng.uniform(48, 60),
            fat_hu=rng.uniform(-105, -75),
            leukoaraiosis_hu=max(0.0, rng.uniform(-6, 9) * old),
            pneumatisation=rng.uniform(0.3, 0.9),
            frontal_sinus=max(0.0, rng.normal(0.8, 0.35)),
        )


class Head:
    """The geometry of one patient: from head coordinates to the atlas and to what the atlas says there.

    Parameters
    ----------
    atlas : Atlas
    anatomy : Anatomy
    rng : numpy.random.Generator
        Draws the smooth deformations and textures.
    """

    def __init__(self, atlas: Atlas, anatomy: Anatomy, rng: np.random.Generator):
        self.atlas = atlas
        self.anatomy = anatomy
        self._inverse_size = (1 / np.array(anatomy.size)).astype(np.float32)
        self._warp = SmoothNoise(rng, 75.0, 3)
        self._sulcal_warp = SmoothNoise(rng, 13.0, 3)
        self.slow_noise = SmoothNoise(rng, 30.0, 2)
        self.fine_noise = SmoothNoise(rng, 6.0, 2)

    def canonical(self, points_mm: np.ndarray) -> np.ndarray:
        """Atlas coordinates of the skull at head coordinates: (n, 3) to (n, 3), mm."""
        points = points_mm * self._inverse_size
        return points + self._warp(points) * np.float32(self.anatomy.warp_mm)

    def brain_shift(self, canonical_mm: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Where the brain at each point comes from, relative to the point: (n, 3), mm.

        Parameters
        ----------
        canonical_mm : ndarray of shape (n, 3)
        distance : ndarray of shape (n, 9)
            ``Atlas.distance_at`` of them.
        """
        anatomy = self.anatomy
        depth = np.maximum(-distance[:, 0:1], 0)
        recede = np.float32(anatomy.atrophy_mm) * np.exp(depth * np.float32(-1 / _REACH_OF_ATROPHY_MM))
        # Tissue moves off the ventricles, at most to where its own wall was: what it leaves is fluid.
        wall, wide = distance[:, 1:2], np.float32(anatomy.ventricle_mm)
        widen = wide * np.exp(np.maximum(wall - max(wide, 0), 0) * np.float32(-1 / _REACH_OF_VENTRICLES_MM))
        widen = np.minimum(widen, np.maximum(wall + 1, 0))
        own = self._sulcal_warp(canonical_mm) * np.float32(anatomy.sulcal_warp_mm)
        own *= 1 - np.exp(depth / -4)
        # The falx keeps the midline straight.
        own[:, 0] *= 1 - 0.9 * np.exp(np.square(canonical_mm[:, 0]) * np.float32(-1 / 150))
        return recede * distance[:, 3:6] - widen * distance[:, 6:9] + own

    def skull_thickness(self, canonical_mm: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Thickness of bone at each point, mm: thin over the temples and around the sella, thick at brow,
        occiput and where the vault turns in before the temples."""
        x, y, z = canonical_mm.T
        noise = self.slow_noise(canonical_mm)[:, 0]
        shape = 1 + np.float32(0.16) * noise
        shape -= 0.42 * _bump(abs(x), 70, 18) * _bump(y, -5, 32) * _bump(z, -12, 26)
        shape += 0.45 * _bump(x, 0, 22) * _bump(y, -105, 16) * _bump(z, -8, 24)
        shape += 0.25 * _bump(x, 0, 40) * _bump(y, 78, 18)
        shape -= 0.75 * _bump(x, 0, 9) * _bump(y, 6, 11) * _bump(z, -32, 8)
        cover = distance[:, 0] - distance[:, 2]
        shape += np.clip((cover - 14) * np.float32(0.08), 0, 1) * ramp(z + 24, 12.0)
        return np.maximum(shape * np.float32(self.anatomy.skull_mm), 1.5)


def _bump(value: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(np.square((value - np.float32(centre)) * np.float32(1 / width)) * np.float32(-0.5))
