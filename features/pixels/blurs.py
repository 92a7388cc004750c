"""Gaussian means as products with matrices: on planes of a head that is several times sooner than a filter.

A plane of 1 mm has some 170 rows. At that size the products of a linear algebra library, with zeros among
the numbers of a kernel, take less time than a filter that leaves the zeros out.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from haemo.features.views.head_box import Box

__all__ = ["blurred", "blurred_part"]

_TRUNCATE = 3.0  # standard deviations
_BLOCK = 64  # lines at a time, for which only those near them are multiplied


def blurred(planes: np.ndarray, sigma: float) -> np.ndarray:
    """Blur planes, 0 beyond their edges, as ``ndimage.gaussian_filter(mode="constant", truncate=3)`` does.

    Parameters
    ----------
    planes : ndarray of shape (n, height, width), float32
    sigma : float
        Standard deviation in pixels.

    Returns
    -------
    ndarray of the same shape, float32
    """
    count, height, width = planes.shape
    half, whole = np.empty_like(planes), np.empty_like(planes)
    for own, near, weights in _blocks(height, sigma):
        np.matmul(weights, planes[:, near], out=half[:, own])
    lines, found = half.reshape(count * height, width), whole.reshape(count * height, width)
    for own, near, weights in _blocks(width, sigma):
        np.matmul(lines[:, near], weights.T, out=found[:, own])
    return whole


def _blocks(length: int, sigma: float) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Lines, those that have a say in them, and how much."""
    matrix, reach = _bounded(length, sigma), _reach(sigma)
    for start in range(0, length, _BLOCK):
        stop = min(start + _BLOCK, length)
        own, near = slice(start, stop), slice(max(start - reach, 0), min(stop + reach, length))
        yield own, near, matrix[own, near]


def blurred_part(plane: np.ndarray, box: Box, sigma: float) -> np.ndarray:
    """A part of a blurred plane, as ``ndimage.gaussian_filter(truncate=3)`` gives it: mirrored at its edges.

    Parameters
    ----------
    plane : ndarray of shape (height, width)
    box : Box
    sigma : float
        Standard deviation in pixels.

    Returns
    -------
    ndarray of the box's shape, float32
    """
    near = box.wider(_reach(sigma), plane.shape)
    height, width = plane.shape
    rows = _matrix(height, sigma, "reflect")[box.rows, near.rows]
    columns = _matrix(width, sigma, "reflect")[box.columns, near.columns]
    return rows @ near.cut(plane).astype(np.float32, copy=False) @ columns.T


def _reach(sigma: float) -> int:
    return int(_TRUNCATE * sigma + 0.5)


def _bounded(length: int, sigma: float) -> np.ndarray:
    """The symmetric matrix of a line that ends in zeros, cut out of that of a longer one."""
    return _matrix(-(-length // 128) * 128, sigma, "constant")[:length, :length]


@lru_cache(maxsize=256)
def _matrix(length: int, sigma: float, mode: str) -> np.ndarray:
    """The blur of a line as a matrix of shape (length, length), float32; `mode` as in scipy.ndimage."""
    from scipy import ndimage

    lines = np.eye(length)
    return ndimage.gaussian_filter1d(lines, sigma, axis=0, mode=mode, truncate=_TRUNCATE).astype(np.float32)
