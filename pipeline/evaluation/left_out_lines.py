"""Calibration lines without each group of patients, all groups at once: sums over all slices are made once.

Without a group a line moves by little. So the slope of the likelihood of all slices, at the line of any
group, follows from its derivatives at the line of all; what the group itself adds is summed as it is.
"""

from math import comb, factorial

import numpy as np

__all__ = ["moves_without"]

# Terms of the series, and how far log odds may move for it: (0.1 / pi)^9 is 4e-14.
_TERMS, _FAR = 8, 0.1
_MOST_STEPS = 50
_STILL = 1e-12


def moves_without(
    x: np.ndarray, eta: np.ndarray, positive: np.ndarray, group: np.ndarray, count: int, offset: bool
) -> tuple[np.ndarray, np.ndarray]:
    """How far the best logistic regression on one number moves without each group of slices.

    Parameters
    ----------
    x : ndarray of shape (n,)
    eta : ndarray of shape (n,)
        Log odds of the best line of all slices.
    positive : ndarray of shape (n,), bool
    group : ndarray of shape (n,), int
        0..count-1.
    count : int
    offset : bool
        Whether the intercept alone is fitted.

    Returns
    -------
    intercept, slope : ndarray of shape (count,)
        Changes of both; NaN where log odds move by more than 0.1, or there is no best line: such a group
        has to be fitted by itself.
    """
    from scipy.special import expit

    middle = x.mean()
    z = x - middle
    chance = expit(eta)
    powers = (0,) if offset else (0, 1)
    sums = _sums(chance, z, _TERMS + 2)
    spread = chance * (1 - chance)
    own = [np.bincount(group, spread * z**power, count) for power in range(3)]
    a, b, c = (sums[1][power] - own[power] for power in range(3))
    reach = np.abs(z).max()
    slope = [np.sum((positive - chance) * z**power) for power in powers]
    up, turn = np.zeros(count), np.zeros(count)
    with np.errstate(all="ignore"):
        for _ in range(_MOST_STEPS):
            moved = positive - expit(eta + up[group] + turn[group] * z)
            left = [
                slope[power] - _bent(sums, up, turn, power) - np.bincount(group, moved * z**power, count)
                for power in powers
            ]
            if offset:
                step, step_turn = left[0] / a, np.zeros(count)
            else:
                step = (c * left[0] - b * left[1]) / (a * c - b**2)
                step_turn = (a * left[1] - b * left[0]) / (a * c - b**2)
            size = np.abs(step) + reach * np.abs(step_turn)
            up, turn = up + step, turn + step_turn
            near = np.abs(up) + reach * np.abs(turn) <= _FAR  # not so where there is no number
            up, turn = np.where(near, up, 0.0), np.where(near, turn, 0.0)
            if size[near].max(initial=0.0) < _STILL:
                break
    found = near & (size < _STILL)
    return np.where(found, up - turn * middle, np.nan), np.where(found, turn, np.nan)


def _sums(chance: np.ndarray, z: np.ndarray, powers: int) -> list[list[float]]:
    """Sums of the k-th derivative of the logistic function over k!, times powers of z, for k from 0."""
    found: list[list[float]] = [[]]
    derivative = np.polynomial.Polynomial([0, 1, -1])
    of_z = [z**power for power in range(powers)]
    for k in range(1, _TERMS + 1):
        values = derivative(chance) / factorial(k)
        found.append([float(values @ own) for own in of_z])
        derivative = derivative.deriv() * np.polynomial.Polynomial([0, 1, -1])
    return found


def _bent(sums: list[list[float]], up: np.ndarray, turn: np.ndarray, power: int) -> np.ndarray:
    """By how much the sum of chances times z^power grows where log odds grow by up + turn z."""
    total = np.zeros(len(up))
    for k in range(1, _TERMS + 1):
        for m in range(k + 1):
            total += comb(k, m) * up ** (k - m) * turn**m * sums[k][m + power]
    return total
