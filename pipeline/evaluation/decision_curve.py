"""Net benefit: what deciding by a model is worth where a miss and a false alarm weigh what they weigh."""

from typing import Any

import numpy as np

from haemo.pipeline.evaluation.intervals import Resampling, few_of_a_class
from haemo.pipeline.evaluation.jackknife import FREE, with_interval
from haemo.pipeline.run.predictions import Predictions

__all__ = ["SHOWN_THRESHOLDS", "THRESHOLDS", "decision_curve"]

THRESHOLDS = tuple(round(percent / 100, 2) for percent in range(1, 100))
"""Threshold probabilities of the curve."""

SHOWN_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Those that tables show."""

_DRAWS = 4000


def decision_curve(predictions: Predictions, resampling: Resampling | None = None) -> dict[str, Any]:
    """The decision curve of a model, with intervals by patient.

    Parameters
    ----------
    predictions : Predictions
        Of two classes.
    resampling : Resampling, optional

    Returns
    -------
    dict
        ``thresholds``; ``model``, ``everyone`` (calling all positive) and ``gain`` (the model less the
        better of calling all and calling none), each a list of what `jackknife.with_interval` gives;
        ``useful``: [first, last] threshold of the longest run where the gain lies above 0 with a band that
        holds at all thresholds together, or None. Or ``why_not``.

    Notes
    -----
    Net benefit is TP / n - FP / n x p / (1 - p) at a threshold of p, from which on a row counts as positive
    (Vickers and Elkin, Med. Decis. Making 26, 2006). Calling none positive has 0.
    """
    resampling = resampling or Resampling()
    if predictions.uncalibrated:
        return {"why_not": predictions.uncalibrated}
    positive = predictions.label == predictions.positive
    thresholds = np.array(THRESHOLDS)
    names, patient = np.unique(predictions.patient, return_inverse=True)
    groups = resampling.groups(len(names))
    counts = _counts(predictions.probabilities, positive, patient, len(names))

    def figures(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sums = weights @ counts
        total, share = sums[:, -1:], sums[:, -2:-1] / sums[:, -1:]
        odds = thresholds / (1 - thresholds)
        hits, alarms = np.split(sums[:, :-2] / total, 2, axis=1)
        model, everyone = hits - alarms * odds, share - (1 - share) * odds
        return model, everyone, model - np.maximum(everyone, 0)

    whole = figures(np.ones((1, len(names))))
    parts = [figures(weights) for weights in groups.weights()]
    level, rough = resampling.level, few_of_a_class(predictions)
    result: dict[str, Any] = {"thresholds": list(THRESHOLDS)}
    for place, name in enumerate(("model", "everyone", "gain")):
        left_out = np.concatenate([part[place] for part in parts])
        result[name] = [
            with_interval(whole[place][0, column], left_out[:, column], groups.sizes, level, FREE, rough)
            for column in range(len(thresholds))
        ]
    gain, left_out = whole[2][0], np.concatenate([part[2] for part in parts])
    together = _level_together(gain, left_out, groups.sizes, level)
    banded = [
        with_interval(gain[column], left_out[:, column], groups.sizes, together, FREE)
        for column in range(len(thresholds))
    ]
    result["useful"] = _longest([entry.get("low", 0.0) > 0 for entry in banded])
    return result


def _counts(
    probabilities: np.ndarray, positive: np.ndarray, patient: np.ndarray, patients: int
) -> np.ndarray:
    """Rows of each patient: true and false positives at each threshold, then positives, then all.

    Every figure without some patients is then a small product. Shape (patients, 2 * thresholds + 2).
    """
    width = len(THRESHOLDS) + 1
    # A row counts as positive at as many thresholds, the lowest first.
    called = np.searchsorted(THRESHOLDS, probabilities, side="right")
    parts = []
    for rows in (positive, ~positive):
        cells = np.bincount(patient[rows] * width + called[rows], minlength=patients * width)
        at_least = np.cumsum(cells.reshape(patients, width)[:, ::-1], axis=1)[:, ::-1]
        parts.append(at_least.astype(float))
    hits, alarms = parts
    return np.hstack([hits[:, 1:], alarms[:, 1:], hits[:, :1], hits[:, :1] + alarms[:, :1]])


def _level_together(figures: np.ndarray, left_out: np.ndarray, sizes: np.ndarray, level: float) -> float:
    """The level of single intervals that hold together with `level`: by the largest of correlated errors.

    Errors are drawn from the normal distribution with the covariance that patients give the figures.
    """
    from scipy.special import ndtr

    factor = np.sqrt((sizes.sum() / sizes - 1) / len(sizes))[:, None]
    moves = (figures - left_out) * factor
    spread = np.sqrt((moves**2).sum(axis=0))
    moves = moves[:, spread > 0] / spread[spread > 0]
    if not moves.size:
        return level
    noise = np.random.default_rng(0).normal(size=(_DRAWS, len(sizes)))
    largest = np.abs(noise @ moves).max(axis=1)
    return max(level, float(2 * ndtr(np.quantile(largest, level)) - 1))


def _longest(useful: list[bool]) -> list[float] | None:
    best, first = (0, 0), None
    for place, yes in enumerate([*useful, False]):
        if yes and first is None:
            first = place
        elif not yes and first is not None:
            best = max(best, (place - first, -first))
            first = None
    return [THRESHOLDS[-best[1]], THRESHOLDS[-best[1] + best[0] - 1]] if best[0] else None
