"""Antialiased resizing, rows and columns apart, each a sparse matrix."""

from functools import lru_cache

import numpy as np
from scipy import sparse

__all__ = ["resize_matrix", "resized", "resized_across"]

# Of 512 pixels a row, all that stand below each other would share a few lines of the cache, and turning rows
# into columns would take three times as long. So many pixels more in a row keep them apart.
_APART = 4
# So many at a time, what is worked on stays in the cache of a core; more at a time, and the call costs more.
_COLUMNS = 256


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize pixels of shape (height, width), taken as float32, to `size`, another height and width."""
    return np.ascontiguousarray(resized_across(pixels, size).T)


def resized_across(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Give the same with rows and columns exchanged, as they come of the work; nobody else has the array."""
    height, width = pixels.shape
    down, across = resize_matrix(height, size[0]), resize_matrix(width, size[1])
    turned = np.empty((width, size[0]), np.float32)
    for first in range(0, width, _COLUMNS):
        some = pixels[:, first : first + _COLUMNS]
        wide = np.empty((height, some.shape[1] + _APART), np.float32)
        wide[:, :-_APART] = some
        wide[:, -_APART:] = 0
        turned[first : first + _COLUMNS] = (down @ wide)[:, :-_APART].T
    return across @ turned


@lru_cache(maxsize=512)
def resize_matrix(length: int, size: int) -> sparse.csr_array:
    """Write the resizing of a line of `length` pixels to `size` as a matrix.

    Returns
    -------
    csr_array of shape (size, length), float32
        Rows sum to 1. Pixels are intervals, their values lie at the centres. When shrinking, a Gaussian of
        sigma ``(length / size - 1) / 2``, cut at 4 sigma, comes first. Edges are mirrored about the
        outermost pixels.
    """
    step = length / size
    sigma = max(0.0, (step - 1) / 2)
    reach = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    kernel = np.exp(-0.5 * (reach / sigma) ** 2) if len(reach) > 1 else np.ones(1)
    kernel /= kernel.sum()
    places = (np.arange(size) + 0.5) * step - 0.5
    left = np.floor(places).astype(int)
    share = places - left
    weights = np.stack([1 - share, share])[..., None] * kernel
    sources = _mirrored(_mirrored(np.stack([left, left + 1]), length)[..., None] + reach, length)
    targets = np.broadcast_to(np.arange(size, dtype=np.int32)[:, None], weights.shape)
    entries = (weights.ravel(), (targets.ravel(), sources.astype(np.int32).ravel()))
    matrix = sparse.csr_array(entries, shape=(size, length))  # sums what falls on one place
    matrix.eliminate_zeros()
    return matrix.astype(np.float32)


def _mirrored(places: np.ndarray, length: int) -> np.ndarray:
    """Reflect places outside 0..length-1 about the first and last."""
    last = max(length - 1, 1)
    folded = np.abs(places) % (2 * last)
    return np.minimum(np.where(folded > last, 2 * last - folded, folded), length - 1)
