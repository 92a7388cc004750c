"""Probabilities put right for another place, as an offer: what that would give, and how it is done."""

from dataclasses import replace
from typing import Any

import numpy as np

from haemo.pipeline.evaluation.calibration_line import CalibrationLine, calibration_line
from haemo.pipeline.evaluation.intervals import Resampling, assess
from haemo.pipeline.evaluation.jackknife import LEAST_PATIENTS
from haemo.pipeline.run.predictions import Predictions

__all__ = ["MARK", "WAYS", "recalibration_offer"]

MARK = "RECALIBRATED on the slices that are judged: no longer an external validation of probabilities"
"""What stands beside every figure of this kind."""

WAYS = {
    "shift": "all log odds moved by one number",
    "line": "log odds moved and stretched",
}
_FOLDS = 5
_FIGURES = ("brier", "log_loss", "calibration_error")


def recalibration_offer(answers: Predictions, resampling: Resampling | None = None) -> dict[str, Any]:
    """What recalibration on these slices would give, each patient put right by the others.

    Parameters
    ----------
    answers : Predictions
        Of two classes, slices or units.
    resampling : Resampling, optional
        Its seed deals patients to five folds.

    Returns
    -------
    dict
        ``mark``; ``before`` and, for each of `WAYS`, an entry with ``figures`` (Brier score, log loss,
        calibration error, with intervals) and ``calibration`` (`calibration_line`); those ways also have
        ``intercept`` and ``slope``: the new log odds are intercept + slope x the model's, fitted on all.
        Or ``why_not``.

    Notes
    -----
    Fitted and judged on the same patients, any recalibration looks right; so each fold gets that of the
    others. The order of scores, and with it ROC AUC, stays; a threshold on the probability has to move with
    it, or decisions change.
    """
    resampling = resampling or Resampling()
    if answers.uncalibrated:
        return {"why_not": answers.uncalibrated}
    positive = answers.label == answers.positive
    fewest = min(len(np.unique(answers.patient[positive])), len(np.unique(answers.patient[~positive])))
    if fewest < LEAST_PATIENTS:
        return {"why_not": f"a class has {fewest} patients; recalibration needs {LEAST_PATIENTS} or more"}
    line = CalibrationLine.fit(positive, answers.probabilities)
    if isinstance(line, str):
        return {"why_not": line}
    fold = _folds(answers, resampling.seed)
    result: dict[str, Any] = {"mark": MARK, "before": _judged(answers, resampling)}
    for way in WAYS:
        moved = np.empty(len(answers))
        for one in range(_FOLDS):
            others = fold != one
            fitted = CalibrationLine.fit(positive[others], answers.probabilities[others])
            if isinstance(fitted, str):
                return {"why_not": f"without a fifth of the patients: {fitted}"}
            moved[~others] = _parameters(fitted, way).apply(answers.probabilities[~others])
        whole = _parameters(line, way)
        result[way] = {
            "intercept": whole.intercept,
            "slope": whole.slope,
            **_judged(replace(answers, probabilities=moved), resampling),
        }
    return result


def _parameters(line: CalibrationLine, way: str) -> CalibrationLine:
    return replace(line, intercept=line.shift, slope=1.0) if way == "shift" else line


def _judged(answers: Predictions, resampling: Resampling) -> dict[str, Any]:
    found = assess(answers, resampling=resampling)
    kept = {name: found[name] for name in _FIGURES if name in found}
    intervals = {name: found["intervals"][name] for name in _FIGURES if name in found["intervals"]}
    return {
        "figures": {**kept, "intervals": intervals},
        "calibration": calibration_line(answers, resampling),
    }


def _folds(answers: Predictions, seed: int) -> np.ndarray:
    """A fold for each row: patients dealt whole, those with a positive slice and the others apart."""
    names, patient = np.unique(answers.patient, return_inverse=True)
    bleeds = np.zeros(len(names), dtype=bool)
    np.logical_or.at(bleeds, patient, answers.label == answers.positive)
    rng = np.random.default_rng(seed)
    fold = np.empty(len(names), dtype=int)
    for group in (True, False):
        members = rng.permutation(np.flatnonzero(bleeds == group))
        fold[members] = np.arange(len(members)) % _FOLDS
    return fold[patient]
