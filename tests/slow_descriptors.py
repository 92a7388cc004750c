"""Descriptors of pixels by filters of scipy, one after the other: an oracle."""

import numpy as np
from scipy import ndimage

from haemo.features.pixels.descriptors import DESCRIPTORS
from haemo.features.views.head_grid import HeadGrid

_BLURS_MM = (1.0, 2.0, 4.0, 8.0)
_BRIGHT_HU, _DARK_HU = 14.0, -12.0
_SURROUNDINGS_MM = (4.0, 10.0)
_FAR_MM = 40


def describe(grid: HeadGrid) -> np.ndarray:
    if grid.midline is None:
        return np.empty((0, len(DESCRIPTORS)), dtype=np.float32)
    # What is far from the inside has no say in its pixels, so it is left out: the same numbers, sooner.
    place = _around(grid.inside, 1)
    inside, (to_bone, bone_share) = grid.inside[place], _of_bone(grid)
    weight = inside.astype(np.float32)
    level = (grid.hu[place] - np.float32(grid.median_hu)) * weight
    shares = {mm: _blurred(weight, mm) for mm in (*_BLURS_MM, *_SURROUNDINGS_MM)}

    def mean(values: np.ndarray, sigma_mm: float) -> np.ndarray:
        total, share = _blurred(values * weight, sigma_mm), shares[sigma_mm]
        return np.divide(total, share, out=np.zeros_like(total), where=share > 1e-4)

    means = {mm: mean(level, mm) for mm in _BLURS_MM}
    squares = level * level
    spreads = [np.sqrt(np.maximum(mean(squares, mm) - means[mm] ** 2, 0)) for mm in (2.0, 4.0)]
    smooth = np.where(inside, means[2.0], 0)
    bright = (means[1.0] > _BRIGHT_HU).astype(np.float32)
    dark = (means[1.0] < _DARK_HU).astype(np.float32)
    rows, columns = np.nonzero(grid.inside)
    first = [own.start for own in place]
    far = np.stack(grid.midline.mirrored(rows, columns)) - np.array(first)[:, None]
    far_share = ndimage.map_coordinates(weight, far, order=1, mode="constant", output=np.float32)

    def mirrored(values: np.ndarray) -> np.ndarray:
        other = ndimage.map_coordinates(values * weight, far, order=1, mode="constant", output=np.float32)
        return np.where(far_share > 0.5, values[inside] - other / np.maximum(far_share, 0.5), 0)

    across, along = grid.midline.across(rows, columns), grid.midline.along(rows, columns)
    gradient = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)) / 8
    columns_of = [
        level[inside],
        *(means[mm][inside] for mm in _BLURS_MM),
        (means[1.0] - means[4.0])[inside],
        (means[2.0] - means[8.0])[inside],
        *(spread[inside] for spread in spreads),
        gradient[inside],
        ndimage.laplace(smooth)[inside],
        to_bone,
        np.minimum(ndimage.distance_transform_edt(inside)[inside], _FAR_MM),
        bone_share,
        mirrored(means[2.0]),
        mirrored(means[4.0]),
        np.abs(across) / max(float(np.abs(across).max()), 1.0),
        along / max(float(np.abs(along).max()), 1.0),
        *(mean(part, mm)[inside] for mm in _SURROUNDINGS_MM for part in (bright, dark)),
        np.full(len(rows), float(np.sqrt(inside.sum()))),
    ]
    return np.column_stack(columns_of).astype(np.float32)


def _around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of a mask that is not empty, and up to `margin` more on each side."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + 1 + margin),
        slice(max(columns[0] - margin, 0), columns[-1] + 1 + margin),
    )


def _blurred(values: np.ndarray, sigma_mm: float) -> np.ndarray:
    return ndimage.gaussian_filter(values, sigma_mm, mode="constant", truncate=3.0)


def _of_bone(grid: HeadGrid) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel inside: distance to bone, `_FAR_MM` at most; share of bone about it, over 6 mm."""
    place = _around(grid.inside, _FAR_MM)
    inside, bone = grid.inside[place], grid.bone[place]
    share = ndimage.gaussian_filter(bone.astype(np.float32), 6.0, truncate=3.0)[inside]
    if not bone.any():
        return np.full(len(share), float(_FAR_MM)), share
    return np.minimum(ndimage.distance_transform_edt(~bone)[inside], _FAR_MM), share
