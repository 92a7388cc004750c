"""Tests of two models on the same slices; `jackknife.difference` is DeLong's with patients kept whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from haemo.errors import BadDataset

__all__ = ["AreaDifference", "delong", "exact_mcnemar", "holm", "patient_sign_test"]


@dataclass(frozen=True)
class AreaDifference:
    """Two areas under the ROC curve and the test of their difference.

    Attributes
    ----------
    first, second : float
        The two areas.
    variance : float
        Of ``first - second``; 0 where both models rank all slices alike.
    p : float
        Two-sided, normal approximation. Where the variance is 0 it is 1 if the areas agree, else NaN:
        the normal approximation has nothing to say there.
    """

    first: float
    second: float
    variance: float
    p: float


def delong(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> AreaDifference:
    """DeLong's test of two correlated ROC areas (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988).

    Every slice counts as independent, which is too sure where patients have several slices.

    Parameters
    ----------
    positive : ndarray of shape (n,), bool
    first, second : ndarray of shape (n,), float
        Scores of the two models.

    Returns
    -------
    AreaDifference

    Raises
    ------
    BadDataset
        If there are fewer than two slices of either class.

    Notes
    -----
    Components come from midranks (Sun and Xu, IEEE Signal Process. Lett. 21, 2014), in O(n log n).
    """
    from scipy.stats import norm, rankdata

    positive = np.asarray(positive, dtype=bool)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        raise BadDataset(f"comparing ROC areas needs two slices of each class; there are {m} and {n}")
    areas, of_positives, of_negatives = [], [], []
    for scores in (first, second):
        together = rankdata(scores)
        of_positives.append((together[positive] - rankdata(scores[positive])) / n)
        of_negatives.append(1 - (together[~positive] - rankdata(scores[~positive])) / m)
        areas.append(of_positives[-1].mean())
    # Only the difference of the components matters for the variance of the difference of areas.
    v10 = of_positives[0] - of_positives[1]
    v01 = of_negatives[0] - of_negatives[1]
    difference = areas[0] - areas[1]
    variance = float(v10.var(ddof=1) / m + v01.var(ddof=1) / n)
    if variance < 1e-24:
        p = 1.0 if abs(difference) < 1e-12 else float("nan")
    else:
        p = float(2 * norm.sf(abs(difference) / np.sqrt(variance)))
    return AreaDifference(float(areas[0]), float(areas[1]), variance, p)


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test: are the slices that one model alone gets right split evenly?

    Parameters
    ----------
    only_first, only_second : int
        Slices that only the first, and only the second model gets right.

    Returns
    -------
    float
        p-value; 1 where there is no such slice. Every slice counts as independent.
    """
    from scipy.stats import binomtest

    total = only_first + only_second
    return 1.0 if total == 0 else float(binomtest(only_first, total).pvalue)


def patient_sign_test(difference: np.ndarray, patient: np.ndarray) -> float:
    """Exact two-sided test that two models are equally often right, with whole patients exchanged.

    If the two models were alike, their answers could be exchanged for any patient: the sum of that
    patient's differences would change sign. The p-value is the share of all 2^patients exchanges with a
    total at least as far from zero. With one slice a patient it is the exact McNemar test.

    Parameters
    ----------
    difference : ndarray of shape (n,), int
        Per slice: 1 where only the first model is right, -1 where only the second is, else 0.
    patient : ndarray of shape (n,)

    Returns
    -------
    float

    Notes
    -----
    The distribution of the total is found exactly, patient after patient, as a table over its possible
    values (the shift algorithm of Pagano and Tritchler, J. Am. Stat. Assoc. 78, 1983).
    """
    _, place = np.unique(patient, return_inverse=True)
    sums = np.bincount(place, difference).astype(int)
    steps = np.abs(sums[sums != 0])
    # chance[reach + t] is the probability of the total t after the patients so far, who reach as far.
    chance = np.ones(1)
    for step in steps:
        moved = np.zeros(len(chance) + 2 * step)
        moved[2 * step :] += chance / 2
        moved[: len(chance)] += chance / 2
        chance = moved
    reach = len(chance) // 2
    totals = np.abs(np.arange(-reach, reach + 1))
    return float(min(1.0, chance[totals >= abs(int(sums.sum()))].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values for their number (Scand. J. Stat. 6, 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected.tolist()
