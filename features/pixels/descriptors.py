"""What a classifier of pixels reads: each pixel inside the skull in `len(DESCRIPTORS)` numbers."""

import numpy as np

from haemo.features.pixels.blurs import blurred, blurred_part
from haemo.features.pixels.distances import distances
from haemo.features.views.head_box import Box
from haemo.features.views.head_grid import HeadGrid

__all__ = ["DESCRIPTORS", "DESCRIPTOR_SCHEMA", "describe"]

DESCRIPTOR_SCHEMA = 1
"""Part of what a pixel classifier is bound to."""

_BLURS_MM = (1.0, 2.0, 4.0, 8.0)
_BRIGHT_HU, _DARK_HU = 14.0, -12.0  # off the brain's median: blood and calcium; fluid and oedema
_SURROUNDINGS_MM = (4.0, 10.0)
_SPREADS_MM = (2.0, 4.0)
_BONE_MM = 6.0
_FAR_MM = 40

DESCRIPTORS = (
    "level",
    *(f"mean_{mm:.0f}mm" for mm in _BLURS_MM),
    "mean_1mm_less_4mm",
    "mean_2mm_less_8mm",
    "spread_2mm",
    "spread_4mm",
    "gradient",
    "laplacian",
    "to_bone",
    "to_edge",
    "bone_6mm",
    "mirror_2mm",
    "mirror_4mm",
    "across",
    "along",
    "bright_4mm",
    "dark_4mm",
    "bright_10mm",
    "dark_10mm",
    "extent",
)
"""Names of the numbers, in order. Levels are HU less the brain's median, places and distances mm."""


def describe(grid: HeadGrid) -> np.ndarray:
    """Describe every pixel inside the skull.

    Means are Gaussian, of the standard deviation in their name, over the inside alone: neither bone nor what
    lies beyond it takes part. ``mirror`` is the difference to the place on the other side of the midline,
    ``across`` and ``along`` the place as a share of the extent of the inside, ``extent`` its root area in mm,
    which tells the vertex from the middle of the head.

    Parameters
    ----------
    grid : HeadGrid

    Returns
    -------
    ndarray of shape (pixels inside, len(DESCRIPTORS)), float32
        Rows in the order of ``grid.hu[grid.inside]``; each number lies together for all pixels.
    """
    if grid.midline is None:
        return np.empty((0, len(DESCRIPTORS)), dtype=np.float32)
    # What is far from the inside has no say in its pixels, so it is left out: the same numbers, sooner.
    box = Box.around(grid.inside).wider(1, grid.inside.shape)
    inside = box.cut(grid.inside)
    own = np.flatnonzero(inside)
    weight = inside.astype(np.float32)
    level = (box.cut(grid.hu) - np.float32(grid.median_hu)) * weight

    def of(plane: np.ndarray) -> np.ndarray:
        return plane.reshape(-1).take(own)

    def on_plane(values: np.ndarray) -> np.ndarray:
        plane = np.zeros(inside.size, dtype=np.float32)
        plane[own] = values
        return plane.reshape(inside.shape)

    planes = np.stack([weight, level, level * level])
    shares, means, squares = {}, {}, {}
    for mm in _BLURS_MM:
        share, mean, *square = blurred(planes[: 3 if mm in _SPREADS_MM else 2], mm)
        shares[mm] = of(share)
        means[mm] = of(mean) / shares[mm]
        squares[mm] = [of(one) / shares[mm] for one in square]
    spreads = [np.sqrt(np.maximum(squares[mm][0] - means[mm] ** 2, 0)) for mm in _SPREADS_MM]
    parts = [on_plane(part) for part in (means[1.0] > _BRIGHT_HU, means[1.0] < _DARK_HU)]
    surroundings = []
    for mm in _SURROUNDINGS_MM:
        *found, share = blurred(np.stack([*parts, weight]), mm)
        surroundings += [of(part) / of(share) for part in found]
    smooth = on_plane(means[2.0])
    rows, columns = np.divmod(own, inside.shape[1])
    line = grid.midline.shifted(-box.top, -box.left)
    mirror = _Mirror(*line.mirrored(rows, columns), inside.shape)
    far_share = mirror(weight).astype(np.float32)
    has_other = far_share > 0.5
    far_share = np.maximum(far_share, 0.5)
    others = [mirror(plane).astype(np.float32) / far_share for plane in (smooth, on_plane(means[4.0]))]
    across, along = line.across(rows, columns), line.along(rows, columns)
    edges, curvature = _slopes(smooth)
    to_bone = distances(grid.bone, box, _FAR_MM)
    to_edge = distances(~grid.inside, box, _FAR_MM)
    numbers = np.empty((len(DESCRIPTORS), len(own)), dtype=np.float32)
    numbers[:] = [
        of(level),
        *(means[mm] for mm in _BLURS_MM),
        means[1.0] - means[4.0],
        means[2.0] - means[8.0],
        *spreads,
        np.sqrt(of(edges)) / 8,
        of(curvature),
        np.sqrt(of(to_bone)),
        np.sqrt(of(to_edge)),
        of(blurred_part(grid.bone, box, _BONE_MM)),
        *(np.where(has_other, means[mm] - other, 0) for mm, other in zip((2.0, 4.0), others, strict=True)),
        np.abs(across) / max(float(np.abs(across).max()), 1.0),
        along / max(float(np.abs(along).max()), 1.0),
        *surroundings,
        np.full(len(own), np.sqrt(len(own))),
    ]
    return numbers.T


class _Mirror:
    """Interpolates planes, which are 0 beyond their edges, at places that need not be whole numbers."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> None:
        height, width = shape
        known = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
        self._padded = np.zeros((height + 1, width + 1))
        above, left = np.floor(rows).clip(0, height - 1), np.floor(columns).clip(0, width - 1)
        self._place = (above * (width + 1) + left).astype(np.intp)
        down, right = rows - above, columns - left
        self._weights = [
            (offset, part * known)
            for offset, part in (
                (0, (1 - down) * (1 - right)),
                (1, (1 - down) * right),
                (width + 1, down * (1 - right)),
                (width + 2, down * right),
            )
        ]

    def __call__(self, plane: np.ndarray) -> np.ndarray:
        self._padded[:-1, :-1] = plane
        flat = self._padded.reshape(-1)
        total = np.zeros(len(self._place))
        for offset, weight in self._weights:
            total += flat[offset:].take(self._place, mode="clip") * weight
        return total


def _slopes(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel the squared length of Sobel's gradient, times 64, and the Laplacian."""
    wide = np.pad(plane, 1, mode="symmetric")
    down, right = wide[2:] - wide[:-2], wide[:, 2:] - wide[:, :-2]
    down = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    right = right[:-2] + 2 * right[1:-1] + right[2:]
    below, after = np.diff(wide[:, 1:-1], axis=0), np.diff(wide[1:-1], axis=1)
    return down * down + right * right, np.diff(below, axis=0) + np.diff(after, axis=1)
