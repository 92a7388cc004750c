"""Gaussian means as products with matrices: on planes of a head that is several times sooner than a filter.

A plane of 1 mm has some 170 rows. At that size the products of a linear algebra library, with zeros among
the numbers of a kernel, take less time than a filter that leaves the zeros out.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

__all__ = ["blur_matrix", "blurred"]

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
    matrix, reach = _bounded(length, sigma), int(_TRUNCATE * sigma + 0.5)
    for start in range(0, length, _BLOCK):
        stop = min(start + _BLOCK, length)
        own, near = slice(start, stop), slice(max(start - reach, 0), min(stop + reach, length))
        yield own, near, matrix[own, near]


def _bounded(length: int, sigma: float) -> np.ndarray:
    """The symmetric matrix of a line that ends in zeros, cut out of that of a longer one."""
    return blur_matrix(-(-length // 128) * 128, sigma, "constant")[:length, :length]


@lru_cache(maxsize=256)
def blur_matrix(length: int, sigma: float, mode: str) -> np.ndarray:
    """Write the blur of a line as a matrix of shape (length, length), float32.

    Parameters
    ----------
    length : int
    sigma : float
        Standard deviation in pixels; the kernel ends at 3 of them.
    mode : str
        What lies beyond the ends, as scipy.ndimage calls it.
    """
    from scipy import ndimage

    lines = np.eye(length)
    return ndimage.gaussian_filter1d(lines, sigma, axis=0, mode=mode, truncate=_TRUNCATE).astype(np.float32)
