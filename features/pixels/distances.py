"""How far pixels are from the nearest one of a mask, where what is far need not be told apart."""

import numpy as np

from haemo.features.views.head_box import Box

__all__ = ["distances"]

_LOOKED = 4  # steps after which it is looked whether any more can lie nearer


def distances(mask: np.ndarray, box: Box, most: int) -> np.ndarray:
    """Find the squared distances to the nearest pixels of a mask, in pixels, exact up to `most`.

    First along rows, then the least over the rows beside (Saito and Toriwaki 1994).

    Parameters
    ----------
    mask : ndarray of shape (height, width), bool
    box : Box
        Which part is asked of.
    most : int
        Up to 180; what is farther is as far.

    Returns
    -------
    ndarray of the box's shape, uint16
    """
    near = box.wider(most, mask.shape)
    found = near.cut(mask)
    number = np.arange(found.shape[1], dtype=np.int32)
    never = np.int32(found.shape[1] + most)
    left = np.maximum.accumulate(np.where(found, number, -never), axis=1)
    right = np.minimum.accumulate(np.where(found, number, never)[:, ::-1], axis=1)[:, ::-1]
    inner = slice(box.left - near.left, box.right - near.left)
    along = np.minimum(number - left, right - number)[:, inner]
    squares = np.minimum(along, most).astype(np.uint16) ** 2
    start, stop = box.top - near.top, box.bottom - near.top
    least = squares[start:stop].copy()
    other = np.empty_like(least)
    for step in range(1, most + 1):
        square = np.uint16(step * step)
        if step % _LOOKED == 0 and square >= least.max():
            break
        for shift in (-step, step):
            low, high = max(start + shift, 0), min(stop + shift, len(squares))
            if low < high:
                beside = np.add(squares[low:high], square, out=other[: high - low])
                own = least[low - shift - start : high - shift - start]
                np.minimum(own, beside, out=own)
    return least
