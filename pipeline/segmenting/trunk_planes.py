"""Planes of slices as stage one sees heads, cropped and upright, with the blood on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow
from haemo.features.pixels.packed import PackedMask
from haemo.features.reading.slice import Slice
from haemo.features.views.preprocess import Preprocessing, View
from haemo.features.views.resize import resized
from haemo.models.training.plane_looks import WIDE_CENTRE_HU, WIDE_WIDTH_HU
from haemo.pipeline.segmenting.sampling import STAGE, MaskedRow, in_processes, look_at
from haemo.progress import Progress, silent

__all__ = ["VIEW", "MaskedPlanes", "masked_planes"]

VIEW = Preprocessing(
    window_width_hu=WIDE_WIDTH_HU, window_centre_hu=WIDE_CENTRE_HU, crop="head", upright=True
)
"""The view of the recipe that built-in weights are for, but for the window, which is drawn in training."""

_SURE = 128  # gray level of a mask's plane from which a pixel of it is blood


@dataclass(frozen=True, eq=False)
class MaskedPlanes:
    """Planes of slices.

    Attributes
    ----------
    rows : list of ManifestRow
        Of each plane.
    planes : ndarray of shape (n, 227, 227), uint8
    masks : ndarray of the same shape, bool
    wide : ndarray of shape (n,), bool
        Of slices in HU, which are still to be windowed.
    areas_mm2 : ndarray of shape (n,), float64
        Of blood; NaN where a slice does not say its spacing.
    failures : list of Failure
    """

    rows: list[ManifestRow]
    planes: np.ndarray
    masks: np.ndarray
    wide: np.ndarray
    areas_mm2: np.ndarray
    failures: list[Failure]


def masked_planes(
    rows: Sequence[MaskedRow],
    *,
    looks: int = 0,
    seed: int = 0,
    palest_hu: float | None = None,
    jobs: int | None = None,
    progress: Progress = silent,
) -> MaskedPlanes:
    """Make the plane of each slice as it is, and of so many other looks of it.

    Parameters
    ----------
    rows : sequence of (ManifestRow, Path)
        Slices with masks.
    looks : int
        See `features.pixels.variation.vary`; slices in HU only, pictures stay as they are.
    seed : int
        Of the looks.
    palest_hu : float, optional
        See `vary`.
    jobs, progress
        As in `pipeline.segmenting.sampling.sample`.
    """
    work = [(row, mask, (seed, look), look > 0, palest_hu) for look in range(looks + 1) for row, mask in rows]
    planes = np.zeros((len(work), VIEW.size, VIEW.size), dtype=np.uint8)
    masks = np.zeros(planes.shape, dtype=bool)
    used, wide, areas, failures = [], [], [], []
    for (row, _, _, varied, _), one in zip(
        work, in_processes(_plane, work, jobs, progress, "planes"), strict=True
    ):
        if isinstance(one, str):
            failures += [] if varied else [Failure(str(row.path), STAGE, one)]
            continue
        planes[len(used)], blood, is_wide, area = one
        masks[len(used)] = blood.unpack()
        used.append(row)
        wide.append(is_wide)
        areas.append(area)
    count = len(used)
    return MaskedPlanes(
        used, planes[:count], masks[:count], np.array(wide, dtype=bool), np.array(areas), failures
    )


def _plane(
    row: ManifestRow, mask_path: Path, seed: tuple[int, int], varied: bool, palest_hu: float | None
) -> "tuple[np.ndarray, PackedMask, bool, float] | str":
    try:
        image, mask, _ = look_at(row, mask_path, seed, varied, palest_hu)
    except UnreadableSlice as error:
        return str(error)
    area = float("nan") if image.spacing_mm is None else float(mask.sum() * np.prod(image.spacing_mm))
    gray = mask.astype(np.float32) * 255
    if gray.shape != image.shape:  # a look may have fewer pixels
        gray = resized(gray, image.shape)
    view = VIEW.view(image)
    blood = Slice(gray, False)
    if view.turn is not None:
        blood = replace(blood, pixels=view.turn.there(blood))
    seen = VIEW.level(View(blood, view.box, view.turn))
    return VIEW.level(view), PackedMask.of(seen >= _SURE), image.is_hu, area
