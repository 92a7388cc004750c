"""Heads with probabilities and a threshold, from slices that as many folds as these need have held out."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.features.manifest import ManifestRow
from haemo.features.neighbours import neighbours_of_rows, smoothed
from haemo.models.heads.thresholds import ThresholdRule
from haemo.models.search.rows import Rows
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.splitting.dealing import draw_folds
from haemo.pipeline.training.examples import Examples

if TYPE_CHECKING:
    from haemo.models.heads.calibration import CalibratedHead

__all__ = ["calibrated_head", "calibration_examples", "predicted", "smoothed_scores"]

log = logging.getLogger("haemo")

_LEAST_FOLDS = 5
_FOLDS = 10


def calibration_examples(cohort: Cohort, examples: Examples) -> Examples:
    """The same training slices in the folds whose held-out scores probabilities and the threshold come from.

    They are the folds of the search where these are five or more, or where the split is leaky; else ten of
    whole patients, or as many as a class has patients. A model of few folds has learned from much less than
    the final one, whose scores lie farther apart on new slices than those it is calibrated by: with two
    folds the log odds of 120 simulated patients had to be shrunk to 0.66 of what was said, with five to 0.84,
    with ten to 0.88.

    Returns
    -------
    Examples
        `examples` itself where the folds stay.
    """
    fold = examples.fold[: examples.n_train]
    present = len(np.unique(fold))
    if present >= _LEAST_FOLDS or cohort.split.leaky:
        return examples
    rows, y = examples.train_rows, examples.y[: examples.n_train]
    patient = np.array([row.patient for row in rows])
    fewest = min(len(set(patient[y == one])) for one in range(len(examples.classes)))
    folds = max(present, min(_FOLDS, fewest))
    if folds < _LEAST_FOLDS:
        log.warning(
            "probabilities and threshold come from %d folds only, for a class has %d training patients: "
            "probabilities of new slices will be too near to 0 and 1",
            folds,
            fewest,
        )
    if folds == present:
        return examples
    of_patient = draw_folds(list(rows), examples.classes, folds, cohort.split.seed)
    variants = len(examples.y) // examples.n_train
    return replace(examples, fold=np.tile([of_patient[name] for name in patient], variants))


def calibrated_head(
    estimator: Any, scores: np.ndarray, examples: Examples, rule: ThresholdRule, method: str
) -> "CalibratedHead":
    """A fitted estimator with probabilities and a threshold, from the scores that folds have held out.

    Parameters
    ----------
    estimator : estimator
    scores : ndarray of shape (n_train,) or (n_train, n_classes), float64
    examples : Examples
        In those folds.
    rule : ThresholdRule
    method : str
        One of `models.heads.calibration.METHODS`.
    """
    from sklearn.base import clone

    from haemo.models.heads.calibration import CalibratedHead, cross_calibrated

    y, fold = examples.y[: examples.n_train], examples.fold[: examples.n_train]
    names = np.array(examples.classes)
    head = CalibratedHead(clone(estimator), classes=examples.classes, method=method)
    head.fit_calibration(estimator, scores, names[y])
    if len(names) == 2:
        head.threshold = rule.choose(y == 1, cross_calibrated(scores, y, fold, method)[:, 1])
    if any(getattr(calibrator, "slope_", 1.0) <= 0 for calibrator in head.calibrators_):
        log.warning(
            "out-of-fold scores do not rise from one class to the other: the head is no better than chance"
        )
    return head


def smoothed_scores(scores: np.ndarray, rows: Sequence[ManifestRow]) -> np.ndarray:
    """Scores of some slices, smoothed over those beside each in its study (`features.neighbours.smoothed`).

    Raises
    ------
    BadSettings
        If a slice has no position.
    """
    return smoothed(scores, neighbours_of_rows(rows))


def predicted(
    head: "CalibratedHead",
    scores: np.ndarray,
    examples: Examples,
    rule: ThresholdRule,
    *,
    smooth: bool = False,
) -> Predictions:
    """What a head says of the test slices, and what the folds of the search said of those they held out.

    Parameters
    ----------
    head : CalibratedHead
    scores : ndarray of shape (n_train,) or (n_train, n_classes), float64
        Out of fold.
    examples : Examples
    rule : ThresholdRule
        By which each fold is judged at a threshold that the others chose.
    smooth : bool
        Whether scores are smoothed, as those out of fold are already.
    """
    from haemo.models.heads.calibration import cross_calibrated, cross_thresholds

    y, fold = examples.y[: examples.n_train], examples.fold[: examples.n_train]
    names = np.array(examples.classes)
    test_scores = _scores(head, examples.X_test)
    if smooth:
        test_scores = smoothed_scores(test_scores, examples.test_rows)
    held_out = cross_calibrated(scores, y, fold, head.method)
    chances = np.concatenate([held_out, head.probabilities(test_scores)])
    rows = [*examples.train_rows, *examples.test_rows]
    is_test = np.arange(len(rows)) >= examples.n_train
    named, thresholds = head.choose(chances), None
    if len(names) == 2:
        own = cross_thresholds(scores, y, fold, head.method, rule)
        thresholds = np.concatenate([own, np.full(len(test_scores), head.threshold)])
        named = (chances[:, 1] >= thresholds).astype(int)
    return Predictions.of_rows(
        rows,
        part=np.where(is_test, "test", "cv"),
        fold=np.concatenate([fold, np.full(len(test_scores), -1)]),
        scores=np.concatenate([scores, test_scores]),
        probabilities=chances[:, 1] if len(names) == 2 else chances,
        predicted=names[named],
        classes=examples.classes,
        thresholds=thresholds,
    )


def _scores(head: "CalibratedHead", features: np.ndarray | Rows) -> np.ndarray:
    if not isinstance(features, Rows):
        return head.decision_function(features)
    scores: np.ndarray | None = None
    for where, block in features.blocks():
        found = head.decision_function(block)
        scores = np.empty((features.shape[0], *found.shape[1:])) if scores is None else scores
        scores[where] = found
    return scores
