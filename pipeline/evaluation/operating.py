"""The same model at other operating points: at 0.5, and at thresholds for a sensitivity or a specificity."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from haemo.models.heads.thresholds import ThresholdRule, parse_threshold
from haemo.pipeline.evaluation.intervals import Resampling, assess_decisions
from haemo.pipeline.run.predictions import Predictions

__all__ = [
    "OWN",
    "POINTS",
    "SHOWN",
    "chosen_points",
    "heading_of_points",
    "operating_points",
    "point_title",
    "rows_of_points",
]

OWN = "own"
"""Name of the point at which a model decides by itself, or at which it was asked to."""

POINTS = ("0.5", "sensitivity=0.9", "specificity=0.9")
"""The other points, as `models.heads.thresholds.parse_threshold` reads them."""

SHOWN = ("sensitivity", "specificity", "ppv", "npv", "accuracy")
"""The figures that tables of points show."""

_NONE_HELD_OUT = "nothing was held out of training to choose a threshold by"


def point_title(name: str) -> str:
    """A point as people write it: ``sensitivity=0.9`` as 90% sensitivity."""
    if name == OWN:
        return "own threshold"
    rule = parse_threshold(name)
    if rule.name == "youden":
        return "for sensitivity + specificity"
    return f"at {name}" if rule.name == "fixed" else f"for {rule.value:.0%} {rule.name}"


def chosen_points(held_out: Predictions | None) -> dict[str, float]:
    """Thresholds by point, chosen on what was held out of training: Youden's, and those of `POINTS`.

    Empty where nothing was held out, one class is missing there, or there are more than two.
    """
    if held_out is None or held_out.positive is None or len(np.unique(held_out.label)) < 2:
        return {}
    positive = held_out.label == held_out.positive
    rules = [rule for rule in map(parse_threshold, ("youden", *POINTS)) if rule.name != "fixed"]
    return {str(rule): float(rule.choose(positive, held_out.probabilities)) for rule in rules}


def heading_of_points(points: Mapping[str, Mapping[str, dict[str, Any]]]) -> str:
    """What a table of points is called, and where their thresholds come from if any was chosen."""
    chosen = any("why_not" not in each[name] for each in points.values() for name in POINTS[1:])
    return "operating points" + ("; those for a share were chosen out of fold on training patients" * chosen)


def rows_of_points(
    points: Mapping[str, Mapping[str, dict[str, Any]]],
) -> list[tuple[str, str, dict[str, Any]]]:
    """Model, point and figures of each row of a table; a model that decides at 0.5 stands there once."""
    return [
        (model, point, own)
        for model, each in points.items()
        for point, own in each.items()
        if point != "0.5" or each[OWN].get("threshold") != 0.5
    ]


def operating_points(
    judged: Predictions,
    held_out: Predictions | Mapping[str, float] | None = None,
    threshold: float | None = None,
    resampling: Resampling | None = None,
) -> dict[str, dict[str, Any]]:
    """Figures of one model at its own threshold and at each of `POINTS`.

    Parameters
    ----------
    judged : Predictions
        Of two classes and one part; slices or units. Those of part ``cv`` are judged at thresholds that the
        other folds chose.
    held_out : Predictions, or mapping of str to float, optional
        What the model says out of fold of the same kind of rows; thresholds for test rows are chosen on them.
        Or these thresholds by point, as they were chosen before.
    threshold : float in 0..1, optional
        In place of the model's own.
    resampling : Resampling, optional

    Returns
    -------
    dict of str to dict
        Point to what `assess_decisions` gives, with its ``threshold`` where one holds for all rows; or to
        ``why_not``, the reason why no threshold could be chosen.
    """
    own = judged.thresholds if threshold is None else np.full(len(judged), threshold)
    result = {OWN: {**_one_of(own), **assess_decisions(judged, threshold, resampling)}}
    for name in POINTS:
        found = _thresholds(parse_threshold(name), judged, held_out)
        if isinstance(found, str):
            result[name] = {"why_not": found}
            continue
        thresholds, named = found
        answers = replace(judged, predicted=np.array(judged.classes)[named.astype(int)])
        result[name] = {**_one_of(thresholds), **assess_decisions(answers, resampling=resampling)}
    return result


def _one_of(thresholds: np.ndarray | None) -> dict[str, float]:
    """The threshold of all rows, where they have one."""
    each = np.unique([] if thresholds is None else thresholds)
    return {"threshold": float(each[0])} if len(each) == 1 else {}


def _thresholds(
    rule: ThresholdRule, judged: Predictions, held_out: Predictions | Mapping[str, float] | None
) -> tuple[np.ndarray | None, np.ndarray] | str:
    """The threshold of each row, where it is one on probabilities, and whether the row is positive."""
    if rule.name == "fixed":
        thresholds = np.full(len(judged), rule.value)
        return thresholds, judged.probabilities >= thresholds
    if (judged.part == "cv").any():
        return _by_other_folds(rule, judged)
    if isinstance(held_out, Mapping):
        value = held_out.get(str(rule))
        if value is None:
            return _NONE_HELD_OUT
    elif held_out is None or len(np.unique(held_out.label)) < 2:
        return _NONE_HELD_OUT
    else:
        value = rule.choose(held_out.label == held_out.positive, held_out.probabilities)
    thresholds = np.full(len(judged), value)
    return thresholds, judged.probabilities >= thresholds


def _by_other_folds(rule: ThresholdRule, judged: Predictions) -> tuple[None, np.ndarray] | str:
    """Thresholds on the scores: out-of-fold probabilities of the other folds know something of this one."""
    positive = judged.label == judged.positive
    values, rank = np.unique(judged.scores, return_inverse=True)
    places = (rank + 1) / (len(values) + 1)  # the order is all that counts
    named = np.empty(len(judged), dtype=bool)
    for fold in np.unique(judged.fold):
        inside = judged.fold == fold
        if len(np.unique(positive[~inside])) < 2:
            return "no other folds with both classes to choose a threshold by"
        named[inside] = places[inside] >= rule.choose(positive[~inside], places[~inside])
    return None, named
