"""The linear SVM of few rows and many features: exact in some Newton steps on the kernel matrix.

With fewer training rows than features the weights lie in the span of the rows, and the squared hinge has a
second derivative that only changes when a row enters or leaves the margin. Newton's method on the
coefficients of the rows then ends after a handful of small linear systems. Of many rows half are solved
first, and so on down: most rows that end outside the margin are then never part of a system.

Source, of both: Chapelle 2007, "Training a support vector machine in the primal", Neural Computation 19(5).
"""

import numpy as np

from haemo.errors import NotSolved
from haemo.models.heads.scaling import deviations, floored

__all__ = [
    "newton_coefficients",
    "newton_scores",
    "scores_from_rows",
    "standardised_kernel",
    "svm_objective",
]

_MAX_STEPS = 100
_MAX_HALVINGS = 30
_MOST_ROWS_AT_ONCE = 1000  # more start from the solution for half of them
_ROWS_PER_BLOCK = 1024


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
    mean, scale = _scaling(features, training)
    rows = features - mean
    rows /= scale
    return (rows @ rows.T).astype(np.float64) + intercept_scaling**2


def _scaling(features: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of the training rows, in the precision of the features."""
    trained = features[training]
    mean = trained.mean(axis=0, dtype=np.float64)
    scale = floored(deviations(trained.var(axis=0, dtype=np.float64), mean, len(trained)))
    return mean.astype(features.dtype), scale.astype(features.dtype)


def scores_from_rows(
    features: np.ndarray,
    training: np.ndarray,
    targets: np.ndarray,
    costs: np.ndarray,
    intercept_scaling: float,
) -> np.ndarray:
    """Decision scores as of `newton_scores`, of several SVMs on one training part.

    Only training rows are multiplied with each other, so that some thousand of them fit into memory and
    held-out rows cost next to nothing.

    Parameters
    ----------
    features : ndarray of shape (n, d), float32 or float64
    training : ndarray of shape (n,), bool
    targets, costs : ndarray of shape (n, n_svms), float64
        As for `newton_scores`; only those of training rows are looked at.
    intercept_scaling : float

    Returns
    -------
    ndarray of shape (n, n_svms), float64
    """
    mean, scale = _scaling(features, training)
    trained = features[training]
    trained -= mean
    trained /= scale
    inner = (trained @ trained.T).astype(np.float64)
    inner += intercept_scaling**2
    coefficients = np.stack(
        [
            newton_coefficients(inner, target, cost)
            for target, cost in zip(targets[training].T, costs[training].T, strict=True)
        ],
        axis=1,
    )
    del inner
    weights = np.zeros((features.shape[1], targets.shape[1]))
    for start in range(0, len(trained), _ROWS_PER_BLOCK):
        own = slice(start, start + _ROWS_PER_BLOCK)
        weights += trained[own].T.astype(np.float64) @ coefficients[own]
    scores = np.empty(targets.shape)
    for start in range(0, len(features), _ROWS_PER_BLOCK):
        own = slice(start, start + _ROWS_PER_BLOCK)
        scores[own] = ((features[own] - mean) / scale).astype(np.float64) @ weights
    return scores + intercept_scaling**2 * coefficients.sum(axis=0)


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
    trained = np.flatnonzero(costs > 0)
    inner = kernel[np.ix_(trained, trained)]
    return kernel[:, trained] @ newton_coefficients(inner, targets[trained], costs[trained])


def newton_coefficients(
    inner: np.ndarray, y: np.ndarray, c: np.ndarray, start: np.ndarray | None = None
) -> np.ndarray:
    """What each training row is multiplied with in the sum that makes the weights.

    Parameters
    ----------
    inner : ndarray of shape (n, n), float64
        Inner products of the training rows.
    y, c : ndarray of shape (n,), float64
        As for `newton_scores`; no c is 0.
    start : ndarray of shape (n,), float64, optional
        Coefficients to begin with.

    Returns
    -------
    ndarray of shape (n,), float64

    Raises
    ------
    NotSolved
        If the margin's rows still change after 100 steps.
    """
    from scipy.linalg import cho_factor, cho_solve

    coefficients, scores = np.zeros(len(y)), np.zeros(len(y))
    if start is not None:
        coefficients, scores = start, inner @ start
    elif len(y) > _MOST_ROWS_AT_ONCE:
        # Drawn, because rows in order may have one class, or one rotation, in each half.
        half = np.sort(np.random.default_rng(0).permutation(len(y))[: len(y) // 2])
        coefficients[half] = newton_coefficients(inner[np.ix_(half, half)], y[half], c[half])
        scores = inner @ coefficients
    value = svm_objective(coefficients, scores, y, c)
    for _ in range(_MAX_STEPS):
        inside = y * scores < 1
        support = np.flatnonzero(inside)
        system = inner[np.ix_(support, support)]
        system[np.diag_indices_from(system)] += 0.5 / c[support]
        aim = np.zeros(len(y))
        aim[support] = cho_solve(cho_factor(system, lower=True, overwrite_a=True), y[support])
        aim_scores = inner @ aim
        if np.array_equal(y * aim_scores < 1, inside):
            return aim
        step = 1.0
        for _ in range(_MAX_HALVINGS):
            tried = coefficients + step * (aim - coefficients)
            tried_scores = scores + step * (aim_scores - scores)
            lower = svm_objective(tried, tried_scores, y, c)
            if lower < value:
                break
            step /= 2
        else:
            # Rounding alone keeps rows on the margin from settling: this is the optimum.
            return coefficients
        coefficients, scores, value = tried, tried_scores, lower
    raise NotSolved(f"the linear SVM is not solved after {_MAX_STEPS} Newton steps; take a smaller C")


def svm_objective(coefficients: np.ndarray, scores: np.ndarray, y: np.ndarray, c: np.ndarray) -> float:
    """What `newton_coefficients` minimises.

    Parameters
    ----------
    coefficients, scores : ndarray of shape (n,), float64
        The scores are the inner products times the coefficients.
    y, c : ndarray of shape (n,), float64
        As for `newton_scores`.
    """
    return float(coefficients @ scores / 2 + np.sum(c * np.maximum(0, 1 - y * scores) ** 2))
