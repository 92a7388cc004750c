"""Patients of the wide population: what sets a head and its scan apart. Drawn blind to bleeds."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from haemo.features.phantom.anatomy import Anatomy
from haemo.features.phantom.atlas import Atlas
from haemo.features.phantom.bleeds import surface_point
from haemo.features.phantom.changes import Change
from haemo.features.phantom.childhood import OpenSutures, as_child
from haemo.features.phantom.scalp import ScalpHaematoma, SwollenScalp
from haemo.features.phantom.scanner import Scan
from haemo.features.phantom.surgery import Collected, Collection, Operated, Surgery
from haemo.features.phantom.vessels import Vessels, VesselTree

__all__ = ["Conditions"]

_CHILDREN, _ATROPHIED = 0.12, 0.2
_OPERATED, _HYGROMA, _SCALP = 0.2, 0.06, 0.14
_TILTED, _OFF_CENTRE, _JPEG = 0.2, 0.15, 0.6
# Bone of real heads, cut across as slices cut it, is 6.8 mm thick (4.8-11); the usual phantom's is 9.2 mm at
# a mean of 6.0 normal to it.
_USUAL_SKULL_MM, _SKULL_MM, _LOG_SD_SKULL = 6.0, 4.5, 0.3


@dataclass(frozen=True)
class Conditions:
    """What was drawn for one patient beside the usual anatomy and scan.

    Attributes
    ----------
    life : str
        ``adult``, ``child``, or ``atrophy`` for a brain that has shrunk by much.
    age_years : float, optional
        Of a child.
    tilted, off_centre : bool
        Whether the head lies askew, or far from the middle of the field.
    surgery : Surgery, optional
    hygroma : Collection, optional
        Fluid on the brain without surgery.
    haematoma : ScalpHaematoma, optional
        Blood outside the skull, which is no brain haemorrhage.
    vessels : VesselTree
    jpeg_quality : int
        Of the pictures, 0 if they were never JPEG.
    """

    life: str
    age_years: float | None
    tilted: bool
    off_centre: bool
    surgery: Surgery | None
    hygroma: Collection | None
    haematoma: ScalpHaematoma | None
    vessels: VesselTree
    jpeg_quality: int

    @classmethod
    def draw(cls, rng: np.random.Generator, atlas: Atlas) -> "Conditions":
        """Draw a patient of the wide population."""
        life = str(
            rng.choice(["child", "atrophy", "adult"], p=[_CHILDREN, _ATROPHIED, 1 - _CHILDREN - _ATROPHIED])
        )
        age = float(16 * rng.random() ** 1.5)
        surgery, hygroma, scalp = (
            Surgery.draw(rng, atlas),
            _hygroma(rng, atlas),
            ScalpHaematoma.draw(rng, atlas),
        )
        return cls(
            life,
            age if life == "child" else None,
            tilted=bool(rng.random() < _TILTED),
            off_centre=bool(rng.random() < _OFF_CENTRE),
            surgery=surgery if rng.random() < _OPERATED else None,
            hygroma=hygroma if rng.random() < _HYGROMA else None,
            haematoma=scalp if rng.random() < _SCALP else None,
            vessels=VesselTree.draw(rng),
            jpeg_quality=int(rng.integers(60, 96)) * int(rng.random() < _JPEG),
        )

    def anatomy(self, usual: Anatomy, rng: np.random.Generator) -> Anatomy:
        """The usual anatomy, changed: thinner bone and some thick, more fluid, other contrast, age."""
        white = rng.uniform(27.0, 33.0)
        skull = float(np.clip(rng.normal(np.log(_SKULL_MM), _LOG_SD_SKULL), np.log(2.2), np.log(10.0)))
        wide = replace(
            usual,
            csf_hu=rng.uniform(-1.0, 8.0),
            white_hu=white,
            gray_hu=white + rng.uniform(6.5, 11.0),
            sulcal_gain=usual.sulcal_gain * rng.uniform(1.0, 1.5),
            skull_mm=float(np.exp(skull)),
        )
        atrophy, ventricle = rng.uniform(3.0, 7.0), rng.uniform(4.0, 11.0)
        gain, age = rng.uniform(1.8, 3.2), rng.uniform(62, 95)
        if self.life == "atrophy":
            wide = replace(wide, atrophy_mm=atrophy, ventricle_mm=ventricle, sulcal_gain=gain, age_years=age)
        if self.age_years is not None:
            wide = as_child(wide, self.age_years, rng)
        # The scalp counts from a skull of mean thickness: it follows the bone.
        return replace(wide, scalp_mm=wide.scalp_mm + wide.skull_mm - _USUAL_SKULL_MM)

    def scan(self, usual: Scan, anatomy: Anatomy, rng: np.random.Generator) -> Scan:
        """The usual scan, fitted to the size of a child, and with a head that may lie askew."""
        turned, moved = rng.normal(0, (10.0, 8.0, 14.0)), rng.uniform(-22, 22, 2)
        size = anatomy.size[2] if self.life == "child" else 1.0
        scan = replace(
            usual,
            low_mm=usual.low_mm * size,
            high_mm=usual.high_mm * size,
            spacing_mm=usual.spacing_mm * size,
            thickness_mm=max(usual.thickness_mm * size, 2.0),
            field_mm=usual.field_mm * size ** rng.uniform(0.4, 1.0),
        )
        if self.tilted:
            pitch, roll, yaw = (float(np.clip(value, -28, 28)) for value in turned)
            scan = replace(scan, pitch_deg=scan.pitch_deg + pitch, roll_deg=roll, yaw_deg=yaw)
        if self.off_centre:
            scan = replace(scan, offset_mm=tuple(float(value) for value in moved))
        return scan

    def changes(self, atlas: Atlas, rng: np.random.Generator) -> Iterator[Change]:
        """All of it, ready to be painted, in the order in which it is."""
        yield Vessels(self.vessels, rng)
        if self.age_years is not None:
            yield OpenSutures(self.age_years, rng)
        collections = self.surgery.collections if self.surgery else ()
        for collection in (*((self.hygroma,) if self.hygroma else ()), *collections):
            yield Collected(collection, rng)
        if self.haematoma:
            yield SwollenScalp(self.haematoma, rng)
        if self.surgery:
            yield Operated(self.surgery, atlas)


def _hygroma(rng: np.random.Generator, atlas: Atlas) -> Collection:
    azimuth = 90 + float(rng.choice([-1.0, 1.0])) * rng.uniform(10, 80)
    centre = surface_point(atlas, azimuth, rng.uniform(5, 50))
    return Collection("fluid", centre, rng.uniform(30, 80), rng.uniform(2.5, 12), rng.uniform(3, 18))
