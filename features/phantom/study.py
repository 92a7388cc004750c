"""One patient's study: slices of a head in HU, with the true mask of every bleed."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from features.phantom.anatomy import Anatomy, Head, ramp
from features.phantom.atlas import load_atlas
from features.phantom.base import TOP_MM, paint_base
from features.phantom.bleeds import Bleed, draw_bleeds
from features.phantom.blood import PlacedBleed, Region, place
from features.phantom.confounders import Confounders, Lookalikes
from features.phantom.scanner import Scan, add_streaks, add_table, expose
from features.phantom.volume import double

__all__ = ["PhantomSlice", "Study", "patient_name"]

LEAST_SHARE = 0.35
LEAST_AREA_MM2 = 12.0
_AIR_HU = -1000.0
_GAP_MM = 0.8
_PLANE_MM = 2.0
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, eq=False)
class PhantomSlice:
    """One slice.

    Attributes
    ----------
    hu : ndarray of shape (size, size), int16
    mask : ndarray of shape (size, size), bool
        Pixels of which blood fills at least 35 %. Empty if they come to less than 12 mm2.
    subtypes : tuple of str
        Subtypes with at least one pixel in the mask, sorted.
    position_mm : float
        Along the table, upwards.
    """

    hu: np.ndarray
    mask: np.ndarray
    subtypes: tuple[str, ...]
    position_mm: float

    @property
    def label(self) -> str:
        """``haemorrhage`` or ``normal``."""
        return "haemorrhage" if self.subtypes else "normal"


def patient_name(patient: int) -> str:
    """PatientID of a patient's number."""
    return f"P{patient:04d}"


class Study:
    """A patient's head, bleeds and scan; slices are made one at a time.

    Everything follows from `seed` and `patient`; how many other patients there are does not matter. Head,
    confounders, scan and noise are drawn apart from the bleeds: with `bleeding` turned off the same patient
    has the same slices without blood.

    Parameters
    ----------
    seed : int
    patient : int
        From 1.
    slices : tuple of int
        Fewest and most slices.
    prevalence : float
        Share of patients who bleed.
    size : int
        Rows and columns, a multiple of 4.
    bleeding : bool, optional
        Force a bleed or its absence, whatever the prevalence.
    """

    def __init__(
        self,
        seed: int,
        patient: int,
        slices: tuple[int, int] = (20, 36),
        prevalence: float = 0.4,
        size: int = 512,
        bleeding: bool | None = None,
    ):
        self.seed, self.patient, self.size = seed, patient, size
        streams = [np.random.default_rng(child) for child in self._sequence(0).spawn(8)]
        anatomy = Anatomy.draw(streams[0])
        self.anatomy = anatomy
        self.scan = Scan.draw(streams[1], *slices)
        self.confounders = Confounders.draw(streams[2], anatomy)
        atlas = load_atlas()
        # Numbers along the golden ratio fill 0..1 evenly: any run of patients has nearly the prevalence.
        chance = (np.random.default_rng([seed, 1]).random() + patient * _GOLDEN) % 1
        bleeds = draw_bleeds(streams[3], atlas, self.scan.low_mm, self.scan.high_mm)
        self.bleeds: tuple[Bleed, ...] = (
            bleeds if (chance < prevalence if bleeding is None else bleeding) else ()
        )
        self._head = Head(atlas, anatomy, streams[4])
        self._lookalikes = Lookalikes(self.confounders, anatomy, streams[5])
        self._placed: list[PlacedBleed] = [place(bleed, streams[6]) for bleed in self.bleeds]

    def __len__(self) -> int:
        return self.scan.slices

    def __iter__(self) -> Iterator[PhantomSlice]:
        return (self.slice(index) for index in range(len(self)))

    def _sequence(self, part: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(self.seed, spawn_key=(self.patient, part))

    def parameters(self) -> dict[str, Any]:
        """Every drawn parameter, as JSON can hold it."""
        return {
            "patient": patient_name(self.patient),
            "anatomy": asdict(self.anatomy),
            "scan": asdict(self.scan),
            "confounders": asdict(self.confounders),
            "bleeds": [asdict(bleed) for bleed in self.bleeds],
        }

    def slice(self, index: int) -> PhantomSlice:
        """Make slice `index`, counted from the lowest."""
        scan = self.scan
        planes = max(2, round(scan.thickness_mm / _PLANE_MM))
        across = (np.arange(planes) + 0.5) / planes - 0.5
        drawing = _Drawing(self.size, scan.field_mm / self.size, len(self._placed))
        for offset in across * scan.thickness_mm:
            self._draw_plane(drawing, scan.plane(index, offset, self.size // 4))
        hu, head, shares = drawing.finish(planes)
        add_table(hu, scan, head)
        add_streaks(hu, scan, index)
        rng = np.random.default_rng(self._sequence(1 + index))
        hu = expose(hu, scan, head, rng)
        mask, subtypes = self._truth(shares)
        hu = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
        return PhantomSlice(hu, mask, subtypes, index * scan.spacing_mm)

    def _truth(self, shares: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        pixel_mm2 = (self.scan.field_mm / self.size) ** 2
        clear = 1 - shares
        mask = (1 - np.prod(clear, axis=0) if len(shares) else np.zeros((self.size,) * 2)) >= LEAST_SHARE
        if mask.sum() * pixel_mm2 < LEAST_AREA_MM2:
            return np.zeros_like(mask), ()
        seen = {
            bleed.subtype
            for bleed, share in zip(self.bleeds, shares, strict=True)
            if (share >= LEAST_SHARE).sum() * pixel_mm2 >= LEAST_AREA_MM2
        }
        strongest = self.bleeds[int(np.argmax(shares.sum(axis=(1, 2))))].subtype
        return mask, tuple(sorted(seen or {strongest}))

    def _draw_plane(self, drawing: "_Drawing", coarse_mm: np.ndarray) -> None:
        head, atlas = self._head, self._head.atlas
        side, half = self.size // 4, self.size // 2

        def grow(values: np.ndarray) -> np.ndarray:
            """Coarse values (n, channels) on the fine grid."""
            planes = [double(column.reshape(side, side)) for column in values.T]
            return np.stack([plane.ravel() for plane in planes], axis=1)

        skull_place = head.canonical(coarse_mm)
        distance = atlas.distance_at(skull_place)
        shift = head.brain_shift(skull_place, distance)
        for bleed in self._placed:
            shift = shift + bleed.shift(skull_place, distance)
        ventricle = atlas.ventricle_at(skull_place + shift)
        thickness = head.skull_thickness(skull_place, distance)[:, None]
        fields = grow(
            np.concatenate([skull_place, shift, distance[:, [0, 2, 5]], ventricle, thickness], axis=1)
        )
        canonical, brain = fields[:, :3], fields[:, :3] + fields[:, 3:6]
        skull, surface, upward, ventricle, thickness = fields[:, 6:].T
        surface = surface - np.float32(self.anatomy.scalp_mm - 5.5)
        pixel = drawing.pixel_mm * 2

        hu = self._outside(canonical, skull, surface, thickness, pixel)
        within = np.flatnonzero(skull < 2.5)
        region = Region(
            canonical[within],
            brain[within],
            skull[within],
            ventricle[within],
            upward[within],
            np.empty(0),
            pixel,
        )
        soft, shares = self._brain(region)
        inside = ramp(_GAP_MM + 1.0 - skull[within], 1.5)
        hu[within] += inside * (soft - hu[within])
        cover = np.zeros_like(hu)
        base_hu = np.zeros_like(hu)
        low = np.flatnonzero((canonical[:, 2] < TOP_MM) & (surface < 3) & (skull > -1))
        if len(low):
            spans = np.stack([skull[low], ventricle[low], surface[low]], axis=1)
            base_hu[low], cover[low] = paint_base(head, canonical[low], spans, pixel)
        drawing.add(
            *(values.reshape(half, half) for values in (hu, skull, thickness, surface, base_hu, cover)),
            self.anatomy,
        )
        for number, share in enumerate(shares):
            drawing.shares[number].ravel()[within] += share

    def _outside(self, canonical, skull, surface, thickness, pixel) -> np.ndarray:
        """Scalp and air."""
        anatomy = self.anatomy
        beyond = skull - thickness - _GAP_MM
        muscle = ramp(beyond - 6.5, 3.0)
        muscle = np.maximum(
            muscle,
            ramp(-30 - canonical[:, 2] * 1.0, 8.0)
            * ramp(-50 - canonical[:, 1], 10.0)
            * ramp(beyond - 2.0, 2.0),
        )
        hu = anatomy.fat_hu + muscle * np.float32(anatomy.muscle_hu - anatomy.fat_hu)
        skin = ramp(surface + 2.2, pixel)
        hu += skin * (40 - hu)
        return hu + ramp(surface, pixel) * (_AIR_HU - hu)

    def _brain(self, region: Region) -> tuple[np.ndarray, list[np.ndarray]]:
        """HU of brain, fluid, dura and blood, and the share of each bleed."""
        anatomy = self.anatomy
        fluid, white = self._head.atlas.tissue_at(region.brain).T
        region = replace(region, fluid=fluid)
        wall = np.maximum(region.ventricle, 0)
        gain = 1 + (anatomy.sulcal_gain - 1) * np.clip(wall / 4, 0, 1)
        wet = np.maximum(np.clip(fluid * gain, 0, 1), ramp(-0.6 - region.ventricle, 1.2))
        tissue = anatomy.gray_hu + white * np.float32(anatomy.white_hu - anatomy.gray_hu)
        tissue -= np.float32(anatomy.leukoaraiosis_hu) * white * np.exp(wall * np.float32(-1 / 7))
        for bleed in self._placed:
            tissue -= bleed.edema(region) * (0.35 + 0.65 * white) * 16
        hu = tissue + wet * (anatomy.csf_hu - tissue)
        hu += self._lookalikes.infarct(region.brain) * (self._lookalikes.infarct_hu - hu)
        self._lookalikes.paint(hu, region.brain, region.skull, region.pixel_mm)
        hu += self._hardening(region)
        shares = []
        for bleed in self._placed:
            share = bleed.share(region)
            hu += share * (bleed.blood_hu(region) - hu)
            shares.append(share)
        return hu, shares

    def _hardening(self, region: Region) -> np.ndarray:
        """Beam hardening: the brain brighter along the bone, and dark bands between the petrous bones."""
        x, y, z = region.canonical.T
        bone = np.exp(np.minimum(region.skull, 0) * np.float32(1 / 5))
        band = np.exp(-np.square((z + 38) / 8) - np.square((y + 32 - 6 * np.sin(0.1 * x)) / 7))
        band *= np.clip((52 - abs(x)) / 10, 0, 1)
        return np.float32(self.scan.hardening_hu) * (bone - 2.2 * band)


class _Drawing:
    """The sum of the planes of one slice, bone at full resolution, the rest at half."""

    def __init__(self, size: int, pixel_mm: float, bleeds: int):
        self.pixel_mm = pixel_mm
        half = size // 2
        self.shares = np.zeros((bleeds, half, half), dtype=np.float32)
        self._soft = np.zeros((half, half), dtype=np.float32)
        self._base = np.zeros((half, half), dtype=np.float32)
        self._cover = np.zeros((half, half), dtype=np.float32)
        self._head = np.zeros((half, half), dtype=np.float32)
        self._bone = np.zeros((size, size), dtype=np.float32)
        self._bone_hu = np.zeros((size, size), dtype=np.float32)

    def add(self, hu, skull, thickness, surface, base_hu, cover, anatomy: Anatomy) -> None:
        """Add one plane."""
        self._soft += hu
        self._base += base_hu * cover
        self._cover += cover
        self._head += ramp(-surface, 2 * self.pixel_mm)
        skull, thickness = double(skull) - np.float32(_GAP_MM), double(thickness)
        share = ramp(skull, self.pixel_mm) * ramp(thickness - skull, self.pixel_mm)
        across = abs(2 * skull / thickness - 1)
        hu = anatomy.diploe_hu + np.clip(2.2 * across - 0.7, 0, 1) * (anatomy.table_hu - anatomy.diploe_hu)
        self._bone += share
        self._bone_hu += share * hu

    def finish(self, planes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean over the planes: HU and share of head, and the shares of the bleeds, at full size."""
        scale = np.float32(1 / planes)
        hu = double(self._soft * scale)
        hu = hu * (1 - self._bone * scale) + self._bone_hu * scale
        cover = double(self._cover * scale)
        hu = hu * (1 - cover) + double(self._base * scale)
        shares = (
            np.stack([double(share * scale) for share in self.shares]) if len(self.shares) else self.shares
        )
        return hu, np.clip(double(self._head * scale), 0, 1), shares
