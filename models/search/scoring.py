"""How a setting is judged in cross-validation: one number from the scores of a fold, higher is better."""

import math

import numpy as np

from haemo.errors import BadSettings

__all__ = ["METRICS", "score", "score_estimator"]

METRICS = ("roc_auc", "average_precision", "balanced_accuracy", "accuracy", "f1", "mcc")

_RANKED = ("roc_auc", "average_precision")


def score(metric: str, y: np.ndarray, scores: np.ndarray) -> float:
    """The metric of decision scores.

    Parameters
    ----------
    metric : str
        One of `METRICS`. With more than two classes ``roc_auc``, ``average_precision`` and ``f1`` are the
        mean over classes of each against the others (macro, one against the rest).
    y : ndarray of shape (n,), int
        Class numbers.
    scores : ndarray of shape (n,) or (n, n_classes)
        For two classes one score, of class 1, with its border at 0.

    Returns
    -------
    float
        NaN where it is undefined: a ranking needs slices inside and outside of each class.

    Raises
    ------
    BadSettings
        If the metric is not known.
    """
    from sklearn import metrics

    if metric not in METRICS:
        raise BadSettings(f"metric {metric!r} is not one of {', '.join(METRICS)}")
    if metric in _RANKED:
        rank = metrics.roc_auc_score if metric == "roc_auc" else metrics.average_precision_score
        if scores.ndim == 1:
            columns = [(y == 1, scores)]
        else:
            columns = [(y == one, scores[:, one]) for one in range(scores.shape[1])]
        if any(inside.all() or not inside.any() for inside, _ in columns):
            return math.nan
        return float(np.mean([rank(inside, column) for inside, column in columns]))
    predicted = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
    match metric:
        case "accuracy":
            return float(metrics.accuracy_score(y, predicted))
        case "f1":
            average = "binary" if scores.ndim == 1 else "macro"
            return float(metrics.f1_score(y, predicted, average=average, zero_division=0.0))
        case "mcc":
            return float(metrics.matthews_corrcoef(y, predicted))
        case _:
            # Written out: scikit-learn warns where a predicted class does not occur in y.
            return float(np.mean([(predicted[y == one] == one).mean() for one in np.unique(y)]))


def score_estimator(metric: str, estimator, X: np.ndarray, y: np.ndarray) -> float:
    """The metric of a fitted estimator on rows; with `functools.partial` a scorer for scikit-learn."""
    return score(metric, y, estimator.decision_function(X))
