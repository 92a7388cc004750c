"""Whether probabilities are right on average and spread as they should: calibration-in-the-large, slope."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.pipeline.evaluation.intervals import Resampling, few_of_a_class
from haemo.pipeline.evaluation.jackknife import AT_ONCE, FREE, with_interval
from haemo.pipeline.evaluation.left_out_lines import moves_without
from haemo.pipeline.evaluation.ranking import ratio
from haemo.pipeline.run.predictions import Predictions

__all__ = ["LEAST_CHANCE", "CalibrationLine", "calibration_line", "log_odds"]

LEAST_CHANCE = 1e-6
"""Probabilities are held within this and 1 less this: log odds of 0 and 1 are infinite."""

_MOST_STEPS = 50
_LONGEST = 2.0
_STEEPEST = 1e3  # a slope beyond it means that a threshold tells the classes apart without an error
_BLOCK_ELEMENTS = 1_000_000  # of one array of weighted rows: 8 MB

_PERFECT = "the probabilities tell the classes apart without an error: no slope fits best"
_ONE_CLASS = "all rows are of one class"


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Log odds of probabilities, held within `LEAST_CHANCE` of the ends."""
    held = np.clip(np.asarray(probabilities, dtype=np.float64), LEAST_CHANCE, 1 - LEAST_CHANCE)
    return np.log(held / (1 - held))


@dataclass(frozen=True)
class CalibrationLine:
    """Logistic regression of what is true on the log odds that a model gives.

    Attributes
    ----------
    shift : float
        Calibration-in-the-large: what has to be added to all log odds for the mean probability to be the
        share of positives. Above 0 the model gives too low probabilities.
    slope : float
        1 where probabilities are spread as they should be; below, the model is too sure.
    intercept : float
        Of the line with that slope.

    Notes
    -----
    Cox, Biometrika 45 (1958); Van Calster et al., J. Clin. Epidemiol. 74 (2016), who call them weak
    calibration.
    """

    shift: float
    slope: float
    intercept: float

    @classmethod
    def fit(cls, positive: np.ndarray, probabilities: np.ndarray) -> "CalibrationLine | str":
        """By maximum likelihood, or the reason why there is none."""
        if positive.all() or not positive.any():
            return _ONE_CLASS
        x, one = log_odds(probabilities), np.ones((1, len(positive)))
        # From no slope at all Newton's steps lead to the best one; from a wrong one they may overshoot.
        share = float(log_odds(positive.mean()))
        shift = _fit(x, positive, one, np.array([[share - x.mean()]]), offset=True)[0, 0]
        intercept, slope = _fit(x, positive, one, np.array([[share, 0.0]]))[0]
        if np.isnan(slope) or np.isnan(shift):
            return _PERFECT
        return cls(float(shift), float(slope), float(intercept))

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities moved onto the line of observed frequencies; the order stays where slope > 0."""
        from scipy.special import expit

        return expit(self.intercept + self.slope * log_odds(probabilities))


def calibration_line(predictions: Predictions, resampling: Resampling | None = None) -> dict[str, Any]:
    """Calibration-in-the-large, slope, and observed over expected, with intervals by patient.

    Parameters
    ----------
    predictions : Predictions
        Of two classes, with probabilities.
    resampling : Resampling, optional

    Returns
    -------
    dict
        ``in_the_large``, ``slope`` and ``observed_to_expected`` (positives over the sum of probabilities),
        each as `jackknife.with_interval` gives it; or ``why_not``. ``held`` counts probabilities that were
        moved off 0 or 1.
    """
    resampling = resampling or Resampling()
    if predictions.uncalibrated:
        return {"why_not": predictions.uncalibrated}
    positive = predictions.label == predictions.positive
    line = CalibrationLine.fit(positive, predictions.probabilities)
    if isinstance(line, str):
        return {"why_not": line}
    names, patient = np.unique(predictions.patient, return_inverse=True)
    groups = resampling.groups(len(names))
    x = log_odds(predictions.probabilities)
    if len(groups.sizes) * len(x) > AT_ONCE:
        left_out = _at_once(line, x, positive, predictions.probabilities, groups.group[patient])
    else:
        left_out = _in_turn(line, x, positive, predictions.probabilities, patient, groups.weights())
    level, rough = resampling.level, few_of_a_class(predictions)
    expected = float(predictions.probabilities.sum())
    result: dict[str, Any] = {"held": int(np.sum(np.abs(x) >= log_odds(np.array([1.0]))[0]))}
    for (name, figure, bounds), without in zip(
        (
            ("in_the_large", line.shift, FREE),
            ("slope", line.slope, FREE),
            ("observed_to_expected", positive.sum() / max(expected, LEAST_CHANCE), (0.0, np.inf)),
        ),
        left_out,
        strict=True,
    ):
        result[name] = with_interval(figure, without, groups.sizes, level, bounds, rough)
    return result


def _in_turn(
    line: CalibrationLine,
    x: np.ndarray,
    positive: np.ndarray,
    probabilities: np.ndarray,
    patient: np.ndarray,
    weights_of_groups: Iterable[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shift, slope and observed over expected for each row of weights of patients."""
    block = max(1, _BLOCK_ELEMENTS // len(x))
    shifts, slopes, ratios = [], [], []
    for weights in weights_of_groups:
        for first in range(0, len(weights), block):
            each = weights[first : first + block][:, patient]
            start = np.full((len(each), 1), line.shift)
            shifts.append(_fit(x, positive, each, start, offset=True)[:, 0])
            start = np.tile([line.intercept, line.slope], (len(each), 1))
            slopes.append(_fit(x, positive, each, start)[:, 1])
            ratios.append(ratio(each @ positive, each @ probabilities))
    return np.concatenate(shifts), np.concatenate(slopes), np.concatenate(ratios)


def _at_once(
    line: CalibrationLine, x: np.ndarray, positive: np.ndarray, probabilities: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for each group of slices left out, without going through all slices for each."""
    count = int(group.max()) + 1
    shifts = line.shift + moves_without(x, line.shift + x, positive, group, count, offset=True)[0]
    eta = line.intercept + line.slope * x
    slopes = line.slope + moves_without(x, eta, positive, group, count, offset=False)[1]
    # A line that moves far, or has no end, is fitted as the few are.
    for one in np.flatnonzero(np.isnan(shifts) | np.isnan(slopes)):
        left = (group != one).astype(float)[None]
        shifts[one] = _fit(x, positive, left, np.array([[line.shift]]), offset=True)[0, 0]
        slopes[one] = _fit(x, positive, left, np.array([[line.intercept, line.slope]]))[0, 1]
    expected = probabilities.sum() - np.bincount(group, probabilities, count)
    observed = positive.sum() - np.bincount(group, positive, count)
    return shifts, slopes, ratio(observed, expected)


def _fit(
    x: np.ndarray, positive: np.ndarray, weights: np.ndarray, start: np.ndarray, offset: bool = False
) -> np.ndarray:
    """Logistic regressions on one number by Newton's method, one for each row of weights.

    Parameters
    ----------
    x : ndarray of shape (n,)
    positive : ndarray of shape (n,), bool
    weights : ndarray of shape (fits, n)
    start : ndarray of shape (fits, 2), or (fits, 1) with `offset`
    offset : bool
        Fit the intercept alone, with x as it is.

    Returns
    -------
    ndarray of the shape of `start`
        NaN where no finite fit is best.
    """
    from scipy.special import expit

    found = start.copy()
    for _ in range(_MOST_STEPS):
        eta = found[:, :1] + (x if offset else found[:, 1:] * x)
        chance = expit(eta)
        left, spread = weights * (positive - chance), weights * chance * (1 - chance)
        a, g = spread.sum(axis=1), left.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            if offset:
                step = (g / a)[:, None]
            else:
                b, c, h = spread @ x, spread @ x**2, left @ x
                step = np.stack([c * g - b * h, a * h - b * g], axis=1) / (a * c - b**2)[:, None]
        step = np.clip(step, -_LONGEST, _LONGEST)  # near the end no step is as long
        found += step
        if np.nanmax(np.abs(step), initial=0.0) < 1e-10:
            break
    wild = ~np.isfinite(found).all(axis=1) | (np.abs(found) > _STEEPEST).any(axis=1)
    wild |= np.abs(step).max(axis=1) > 1e-6
    found[wild] = np.nan
    return found
