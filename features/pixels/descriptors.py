"""What a classifier of pixels reads: each pixel inside the skull in `len(DESCRIPTORS)` numbers."""

from collections.abc import Iterator

import numpy as np

from haemo.features.pixels.blurs import blurred, blurred_part
from haemo.features.pixels.distances import distances
from haemo.features.views.head_box import Box
from haemo.features.views.head_grid import HeadGrid

__all__ = ["DESCRIPTORS", "DESCRIPTOR_SCHEMA", "PixelNumbers", "describe"]

DESCRIPTOR_SCHEMA = 1
"""Part of what a pixel classifier is bound to."""

_BLURS_MM = (1.0, 2.0, 4.0, 8.0)
_BRIGHT_HU, _DARK_HU = 14.0, -12.0  # off the brain's median: blood and calcium; fluid and oedema
_SURROUNDINGS_MM = (4.0, 10.0)
_SPREADS_MM = _MIRRORED_MM = (2.0, 4.0)
_LEAST_SHARE = np.float32(1e-4)  # of the inside in a mean; less than a pixel of it has by itself
_LEAST_MIRRORED = np.float32(0.5)  # of the inside about a place on the other side
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
    """Describe every pixel inside the skull: all `PixelNumbers` of a grid.

    Returns
    -------
    ndarray of shape (pixels inside, len(DESCRIPTORS)), float32
        Rows in the order of ``grid.hu[grid.inside]``; each number lies together for all pixels.
    """
    return PixelNumbers(grid).rows()


class PixelNumbers:
    """The numbers of pixels inside the skull; those of a pixel are put together when it is asked for.

    Means are Gaussian, of the standard deviation in their name, over the inside alone: neither bone nor what
    lies beyond it takes part. ``mirror`` is the difference to the place on the other side of the midline,
    ``across`` and ``along`` the place as a share of the extent of the inside, ``extent`` its root area in mm,
    which tells the vertex from the middle of the head.

    Parameters
    ----------
    grid : HeadGrid
    """

    def __init__(self, grid: HeadGrid) -> None:
        self._midline = grid.midline
        if grid.midline is None:
            return
        # What is far from the inside has no say in its pixels, so it is left out: the same numbers, sooner.
        box = Box.around(grid.inside).wider(1, grid.inside.shape)
        self._inside = inside = box.cut(grid.inside)
        self._own = np.flatnonzero(inside)
        self._line = grid.midline.shifted(-box.top, -box.left)
        self._weight = weight = inside.astype(np.float32)
        level = (box.cut(grid.hu) - np.float32(grid.median_hu)) * weight
        planes = np.stack([weight, level, level * level])
        shares, means, squares = {}, {}, {}
        for mm in _BLURS_MM:
            shares[mm], *found = blurred(planes[: 3 if mm in _SPREADS_MM else 2], mm)
            np.maximum(shares[mm], _LEAST_SHARE, out=shares[mm])
            means[mm], *squares[mm] = (own / shares[mm] for own in found)
        spreads = [np.sqrt(np.maximum(squares[mm][0] - means[mm] ** 2, 0)) for mm in _SPREADS_MM]
        parts = [(means[1.0] > _BRIGHT_HU) * weight, (means[1.0] < _DARK_HU) * weight]
        surroundings = []
        for mm in _SURROUNDINGS_MM:
            *found, share = blurred(np.stack([*parts, weight]), mm)
            surroundings += [own / np.maximum(share, _LEAST_SHARE) for own in found]
        self._mirrored = [means[mm] * weight for mm in _MIRRORED_MM]
        squared, curvature = _slopes(self._mirrored[0])
        rows, columns = np.ogrid[: inside.shape[0], : inside.shape[1]]
        across, along = np.abs(self._line.across(rows, columns)), self._line.along(rows, columns)
        self._planes = {
            "level": level,
            **{f"mean_{mm:.0f}mm": mean for mm, mean in means.items()},
            "mean_1mm_less_4mm": means[1.0] - means[4.0],
            "mean_2mm_less_8mm": means[2.0] - means[8.0],
            "spread_2mm": spreads[0],
            "spread_4mm": spreads[1],
            "gradient": np.sqrt(squared) / 8,
            "laplacian": curvature,
            "to_bone": np.sqrt(distances(grid.bone, box, _FAR_MM)),
            "to_edge": np.sqrt(distances(~inside, Box(0, inside.shape[0], 0, inside.shape[1]), _FAR_MM)),
            "bone_6mm": blurred_part(grid.bone, box, _BONE_MM),
            "across": across / max(float(across[inside].max()), 1.0),
            "along": along / max(float(np.abs(along[inside]).max()), 1.0),
            **dict(zip(DESCRIPTORS[-5:-1], surroundings, strict=True)),
        }

    def rows(self, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Numbers of some pixels, in the order of ``grid.hu[grid.inside]``.

        Returns
        -------
        ndarray of shape (pixels, len(DESCRIPTORS)), float32
            Each number lies together for all pixels.
        """
        if self._midline is None:
            return np.empty((0, len(DESCRIPTORS)), dtype=np.float32)
        own = self._own[chosen]
        found = np.empty((len(DESCRIPTORS), len(own)), dtype=np.float32)
        mirrored = dict(zip(("mirror_2mm", "mirror_4mm"), self._differences(own), strict=True))
        for name, numbers in zip(DESCRIPTORS, found, strict=True):
            if name in self._planes:
                numbers[:] = self._planes[name].reshape(-1).take(own)
            else:
                numbers[:] = mirrored.get(name, np.sqrt(len(self._own)))
        return found.T

    def _differences(self, own: np.ndarray) -> Iterator[np.ndarray]:
        """Of each plane that is mirrored, the difference to the other side; 0 where that is outside."""
        mirror = _Mirror(*self._line.mirrored(*np.divmod(own, self._inside.shape[1])), self._inside.shape)
        share = mirror(self._weight).astype(np.float32)
        for plane in self._mirrored:
            other = mirror(plane).astype(np.float32) / np.maximum(share, _LEAST_MIRRORED)
            yield np.where(share > _LEAST_MIRRORED, plane.reshape(-1).take(own) - other, 0)


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
