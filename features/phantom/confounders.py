"""What looks like blood, or hides it, in any head: calcifications, sinuses, old infarcts. Blind to bleeds."""

from dataclasses import dataclass

import numpy as np

from haemo.features.phantom.anatomy import Anatomy, ramp
from haemo.features.phantom.volume import SmoothNoise

__all__ = ["Confounders", "Lookalikes"]


@dataclass(frozen=True)
class Spot:
    """A calcification: brain coordinates, radius, HU."""

    kind: str
    centre_mm: tuple[float, float, float]
    radius_mm: float
    hu: float


@dataclass(frozen=True)
class Confounders:
    """What was drawn for one head, whether it bleeds or not.

    Attributes
    ----------
    spots : tuple of Spot
        Calcified pineal gland, choroid plexus, falx and basal ganglia; a dense basilar artery.
    falx_mm : float
        Thickness of the falx.
    sinus_mm : float
        Radius of the sagittal sinus; the transverse ones are a little thinner.
    sinus_hu : float
    infarct_mm : float
        Radius of an old infarct, 0 for none.
    infarct_centre_mm : tuple of float
    infarct_hu : float
        What is left of the tissue there.
    """

    spots: tuple[Spot, ...]
    falx_mm: float
    sinus_mm: float
    sinus_hu: float
    infarct_mm: float
    infarct_centre_mm: tuple[float, float, float]
    infarct_hu: float

    @classmethod
    def draw(cls, rng: np.random.Generator, anatomy: Anatomy) -> "Confounders":
        """Draw what a head of this age may have."""
        old = (anatomy.age_years - 18) / 74
        side = float(rng.choice([-1.0, 1.0]))
        infarct = rng.random() < 0.03 + 0.12 * old
        return cls(
            spots=tuple(_draw_spots(rng, old)),
            falx_mm=rng.uniform(0.8, 1.8),
            sinus_mm=rng.uniform(3.0, 5.5),
            sinus_hu=rng.uniform(50, 66),
            infarct_mm=rng.uniform(6, 24) if infarct else 0.0,
            infarct_centre_mm=(side * rng.uniform(24, 52), rng.uniform(-70, 40), rng.uniform(-15, 45)),
            infarct_hu=rng.uniform(8, 20),
        )


def _draw_spots(rng: np.random.Generator, old: float) -> list[Spot]:
    spots = []

    def add(
        kind: str, chance: float, centre: tuple[float, float, float], radius: tuple[float, float]
    ) -> None:
        # Every number is drawn whether or not the spot is there, so that the stream stays in step.
        there, jitter = rng.random() < chance, rng.normal(0, 1.2, 3)
        size, hu = rng.uniform(*radius), rng.uniform(80, 300)
        if there:
            place = tuple(float(value) for value in np.add(centre, jitter))
            spots.append(Spot(kind, place, size, hu))

    add("pineal", 0.4 + 0.4 * old, (0, -31, 2), (1.2, 2.8))
    for side in (-1, 1):
        add("choroid plexus", 0.3 + 0.5 * old, (25 * side, -43, 10), (1.0, 2.8))
        add("globus pallidus", 0.01 + 0.06 * old, (19 * side, -3, 0), (1.2, 2.8))
    for y, z in ((48, 28), (30, 48), (-30, 60)):
        add("falx", 0.05 + 0.15 * old, (0, y, z), (1.2, 2.6))
    there, hu = rng.random() < 0.4, rng.uniform(46, 60)
    if there:
        spots.append(Spot("basilar artery", (0.0, -18.0, -30.0), 2.0, hu))
    return spots


class Lookalikes:
    """The confounders of one head, ready to be painted."""

    def __init__(self, confounders: Confounders, anatomy: Anatomy, rng: np.random.Generator):
        self._drawn = confounders
        self._dura_hu = anatomy.dura_hu
        self._lumps = SmoothNoise(rng, 15.0)
        self._grain = SmoothNoise(rng, 2.5)

    def infarct(self, brain: np.ndarray) -> np.ndarray | float:
        """Share of each point that an old infarct has hollowed out: (n,), 0..1."""
        drawn = self._drawn
        if not drawn.infarct_mm:
            return 0.0
        offset = (brain - np.float32(drawn.infarct_centre_mm)) * np.float32([1.0, 0.8, 1.0])
        reach = np.sqrt(np.einsum("ij,ij->i", offset, offset))
        return ramp(drawn.infarct_mm + 4.5 * self._lumps(brain)[:, 0] - reach, 4.0)

    @property
    def infarct_hu(self) -> float:
        """HU where it has."""
        return self._drawn.infarct_hu

    def paint(self, hu: np.ndarray, brain: np.ndarray, skull: np.ndarray, pixel_mm: float) -> None:
        """Paint dura, sinuses and calcifications over the HU of points, in place."""
        self._paint_dura(hu, brain, skull, pixel_mm)
        for spot in self._drawn.spots:
            offset = brain - np.float32(spot.centre_mm)
            near = np.flatnonzero(np.einsum("ij,ij->i", offset, offset) < (spot.radius_mm * 2 + 2) ** 2)
            if not len(near):
                continue
            stretch = {"basilar artery": (1, 1, 0.25), "falx": (2, 0.5, 0.6)}.get(spot.kind, (1, 1, 1))
            reach = np.linalg.norm(offset[near] * np.float32(stretch), axis=1)
            share = ramp(spot.radius_mm * (1 + 0.3 * self._grain(brain[near])[:, 0]) - reach, 1.2)
            hu[near] += share * (spot.hu - hu[near])

    def _paint_dura(self, hu: np.ndarray, brain: np.ndarray, skull: np.ndarray, pixel_mm: float) -> None:
        drawn = self._drawn
        x, y, z = brain.T
        width = max(pixel_mm, 1.0)
        # The falx hangs from the vault and rises towards the front; its edge is free above the callosum.
        edge = np.where(y < -45, -4.0, 30.0 - 0.28 * np.maximum(y, -45))
        edge = np.where(y > 38, 4.0, edge)
        waver = 0.8 * self._lumps(brain * np.float32([0, 0.7, 0.7]))[:, 0]
        falx = np.minimum(0.5 * drawn.falx_mm - abs(x - waver), (z - edge) * 0.5)
        # The tentorium falls from the straight sinus to the transverse sinuses and the petrous ridges.
        slope = z - (4.0 - 0.42 * abs(x) + 0.30 * np.minimum(y + 50, 0))
        tentorium = np.minimum(
            0.35 * drawn.falx_mm - abs(slope), np.minimum(-26 - y, abs(x) * 0.9 - 13 - 0.3 * (y + 50))
        )
        share = ramp(np.maximum(falx, tentorium), width) * ramp(-skull, 1.0)
        hu += share * (self._dura_hu - hu)
        sagittal = drawn.sinus_mm * np.clip((20 - y) / 90 + 0.35, 0.3, 1) - np.hypot(x * 0.8, skull + 1.5)
        sagittal = np.minimum(sagittal, z + 14)
        transverse = 0.8 * drawn.sinus_mm - np.hypot(skull + 1.5, (slope + 1) * 0.7)
        transverse = np.minimum(transverse, -40 - y)
        share = ramp(np.maximum(sagittal, transverse), width) * ramp(0.5 - skull, 1.0)
        hu += share * (drawn.sinus_hu - hu)
