"""When a study or patient has a bleed: by calibrated probability, however many slices it has.

The highest of many slices is high by chance alone. So scores of units are set back by as much as those of
healthy units grow with the number of slices, and probabilities and threshold are those of units, all of it
learned from units that were held out of training. ``compare``, the report and ``predict`` share the rule.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from haemo.models.heads.thresholds import ThresholdRule, parse_threshold
from haemo.pipeline.evaluation.aggregation import Aggregation, aggregate, units_of
from haemo.pipeline.evaluation.intervals import Resampling, assess
from haemo.pipeline.evaluation.units import Answers, background_of
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions

__all__ = ["UnitRule", "judged_units", "rule_of", "told_by_count", "unit_rule"]

LEAST_UNITS = 5
"""Units of each class that have to be held out for a rule."""

_STRIDES = (1, 2, 4)  # every slice, every second, every fourth


@dataclass(frozen=True)
class UnitRule:
    """What makes probabilities and answers of units from the scores of their slices.

    Attributes
    ----------
    by : {'study', 'patient'}
    how : Aggregation
    growth : float
        How much the aggregated score of a healthy unit grows where its slices grow e-fold in number.
    slope, intercept : float
        Of Platt's sigmoid on what is left.
    threshold : float in 0..1
        Probability of the positive class from which a unit is positive.
    """

    by: str
    how: Aggregation
    growth: float
    slope: float
    intercept: float
    threshold: float

    def judge(self, slices: Predictions, threshold: float | None = None) -> Predictions:
        """One row a unit, as `aggregate` gives it, with scores, probabilities and answers by the rule.

        Parameters
        ----------
        slices : Predictions
            Of two classes.
        threshold : float in 0..1, optional
            In place of the rule's own.
        """
        units = _Units.of(slices, self.by, self.how)
        return self._judged(units, threshold)

    def _judged(self, units: "_Units", threshold: float | None) -> Predictions:
        from scipy.special import expit

        left = units.scores - self.growth * np.log(units.slices)
        chances = expit(self.slope * left + self.intercept)
        probabilities = chances if units.sign > 0 else 1 - chances
        at = self.threshold if threshold is None else threshold
        return replace(
            units.answers,
            scores=units.sign * left,
            probabilities=probabilities,
            predicted=np.array(units.answers.classes)[(probabilities >= at).astype(int)],
            thresholds=np.full(len(left), at),
            uncalibrated="",
        )


def unit_rule(
    run: RunDirectory,
    name: str,
    by: str,
    how: Aggregation | str,
    held_out: Predictions | None = None,
) -> UnitRule | None:
    """The rule of a model of a run, from the slices that were held out of its training.

    The threshold is chosen as the model's own for slices was, on units; for a model without such a rule
    by Youden's. None where too few units were held out, for several classes, and where there are no
    predictions; units are then judged as `aggregate` has it. The slices are read unless `held_out` has them.
    """
    if held_out is None:
        if not (run.model_path(name) / "predictions.csv").exists():
            return None
        held_out = run.predictions(name).of_part("cv")
    return rule_of(held_out, by, how, _threshold_rule(run, name))


def rule_of(
    held_out: Predictions, by: str, how: Aggregation | str, chosen_by: ThresholdRule
) -> UnitRule | None:
    """The rule that slices held out of training give; None as of `unit_rule`."""
    if held_out.positive is None or not len(held_out):
        return None
    units = _Units.of(held_out, by, Aggregation(how))
    return _fit(units, np.ones(len(units.slices), dtype=bool), chosen_by)


def judged_units(
    run: RunDirectory,
    name: str,
    slices: Predictions,
    by: str,
    how: Aggregation | str,
    threshold: float | None = None,
    held_out: Predictions | None = None,
) -> Answers:
    """Units of one part, ``cv`` or ``test``, of what a model of a run says, by its rule where there is one.

    Units of ``cv`` are judged by the rule of the other folds.

    Parameters
    ----------
    run : RunDirectory
    name : str
    slices : Predictions
        Of one part.
    by, how, threshold
        As for `aggregate`.
    held_out : Predictions, optional
        As for `unit_rule`.
    """
    how = Aggregation(how)
    if slices.positive is None or not (slices.part == "cv").any():
        rule = unit_rule(run, name, by, how, held_out)
        return rule.judge(slices, threshold) if rule else aggregate(slices, by, how, threshold)
    units = _Units.of(slices, by, how)
    fold, chosen_by = units.answers.fold, _threshold_rule(run, name)
    rules = {one: _fit(units, fold != one, chosen_by) for one in np.unique(fold).tolist()}
    if None in rules.values():
        return aggregate(slices, by, how, threshold)
    judged = {one: rule._judged(units, threshold) for one, rule in rules.items()}
    columns = {
        column: np.array([getattr(judged[one], column)[row] for row, one in enumerate(fold.tolist())])
        for column in ("scores", "probabilities", "predicted", "thresholds")
    }
    return replace(units.answers, **columns, uncalibrated="")


def told_by_count(
    slices: Predictions, by: str, resampling: Resampling | None = None
) -> dict[str, Any] | None:
    """What the number of slices alone tells, which is no merit of a model: figures with it as score.

    None for several classes, and where all units have equally many.
    """
    if slices.positive is None:
        return None
    count = np.bincount(units_of(slices, by)[2])
    if np.ptp(count) == 0:
        return None
    return assess(
        replace(aggregate(slices, by, Aggregation.MAX), scores=count.astype(float)), resampling=resampling
    )


@dataclass(frozen=True, eq=False)
class _Units:
    """Units of slices, and what becomes of them when slices are left out.

    `scores` speak for a bleed; `sign` is -1 where the positive class is that there is none. `thinned` has the
    unit, its slices and its score, and a weight, for each unit with every slice, every second and so on.
    """

    by: str
    how: Aggregation
    answers: Predictions
    slices: np.ndarray
    scores: np.ndarray
    sign: int
    thinned: np.ndarray

    @classmethod
    def of(cls, slices: Predictions, by: str, how: Aggregation) -> "_Units":
        sign = -1 if background_of(slices.classes) == slices.positive else 1
        _, _, unit = units_of(slices, by)
        order = np.argsort(unit, kind="stable")
        count = np.bincount(unit)
        rank = np.empty(len(unit), dtype=int)
        rank[order] = np.arange(len(unit)) - np.repeat(np.cumsum(count) - count, count)
        answers = aggregate(slices, by, how)
        thinned = []
        for stride in _STRIDES:
            for first in range(stride):
                kept = rank % stride == first
                there = np.unique(unit[kept])
                scores = _score(aggregate(slices.select(kept), by, how), sign, how)
                left = np.bincount(unit[kept], minlength=len(count))[there]
                thinned.append(np.stack([there, left, scores, np.full(len(there), 1 / stride)]))
        return cls(by, how, answers, count, _score(answers, sign, how), sign, np.concatenate(thinned, axis=1))


def _score(answers: Answers, sign: int, how: Aggregation) -> np.ndarray:
    """Scores of units that speak for a bleed; those of noisy-or, sums over slices, as logarithms."""
    scores = sign * answers.scores
    return np.log(np.maximum(scores, np.finfo(float).tiny)) if how is Aggregation.NOISY_OR else scores


def _fit(units: _Units, known: np.ndarray, chosen_by: ThresholdRule) -> UnitRule | None:
    """The rule of the `known` units; None where a class has too few of them."""
    from haemo.models.heads.calibration import SigmoidCalibrator

    positive = units.answers.label == units.answers.positive
    bleeds = positive if units.sign > 0 else ~positive
    if min((bleeds & known).sum(), (~bleeds & known).sum()) < LEAST_UNITS:
        return None
    growth = _growth(units, known & ~bleeds)
    left = (units.scores - growth * np.log(units.slices))[known]
    fitted = SigmoidCalibrator().fit(left, bleeds[known])
    chances = fitted.predict(left)
    threshold = chosen_by.choose(positive[known], chances if units.sign > 0 else 1 - chances)
    return UnitRule(units.by, units.how, growth, fitted.slope_, fitted.intercept_, threshold)


def _growth(units: _Units, healthy: np.ndarray) -> float:
    """Slope of healthy units' scores over the logarithm of their slices, by least squares.

    Thinned units show it even where all have equally many slices.
    """
    unit, slices, scores, weights = units.thinned
    own = healthy[unit.astype(int)]
    x, scores, weights = np.log(slices[own]), scores[own], weights[own]
    x = x - np.average(x, weights=weights)
    spread = np.sum(weights * x**2)
    return float(np.sum(weights * x * scores) / spread) if spread > 0 else 0.0


def _threshold_rule(run: RunDirectory, name: str) -> ThresholdRule:
    return parse_threshold(run.settings(name).get("threshold_rule", "youden"))
