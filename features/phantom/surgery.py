"""Heads after surgery: openings in the bone, plates, clips, air, fluid, a drain. Blind to bleeds."""

import math
from dataclasses import dataclass

import numpy as np

from haemo.features.phantom.anatomy import ramp
from haemo.features.phantom.atlas import Atlas
from haemo.features.phantom.base import rod
from haemo.features.phantom.bleeds import Bleed, surface_point
from haemo.features.phantom.blood import Region, distance_from, place
from haemo.features.phantom.changes import Change

__all__ = ["Collected", "Collection", "Operated", "Surgery"]

Point = tuple[float, float, float]
_KINDS = ("burr hole", "craniotomy", "craniectomy")
_REACH_OF_BULGE_MM = 28.0
_GRANULATION_HU = 36.0
_AIR_HU = -1000.0


@dataclass(frozen=True)
class Collection:
    """Something between skull and brain that is no blood.

    Attributes
    ----------
    kind : str
        ``fluid`` (hygroma, or what surgery leaves) or ``air``.
    centre_mm : tuple of float
        Canonical point of the inner table.
    radius_mm, thickness_mm : float
        Along the skull, and greatest.
    hu : float
    """

    kind: str
    centre_mm: Point
    radius_mm: float
    thickness_mm: float
    hu: float


@dataclass(frozen=True)
class Surgery:
    """What was done to one head.

    Attributes
    ----------
    kind : str
        ``burr hole``, ``craniotomy`` (the flap is back in its place) or ``craniectomy`` (it is not).
    centre_mm : tuple of float
        Canonical point of the inner table.
    radius_mm : float
        Of the hole or of the flap.
    gap_mm : float
        Craniotomy: width of the gap around the flap.
    bulge_mm : float
        Craniectomy: how far the brain stands out of the opening; negative if it has sunk.
    swelling_mm : float
        Of the scalp over it.
    holes_mm : tuple of points
        Craniotomy: burr holes on the border of the flap.
    hardware_mm : tuple of points
        Where plates hold the flap, or clips the skin.
    hardware : str
        ``plates``, ``clips`` or nothing.
    drain_to_mm : tuple of float, optional
        Tip of a drain from the centre.
    collections : tuple of Collection
        Air and fluid below it.
    """

    kind: str
    centre_mm: Point
    radius_mm: float
    gap_mm: float = 0.0
    bulge_mm: float = 0.0
    swelling_mm: float = 0.0
    holes_mm: tuple[Point, ...] = ()
    hardware_mm: tuple[Point, ...] = ()
    hardware: str = ""
    drain_to_mm: Point | None = None
    collections: tuple[Collection, ...] = ()

    @classmethod
    def draw(cls, rng: np.random.Generator, atlas: Atlas, kind: str | None = None) -> "Surgery":
        """Draw an operation, of any kind unless one is named."""
        kind = kind or str(rng.choice(_KINDS, p=[0.35, 0.4, 0.25]))
        azimuth = float((0 if rng.random() < 0.5 else 180) + rng.normal(0, 40))
        level = rng.uniform(8, 40) if kind == "craniectomy" else rng.uniform(-2, 55)
        centre = surface_point(atlas, azimuth, level)
        radius = {"burr hole": (5, 8), "craniotomy": (20, 42), "craniectomy": (36, 56)}[kind]
        radius_mm = rng.uniform(*radius)
        border = [_on_skull(atlas, point) for point in _ring(atlas, centre, radius_mm, rng.uniform(0, 90))]
        chosen = rng.permutation(len(border))
        holes = int(rng.integers(1, 4)) if kind == "craniotomy" else 0
        hardware = str(rng.choice(["plates", "clips", ""], p=[0.5, 0.3, 0.2]))
        drain, lift = rng.random() < 0.3, rng.uniform(-9, 14)
        collections = _draw_collections(rng, atlas, centre, radius_mm)
        return cls(
            kind,
            centre,
            radius_mm,
            gap_mm=rng.uniform(0.8, 2.5) if kind == "craniotomy" else 0.0,
            bulge_mm=lift if kind == "craniectomy" else 0.0,
            swelling_mm=rng.uniform(0, 8),
            holes_mm=tuple(border[number] for number in chosen[:holes]),
            hardware_mm=tuple(border[number] for number in chosen[: 4 if hardware else 0]),
            hardware=hardware,
            drain_to_mm=(math.copysign(9.0, centre[0]), 4.0, 13.0) if drain else None,
            collections=collections,
        )


def _draw_collections(
    rng: np.random.Generator, atlas: Atlas, centre: Point, radius_mm: float
) -> tuple[Collection, ...]:
    """Fluid below the bone that was opened, air in front of the brain: the patient lies on the back."""
    found = []
    if rng.random() < 0.5:
        found.append(
            Collection("fluid", centre, max(1.1 * radius_mm, 14), rng.uniform(1.5, 9), rng.uniform(4, 22))
        )
    if rng.random() < 0.5:
        front = surface_point(
            atlas, 90 + float(rng.choice([-1.0, 1.0])) * rng.uniform(5, 30), rng.uniform(5, 45)
        )
        found.append(Collection("air", front, rng.uniform(10, 36), rng.uniform(1.5, 10), _AIR_HU))
    if rng.random() < 0.4:
        found.append(Collection("air", centre, rng.uniform(6, 16), rng.uniform(1.5, 6), _AIR_HU))
    return tuple(found)


def _axes(atlas: Atlas, point: Point) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outward normal of the skull at a point, and two directions along it."""
    normal = atlas.distance_at(np.float32(point)[None])[0, 3:6].astype(np.float64)
    normal /= max(float(np.linalg.norm(normal)), 1e-6)
    along = np.cross(normal, (0.0, 0.0, 1.0))
    along /= max(float(np.linalg.norm(along)), 1e-6)
    return normal, along, np.cross(normal, along)


def _ring(atlas: Atlas, centre: Point, radius_mm: float, first_deg: float) -> list[np.ndarray]:
    _, right, up = _axes(atlas, centre)
    angles = np.radians(first_deg + np.arange(0, 360, 60))
    return [
        np.array(centre) + radius_mm * (math.cos(angle) * right + math.sin(angle) * up) for angle in angles
    ]


def _on_skull(atlas: Atlas, point: np.ndarray) -> Point:
    """The nearest point of the inner table, by two steps along the distance's gradient."""
    for _ in range(2):
        found = atlas.distance_at(point.astype(np.float32)[None])[0]
        point = point - found[0] * found[3:6]
    return tuple(float(value) for value in point)


class Operated(Change):
    """A head after surgery, ready to be painted."""

    def __init__(self, surgery: Surgery, atlas: Atlas):
        self._done = surgery
        self._normals = [np.float32(_axes(atlas, point)[0]) for point in surgery.hardware_mm]

    def shift(self, canonical: np.ndarray, distance: np.ndarray) -> np.ndarray | float:
        """The brain follows the bulge, less so in the depth."""
        if not self._done.bulge_mm:
            return 0.0
        bulge = self.bulge(canonical)[0] * np.exp(np.minimum(distance[:, 0], 0) / _REACH_OF_BULGE_MM)
        return -bulge[:, None] * distance[:, 3:6]

    def bulge(self, canonical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the brain through the opening; the scalp over it is swollen too."""
        done = self._done
        reach = distance_from(canonical, done.centre_mm)
        brain = np.float32(done.bulge_mm) * np.clip(1 - (reach / done.radius_mm) ** 2, 0, 1)
        swelling = np.float32(done.swelling_mm) * np.clip(1 - (reach / (done.radius_mm + 22)) ** 2, 0, 1)
        return brain, brain + swelling

    def opening(self, canonical: np.ndarray) -> np.ndarray:
        """Holes and gaps in the bone."""
        done = self._done
        off_border = done.radius_mm - distance_from(canonical, done.centre_mm)
        border = np.float32(done.gap_mm / 2) - abs(off_border) if done.kind == "craniotomy" else off_border
        for hole in done.holes_mm:
            border = np.maximum(border, 6.5 - distance_from(canonical, hole))
        return border

    def paint_scalp(
        self, hu: np.ndarray, canonical: np.ndarray, depth: np.ndarray, outward: np.ndarray
    ) -> None:
        """Where bone was there is soft tissue."""
        share = ramp(self.opening(canonical) + 2, 2.0) * ramp(-outward, 2.0) * ramp(depth - 2, 2.0)
        hu += share * (_GRANULATION_HU - hu)

    def paint_hardware(
        self, hu: np.ndarray, cover: np.ndarray, canonical: np.ndarray, depth: np.ndarray, outward: np.ndarray
    ) -> None:
        """Titanium plates on the outer table, or steel clips at the skin."""
        plates = self._done.hardware == "plates"
        reach, half = (6.5, 0.5) if plates else (1.6, 2.0)
        off_layer = half - abs(outward - 0.6) if plates else half - abs(depth - 0.5)
        for point, normal in zip(self._done.hardware_mm, self._normals, strict=True):
            offset = canonical - np.float32(point)
            height = offset @ normal
            aside = np.sqrt(np.maximum(np.einsum("ij,ij->i", offset, offset) - height**2, 0))
            share = ramp(np.minimum(reach - aside, off_layer), 1.0) * (height > -5) * (height < 30)
            hu += share * ((2400.0 if plates else 2900.0) - hu)
            cover += share * (1 - cover)

    def device(self, region: Region) -> tuple[np.ndarray, float] | None:
        """A drain from the opening into the ventricle."""
        if self._done.drain_to_mm is None:
            return None
        depth = rod(region.canonical, self._done.centre_mm, self._done.drain_to_mm, 1.4)
        return ramp(depth, region.pixel_mm), 240.0


class Collected(Change):
    """Fluid or air between skull and brain, ready to be painted."""

    def __init__(self, collection: Collection, rng: np.random.Generator):
        self._hu = collection.hu
        self._layer = place(
            Bleed(
                "subdural",
                collection.centre_mm,
                "crescent",
                radius_mm=collection.radius_mm,
                thickness_mm=collection.thickness_mm,
                roughness=0.1,
            ),
            rng,
        )

    def shift(self, canonical: np.ndarray, distance: np.ndarray) -> np.ndarray | float:
        """The brain recedes before it."""
        return self._layer.shift(canonical, distance)

    def paint_inside(self, hu: np.ndarray, region: Region) -> None:
        """Fill the layer."""
        hu += self._layer.share(region) * (np.float32(self._hu) - hu)
