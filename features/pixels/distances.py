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
        Up to 127; what is farther is as far.

    Returns
    -------
    ndarray of the box's shape, uint16
    """
    near = box.wider(most, mask.shape)
    along = np.where(near.cut(mask), np.uint8(0), np.uint8(most))
    step = 1
    while step <= most:  # so far pixels of the mask less than `step` away are known of
        for own, beside in ((along[:, step:], along[:, :-step]), (along[:, :-step], along[:, step:])):
            np.minimum(own, beside + np.uint8(step), out=own)
        step *= 2
    squares = along[:, box.left - near.left : box.right - near.left].astype(np.uint16) ** 2
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
