"""The linear SVM of few rows and many features: exact in some Newton steps on the kernel matrix.

With fewer training rows than features the weights lie in the span of the rows, and the squared hinge has a
second derivative that only changes when a row enters or leaves the margin. Newton's method on the
coefficients of the rows then ends after a handful of small linear systems.

Source: Chapelle 2007, "Training a support vector machine in the primal", Neural Computation 19(5).
"""

import numpy as np

from models.errors import NotSolved
from models.scaling import deviations, floored

__all__ = ["newton_scores", "standardised_kernel"]

_MAX_STEPS = 100
_MAX_HALVINGS = 30


def standardised_kernel(features: np.ndarray, training: np.ndarray, intercept_scaling: float) -> np.ndarray:
    """Inner products of all rows, scaled on the training rows as FlooredScaler does, plus the intercept's.

    Parameters
    ----------
    features : ndarray of shape (n, d), float32 or float64
        Multiplied in their own precision.
    training : ndarray of shape (n,), bool
    intercept_scaling : float
        As for LinearSVC: the intercept is the weight of a constant feature of this size.

    Returns
    -------
    ndarray of shape (n, n), float64
    """
    trained = features[training]
    mean = trained.mean(axis=0, dtype=np.float64)
    scale = floored(deviations(trained.var(axis=0, dtype=np.float64), mean, len(trained)))
    rows = features - mean.astype(features.dtype)
    rows /= scale.astype(features.dtype)
    return (rows @ rows.T).astype(np.float64) + intercept_scaling**2


def newton_scores(kernel: np.ndarray, targets: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Decision scores of all rows of the SVM that minimises |w|^2 / 2 + sum_i c_i max(0, 1 - y_i f_i)^2.

    Parameters
    ----------
    kernel : ndarray of shape (n, n), float64
    targets : ndarray of shape (n,), float64
        y_i, -1 or 1.
    costs : ndarray of shape (n,), float64
        c_i; 0 for rows that are not trained on.

    Returns
    -------
    ndarray of shape (n,), float64

    Raises
    ------
    NotSolved
        If the margin's rows still change after 100 steps.
    """
    from scipy.linalg import cho_factor, cho_solve

    trained = np.flatnonzero(costs > 0)
    inner = kernel[np.ix_(trained, trained)]
    y, c = targets[trained], costs[trained]
    coefficients, scores = np.zeros(len(y)), np.zeros(len(y))
    value = float(np.sum(c))
    for _ in range(_MAX_STEPS):
        inside = y * scores < 1
        support = np.flatnonzero(inside)
        system = inner[np.ix_(support, support)]
        system[np.diag_indices_from(system)] += 0.5 / c[support]
        aim = np.zeros(len(y))
        aim[support] = cho_solve(cho_factor(system, lower=True, overwrite_a=True), y[support])
        aim_scores = inner @ aim
        if np.array_equal(y * aim_scores < 1, inside):
            return kernel[:, trained] @ aim
        step = 1.0
        for _ in range(_MAX_HALVINGS):
            tried = coefficients + step * (aim - coefficients)
            tried_scores = scores + step * (aim_scores - scores)
            lower = tried @ tried_scores / 2 + np.sum(c * np.maximum(0, 1 - y * tried_scores) ** 2)
            if lower < value:
                break
            step /= 2
        else:
            # Rounding alone keeps rows on the margin from settling: this is the optimum.
            return kernel[:, trained] @ coefficients
        coefficients, scores, value = tried, tried_scores, float(lower)
    raise NotSolved(f"the linear SVM is not solved after {_MAX_STEPS} Newton steps; take a smaller C")
