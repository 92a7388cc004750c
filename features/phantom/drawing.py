"""One slice as the mean of several planes: bone at full resolution, all else at half of it."""

from dataclasses import dataclass

import numpy as np

from haemo.features.phantom.anatomy import Anatomy, ramp
from haemo.features.phantom.volume import double

__all__ = ["SKULL_GAP_MM", "Drawing", "Plane"]

SKULL_GAP_MM = 0.8
"""From the hull of the brain to the inner table."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane through a head at half the resolution of the slice; arrays of shape (size/2, size/2), float32.

    Attributes
    ----------
    soft_hu : ndarray
        Brain, blood, scalp and air, as if there were no bone.
    skull_mm, thickness_mm : ndarray
        Distance to the inner table, and thickness of the bone there.
    surface_mm : ndarray
        Distance to the surface of the head, negative inside.
    base_hu, base_cover : ndarray
        Skull base and face, and the share of each pixel that they cover, over everything else.
    shares : ndarray of shape (bleeds, size/2, size/2)
        Share of each bleed in a pixel, 0..1.
    opening_mm : ndarray, optional
        Distance to the border of openings in the bone, positive within them.
    """

    soft_hu: np.ndarray
    skull_mm: np.ndarray
    thickness_mm: np.ndarray
    surface_mm: np.ndarray
    base_hu: np.ndarray
    base_cover: np.ndarray
    shares: np.ndarray
    opening_mm: np.ndarray | None = None


class Drawing:
    """The sum of the planes of one slice.

    Parameters
    ----------
    size : int
        Rows and columns of the slice.
    pixel_mm : float
    anatomy : Anatomy
    bleeds : int
        How many bleeds there are.
    """

    def __init__(self, size: int, pixel_mm: float, anatomy: Anatomy, bleeds: int):
        self._pixel_mm = pixel_mm
        self._anatomy = anatomy
        half = (size // 2, size // 2)
        self._planes = 0
        self._soft, self._base, self._cover, self._head = np.zeros((4, *half), dtype=np.float32)
        self._shares = np.zeros((bleeds, *half), dtype=np.float32)
        self._bone, self._bone_hu = np.zeros((2, size, size), dtype=np.float32)

    def add(self, plane: Plane) -> None:
        """Add one plane."""
        self._planes += 1
        self._soft += plane.soft_hu
        self._base += plane.base_hu * plane.base_cover
        self._cover += plane.base_cover
        self._head += ramp(-plane.surface_mm, 2 * self._pixel_mm)
        self._shares += plane.shares
        # Distances are smooth: bone cut out of their enlargement has sharp edges at full resolution.
        depth, thickness = double(plane.skull_mm) - np.float32(SKULL_GAP_MM), double(plane.thickness_mm)
        share = ramp(depth, self._pixel_mm) * ramp(thickness - depth, self._pixel_mm)
        if plane.opening_mm is not None:
            share *= 1 - ramp(double(plane.opening_mm), self._pixel_mm)
        off_middle = abs(2 * depth / thickness - 1)
        diploe, table = self._anatomy.diploe_hu, self._anatomy.table_hu
        self._bone += share
        self._bone_hu += share * (diploe + np.clip(2.2 * off_middle - 0.7, 0, 1) * (table - diploe))

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take the mean over the planes.

        Returns
        -------
        hu, head : ndarray of shape (size, size), float32
            The slice, and the share of head in each pixel.
        shares : ndarray of shape (bleeds, size, size), float32
        """
        scale = np.float32(1 / self._planes)
        hu = double(self._soft * scale)
        hu = hu * (1 - self._bone * scale) + self._bone_hu * scale
        cover = double(self._cover * scale)
        hu = hu * (1 - cover) + double(self._base * scale)
        shares = np.zeros((len(self._shares), *hu.shape), dtype=np.float32)
        for number, share in enumerate(self._shares):
            shares[number] = double(share * scale)
        return hu, np.clip(double(self._head * scale), 0, 1), shares
