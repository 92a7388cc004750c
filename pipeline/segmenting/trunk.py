"""The trunk that hypercolumns are read from: AlexNet's own, or further trained on the masks of slices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.manifest import ManifestRow
from haemo.features.pixels.packed import PackedMask
from haemo.features.views.head_grid import HeadGrid
from haemo.pipeline.segmenting.pixel_features import FEATURES, PixelFeatures, has_hypercolumns, plane_of
from haemo.pipeline.segmenting.sampling import MaskedRow, in_processes, look_at
from haemo.progress import Progress, silent

__all__ = ["pixel_features"]

_SURE = 0.5  # share of blood in a pixel of 1 mm from which it is blood


def pixel_features(
    name: str,
    rows: Sequence[MaskedRow],
    *,
    steps: int,
    seed: int,
    varied: bool,
    looks: int,
    jobs: int | None = None,
    progress: Progress = silent,
) -> PixelFeatures:
    """Make ready what pixels are described by; a ``trained`` trunk is trained on these slices and masks.

    Parameters
    ----------
    name : str
        Of `FEATURES`.
    rows : sequence of (ManifestRow, Path)
        Slices with masks.
    steps : int
        Of the training of the trunk.
    seed, varied, looks, jobs, progress
        As in `pipeline.segmenting.sampling.sample`.

    Raises
    ------
    WeightsUnavailable
        If the weights of AlexNet cannot be had up to conv5.
    TooFewData
        If a trunk is to be trained and no slice, or none with blood, can be used.
    """
    if name not in FEATURES or not has_hypercolumns(name):
        return PixelFeatures(name)
    from haemo.models.weights.imagenet import resolve_weights

    weights = resolve_weights("auto", need="pool5", progress=progress)
    if name.endswith("alexnet"):
        state = {key: value.numpy().astype(np.float16) for key, value in weights.state_dict.items()}
        return PixelFeatures(name, state)
    from haemo.models.training.blood_trunk import TrunkSettings, train_blood_trunk

    work = [(row, mask, (seed, look), varied) for look in range(looks) for row, mask in rows]
    found = [one for one in in_processes(_plane, work, jobs, progress, "planes") if one is not None]
    planes = np.array([plane for plane, _ in found])
    masks = np.array([mask.unpack() for _, mask in found])
    trained = train_blood_trunk(planes, masks, weights, TrunkSettings(steps), seed=seed, progress=progress)
    state = trained.state_dict()
    return PixelFeatures(name, {key: state[key].contiguous().numpy() for key in weights.state_dict})


def _plane(
    row: ManifestRow, mask_path: Path, seed: tuple[int, int], varied: bool
) -> tuple[np.ndarray, PackedMask] | None:
    """None where the slice cannot be used; sampling its pixels says why."""
    try:
        image, mask, _ = look_at(row, mask_path, seed, varied)
        grid = HeadGrid.of(image)
    except UnreadableSlice:
        return None
    blood, _, _ = plane_of(grid, grid.from_slice(mask) > _SURE)
    return plane_of(grid)[0], PackedMask.of(blood)
