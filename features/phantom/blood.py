"""Bleeds in a head: which points hold blood, how dense it is, and how it pushes the brain aside."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from haemo.features.phantom.anatomy import CORONAL_Y_MM, LAMBDOID_Y_MM, ramp
from haemo.features.phantom.bleeds import Bleed
from haemo.features.phantom.stages import Mixture, StagedBleed
from haemo.features.phantom.volume import SmoothNoise

__all__ = ["PlacedBleed", "Region", "distance_from", "place"]


@dataclass(frozen=True, eq=False)
class Region:
    """Points within the skull on one plane: what a bleed needs to know of them.

    Attributes
    ----------
    canonical : ndarray of shape (n, 3)
        Skull coordinates, mm.
    brain : ndarray of shape (n, 3)
        Where the brain tissue at each point comes from; moves with the brain.
    skull, ventricle : ndarray of shape (n,)
        Signed distance to the inner table and to the ventricles, mm, negative inside.
    upward : ndarray of shape (n,)
        How far the inner table nearby faces up: 1 under the vertex, -1 on the floor of the skull.
    fluid : ndarray of shape (n,)
        Share of cerebrospinal fluid in the atlas.
    pixel_mm : float
    """

    canonical: np.ndarray
    brain: np.ndarray
    skull: np.ndarray
    ventricle: np.ndarray
    upward: np.ndarray
    fluid: np.ndarray
    pixel_mm: float


def distance_from(points: np.ndarray, centre: Sequence[float] | np.ndarray) -> np.ndarray:
    """Distance of points (n, 3) from one, in mm: (n,)."""
    offset = points - np.float32(centre)
    return np.sqrt(np.einsum("ij,ij->i", offset, offset))


class PlacedBleed(ABC):
    """A bleed in a head, ready to be painted."""

    def __init__(self, bleed: Bleed, rng: np.random.Generator):
        self.bleed = bleed
        self.centre = np.float32(bleed.centre_mm)
        self._lumps = SmoothNoise(rng, max(0.7 * bleed.radius_mm, 6.0))
        self._texture = SmoothNoise(rng, 5.0)
        self._mixture = Mixture(bleed, rng) if isinstance(bleed, StagedBleed) else None

    def shift(self, canonical: np.ndarray, distance: np.ndarray) -> np.ndarray | float:
        """Displacement of the brain, to add to ``Head.brain_shift``: (n, 3), mm."""
        del canonical, distance
        return 0.0

    @abstractmethod
    def share(self, region: Region) -> np.ndarray:
        """Share of blood at each point, 0..1."""

    def edema(self, region: Region) -> np.ndarray | float:
        """Water in the tissue around the bleed, 0..1."""
        del region
        return 0.0

    def blood_hu(self, region: Region) -> np.ndarray:
        """Density of the blood at each point: uneven by a few HU."""
        hu = self.bleed.hu + np.float32(3.0) * self._texture(region.canonical)[:, 0]
        return hu if self._mixture is None else self._mixture.mixed(hu, region.canonical)


class _Extraaxial(PlacedBleed):
    """Blood between the inner table and the brain, which recedes before it."""

    def shift(self, canonical: np.ndarray, distance: np.ndarray) -> np.ndarray:
        thickness = self._thickness(canonical, distance[:, 5])
        beyond = np.maximum(-distance[:, 0] - thickness, 0)
        reach = 20 + 1.5 * self.bleed.thickness_mm
        return (thickness * np.exp(beyond * np.float32(-1 / reach)))[:, None] * distance[:, 3:6]

    def share(self, region: Region) -> np.ndarray:
        thickness = self._thickness(region.canonical, region.upward)
        layer = ramp(thickness + region.skull, region.pixel_mm) * ramp(0.5 - region.skull, region.pixel_mm)
        # Less than a millimetre of blood along bone is no bleed that anyone could see; thin ones end sooner.
        least, width = min(0.8, 0.2 * self.bleed.thickness_mm), min(1.2, 0.3 * self.bleed.thickness_mm)
        return layer * np.clip((thickness - least) / width, 0, 1)

    def _thickness(self, canonical: np.ndarray, upward: np.ndarray) -> np.ndarray:
        bleed = self.bleed
        reach = distance_from(canonical, self.centre) * np.float32(1 / bleed.radius_mm)
        profile = np.clip(1 - reach**self._power, 0, 1)
        lumps = 1 + np.float32(bleed.roughness) * self._lumps(canonical)[:, 0]
        # Dura clings to the floor of the skull: blood gathers under the vault.
        vault = ramp(upward + 0.45, 0.5) * ramp(canonical[:, 2] + 32, 14.0)
        return np.float32(bleed.thickness_mm) * profile * lumps * vault * self._bounds(canonical)

    _power = 2.0

    def _bounds(self, canonical: np.ndarray) -> np.ndarray:
        """1 within the sutures that hold the dura to the bone on this side, 0 beyond."""
        x, y, _ = canonical.T
        within = ramp(x * math.copysign(1, self.centre[0]) - 2, 4.0)
        for suture in (CORONAL_Y_MM, LAMBDOID_Y_MM):
            within = within * ramp((y - suture) * math.copysign(1, self.centre[1] - suture), 4.0)
        return within


class _Crescent(_Extraaxial):
    """Subdural blood: crosses sutures, stops at the falx."""

    _power = 3.0

    def _bounds(self, canonical: np.ndarray) -> np.ndarray:
        return ramp(canonical[:, 0] * math.copysign(1, self.centre[0]) - 3, 5.0)


class _AlongFalx(PlacedBleed):
    """Subdural blood along one side of the falx."""

    def share(self, region: Region) -> np.ndarray:
        bleed = self.bleed
        side = region.brain[:, 0] * math.copysign(1, self.centre[0])
        _, dy, dz = (region.brain - self.centre).T
        reach = np.sqrt(dy * dy + dz * dz) * np.float32(1 / bleed.radius_mm)
        thickness = bleed.thickness_mm * np.clip(1 - reach**3, 0, 1)
        thickness = thickness * (1 + bleed.roughness * self._lumps(region.canonical)[:, 0])
        return ramp(np.minimum(thickness - side, side + 0.5), 1.2) * ramp(-region.skull, 2.0)


class _Parenchymal(PlacedBleed):
    """Blood in the brain's substance: pushes it away on all sides and makes it swell."""

    def shift(self, canonical: np.ndarray, distance: np.ndarray) -> np.ndarray:
        away = np.maximum(distance_from(canonical, self.centre), 1.0)
        source = np.cbrt(np.maximum(away**3 - 0.5 * self.bleed.radius_mm**3, (0.3 * away) ** 3))
        near_bone = 1 - np.exp(np.minimum(distance[:, 0], 0) / 9)
        strength = (source / away - 1) * np.exp(away * np.float32(-1 / 70)) * near_bone
        return strength[:, None] * (canonical - self.centre)

    def share(self, region: Region) -> np.ndarray:
        return ramp(self._depth(region), 1.4) * ramp(-0.5 - region.skull, 1.5)

    def edema(self, region: Region) -> np.ndarray:
        outside = np.maximum(-self._depth(region), 0) * np.float32(1 / max(self.bleed.edema_mm, 0.5))
        return np.exp(-outside * outside)

    def _depth(self, region: Region) -> np.ndarray:
        bleed = self.bleed
        turn = math.radians(bleed.turn_deg)
        offset = region.canonical - self.centre
        x = offset[:, 0] * math.cos(turn) + offset[:, 1] * math.sin(turn)
        y = offset[:, 1] * math.cos(turn) - offset[:, 0] * math.sin(turn)
        a, b, c = bleed.axes
        reach = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (offset[:, 2] / c) ** 2)
        lumps = self._lumps(region.canonical)[:, 0]
        return np.float32(bleed.radius_mm) * (1 + np.float32(bleed.roughness) * lumps) - reach


class _Subarachnoid(PlacedBleed):
    """Blood mixed with the fluid of sulci and cisterns, in patches around a centre."""

    def share(self, region: Region) -> np.ndarray:
        bleed = self.bleed
        reach = distance_from(region.brain, self.centre) * np.float32(1 / bleed.radius_mm)
        patches = 1.5 - reach**2 + np.float32(bleed.roughness) * self._lumps(region.canonical)[:, 0]
        sulci = np.clip(1.25 * region.fluid - 0.08, 0, 1)
        outside = ramp(region.ventricle - 2.5, 2.0) * ramp(0.3 - region.skull, 1.0)
        return sulci * outside * np.clip(patches, 0, 1)


class _Ventricular(PlacedBleed):
    """Blood in the ventricles: a layer with a level, the patient lying on the back, or a cast of clot."""

    def share(self, region: Region) -> np.ndarray:
        inside = ramp(0.5 - region.ventricle, 1.5) * np.clip(1.4 * region.fluid, 0, 1)
        if self.bleed.form == "layered":
            return inside * ramp(self.bleed.level_mm - region.brain[:, 1], 2.0)
        reach = distance_from(region.brain, self.centre) * np.float32(1 / self.bleed.radius_mm)
        lumps = 1.1 - reach + np.float32(self.bleed.roughness) * self._lumps(region.canonical)[:, 0]
        return inside * np.clip(3 * lumps, 0, 1)


def place(bleed: Bleed, rng: np.random.Generator) -> PlacedBleed:
    """Make a drawn bleed ready to be painted; `rng` draws its lumps and texture."""
    match bleed.subtype, bleed.form:
        case "epidural", _:
            return _Extraaxial(bleed, rng)
        case "subdural", "falx":
            return _AlongFalx(bleed, rng)
        case "subdural", _:
            return _Crescent(bleed, rng)
        case "subarachnoid", _:
            return _Subarachnoid(bleed, rng)
        case "intraparenchymal", _:
            return _Parenchymal(bleed, rng)
        case _:
            return _Ventricular(bleed, rng)
