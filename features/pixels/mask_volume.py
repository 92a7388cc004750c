"""Masks of blood as a volume that lies on the scan it was drawn on."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from haemo.features.pixels.packed import PackedMask
from haemo.features.reading.formats import open_volume
from haemo.features.reading.volumes.grid import GridVolume
from haemo.features.reading.volumes.nifti_file import write_nifti

__all__ = ["lies_on_a_grid", "write_mask_volume"]


def lies_on_a_grid(file: Path) -> bool:
    """Whether a volume has a grid that a mask can share; frames of DICOM each have a place of their own."""
    return isinstance(open_volume(file), GridVolume)


def write_mask_volume(path: Path, file: Path, masks: Mapping[int, PackedMask]) -> None:
    """Write a NIfTI file with the voxels and affine of a scan: 1 where there is blood, atomically.

    Parameters
    ----------
    path : Path
    file : Path
        The scan, one that lies on a grid.
    masks : mapping of int to PackedMask
        By number of the slice, as they are seen; what is not there is empty.
    """
    volume = open_volume(file)
    grid = volume.grid
    voxels = np.zeros(grid.stored.shape[::-1], np.uint8)
    planes = np.moveaxis(voxels, 2 - volume.axis, 0)
    for number, mask in masks.items():
        planes[number - 1] = volume.view.turn_back(mask.unpack())
    write_nifti(path, voxels, grid.steps_mm, grid.origin_mm)
