"""How slices of elsewhere differ from those that a model was trained on, in its own eyes."""

from typing import Any

import numpy as np

from haemo.pipeline.evaluation.intervals import Resampling, assess
from haemo.pipeline.evaluation.jackknife import FREE, with_interval
from haemo.pipeline.evaluation.patient_means import means_by_patient
from haemo.pipeline.evaluation.ranking import ratio
from haemo.pipeline.judging.answers import Answered
from haemo.pipeline.run.predictions import Predictions

__all__ = ["shift_from_training"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def shift_from_training(
    answered: Answered, held_out: Predictions | None, resampling: Resampling | None = None
) -> dict[str, Any]:
    """Set the slices here against those held out of training, by scores; and by embeddings, where known.

    Parameters
    ----------
    answered : Answered
    held_out : Predictions or None
        What the model said out of fold of its training slices, with the same classes.
    resampling : Resampling, optional

    Returns
    -------
    dict
        ``scores``: for ``all``, ``negative`` and ``positive`` slices ``there`` and ``here`` (slices, mean,
        sd, quantiles), ``distance`` (the mean here less that there, in standard deviations there, with an
        interval) and ``largest_gap`` (Kolmogorov and Smirnov's, of the two distributions);
        ``positives``: share there and here; ``roc_auc``: there, here and ``difference`` with an interval;
        ``outside``: share of slices farther from the training slices than 99 of 100 of these are from one
        another, with an interval, ``expected``, and quantiles of the distance over that limit; ``seen``: how
        many slices here it was trained on. Parts that cannot be told have ``why_not``.

    Notes
    -----
    The patients here and there are others, so the interval of a difference is made of both intervals by the
    squares of their arms (Zou and Donner, Stat. Med. 27, 2008).
    """
    resampling = resampling or Resampling()
    here = answered.predictions
    result: dict[str, Any] = {
        "seen": None if answered.seen is None else len(answered.seen),
        "outside": _outside(answered),
    }
    if here.positive is None:
        result["scores"] = {"why_not": "scores of more than two classes are not set against one another"}
        return result
    if held_out is None or not len(held_out):
        result["scores"] = {"why_not": "nothing that the model said of slices held out of training is known"}
        return result
    result["scores"] = {
        name: _scores(_of_class(held_out, name), _of_class(here, name), resampling)
        for name in ("all", "negative", "positive")
    }
    result["positives"] = {
        "there": float(np.mean(held_out.label == held_out.positive)),
        "here": float(np.mean(here.label == here.positive)),
    }
    result["roc_auc"] = _areas(held_out, here, resampling)
    return result


def _of_class(answers: Predictions, name: str) -> Predictions:
    if name == "all":
        return answers
    return answers.select((answers.label == answers.positive) == (name == "positive"))


def _scores(there: Predictions, here: Predictions, resampling: Resampling) -> dict[str, Any]:
    from scipy.stats import ks_2samp

    if len(there) < 2 or len(here) < 2:
        return {"why_not": "too few slices"}
    spread = float(there.scores.std(ddof=1))
    if not spread:
        return {"why_not": "all scores there are the same"}
    means = [_mean(own, resampling) for own in (there, here)]
    entry: dict[str, Any] = {
        "there": _described(there.scores),
        "here": _described(here.scores),
        "distance": {"value": (means[1]["value"] - means[0]["value"]) / spread},
        "largest_gap": float(ks_2samp(there.scores, here.scores).statistic),
    }
    if "low" in means[0] and "low" in means[1]:
        low, high = _arms(means[1], means[0])
        entry["distance"] |= {"low": low / spread, "high": high / spread}
    return entry


def _mean(answers: Predictions, resampling: Resampling) -> dict[str, Any]:
    names, patient = np.unique(answers.patient, return_inverse=True)
    sums, counts = np.bincount(patient, answers.scores), np.bincount(patient).astype(float)
    groups = resampling.groups(len(names))
    left_out = ratio(groups.sums_without(sums), groups.sums_without(counts))
    return with_interval(float(answers.scores.mean()), left_out, groups.sizes, resampling.level, FREE)


def _described(scores: np.ndarray) -> dict[str, Any]:
    return {
        "slices": len(scores),
        "mean": float(scores.mean()),
        "sd": float(scores.std(ddof=1)),
        "quantiles": {f"{share:g}": float(np.quantile(scores, share)) for share in _QUANTILES},
    }


def _arms(first: dict[str, float], second: dict[str, float]) -> tuple[float, float]:
    """Interval of the difference of two independent figures from the intervals of each."""
    between = first["value"] - second["value"]
    down = np.hypot(first["value"] - first["low"], second["high"] - second["value"])
    up = np.hypot(first["high"] - first["value"], second["value"] - second["low"])
    return float(between - down), float(between + up)


def _areas(there: Predictions, here: Predictions, resampling: Resampling) -> dict[str, Any]:
    found = {}
    for name, own in (("there", there), ("here", here)):
        judged = assess(own, resampling=resampling)
        if "roc_auc" not in judged:
            return {"why_not": judged["undefined"]["roc_auc"]}
        ends = judged["intervals"].get("roc_auc", {})
        found[name] = {"value": judged["roc_auc"], **{key: ends[key] for key in ("low", "high") if ends}}
    found["difference"] = {"value": found["here"]["value"] - found["there"]["value"]}
    if "low" in found["here"] and "low" in found["there"]:
        low, high = _arms(found["here"], found["there"])
        found["difference"] |= {"low": low, "high": high}
    return found


def _outside(answered: Answered) -> dict[str, Any]:
    if answered.distances is None or answered.limit is None:
        return {"why_not": "what its training slices were like is not known"}
    far = (answered.distances > answered.limit).astype(float)
    share = means_by_patient({"share": far}, answered.predictions.patient)
    ratio = answered.distances / answered.limit
    entry = share["share"]
    return {
        "slices": int(far.sum()),
        "share": {"value": entry["mean"], **{key: entry[key] for key in ("low", "high") if key in entry}},
        "expected": 0.01,
        "distance_over_limit": {f"{q:g}": float(np.quantile(ratio, q)) for q in _QUANTILES},
    }
