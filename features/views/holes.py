"""Masks with their holes filled."""

import numpy as np

__all__ = ["filled"]


def filled(mask: np.ndarray) -> np.ndarray:
    """Fill what a mask (height, width) encloses, as ``ndimage.binary_fill_holes`` does step by step."""
    from scipy import ndimage

    pieces, count = ndimage.label(~mask)
    is_open = np.zeros(count + 1, dtype=bool)
    for edge in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
        is_open[edge] = True
    is_open[0] = False  # the mask itself
    return ~is_open.take(pieces)
