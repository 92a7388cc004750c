"""Maps of a network's units, read between them."""

import numpy as np

__all__ = ["interpolated"]


def interpolated(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate a map linearly; beyond the middle of its outermost units it goes on as it is.

    Parameters
    ----------
    values : ndarray of shape (height, width, channels), float32
    rows, columns : ndarray of shape (n,)
        Places in units, whose middles lie at whole numbers.

    Returns
    -------
    ndarray of shape (n, channels), float32
    """
    (above, down), (left, right) = (
        _between(places, size) for places, size in zip((rows, columns), values.shape[:2], strict=True)
    )
    height, width, channels = values.shape
    flat = values.reshape(-1, channels)
    upper = above * width + left
    lower = np.minimum(above + 1, height - 1) * width + left
    after = np.minimum(left + 1, width - 1) - left
    over = flat[upper] * (1 - right) + flat[upper + after] * right
    under = flat[lower] * (1 - right) + flat[lower + after] * right
    return over * (1 - down) + under * down


def _between(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The unit before each place, and the share of the way to the next, as a column."""
    held = np.clip(places, 0, size - 1)
    before = np.floor(held).astype(np.intp)
    return before, (held - before).astype(np.float32)[:, None]
