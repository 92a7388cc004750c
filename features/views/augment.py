"""The rotations of Dawud et al. 2019: 70, 160 and 270 degrees to the left and to the right."""

from functools import lru_cache

import numpy as np
from scipy import sparse

__all__ = ["PAPER_ANGLES_DEG", "rotate_planes"]

# Counter-clockwise, in the order of the variants 1..6; variant 0 is the slice itself.
PAPER_ANGLES_DEG = (70, 160, 270, -70, -160, -270)

_TURN_DEG = 70


def rotate_planes(planes: np.ndarray) -> np.ndarray:
    """Make the seven variants of each plane.

    Parameters
    ----------
    planes : ndarray of shape (n, size, size) or (n, channels, size, size), uint8

    Returns
    -------
    ndarray of shape (n, 7, size, size) or (n, 7, channels, size, size), uint8
        Variant 0 is the plane itself, 1 to 6 are turned by `PAPER_ANGLES_DEG` about the centre; what comes in
        from outside is black. As ``skimage.transform.rotate`` with linear interpolation, then rounded.

    Notes
    -----
    Only the turn by 70 degrees to the left is interpolated, as a product with one sparse matrix. The turn to
    the right is the same one between two reflections; 160 is 70 and a quarter turn more; 270 is three quarter
    turns. Quarter turns and reflections move pixels and are exact.
    """
    size = planes.shape[-1]
    if planes.ndim > 3:  # each channel for itself
        turned = rotate_planes(planes.reshape(-1, size, size))
        return turned.reshape(*planes.shape[:2], *turned.shape[1:]).swapaxes(1, 2)
    variants = np.empty((len(planes), 1 + len(PAPER_ANGLES_DEG), size, size), dtype=np.uint8)
    for plane, turned in zip(planes, variants, strict=True):
        left = _turn(plane)
        right = _turn(plane[:, ::-1])[:, ::-1]
        turned[0] = plane
        turned[1], turned[2], turned[3] = left, np.rot90(left), np.rot90(plane, 3)
        turned[4], turned[5], turned[6] = right, np.rot90(right, -1), np.rot90(plane)
    return variants


def _turn(plane: np.ndarray) -> np.ndarray:
    """Turn one plane by 70 degrees to the left."""
    levels = _turning_matrix(len(plane)) @ plane.astype(np.float32).ravel()
    return np.rint(levels).astype(np.uint8).reshape(plane.shape)


@lru_cache(maxsize=4)
def _turning_matrix(size: int) -> sparse.csr_array:
    """Write the turn as a matrix over pixels: a row holds the weights of the four pixels around a place."""
    angle = np.deg2rad(_TURN_DEG)
    centre = (size - 1) / 2
    down, across = np.indices((size, size)) - centre
    source_down = np.cos(angle) * down + np.sin(angle) * across + centre
    source_across = np.cos(angle) * across - np.sin(angle) * down + centre
    first_down, first_across = np.floor(source_down), np.floor(source_across)
    target = np.arange(size * size).reshape(size, size)
    entries = []
    for step_down in (0, 1):
        for step_across in (0, 1):
            row, column = first_down + step_down, first_across + step_across
            weight = (1 - np.abs(source_down - row)) * (1 - np.abs(source_across - column))
            inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
            source = (row * size + column)[inside].astype(np.int32)
            entries.append((weight[inside], target[inside].astype(np.int32), source))
    weights, targets, sources = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    shape = (size * size, size * size)
    return sparse.csr_array((weights.astype(np.float32), (targets, sources)), shape=shape)
