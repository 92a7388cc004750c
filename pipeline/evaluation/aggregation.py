"""From slices to studies and patients: a unit has a bleed if any of its slices has one."""

from dataclasses import replace
from enum import StrEnum

import numpy as np

from models.errors import BadSettings
from pipeline.evaluation.tallies import decisions
from pipeline.predictions import Predictions

__all__ = ["TOP_SLICES", "Aggregation", "aggregate"]

TOP_SLICES = 3
"""How many of a unit's highest slices `Aggregation.MEAN_TOP` averages."""


class Aggregation(StrEnum):
    """How the slices of a study or patient make one answer."""

    MAX = "max"
    """The highest slice decides: positive if any slice is."""

    MEAN_TOP = "mean-top"
    """The mean of the `TOP_SLICES` highest slices (all, where there are fewer)."""

    NOISY_OR = "noisy-or"
    """1 - product of (1 - probability): slices as independent witnesses, which neighbours are not."""


def aggregate(
    predictions: Predictions, by: str, how: Aggregation | str, threshold: float | None = None
) -> Predictions:
    """One row a study or patient in place of one a slice.

    Parameters
    ----------
    predictions : Predictions
        Of two classes.
    by : {'study', 'patient'}
        Studies are those of one patient: equal names in two patients stay apart.
    how : Aggregation
    threshold : float, optional
        Probability from which a unit is positive. None means 0.5; with ``max`` it means that a unit is
        positive if any of its slices was predicted so, whatever threshold that was at.

    Returns
    -------
    Predictions
        ``slice_id`` holds the unit's name. A unit is positive if any of its slices is labelled so.
        Scores are aggregated as probabilities are, but noisy-or ranks by the sum of log(1 - p) so that
        many certain slices stay in order where the probability rounds to 1.

    Raises
    ------
    BadSettings
        If there are more than two classes, or `by` is neither study nor patient.
    """
    if predictions.positive is None:
        raise BadSettings("answers are joined per study or patient for two classes only")
    if by not in ("study", "patient"):
        raise BadSettings(f"slices can be joined by 'study' or 'patient', not by {by!r}")
    how = Aggregation(how)
    keys = np.column_stack([predictions.patient, predictions.study if by == "study" else predictions.patient])
    _, first, unit = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    unit = unit.ravel()
    negative, positive = predictions.classes
    has_bleed = np.zeros(len(first), dtype=bool)
    np.logical_or.at(has_bleed, unit, predictions.label == positive)
    match how:
        case Aggregation.MAX:
            scores = _mean_of_highest(predictions.scores, unit, 1)
            probabilities = _mean_of_highest(predictions.probabilities, unit, 1)
        case Aggregation.MEAN_TOP:
            scores = _mean_of_highest(predictions.scores, unit, TOP_SLICES)
            probabilities = _mean_of_highest(predictions.probabilities, unit, TOP_SLICES)
        case Aggregation.NOISY_OR:
            tiny = np.finfo(float).tiny
            scores = -np.bincount(unit, np.log(np.maximum(1 - predictions.probabilities, tiny)))
            probabilities = -np.expm1(-scores)
    if how is Aggregation.MAX:
        named = np.zeros(len(first), dtype=bool)
        np.logical_or.at(named, unit, decisions(predictions, threshold).astype(bool))
    else:
        named = probabilities >= (0.5 if threshold is None else threshold)
    return replace(
        predictions.select(first),
        slice_id=keys[first, 1],
        label=np.where(has_bleed, positive, negative),
        scores=scores,
        probabilities=probabilities,
        predicted=np.where(named, positive, negative),
    )


def _mean_of_highest(values: np.ndarray, unit: np.ndarray, count: int) -> np.ndarray:
    """Mean of the `count` highest values of each unit, or of all where there are fewer."""
    order = np.lexsort((-values, unit))
    starts = np.flatnonzero(np.r_[True, np.diff(unit[order]) > 0])
    sizes = np.diff(np.r_[starts, len(order)])
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    chosen = rank < count
    sums = np.bincount(unit[order][chosen], values[order][chosen])
    return sums / np.minimum(sizes, count)
