"""How far a figure moves when patients are left out, and the interval that follows: the jackknife.

Slices of one patient resemble one another, so whole patients are left out, one at a time, or in groups
dealt at random where there are very many. Moves are judged on a scale without ends (the logit of a share,
the log of a loss) with Student's quantile, so that an interval neither ends beyond what a figure can be nor
is too sure where few patients make most of the error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "AT_ONCE",
    "FREE",
    "LEAST_PATIENTS",
    "METHOD",
    "Estimate",
    "Groups",
    "difference",
    "rough_mark",
    "with_interval",
]

METHOD = "jackknife"
"""Name of the method in files: patients left out in turn, Student's interval on a scale without ends."""

LEAST_PATIENTS = 8
"""Patients of a class from which on intervals hold what they say; with fewer they are rough."""

FREE = (-np.inf, np.inf)
"""Bounds of a figure that has none."""

AT_ONCE = 1_000_000
"""Groups times slices from which on figures without each group are had all at once: some 0.1 s of work."""

SAME = "it is the same whichever patient is left out: too few patients, or no errors, to tell how sure it is"

_BLOCK_ELEMENTS = 2_000_000  # of one block of weights: 16 MB
_STILL = 1e-12  # a figure that moves by less has not moved


@dataclass(frozen=True)
class Groups:
    """Patients that are left out together.

    Attributes
    ----------
    group : ndarray of shape (n_patients,), int
        Group of each patient, 0..n_groups-1; each patient has one of its own where there are few enough.
    """

    group: np.ndarray

    @classmethod
    def deal(cls, patients: int, most: int, seed: int) -> "Groups":
        """Each patient alone, or `most` groups dealt at random, whose sizes differ by one at most.

        Parameters
        ----------
        patients, most : int
        seed : int
            Of no consequence where there are no more than `most` patients.
        """
        if patients <= most:
            return cls(np.arange(patients))
        return cls(np.random.default_rng(seed).permutation(patients) % most)

    @property
    def sizes(self) -> np.ndarray:
        """Patients in each group, shape (n_groups,), int."""
        return np.bincount(self.group)

    def weights(self) -> Iterator[np.ndarray]:
        """How often each patient counts as the groups are left out in turn: 0 or 1.

        Yields blocks of shape (some groups, n_patients), float64.
        """
        count = len(self.sizes)
        block = max(1, _BLOCK_ELEMENTS // len(self.group))
        for first in range(0, count, block):
            left_out = np.arange(first, min(first + block, count))[:, None]
            yield (self.group != left_out).astype(float)

    def sums_without(self, of_patients: np.ndarray) -> np.ndarray:
        """Sums over patients without each group, a block of groups at a time.

        Parameters
        ----------
        of_patients : ndarray of shape (n_patients, ...), float64

        Returns
        -------
        ndarray of shape (n_groups, ...), float64
        """
        return np.concatenate([weights @ of_patients for weights in self.weights()])


@dataclass(frozen=True)
class Estimate:
    """A figure and how far each group of patients moves it.

    Attributes
    ----------
    figure : float
    moves : ndarray of shape (n_parts, n_groups)
        Their squares sum to the variance of the figure. There is one part, or several where a figure has
        more than one source of error.
    bounds : tuple of float
        What the figure can be at least and at most; infinite where there is no end.
    """

    figure: float
    moves: np.ndarray
    bounds: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def of(
        cls, figure: float, left_out: np.ndarray, sizes: np.ndarray, bounds: tuple[float, float] = (0.0, 1.0)
    ) -> "Estimate | str":
        """From the figure of all patients and the figures without each group, or why that cannot be.

        Parameters
        ----------
        figure : float
        left_out : ndarray of shape (n_groups,), float
        sizes : ndarray of shape (n_groups,), int
            Patients in each group.
        bounds : tuple of float

        Notes
        -----
        The variance is that of the delete-a-group jackknife for groups of unequal size (Busing, Meijer and
        van der Leeden, Stat. Comput. 9, 1999) about the figure itself; with one patient a group it is
        Tukey's. For a ROC area it is DeLong's, with patients in place of slices.
        """
        if len(sizes) < 2:
            return "there is one patient only"
        if np.isnan(left_out).any():
            return "undefined without one of the patients: too few patients of a class"
        return cls(figure, moves_of(figure, left_out, sizes)[None], bounds)

    @property
    def variance(self) -> float:
        """Of the figure."""
        return float(np.sum(self.moves**2))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance; 0 where fewer than two groups move the figure.

        The variance is a sum of squares, one a group, and its degrees of freedom are twice its square over
        its own variance, as Satterthwaite's (Biometrics Bull. 2, 1946), with the fourth moment of the groups
        as they are: few where few patients make most of the variance. They are no more than the groups
        that move the figure, less one.
        """
        squares = np.sum(self.moves**2, axis=0)
        moving = np.count_nonzero(squares > _STILL**2)
        if moving < 2:
            return 0.0
        noise = np.sum(squares**2) - squares.sum() ** 2 / len(squares)
        freedom = 2 * squares.sum() ** 2 / noise if noise > 0 else np.inf
        return float(np.clip(freedom, 1, moving - 1))

    @property
    def _scaled(self) -> tuple[float, float]:
        """The figure on a scale without ends, and that scale's slope there."""
        low, high = self.bounds
        above, below = self.figure - low, high - self.figure
        if np.isinf(low):
            return self.figure, 1.0
        if np.isinf(high):
            return float(np.log(above)), 1 / above
        return float(np.log(above / below)), 1 / above + 1 / below

    @property
    def _at_an_end(self) -> bool:
        low, high = self.bounds
        return min(self.figure - low, high - self.figure) < _STILL

    def interval(self, level: float) -> tuple[float, float] | str:
        """Student's interval on the scale without ends, taken back; or the reason why there is none.

        Parameters
        ----------
        level : float in 0..1, exclusive
        """
        if self.freedom == 0:
            return SAME
        place, slope = self._scaled
        half = student(self.freedom, 1 - level) * slope * np.sqrt(self.variance)
        low, high = self.bounds
        ends = np.array([place - half, place + half])
        if np.isinf(low):
            taken_back = ends
        elif np.isinf(high):
            taken_back = low + np.exp(ends)
        else:
            taken_back = low + (high - low) / (1 + np.exp(-ends))
        return float(min(taken_back[0], self.figure)), float(max(taken_back[1], self.figure))


def with_interval(
    figure: float,
    left_out: np.ndarray,
    sizes: np.ndarray,
    level: float,
    bounds: tuple[float, float] = (0.0, 1.0),
    rough: bool = False,
) -> dict[str, Any]:
    """A figure as files hold it: ``value``, with ``low`` and ``high`` or ``no_interval``, the reason.

    Parameters
    ----------
    figure, left_out, sizes, bounds
        As for `Estimate.of`.
    level : float in 0..1, exclusive
    rough : bool
        Whether a class has too few patients; the entry then says ``rough``.
    """
    found = Estimate.of(figure, left_out, sizes, bounds)
    if isinstance(found, Estimate):
        found = found.interval(level)
    if isinstance(found, str):
        return {"value": float(figure), "no_interval": found}
    entry = {"value": float(figure), "low": found[0], "high": found[1]}
    return {**entry, "rough": True} if rough else entry


def rough_mark(entry: Mapping[str, Any]) -> str:
    """What stands before an interval: ``~`` where it is rough, for a class has too few patients."""
    return "~" if entry.get("rough") else ""


def moves_of(figure: float, left_out: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """How far each group moves a figure, so that the squares sum to its variance (see `Estimate.of`)."""
    return (figure - left_out) * np.sqrt((sizes.sum() / sizes - 1) / len(sizes))


def student(freedom: float, alpha: float) -> float:
    """The quantile of Student's distribution that leaves out `alpha`, on both sides together."""
    from scipy.special import stdtrit

    return -float(stdtrit(freedom, alpha / 2))


def difference(first: Estimate, second: Estimate, level: float) -> tuple[float, float, float] | str:
    """Interval of the difference of two figures of the same patients, and the p-value of no difference.

    Parameters
    ----------
    first, second : Estimate
        With the same groups, parts and bounds.
    level : float

    Returns
    -------
    tuple of float
        ``low``, ``high`` and ``p`` (two-sided); or the reason why there are none.

    Notes
    -----
    The difference is judged on the scale without ends, where a figure near its end moves as freely as
    another, and taken back by the slope of the chord between both figures. The interval leaves out 0 where
    p is below 1 - level. Where a figure is at its end both are judged as they are.
    """
    from scipy.special import stdtr

    plain = first.figure - second.figure
    if first._at_an_end or second._at_an_end:
        place, slope, other_slope, chord = plain, 1.0, 1.0, 1.0
    else:
        (own, slope), (other, other_slope) = first._scaled, second._scaled
        place = own - other
        chord = plain / place if abs(place) > _STILL else 1 / slope
    between = Estimate(place, slope * first.moves - other_slope * second.moves, (-np.inf, np.inf))
    if between.freedom == 0:
        return SAME
    error = np.sqrt(between.variance)
    half = student(between.freedom, 1 - level) * error * chord
    p = 2 * stdtr(between.freedom, -abs(between.figure) / error)
    return float(plain - half), float(plain + half), float(p)
