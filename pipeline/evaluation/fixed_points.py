"""Sensitivity at a stated specificity and the reverse, PPV and NPV at stated shares of positives."""

from typing import Any

import numpy as np

from haemo.pipeline.evaluation.intervals import Resampling, few_of_a_class
from haemo.pipeline.evaluation.jackknife import student, with_interval
from haemo.pipeline.evaluation.metrics import at_prevalence
from haemo.pipeline.evaluation.tallies import Tally
from haemo.pipeline.run.predictions import Predictions

__all__ = ["PREVALENCES", "SHARES", "at_fixed", "at_prevalences"]

SHARES = (0.8, 0.9, 0.95)
"""Sensitivities and specificities that are stated."""

PREVALENCES = (0.01, 0.05, 0.1, 0.2, 0.4)
"""Shares of positives that are stated where none are asked for."""

_DRAWS = 400
_BLOCK_ELEMENTS = 2_000_000  # of one array of weighted rows: 16 MB


def at_fixed(predictions: Predictions, resampling: Resampling | None = None) -> dict[str, Any]:
    """The best sensitivity that any threshold has with a specificity of at least S, and the reverse.

    The threshold is chosen on the rows that are judged: these are points of the ROC curve, not what a
    threshold set before would give (see `pipeline.evaluation.operating` for that).

    Parameters
    ----------
    predictions : Predictions
        Of two classes, both there.
    resampling : Resampling, optional
        Its seed draws the bootstrap samples.

    Returns
    -------
    dict
        ``sensitivity`` and ``specificity``, each a list of entries ``at`` (the share of the other one),
        ``value``, ``low``, ``high``, ``rough``; or ``why_not``.

    Notes
    -----
    Such a figure jumps from one slice to the next, and patients left out one at a time say nothing of how
    far it moves. The interval is Student's around the figure, with the standard deviation over bootstrap
    samples of patients, on the scale of arcsin(sqrt(share)), whose noise depends least on the share.
    """
    resampling = resampling or Resampling()
    positive = predictions.label == predictions.positive
    if positive.all() or not positive.any():
        return {"why_not": "all rows are of one class"}
    names, patient = np.unique(predictions.patient, return_inverse=True)
    draws = Resampling(min(_DRAWS, resampling.resamples), resampling.seed, resampling.level)
    figures = _Points(predictions.scores, positive, patient)
    whole = figures.of(np.ones((1, len(names))))
    drawn = [figures.of(weights) for weights in draws.weights(len(names))]
    fewest = min(
        len(np.unique(predictions.patient[positive])), len(np.unique(predictions.patient[~positive]))
    )
    rough = few_of_a_class(predictions)
    result: dict[str, Any] = {}
    for place, name in enumerate(("sensitivity", "specificity")):
        found = np.concatenate([part[place] for part in drawn])
        result[name] = []
        for column, share in enumerate(SHARES):
            value = float(whole[place][0, column])
            entry: dict[str, Any] = {"at": share, "value": value}
            ends = _interval(value, found[:, column], fewest, resampling.level)
            if ends is None:
                entry["no_interval"] = "there is one patient only of a class"
            else:
                entry |= {"low": ends[0], "high": ends[1], **({"rough": True} if rough else {})}
            result[name].append(entry)
    return result


def _interval(value: float, drawn: np.ndarray, fewest: int, level: float) -> tuple[float, float] | None:
    if fewest < 2:
        return None
    angles = np.arcsin(np.sqrt(drawn[~np.isnan(drawn)]))
    # Where no draw differs, half an error in the smaller class is what cannot be ruled out.
    spread = max(float(angles.std(ddof=1)), 0.5 / np.sqrt(4 * fewest) if value in (0.0, 1.0) else 0.0)
    half = student(fewest - 1, 1 - level) * spread
    angle = np.arcsin(np.sqrt(value))
    low, high = np.sin(np.clip([angle - half, angle + half], 0, np.pi / 2)) ** 2
    return float(min(low, value)), float(max(high, value))


class _Points:
    """Points of the ROC curve for many weights of patients, from rows sorted once."""

    def __init__(self, scores: np.ndarray, positive: np.ndarray, patient: np.ndarray):
        order = np.argsort(-scores, kind="stable")
        self.ends = np.flatnonzero(np.r_[np.diff(scores[order]) < 0, True])
        self.patient, self.positive = patient[order], positive[order]

    def of(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sensitivities at `SHARES` of specificity, and specificities at `SHARES` of sensitivity.

        NaN where a draw lacks a class. Shapes (draws, shares).
        """
        block = max(1, _BLOCK_ELEMENTS // len(self.patient))
        parts = [self._block(weights[i : i + block]) for i in range(0, len(weights), block)]
        return tuple(np.concatenate([part[k] for part in parts]) for k in (0, 1))  # type: ignore[return-value]

    def _block(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        each = weights[:, self.patient]
        hits = np.cumsum(each * self.positive, axis=1)[:, self.ends]
        alarms = np.cumsum(each * ~self.positive, axis=1)[:, self.ends]
        start = np.zeros((len(each), 1))
        with np.errstate(invalid="ignore"):
            sensitivity = np.hstack([start, hits / hits[:, -1:]])
            specificity = 1 - np.hstack([start, alarms / alarms[:, -1:]])
        found = []
        for wanted, other in ((sensitivity, specificity), (specificity, sensitivity)):
            best = [np.where(other >= share - 1e-12, wanted, -1).max(axis=1) for share in SHARES]
            found.append(
                np.where(np.isnan(sensitivity[:, -1:] + specificity[:, -1:]), np.nan, np.stack(best, 1))
            )
        return found[0], found[1]


def at_prevalences(
    predictions: Predictions,
    prevalences: tuple[float, ...] = PREVALENCES,
    threshold: float | None = None,
    resampling: Resampling | None = None,
) -> list[dict[str, Any]]:
    """PPV and NPV at stated shares of positives, by Bayes' rule, with intervals by patient.

    Parameters
    ----------
    predictions : Predictions
        Of two classes.
    prevalences : tuple of float in 0..1, exclusive
    threshold : float, optional
        In place of what the model decided.
    resampling : Resampling, optional

    Returns
    -------
    list of dict
        ``prevalence``, and ``ppv`` and ``npv`` as `jackknife.with_interval` gives them; one that is
        undefined stands under ``undefined`` with the reason.
    """
    resampling = resampling or Resampling()
    tally = Tally(predictions, threshold)
    groups, positive = resampling.groups(len(tally.patients)), tally.classes[1]
    blocks = [tally.decided_figures(positive, weights) for weights in groups.weights()]
    left_out = {
        name: np.concatenate([block[name] for block in blocks]) for name in ("sensitivity", "specificity")
    }
    whole = {
        name: float(values[0])
        for name, values in tally.decided_figures(positive).items()
        if name in left_out and not np.isnan(values[0])
    }
    rough = few_of_a_class(predictions)
    rows = []
    for prevalence in prevalences:
        own = at_prevalence(whole, prevalence)
        without = [
            at_prevalence({"sensitivity": a, "specificity": b}, prevalence)
            for a, b in zip(left_out["sensitivity"], left_out["specificity"], strict=True)
        ]
        row: dict[str, Any] = {"prevalence": prevalence, "undefined": own["undefined"]}
        for name in ("ppv", "npv"):
            if name in own:
                values = np.array([entry.get(name, np.nan) for entry in without], dtype=float)
                row[name] = with_interval(own[name], values, groups.sizes, resampling.level, rough=rough)
        rows.append(row)
    return rows
