"""Several calibrated heads as one: a weighted sum of their log odds."""

from collections.abc import Sequence

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from haemo.models.heads.calibration import cross_calibrated, fit_calibrators, probabilities

__all__ = ["WEIGHTS", "LogitBlend", "blended_out_of_fold", "log_odds_of"]

WEIGHTS = ("fitted", "mean")

_LEAST = 1e-6  # isotonic probabilities may be 0 or 1: their odds would be without bound
# How strongly fitted weights are drawn to equal ones: with few patients, those of heads that say nearly the
# same are not settled by what they say.
_RIDGE = 1.0


class LogitBlend(ClassifierMixin, BaseEstimator):
    """A weighted sum of log odds, by logistic regression with weights that are not negative.

    Parameters
    ----------
    weights : {'fitted', 'mean'}
        ``mean`` weighs all alike and learns nothing.

    Attributes
    ----------
    coef_ : ndarray of shape (n_heads,), float64
        Weights, 0 or more; for ``mean`` they add up to 1.
    intercept_ : float
    classes_ : ndarray of shape (2,)
    """

    def __init__(self, weights: str = "fitted"):
        self.weights = weights

    def fit(self, X, y) -> "LogitBlend":
        """Fit to log odds of shape (n, n_heads), one column a head, and classes, of which there are two."""
        from scipy.optimize import minimize

        X, y = validate_data(self, X, y, dtype=np.float64)
        self.classes_, target = np.unique(y, return_inverse=True)
        heads = X.shape[1]
        equal = np.append(np.full(heads, 1 / heads), 0.0)
        if self.weights == "fitted":
            design = np.column_stack([X, np.ones(len(X))])

            def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
                scores, away = design @ values, (values - equal)[:-1]
                value = (np.logaddexp(0, scores) - target * scores).sum() + _RIDGE / 2 * (away @ away)
                slope = design.T @ (0.5 * (1 + np.tanh(scores / 2)) - target)
                slope[:-1] += _RIDGE * away
                return float(value), slope

            bounds = [(0.0, None)] * heads + [(None, None)]
            options = {"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9}
            equal = minimize(loss, equal, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
        self.coef_, self.intercept_ = equal[:-1], float(equal[-1])
        return self

    def decision_function(self, X) -> np.ndarray:
        """Blended log odds of the second class, shape (n,)."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False) @ self.coef_ + self.intercept_

    def predict(self, X) -> np.ndarray:
        """The likelier class, shape (n,)."""
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


def log_odds_of(chances: np.ndarray) -> np.ndarray:
    """Log odds of probabilities, of the same shape; those nearer than 1e-6 to 0 or 1 are held there."""
    held = np.clip(chances, _LEAST, 1 - _LEAST)
    return np.log(held) - np.log1p(-held)


def blended_out_of_fold(
    scores: np.ndarray, y: np.ndarray, folds: np.ndarray, methods: Sequence[str], weights: str
) -> np.ndarray:
    """Blended log odds of each fold, by weights and calibrators that the other folds alone were used for.

    Parameters
    ----------
    scores : ndarray of shape (n, n_heads), float64
        Decision scores of heads on slices that they were not fitted on.
    y : ndarray of shape (n,), int
        Class numbers, 0 and 1.
    folds : ndarray of shape (n,), int
    methods : sequence of str
        How each head is calibrated, of `calibration.METHODS`.
    weights : {'fitted', 'mean'}

    Returns
    -------
    ndarray of shape (n,), float64
    """
    result = np.empty(len(y))
    for fold in np.unique(folds):
        inside = folds == fold
        # As in cross_calibrated.
        rest = ~inside if len(np.unique(y[~inside])) == 2 else np.ones_like(inside)
        learned, held_out = [], []
        for own, method in zip(scores.T, methods, strict=True):
            learned.append(cross_calibrated(own[rest], y[rest], folds[rest], method)[:, 1])
            held_out.append(probabilities(own[inside], fit_calibrators(own[rest], y[rest], method))[:, 1])
        blend = LogitBlend(weights).fit(log_odds_of(np.column_stack(learned)), y[rest])
        result[inside] = blend.decision_function(log_odds_of(np.column_stack(held_out)))
    return result
