"""Masks made wider and narrower by a round distance, pixel for pixel as distance transforms would."""

import math

import numpy as np

__all__ = ["narrowed", "widened"]


def widened(mask: np.ndarray, distance: int) -> np.ndarray:
    """Pixels whose centre is at most `distance` pixels from that of a pixel of a mask.

    The disk is put together from rows, each a run of pixels: every run is an OR of a few shifted copies.

    Parameters
    ----------
    mask : ndarray of shape (height, width), bool
    distance : int
        At least 1.
    """
    height = mask.shape[0]
    result = np.zeros_like(mask)
    run, reached = mask.copy(), 0
    for step in range(distance, -1, -1):
        half = math.isqrt(distance * distance - step * step)
        while reached < half:  # a run of one more pixel to either side
            wider = run.copy()
            wider[:, 1:] |= run[:, :-1]
            wider[:, :-1] |= run[:, 1:]
            run, reached = wider, reached + 1
        if step == 0:
            result |= run
        elif step < height:
            result[step:] |= run[:-step]
            result[:-step] |= run[step:]
    return result


def narrowed(mask: np.ndarray, distance: int) -> np.ndarray:
    """Pixels of a mask that are more than `distance` pixels from every pixel outside it.

    What lies beyond the edge of the array is not outside.
    """
    return ~widened(~mask, distance)
