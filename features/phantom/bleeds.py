"""Drawing bleeds: what kind, where, how large, how old."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from haemo.features.phantom.atlas import Atlas

__all__ = ["SUBTYPES", "Bleed", "draw_bleeds", "log_uniform", "surface_point"]

SUBTYPES = ("epidural", "subdural", "subarachnoid", "intraparenchymal", "intraventricular")

# Levels (canonical z, mm) at which each subtype may be centred, and how many of the 205 patients with a bleed
# of CQ500 have it (Chilamkurthy et al., Lancet 2018;392:2388): the odds among those that occur at a level.
_LEVELS = {
    "epidural": (-38.0, 58.0, 13),
    "subdural": (-34.0, 72.0, 53),
    "subarachnoid": (-48.0, 74.0, 60),
    "intraparenchymal": (-52.0, 68.0, 134),
    "intraventricular": (-14.0, 28.0, 28),
}
_DEEP_SITES = ((27.0, 0.0, 4.0), (24.0, -6.0, 10.0), (12.0, -18.0, 8.0), (14.0, 12.0, 12.0))
_CISTERNS = ((0.0, 4.0, -18.0), (40.0, 6.0, -6.0), (0.0, -34.0, -8.0), (0.0, 45.0, 10.0), (0.0, -24.0, -34.0))
_FALL_HU_PER_DAY = 1.4
# Volumes of intracerebral haemorrhage in INTERACT2 (NEJM 2013;368:2355): median 11 ml, quartiles 6 and 20.
_MEDIAN_ML, _LOG_SD_ML = 11.0, 0.89


@dataclass(frozen=True)
class Bleed:
    """What was drawn for one bleed.

    Attributes
    ----------
    subtype : str
        One of `SUBTYPES`.
    centre_mm : tuple of float
        Canonical coordinates: a point of the inner table for extra-axial bleeds.
    form : str
        Variant within the subtype, such as ``crescent`` or ``falx``, ``layered`` or ``cast``.
    radius_mm : float
        Of the ball of the same volume; along the skull for extra-axial bleeds; of the region for blood in
        sulci.
    thickness_mm : float
        Greatest thickness of an extra-axial bleed; 0 elsewhere.
    axes : tuple of float
        Relative half-axes of an intraparenchymal bleed.
    turn_deg : float
        Its turn about the vertical.
    roughness : float
        Irregularity of the surface, relative to the radius.
    hu : float
        Density of the blood.
    age_days : float
        Since the bleed; older blood is less dense and has a wider dark rim.
    edema_mm : float
        Width of the dark rim.
    level_mm : float
        Intraventricular: height of the blood level along y; higher means fuller.
    """

    subtype: str
    centre_mm: tuple[float, float, float]
    form: str = ""
    radius_mm: float = 0.0
    thickness_mm: float = 0.0
    axes: tuple[float, float, float] = (1.0, 1.0, 1.0)
    turn_deg: float = 0.0
    roughness: float = 0.0
    hu: float = 65.0
    age_days: float = 0.0
    edema_mm: float = 0.0
    level_mm: float = 0.0


def draw_bleeds(
    rng: np.random.Generator,
    atlas: Atlas,
    low_mm: float,
    high_mm: float,
    odds: Mapping[str, float] | None = None,
) -> tuple[Bleed, ...]:
    """Draw the bleeds of one patient.

    The level is drawn first, evenly over what is scanned, and the subtype from those that occur there: so
    the height of a slice says as little as possible about its label.

    Parameters
    ----------
    rng : numpy.random.Generator
    atlas : Atlas
    low_mm, high_mm : float
        Canonical z between which the scan lies.
    odds : mapping of str to float, optional
        Of each subtype, in place of those of CQ500.
    """
    odds = odds or {name: number for name, (_, _, number) in _LEVELS.items()}
    bleeds = [_draw_one(rng, atlas, rng.uniform(low_mm, high_mm), odds)]
    while len(bleeds) < 4 and rng.random() < 0.35:
        bleeds.append(_draw_one(rng, atlas, rng.uniform(low_mm, high_mm), odds))
    first = bleeds[0]
    deep = first.subtype == "intraparenchymal" and -14 < first.centre_mm[2] < 28 and first.radius_mm > 10
    if deep and rng.random() < 0.5:
        bleeds.append(_ventricular(rng, first.centre_mm[2]))
    return tuple(bleeds)


def _draw_one(rng: np.random.Generator, atlas: Atlas, level: float, odds: Mapping[str, float]) -> Bleed:
    names = [name for name, (low, high, _) in _LEVELS.items() if low <= level <= high]
    if not names:
        names = ["subarachnoid"]
    weights = np.array([odds[name] for name in names])
    match names[rng.choice(len(names), p=weights / weights.sum())]:
        case "epidural":
            return _epidural(rng, atlas, level)
        case "subdural":
            return _subdural(rng, atlas, level)
        case "subarachnoid":
            return _subarachnoid(rng, atlas, level)
        case "intraparenchymal":
            return _intraparenchymal(rng, atlas, level)
        case _:
            return _ventricular(rng, level)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of `low` and `high`."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _density(rng: np.random.Generator, most_days: float) -> dict[str, float]:
    """Age and HU: fresh blood loses about 1.4 HU a day."""
    age = float(min(rng.exponential(1.5), most_days))
    return {"age_days": age, "hu": float(max(48.0, rng.uniform(60, 80) - _FALL_HU_PER_DAY * age))}


def surface_point(atlas: Atlas, azimuth_deg: float, level: float) -> tuple[float, float, float]:
    """Point of the inner table at a level, seen from the axis of the head; 0 is right, 90 front."""
    angle = math.radians(azimuth_deg)
    reach = np.arange(4, 110, 0.5, dtype=np.float32)
    ray = np.stack(
        [reach * math.cos(angle), reach * math.sin(angle) - 18, np.full_like(reach, level)], axis=1
    ).astype(np.float32)
    inside = np.flatnonzero(atlas.distance_at(ray)[:, 0] < 0)
    point = ray[inside[-1]] if len(inside) else ray[len(ray) // 2]
    return tuple(float(value) for value in point)


def _side(rng: np.random.Generator, spread_deg: float) -> float:
    """An azimuth near the right or the left side of the head."""
    return float((0 if rng.random() < 0.5 else 180) + rng.normal(0, spread_deg))


def _epidural(rng: np.random.Generator, atlas: Atlas, level: float) -> Bleed:
    radius = log_uniform(rng, 16, 45)
    return Bleed(
        "epidural",
        surface_point(atlas, _side(rng, 28), level),
        radius_mm=radius,
        thickness_mm=min(30.0, radius * rng.uniform(0.3, 0.7)),
        roughness=rng.uniform(0.02, 0.08),
        **_density(rng, 4),
    )


def _subdural(rng: np.random.Generator, atlas: Atlas, level: float) -> Bleed:
    form = str(rng.choice(["crescent", "falx"], p=[0.85, 0.15])) if level > 12 else "crescent"
    if form == "falx":
        centre = (float(rng.choice([-1.0, 1.0])), rng.uniform(-65, 20), level)
        return Bleed(
            "subdural",
            centre,
            form,
            radius_mm=log_uniform(rng, 14, 40),
            thickness_mm=log_uniform(rng, 3, 8),
            roughness=rng.uniform(0.1, 0.3),
            **_density(rng, 8),
        )
    return Bleed(
        "subdural",
        surface_point(atlas, _side(rng, 35), level),
        form,
        radius_mm=log_uniform(rng, 36, 95),
        thickness_mm=log_uniform(rng, 4, 20),
        roughness=rng.uniform(0.08, 0.25),
        **_density(rng, 12),
    )


def _subarachnoid(rng: np.random.Generator, atlas: Atlas, level: float) -> Bleed:
    near = [site for site in _CISTERNS if abs(site[2] - level) < 14]
    if near and rng.random() < 0.65:
        x, y, z = near[rng.integers(len(near))]
        centre, form = (float(x * rng.choice([-1.0, 1.0])), y, z), "cistern"
    else:
        x, y, z = surface_point(atlas, rng.uniform(0, 360), level)
        centre, form = (0.88 * x, 0.9 * y - 2, z), "convexity"
    return Bleed(
        "subarachnoid",
        centre,
        form,
        radius_mm=log_uniform(rng, 14, 60),
        roughness=rng.uniform(0.2, 0.6),
        **_density(rng, 5),
    )


def _intraparenchymal(rng: np.random.Generator, atlas: Atlas, level: float) -> Bleed:
    near = [site for site in _DEEP_SITES if abs(site[2] - level) < 9]
    if near and rng.random() < 0.6:
        x, y, z = near[rng.integers(len(near))]
        centre = np.array([x * rng.choice([-1.0, 1.0]), y, z]) + rng.normal(0, 2.5, 3)
        form = "deep"
    else:
        centre, form = _lobar_point(rng, atlas, level), "lobar"
    depth = float(-atlas.distance_at(np.float32(centre)[None])[0, 0])
    age = float(min(rng.exponential(2.0), 10))
    radius = min(_parenchymal_radius(rng, form), 0.9 * depth + 6, 30.0)
    return Bleed(
        "intraparenchymal",
        tuple(float(value) for value in centre),
        form,
        radius_mm=radius,
        axes=tuple(float(value) for value in np.exp(rng.normal(0, 0.22, 3))),
        turn_deg=rng.uniform(0, 180),
        roughness=rng.uniform(0.06, 0.3),
        hu=float(max(48.0, rng.uniform(60, 82) - _FALL_HU_PER_DAY * age)),
        age_days=age,
        edema_mm=min(14.0, rng.uniform(1.0, 3.5) + 0.6 * age + 0.12 * radius),
    )


def _parenchymal_radius(rng: np.random.Generator, form: str) -> float:
    """Of a spontaneous bleed; half of the lobar ones are contusions, from barely visible upwards."""
    contusion, small = rng.random() < 0.5, log_uniform(rng, 3.3, 12)
    volume_mm3 = 1000 * _MEDIAN_ML * math.exp(rng.normal(0, _LOG_SD_ML))
    return small if contusion and form == "lobar" else float(np.cbrt(volume_mm3 * 3 / (4 * math.pi)))


def _lobar_point(rng: np.random.Generator, atlas: Atlas, level: float) -> np.ndarray:
    points = rng.uniform((-66, -100, level - 3), (66, 70, level + 3), (300, 3)).astype(np.float32)
    distance = atlas.distance_at(points)
    fit = (distance[:, 0] < -7) & (distance[:, 1] > 2) & (abs(points[:, 0]) > 5)
    return points[np.argmax(fit)] if fit.any() else points[np.argmin(distance[:, 0])]


def _ventricular(rng: np.random.Generator, level: float) -> Bleed:
    form = str(rng.choice(["layered", "cast"], p=[0.65, 0.35]))
    return Bleed(
        "intraventricular",
        (float(rng.choice([-1.0, 1.0])) * 10, -15.0, level),
        form,
        radius_mm=log_uniform(rng, 15, 60),
        roughness=rng.uniform(0.1, 0.5),
        level_mm=rng.uniform(-50, -26),
        **_density(rng, 5),
    )
