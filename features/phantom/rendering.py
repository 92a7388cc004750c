"""A plane through a patient's head: every tissue in HU, and where the blood is."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from haemo.features.phantom.anatomy import Head, ramp
from haemo.features.phantom.base import TOP_MM, paint_base
from haemo.features.phantom.blood import PlacedBleed, Region
from haemo.features.phantom.changes import Change
from haemo.features.phantom.confounders import Lookalikes
from haemo.features.phantom.drawing import SKULL_GAP_MM, Plane
from haemo.features.phantom.volume import double

__all__ = ["Renderer"]

_AIR_HU, _SKIN_HU = -1000.0, 40.0
_SKIN_MM = 2.2
_MEAN_SCALP_MM = 5.5
"""Scalp over a skull of mean thickness in the atlas."""
_EDEMA_HU = 16.0
"""How far edema darkens white matter."""


class Renderer:
    """Draws planes through one head.

    Parameters
    ----------
    head : Head
    lookalikes : Lookalikes
    bleeds : sequence of PlacedBleed
    hardening_hu : float
        Strength of beam hardening.
    changes : sequence of Change
        What else befell the head.
    """

    def __init__(
        self,
        head: Head,
        lookalikes: Lookalikes,
        bleeds: Sequence[PlacedBleed],
        hardening_hu: float,
        changes: Sequence[Change] = (),
    ):
        self._head = head
        self._lookalikes = lookalikes
        self._bleeds = bleeds
        self._hardening_hu = np.float32(hardening_hu)
        self._changes = changes

    def plane(self, coarse_mm: np.ndarray, pixel_mm: float) -> Plane:
        """Draw a plane.

        Geometry is smooth: it is computed on a coarse grid and interpolated to the grid of the plane, which
        has twice the rows and columns. Tissue is looked up on the latter.

        Parameters
        ----------
        coarse_mm : ndarray of shape (n * n, 3), float32
            Head coordinates of the coarse grid.
        pixel_mm : float
            Of the plane.
        """
        head, atlas = self._head, self._head.atlas
        skull_place = head.canonical(coarse_mm)
        distance = atlas.distance_at(skull_place)
        shift = head.brain_shift(skull_place, distance)
        for source in (*self._bleeds, *self._changes):
            shift = shift + source.shift(skull_place, distance)
        ventricle = atlas.ventricle_at(skull_place + shift)
        thickness = head.skull_thickness(skull_place, distance)[:, None]
        columns = (skull_place, shift, distance[:, [0, 2, 5]], ventricle, thickness)
        fields = _doubled(np.concatenate(columns, axis=1))
        canonical, brain = fields[:, :3], fields[:, :3] + fields[:, 3:6]
        skull, surface, upward, ventricle, thickness = fields[:, 6:].T
        surface = surface - np.float32(head.anatomy.scalp_mm - _MEAN_SCALP_MM)
        for change in self._changes:
            brain_mm, scalp_mm = change.bulge(canonical)
            skull, surface = skull - brain_mm, surface - scalp_mm

        outward = skull - thickness - SKULL_GAP_MM
        hu = self._scalp(canonical, outward, surface, pixel_mm)
        for change in self._changes:
            change.paint_scalp(hu, canonical, -surface, outward)
        shares = np.zeros((len(self._bleeds), len(hu)), dtype=np.float32)
        within = np.flatnonzero(skull < 2.5)
        region = Region(
            canonical=canonical[within],
            brain=brain[within],
            skull=skull[within],
            ventricle=ventricle[within],
            upward=upward[within],
            fluid=np.zeros(len(within), dtype=np.float32),
            pixel_mm=pixel_mm,
        )
        inner_hu, shares[:, within] = self._inside_skull(region)
        hu[within] += ramp(SKULL_GAP_MM + 1.0 - region.skull, 1.5) * (inner_hu - hu[within])

        base_hu, base_cover = np.zeros((2, len(hu)), dtype=np.float32)
        low = np.flatnonzero((canonical[:, 2] < TOP_MM) & (surface < 3) & (skull > -1))
        if len(low):
            base_hu[low], base_cover[low] = paint_base(
                head, canonical[low], skull[low], surface[low], pixel_mm
            )
        for change in self._changes:
            change.paint_hardware(base_hu, base_cover, canonical, -surface, outward)
        side = round(len(hu) ** 0.5)
        images = (hu, skull, thickness, surface, base_hu, base_cover)
        return Plane(
            *(values.reshape(side, side) for values in images),
            shares=shares.reshape(-1, side, side),
            opening_mm=self._opening(canonical, side),
        )

    def _opening(self, canonical: np.ndarray, side: int) -> np.ndarray | None:
        """Distance to the border of any opening in the bone."""
        found = [opening for change in self._changes if (opening := change.opening(canonical)) is not None]
        return np.max(found, axis=0).astype(np.float32).reshape(side, side) if found else None

    def _scalp(
        self, canonical: np.ndarray, beyond_bone: np.ndarray, surface: np.ndarray, pixel_mm: float
    ) -> np.ndarray:
        """HU outside the bone: fat, muscle where there is room for it, skin, air."""
        anatomy = self._head.anatomy
        _, y, z = canonical.T
        temple = ramp(beyond_bone - 6.5, 3.0)
        nape = ramp(-30 - z, 8.0) * ramp(-50 - y, 10.0) * ramp(beyond_bone - 2.0, 2.0)
        muscle = np.maximum(temple, nape)
        hu = anatomy.fat_hu + muscle * np.float32(anatomy.muscle_hu - anatomy.fat_hu)
        hu += ramp(surface + _SKIN_MM, pixel_mm) * (_SKIN_HU - hu)
        return hu + ramp(surface, pixel_mm) * (_AIR_HU - hu)

    def _inside_skull(self, region: Region) -> tuple[np.ndarray, np.ndarray]:
        """HU of brain, fluid, dura and blood: (n,); and the share of each bleed: (bleeds, n)."""
        anatomy = self._head.anatomy
        fluid, white = self._head.atlas.tissue_at(region.brain).T
        region = replace(region, fluid=fluid)
        off_wall = np.maximum(region.ventricle, 0)
        gain = 1 + (anatomy.sulcal_gain - 1) * np.clip(off_wall / 4, 0, 1)
        wet = np.maximum(np.clip(fluid * gain, 0, 1), ramp(-0.6 - region.ventricle, 1.2))
        tissue = anatomy.gray_hu + white * np.float32(anatomy.white_hu - anatomy.gray_hu)
        tissue -= np.float32(anatomy.leukoaraiosis_hu) * white * np.exp(off_wall * np.float32(-1 / 7))
        for bleed in self._bleeds:
            tissue -= bleed.edema(region) * (0.35 + 0.65 * white) * _EDEMA_HU
        hu = tissue + wet * (anatomy.csf_hu - tissue)
        hu += self._lookalikes.infarct(region.brain) * (self._lookalikes.infarct_hu - hu)
        self._lookalikes.paint(hu, region.brain, region.skull, region.pixel_mm)
        hu += self._hardening(region)
        for change in self._changes:
            change.paint_inside(hu, region)
        shares = np.zeros((len(self._bleeds), len(hu)), dtype=np.float32)
        for number, bleed in enumerate(self._bleeds):
            shares[number] = bleed.share(region)
            hu += shares[number] * (bleed.blood_hu(region) - hu)
        for change in self._changes:
            if (device := change.device(region)) is not None:
                share, device_hu = device
                hu += share * (np.float32(device_hu) - hu)
                shares *= 1 - share
        return hu, shares

    def _hardening(self, region: Region) -> np.ndarray:
        """Beam hardening: the brain brighter along the bone, and dark bands between the petrous bones."""
        x, y, z = region.canonical.T
        at_bone = np.exp(np.minimum(region.skull, 0) * np.float32(1 / 5))
        band = np.exp(-np.square((z + 38) / 8) - np.square((y + 32 - 6 * np.sin(0.1 * x)) / 7))
        band *= np.clip((52 - abs(x)) / 10, 0, 1)
        return self._hardening_hu * (at_bone - 2.2 * band)


def _doubled(values: np.ndarray) -> np.ndarray:
    """Values on a square grid, (n * n, channels), on the grid of twice the rows and columns."""
    side = round(len(values) ** 0.5)
    planes = [double(column.reshape(side, side)).ravel() for column in values.T]
    return np.stack(planes, axis=1)
