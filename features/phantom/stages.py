"""Blood at every stage, in bleeds of every thickness: what the wide population has beside the usual one."""

from dataclasses import asdict, dataclass, replace

import numpy as np

from haemo.features.phantom.anatomy import ramp
from haemo.features.phantom.atlas import Atlas
from haemo.features.phantom.bleeds import Bleed, draw_bleeds, log_uniform, surface_point
from haemo.features.phantom.volume import SmoothNoise

__all__ = ["STAGES", "Mixture", "StagedBleed", "draw_staged_bleeds"]

STAGES = ("acute", "mixed", "levelled", "isodense")

# Thin blood beside bone is what detectors miss, so there is more of it than in a hospital: a choice.
_ODDS = {
    "epidural": 40,
    "subdural": 75,
    "subarachnoid": 65,
    "intraparenchymal": 95,
    "intraventricular": 28,
}
_THIN_MM = (1.5, 4.0)
_SHARE_THIN = 0.5
_LEAST_MIXED_MM = 5.0
# Acute, mixed, levelled, isodense: how often by subtype. A choice, not a survey.
_ODDS_OF_STAGES = {
    "epidural": (0.78, 0.22, 0.0, 0.0),
    "subdural": (0.60, 0.12, 0.14, 0.14),
    "subarachnoid": (1.0, 0.0, 0.0, 0.0),
    "intraparenchymal": (0.84, 0.10, 0.06, 0.0),
    "intraventricular": (1.0, 0.0, 0.0, 0.0),
}
_BLOOD_HU, _SPREAD_HU, _PALEST_HU, _DENSEST_HU = 64.0, 8.0, 44.0, 80.0
_DILUTED_HU = 5.0
"""How much paler blood is that is mixed with cerebrospinal fluid."""


@dataclass(frozen=True)
class StagedBleed(Bleed):
    """A bleed whose blood need not be of one density.

    Attributes
    ----------
    stage : str
        ``acute``; ``mixed``, with blood that has not clotted yet; ``levelled``, with a haematocrit level (or
        a fluid level in the brain); ``isodense``, subacute, as dense as brain.
    thin_hu : float
        Of blood that has not clotted, or of the fluid above the level.
    fluid_level_mm : float
        Height of the level along y, the patient lying on the back.
    """

    stage: str = "acute"
    thin_hu: float = 0.0
    fluid_level_mm: float = 0.0


class Mixture:
    """How dense and thin blood share a bleed."""

    def __init__(self, bleed: StagedBleed, rng: np.random.Generator):
        self._bleed = bleed
        self._swirl = SmoothNoise(rng, 9.0)

    def mixed(self, hu: np.ndarray, canonical: np.ndarray) -> np.ndarray:
        """HU of the blood at each point, from that of the dense blood."""
        match self._bleed.stage:
            case "mixed":
                thin = np.clip(0.4 + 0.8 * self._swirl(canonical)[:, 0], 0, 1)
            case "levelled":
                # Clot does not level out like a fluid: the border is uneven by a millimetre or two.
                uneven = 0.8 * self._swirl(canonical)[:, 0]
                thin = ramp(canonical[:, 1] + uneven - np.float32(self._bleed.fluid_level_mm), 5.0)
            case _:
                return hu
        return hu + thin * (np.float32(self._bleed.thin_hu) - hu)


def draw_staged_bleeds(
    rng: np.random.Generator, atlas: Atlas, low_mm: float, high_mm: float
) -> tuple[StagedBleed, ...]:
    """Draw the bleeds of one patient of the wide population.

    Parameters
    ----------
    rng : numpy.random.Generator
    atlas : Atlas
    low_mm, high_mm : float
        Canonical z between which the scan lies.
    """
    drawn = draw_bleeds(rng, atlas, low_mm, high_mm, _ODDS)
    return tuple(_staged(rng, _resized(rng, atlas, bleed)) for bleed in drawn)


def _resized(rng: np.random.Generator, atlas: Atlas, bleed: Bleed) -> Bleed:
    """Half of the bleeds beside bone become thin, of any extent, and may lie anywhere around the head."""
    thin = rng.random() < _SHARE_THIN
    azimuth, anywhere = rng.uniform(0, 360), rng.random() < 0.5
    thickness, radius = log_uniform(rng, *_THIN_MM), log_uniform(rng, 10, 55)
    sulcal, level = log_uniform(rng, 6, 16), rng.uniform(-62, -26)
    match bleed.subtype, bleed.form:
        case (("epidural" | "subdural"), ("" | "crescent")) if thin:
            place = surface_point(atlas, azimuth, bleed.centre_mm[2]) if anywhere else bleed.centre_mm
            radius = min(radius, 34) if bleed.subtype == "epidural" else radius
            return replace(bleed, centre_mm=place, radius_mm=radius, thickness_mm=thickness)
        case "subdural", "falx" if thin:
            return replace(bleed, thickness_mm=thickness)
        case "subarachnoid", "convexity" if thin:
            return replace(bleed, radius_mm=sulcal)
        case "intraventricular", "layered":
            return replace(bleed, level_mm=level)
    return bleed


def _staged(rng: np.random.Generator, bleed: Bleed) -> StagedBleed:
    stage = str(rng.choice(STAGES, p=_ODDS_OF_STAGES[bleed.subtype]))
    # A layer that is thin, or lies along the falx, has no level; and as dense as brain no one would see it.
    if bleed.form == "falx" or 0 < bleed.thickness_mm < _LEAST_MIXED_MM:
        stage = "acute"
    hu = float(np.clip(rng.normal(_BLOOD_HU, _SPREAD_HU), _PALEST_HU, _DENSEST_HU))
    thin, share, days = rng.uniform(24, 42), rng.uniform(-0.4, 0.4), rng.uniform(7, 20)
    isodense, not_clotted = rng.uniform(30, 44), rng.uniform(32, 46)
    reach = bleed.radius_mm
    values = asdict(bleed) | {"hu": hu - _DILUTED_HU * (bleed.subtype == "subarachnoid"), "stage": stage}
    if stage == "isodense":
        values |= {"hu": isodense, "age_days": days}
    elif stage != "acute":
        thin = not_clotted if stage == "mixed" else thin
        values |= {"thin_hu": thin, "hu": max(hu, 56.0), "fluid_level_mm": bleed.centre_mm[1] + share * reach}
    return StagedBleed(**values)
