"""What a model is worth, from its predictions alone; an undefined figure is absent, with the reason."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from haemo.errors import BadSettings
from haemo.pipeline.evaluation.set_tallies import AnyTally, tally_of
from haemo.pipeline.evaluation.tallies import (
    CALIBRATION_BINS,
    CLASS_METRICS,
    METRICS,
    Tally,
    metric_title,
)
from haemo.pipeline.evaluation.units import Answers

__all__ = ["METRICS", "at_prevalence", "classification_report", "evaluate", "evaluate_decisions"]


def evaluate(
    predictions: Answers, threshold: float | None = None, prevalence: float | None = None
) -> dict[str, Any]:
    """All figures of one model on the rows given.

    Parameters
    ----------
    predictions : Predictions or UnitAnswers
        One row a slice (or study, or patient: see `pipeline.evaluation.aggregation`). Choose the part first,
        e.g. ``predictions.of_part("test")``.
    threshold : float in 0..1, optional
        Probability from which the positive class is predicted; None takes the column ``predicted``.
        Two classes only.
    prevalence : float in 0..1, exclusive, optional
        Adds PPV and NPV for that share of positive slices, by Bayes' rule. Two classes only.

    Returns
    -------
    dict
        ``slices``, ``patients``, ``classes``, ``positive`` (None for more than two classes),
        ``threshold``; a float for each of `METRICS` that is defined; ``undefined`` (metric -> reason);
        ``confusion`` (rows true, columns predicted, in the order of ``classes``); ``per_class``
        (class -> its figures against all others, ``slices`` and ``undefined``); ``calibration_bins``.
        With more than two classes the figures are macro averages where `Tally.figures` says so, and
        ``average`` is ``macro``. Where units have sets of classes, what sets do not have is absent with the
        reason, ``confusion`` and ``calibration_bins`` among it: see `pipeline.evaluation.set_tallies`.
        JSON-able.

    Raises
    ------
    BadDataset
        If there are no rows, or a label is none of the classes.
    BadSettings
        If threshold or prevalence is out of range, or given for more than two classes.
    """
    two = predictions.positive is not None
    for name, value, open_ends in (("threshold", threshold, False), ("prevalence", prevalence, True)):
        if value is None:
            continue
        if not two:
            raise BadSettings(f"a {name} needs two classes; here there are {len(predictions.classes)}")
        if not (0 < value < 1 if open_ends else 0 <= value <= 1):
            raise BadSettings(f"{name} is {value}; it must lie between 0 and 1")
    tally = tally_of(predictions, threshold)
    overall, of_classes = tally.all_figures()
    figures = {name: float(value[0]) for name, value in overall.items()}
    undefined = {
        name: _reason(name, tally) for name in METRICS if np.isnan(figures[name]) and name not in tally.absent
    }
    result = {
        "slices": len(predictions),
        "patients": len(tally.patients),
        "classes": list(predictions.classes),
        "positive": predictions.positive,
        "average": "positive class" if two else "macro",
        "threshold": threshold,
        **{name: figures[name] for name in METRICS if not np.isnan(figures[name])},
        "undefined": {**undefined, **tally.absent},
    }
    if tally.confusion is not None:
        result["confusion"] = tally.confusion.sum(axis=0).astype(int).tolist()
    result["per_class"] = {name: _class_entry(tally, name, own) for name, own in of_classes.items()}
    if "calibration_error" not in tally.absent:
        result["calibration_bins"] = CALIBRATION_BINS
    if prevalence is not None:
        result["at_prevalence"] = at_prevalence(result, prevalence)
    return result


def evaluate_decisions(tally: Tally) -> dict[str, Any]:
    """Of two classes the figures that follow from what is predicted alone, as `evaluate` gives them."""
    positive = tally.classes[1]
    figures = {name: float(value[0]) for name, value in tally.decided_figures(positive).items()}
    undefined = {name: _class_reason(name, positive, tally) for name in figures if np.isnan(figures[name])}
    return {
        **{name: value for name, value in figures.items() if name not in undefined},
        "undefined": undefined,
    }


def at_prevalence(figures: Mapping[str, Any], prevalence: float) -> dict[str, Any]:
    """PPV and NPV at a stated prevalence, from sensitivity and specificity by Bayes' rule.

    Parameters
    ----------
    figures : mapping
        With ``sensitivity`` and ``specificity``, where they are defined.
    prevalence : float in 0..1, exclusive
        Share of positive slices where the model is to be used.

    Returns
    -------
    dict
        ``prevalence``; ``ppv`` and ``npv`` where they are defined; ``undefined`` (name -> reason).
    """
    result: dict[str, Any] = {"prevalence": prevalence, "undefined": {}}
    if "sensitivity" not in figures or "specificity" not in figures:
        reason = "needs sensitivity and specificity, and one of them is undefined"
        result["undefined"] = {"ppv": reason, "npv": reason}
        return result
    sensitivity, specificity = figures["sensitivity"], figures["specificity"]
    hits, false_alarms = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    clear, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    for name, right, wrong in (("ppv", hits, false_alarms), ("npv", clear, missed)):
        if right + wrong > 0:
            result[name] = right / (right + wrong)
        else:
            result["undefined"][name] = "the model never says so"
    return result


def classification_report(figures: Mapping[str, Any], things: str = "slices") -> str:
    """PPV, sensitivity, specificity and F1 of each class against the rest, and its count, as aligned text.

    Parameters
    ----------
    figures : mapping
        What `evaluate` returned.
    things : str
        What is counted, in the plural: heading of the last column.
    """
    columns = ("ppv", "sensitivity", "specificity", "f1")
    rows = [["class", *map(metric_title, columns), things]]
    for name in figures["classes"]:
        entry = figures["per_class"][name]
        values = (f"{entry[column]:.3f}" if column in entry else "undefined" for column in columns)
        rows.append([name, *values, str(entry["slices"])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = "  ".join(f"{{:{'>' if place else '<'}{width}}}" for place, width in enumerate(widths))
    return "\n".join(aligned.format(*row) for row in rows)


def _class_entry(tally: AnyTally, name: str, figures: Mapping[str, np.ndarray]) -> dict[str, Any]:
    values = {metric: float(figures[metric][0]) for metric in CLASS_METRICS}
    undefined = {
        metric: _class_reason(metric, name, tally) for metric in CLASS_METRICS if np.isnan(values[metric])
    }
    defined = {metric: values[metric] for metric in CLASS_METRICS if metric not in undefined}
    return {"slices": int(tally.class_tables(name)[:, 1].sum()), **defined, "undefined": undefined}


def _reason(metric: str, tally: AnyTally) -> str:
    """Why an overall figure is undefined."""
    if tally.positive is not None and metric != "balanced_accuracy":
        return _class_reason(metric, tally.positive, tally)
    if metric == "balanced_accuracy":
        empty = [name for name in tally.classes if not tally.class_tables(name)[:, 1].any()]
        return f"there is no {tally.thing} of class {empty[0]}"
    if metric == "mcc":
        return "all slices are of one class, or all are predicted as one class"
    for name in tally.classes:
        reason = _class_reason(metric, name, tally)
        if reason:
            return reason
    return "it is undefined for a class"


def _class_reason(metric: str, name: str, tally: AnyTally) -> str:
    """Why a figure of one class is undefined; empty if it is not."""
    table = tally.class_tables(name).sum(axis=0)
    there, named, total = table[1].sum(), table[:, 1].sum(), table.sum()
    thing, things = tally.thing, tally.things
    match metric:
        case "sensitivity" | "average_precision":
            return "" if there else f"there is no {thing} of class {name}"
        case "specificity":
            return "" if there < total else f"all {things} are of class {name}"
        case "ppv":
            return "" if named else f"no {thing} is predicted as {name}"
        case "npv":
            return "" if named < total else f"all {things} are predicted as {name}"
        case "f1" | "threat_score":
            return "" if there or named else f"no {thing} is, or is predicted as, {name}"
        case "roc_auc":
            if not there:
                return f"there is no {thing} of class {name}"
            return "" if there < total else f"all {things} are of class {name}"
        case "mcc":
            if 0 < there < total and 0 < named < total:
                return ""
            return f"all {things} are of one class, or all are predicted as one class"
        case _:
            return ""
