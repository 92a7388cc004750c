"""Decision scores of a classifier that gives probabilities alone, such as a forest: their log odds."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

__all__ = ["LogOdds"]

_LEAST = 1e-6  # a forest may be unanimous: its odds would be without bound


class LogOdds(ClassifierMixin, BaseEstimator):
    """A classifier with the log odds of its probabilities as decision scores.

    Parameters
    ----------
    estimator : classifier
        With ``predict_proba``.

    Attributes
    ----------
    estimator_ : classifier
        Fitted.
    classes_ : ndarray of shape (n_classes,)
    """

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y) -> "LogOdds":
        """Fit the estimator."""
        self.estimator_ = clone(self.estimator).fit(X, y)
        self.classes_ = self.estimator_.classes_
        self.n_features_in_ = X.shape[1]
        return self

    def decision_function(self, X) -> np.ndarray:
        """Log odds of the second of two classes, shape (n,), or of each, shape (n, n_classes)."""
        chances = np.clip(self.predict_proba(X), _LEAST, 1 - _LEAST)
        odds = np.log(chances) - np.log1p(-chances)
        return odds[:, 1] if len(self.classes_) == 2 else odds

    def predict_proba(self, X) -> np.ndarray:
        """The estimator's probabilities, shape (n, n_classes)."""
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    def predict(self, X) -> np.ndarray:
        """The estimator's classes, shape (n,)."""
        check_is_fitted(self)
        return self.estimator_.predict(X)
