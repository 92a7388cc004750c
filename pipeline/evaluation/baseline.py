"""What is had for nothing: the figures of always saying the same, and words for a model that adds little."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from haemo.pipeline.evaluation.tallies import METRICS, metric_title
from haemo.pipeline.evaluation.units import background_of

__all__ = ["always_the_same", "beside_means", "shortfalls"]

_NO_PROBABILITY = "always saying the same comes with no probability"
_OF_PROBABILITIES = ("mse", "brier", "log_loss", "calibration_error")
_ABOUT = ("slices", "patients", "classes", "positive", "resampling")
_SAME = "it says the same of all"


def always_the_same(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of answering ``normal`` whatever the slice; where no class is that, the most frequent one.

    Parameters
    ----------
    figures : mapping
        What `pipeline.evaluation.metrics.evaluate` gives of any model on the same slices or units: all
        follows from how many are of each class.

    Returns
    -------
    dict
        ``name`` (as ``always normal``), ``says`` (the class), what is judged as `figures` has it, a float for
        each of `METRICS` that can be computed, and ``undefined`` (metric -> reason) for the others;
        ``intervals`` and ``no_interval`` are empty. ROC AUC is 0.5: all scores are tied.
    """
    classes, total = figures["classes"], figures["slices"]
    counts = {name: figures["per_class"][name]["slices"] for name in classes}
    says = background_of(classes) or max(classes, key=lambda name: counts[name])
    each = {name: _of_class(count / total, name == says) for name, count in counts.items()}
    averaged = [figures["positive"]] if figures["positive"] else classes
    found = {metric: float(np.mean([each[name][metric] for name in averaged])) for metric in each[says]}
    found["balanced_accuracy"] = float(np.mean([each[name]["sensitivity"] for name in classes]))
    if sum(counts.values()) == total or background_of(classes):
        # Of units with several classes only the background stands alone for certain.
        found["accuracy"] = counts[says] / total
    undefined = {
        metric: _NO_PROBABILITY if metric in _OF_PROBABILITIES else figures["undefined"].get(metric, _SAME)
        for metric in METRICS
        if not np.isfinite(found.get(metric, np.nan))
    }
    return {
        "name": f"always {says}",
        "says": says,
        **{fact: figures[fact] for fact in _ABOUT if fact in figures},
        **{metric: found[metric] for metric in METRICS if metric not in undefined},
        "undefined": undefined,
        "intervals": {},
        "no_interval": {},
    }


def _of_class(share: float, named: bool) -> dict[str, float]:
    """Figures of one class against the rest where all are named so, or none; NaN where undefined."""
    there, others = share > 0, share < 1
    return {
        "sensitivity": float(named) if there else np.nan,
        "specificity": float(not named) if others else np.nan,
        "ppv": share if named else np.nan,
        "npv": np.nan if named else 1 - share,
        "f1": 2 * share / (1 + share) if named else (0.0 if there else np.nan),
        "threat_score": share if named else (0.0 if there else np.nan),
        "roc_auc": 0.5 if there and others else np.nan,
        "average_precision": share if there else np.nan,
    }


def shortfalls(figures: Mapping[str, Any], things: str = "slices") -> list[str]:
    """Why a model is of little use as it decides now, in sentences; none where nothing is wrong with it.

    Parameters
    ----------
    figures : mapping
        As for `always_the_same`, of the model in question.
    things : str
        What is counted, in the plural.
    """
    same = always_the_same(figures)
    found = []
    if figures["accuracy"] <= same.get("accuracy", -1.0) + 1e-12:
        found.append(
            f"its accuracy, {figures['accuracy']:.3f}, does not beat that of always saying {same['says']}, "
            f"{same['accuracy']:.3f}"
        )
    looked_for = [name for name in figures["classes"] if name != background_of(figures["classes"])]
    if figures["positive"] in looked_for:
        looked_for = [figures["positive"]]
    for name in looked_for:
        sensitivity = figures["per_class"][name].get("sensitivity", 1.0)
        if sensitivity < 0.5:
            found.append(
                f"it finds fewer than half of the {things} of class {name} "
                f"({metric_title('sensitivity')} {sensitivity:.3f})"
            )
    return found


def beside_means(
    figures: Mapping[str, Any], models: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """`always_the_same` and `shortfalls` beside means over many draws.

    Parameters
    ----------
    figures : mapping
        As for `always_the_same`.
    models : mapping of str to mapping
        Model to its figures: metric to an entry that has its ``mean`` where there is one.

    Returns
    -------
    baseline : dict
        ``name``, and entries like those of the models where they can be computed.
    shortfalls : dict of str to list of str
        Of the models that have any. Of several classes there are only means over all of them, so that none
        is said to be missed.
    """
    same = always_the_same(figures)
    metrics = {metric for own in models.values() for metric in own}
    baseline = {"name": same["name"], **{name: {"mean": same[name]} for name in METRICS if name in same}}
    found = {}
    for model, own in models.items():
        means = {metric: entry["mean"] for metric, entry in own.items() if "mean" in entry}
        each = {name: {"slices": entry["slices"]} for name, entry in figures["per_class"].items()}
        if figures["positive"] is not None:
            for name, metric in zip(figures["classes"], ("specificity", "sensitivity"), strict=True):
                each[name] |= {"sensitivity": means[metric]} if metric in means else {}
        found[model] = shortfalls({**figures, **means, "per_class": each})
    baseline = {name: entry for name, entry in baseline.items() if name == "name" or name in metrics}
    return baseline, {model: sentences for model, sentences in found.items() if sentences}
