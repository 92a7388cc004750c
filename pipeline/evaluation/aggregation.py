"""From slices to studies and patients: a unit has a bleed if any of its slices has one."""

from dataclasses import replace
from enum import StrEnum
from typing import assert_never

import numpy as np

from haemo.errors import BadSettings
from haemo.pipeline.evaluation.tallies import decisions, positions
from haemo.pipeline.evaluation.units import Answers, UnitAnswers, background_of
from haemo.pipeline.run.predictions import Predictions

__all__ = ["TOP_SLICES", "Aggregation", "aggregate", "aggregate_sets", "units_of"]

TOP_SLICES = 3
"""How many of a unit's highest slices `Aggregation.MEAN_TOP` averages."""


class Aggregation(StrEnum):
    """How the slices of a study or patient make one answer."""

    MAX = "max"
    """The highest slice decides: a unit has a bleed if any slice has."""

    MEAN_TOP = "mean-top"
    """The mean of the `TOP_SLICES` highest slices (all, where there are fewer)."""

    NOISY_OR = "noisy-or"
    """1 - product of (1 - probability): slices as independent witnesses, which neighbours are not."""


def aggregate(
    predictions: Predictions, by: str, how: Aggregation | str, threshold: float | None = None
) -> Answers:
    """One row a study or patient in place of one a slice.

    Parameters
    ----------
    predictions : Predictions
    by : {'study', 'patient'}
        Studies are those of one patient: equal names in two patients stay apart.
    how : Aggregation
    threshold : float, optional
        Probability of the positive class from which a unit is positive, be it a bleed or the background.
        None means the one at which the model decides about slices; with ``max`` a unit then has what any of
        its slices was predicted as. Two classes only. `pipeline.evaluation.unit_rule` has one for units.

    Returns
    -------
    Predictions
        For two classes. ``slice_id`` holds the unit's name. A unit has the class that is not the background
        (`pipeline.evaluation.units.background_of`) if any of its slices is labelled so; where neither
        class is the background, that is the positive one. Scores are aggregated as probabilities are, but
        noisy-or ranks by the sum of log(1 - p) so that many certain slices stay in order where the
        probability rounds to 1.
    UnitAnswers
        For more: see `aggregate_sets`.

    Raises
    ------
    BadSettings
        If `by` is neither study nor patient, or a threshold is given for more than two classes.
    BadDataset
        As `aggregate_sets`.

    Notes
    -----
    Usually the bleed is the positive class. Where the background is (``--positive normal``), a unit is
    positive only if all its slices are, and all is mirrored: the bleed's probability 1 - p is aggregated,
    and the unit's probability of the positive class is 1 less the result. With ``max`` that is the lowest p
    of its slices, with ``mean-top`` the mean of the lowest, with ``noisy-or`` the product. A threshold is on
    that probability still: with ``max`` a unit is normal if all its slices are from the threshold up. So a
    threshold of t says what 1 - t says where the bleed is the positive class; at t itself the positive
    class is named, whichever it is.
    """
    if predictions.positive is None:
        if threshold is not None:
            raise BadSettings(f"a threshold needs two classes; here there are {len(predictions.classes)}")
        return aggregate_sets(predictions, by, how)
    how = Aggregation(how)
    units, first, unit = units_of(predictions, by)
    names, shown, chances = np.array(predictions.classes), predictions.scores, predictions.probabilities
    # Positions among the classes: of the one that any slice decides, and of the other.
    one, other = (0, 1) if background_of(predictions.classes) == predictions.positive else (1, 0)
    labels = positions(predictions.label, predictions.classes, "label")
    has = _any_slice(labels == one, unit, len(first))
    if one == 1:
        scores, probabilities = _joined(shown, chances, 1 - chances, unit, how)
    else:
        scores, probabilities = _joined_background(shown, chances, unit, how)
    if how is Aggregation.MAX:
        named = np.where(_any_slice(decisions(predictions, threshold) == one, unit, len(first)), one, other)
    else:
        own = 0.5 if predictions.thresholds is None else predictions.thresholds[first]
        named = (probabilities >= (own if threshold is None else threshold)).astype(int)
    return replace(
        predictions.select(first),
        slice_id=units,
        label=names[np.where(has, one, other)],
        scores=scores,
        probabilities=probabilities,
        predicted=names[named],
        uncalibrated=f"probabilities of slices joined by {how.value} are not calibrated for a {by}",
    )


def aggregate_sets(predictions: Predictions, by: str, how: Aggregation | str) -> UnitAnswers:
    """One row a study or patient, each with a set of classes: a patient can have two kinds of bleed.

    The background is what `pipeline.evaluation.units.background_of` finds among the classes. A unit has every
    other class that any of its slices is labelled with, and the background if it has none of them.

    Parameters
    ----------
    predictions : Predictions
        Of any number of classes.
    by : {'study', 'patient'}
        As for `aggregate`.
    how : Aggregation

    Returns
    -------
    UnitAnswers
        Scores and probabilities of each class are aggregated over slices as those of the positive class of
        two are. A slice has anything but the background with 1 - its probability of the background; these
        are aggregated likewise, and the background of the unit has 1 less the result. So with ``max`` the
        least normal slice decides how normal a study is, and with ``noisy-or`` it is normal if all slices
        are. The background's scores are aggregated with their sign turned, and turned back. With ``max`` a
        class is named if any slice was predicted as it, else if its probability is 0.5 or more; the
        background is named if no other class is.

    Raises
    ------
    BadSettings
        If `by` is neither study nor patient.
    BadDataset
        If a label or predicted class is none of the classes.

    Notes
    -----
    With two classes, one of them the background, this is what `aggregate` gives, whichever is positive, but
    where a probability of exactly 0.5 is joined by other than ``max``: there the positive class is named,
    here the one that is not the background.
    """
    how = Aggregation(how)
    units, first, unit = units_of(predictions, by)
    classes = predictions.classes
    every = np.eye(len(classes), dtype=bool)
    has = _any_slice(every[positions(predictions.label, classes, "label")], unit, len(first))
    shown, chances = predictions.scores, predictions.probabilities
    if predictions.positive is not None:
        shown, chances = np.column_stack([-shown, shown]), np.column_stack([1 - chances, chances])
    background = background_of(classes)
    scores, probabilities = np.empty(has.shape), np.empty(has.shape)
    for one, name in enumerate(classes):
        own, rest = chances[:, one], 1 - chances[:, one]
        if name == background:
            scores[:, one], probabilities[:, one] = _joined_background(shown[:, one], own, unit, how)
        else:
            scores[:, one], probabilities[:, one] = _joined(shown[:, one], own, rest, unit, how)
    if how is Aggregation.MAX:
        named = _any_slice(every[decisions(predictions)], unit, len(first))
    else:
        named = probabilities >= 0.5
    if background is not None:
        one = classes.index(background)
        for sets in (has, named):
            sets[:, one] = ~np.delete(sets, one, axis=1).any(axis=1)
    return UnitAnswers(
        by=by,
        unit=units,
        patient=predictions.patient[first],
        study=predictions.study[first],
        has=has,
        named=named,
        scores=scores,
        probabilities=probabilities,
        classes=classes,
        background=background,
    )


def units_of(predictions: Predictions, by: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Name and first slice of each study or patient, and the unit of each slice."""
    if by not in ("study", "patient"):
        raise BadSettings(f"slices can be joined by 'study' or 'patient', not by {by!r}")
    keys = np.column_stack([predictions.patient, predictions.study if by == "study" else predictions.patient])
    _, first, unit = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return keys[first, 1], first, unit.ravel()


def _any_slice(flags: np.ndarray, unit: np.ndarray, count: int) -> np.ndarray:
    """Whether any slice of each of `count` units has a flag, by column where there are several."""
    found = np.zeros((count, *flags.shape[1:]), dtype=bool)
    np.logical_or.at(found, unit, flags)
    return found


def _joined(
    scores: np.ndarray, present: np.ndarray, absent: np.ndarray, unit: np.ndarray, how: Aggregation
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and probabilities of units, from slices' scores and chances that a class is there and is not."""
    match how:
        case Aggregation.MAX:
            return _mean_of_highest(scores, unit, 1), _mean_of_highest(present, unit, 1)
        case Aggregation.MEAN_TOP:
            return _mean_of_highest(scores, unit, TOP_SLICES), _mean_of_highest(present, unit, TOP_SLICES)
        case Aggregation.NOISY_OR:
            sums = -np.bincount(unit, np.log(np.maximum(absent, np.finfo(float).tiny)))
            return sums, -np.expm1(-sums)
    assert_never(how)


def _joined_background(
    scores: np.ndarray, present: np.ndarray, unit: np.ndarray, how: Aggregation
) -> tuple[np.ndarray, np.ndarray]:
    """The same for the background, which all slices must have: 1 less what the others' 1 - p make."""
    match how:
        case Aggregation.MAX:
            return -_mean_of_highest(-scores, unit, 1), -_mean_of_highest(-present, unit, 1)
        case Aggregation.MEAN_TOP:
            return -_mean_of_highest(-scores, unit, TOP_SLICES), -_mean_of_highest(-present, unit, TOP_SLICES)
        case Aggregation.NOISY_OR:
            sums = np.bincount(unit, np.log(np.maximum(present, np.finfo(float).tiny)))
            return sums, np.exp(sums)
    assert_never(how)


def _mean_of_highest(values: np.ndarray, unit: np.ndarray, count: int) -> np.ndarray:
    """Mean of the `count` highest values of each unit, or of all where there are fewer."""
    order = np.lexsort((-values, unit))
    starts = np.flatnonzero(np.r_[True, np.diff(unit[order]) > 0])
    sizes = np.diff(np.r_[starts, len(order)])
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    chosen = rank < count
    sums = np.bincount(unit[order][chosen], values[order][chosen])
    return sums / np.minimum(sizes, count)
