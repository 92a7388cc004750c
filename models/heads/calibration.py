"""Probabilities from decision scores, and the head that carries them."""

from collections.abc import Iterable

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from haemo.errors import BadSettings
from haemo.models.heads.thresholds import ThresholdRule

__all__ = [
    "METHODS",
    "CalibratedHead",
    "PriorShift",
    "SigmoidCalibrator",
    "cross_calibrated",
    "cross_thresholds",
    "fit_calibrators",
    "probabilities",
]

METHODS = ("sigmoid", "isotonic", "none", "prior")

# Matrix products give other last bits for other numbers of rows. Scores are computed in blocks of one size,
# the last one padded, so that a slice's score does not depend on how many others it is scored with.
_BLOCK = 64

_NEWTON_STEPS = 100
_SMALLEST_STEP = 1e-10


class SigmoidCalibrator(BaseEstimator):
    """Platt's sigmoid: the probability is 1 / (1 + exp(-(slope * score + intercept))).

    Maximum likelihood with Platt's smoothed targets, which keep the slope finite when the classes
    separate. Newton's method with backtracking on standardised scores, after Lin, Lin and Weng, "A note
    on Platt's probabilistic outputs for support vector machines", Machine Learning 68 (2007).

    Attributes
    ----------
    slope_, intercept_ : float
    """

    def fit(self, scores: np.ndarray, is_class: np.ndarray) -> "SigmoidCalibrator":
        """Fit to scores of shape (n,) and whether each is of the class, shape (n,), bool."""
        scores = np.asarray(scores, dtype=np.float64)
        is_class = np.asarray(is_class, dtype=bool)
        positives, negatives = is_class.sum(), (~is_class).sum()
        target = np.where(is_class, (positives + 1) / (positives + 2), 1 / (negatives + 2))
        centre, width = scores.mean(), scores.std() or 1.0
        design = np.column_stack([(scores - centre) / width, np.ones(len(scores))])

        def loss(weights: np.ndarray) -> float:
            logit = design @ weights
            return float((np.logaddexp(0, logit) - target * logit).sum())

        weights = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
        for _ in range(_NEWTON_STEPS):
            chance = _logistic(design @ weights)
            gradient = design.T @ (chance - target)
            hessian = (design * (chance * (1 - chance))[:, None]).T @ design + 1e-12 * np.eye(2)
            direction = -np.linalg.solve(hessian, gradient)
            if np.abs(gradient).max() < 1e-9 * len(scores):
                break
            step, before = 1.0, loss(weights)
            while step > _SMALLEST_STEP and loss(weights + step * direction) > before:
                step /= 2
            weights = weights + step * direction
        self.slope_ = float(weights[0] / width)
        self.intercept_ = float(weights[1] - weights[0] * centre / width)
        return self

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities, in 0..1, of scores of any shape."""
        return _logistic(self.slope_ * np.asarray(scores, dtype=np.float64) + self.intercept_)


class PriorShift(BaseEstimator):
    """Log odds of a model whose classes were balanced by weight, taken back to how often classes occur.

    Slices that weigh inversely to the frequency of their class give probabilities as if all classes were
    equally frequent; the odds of classes are to be multiplied by those of their frequencies (Saerens,
    Latinne and Decaestecker, Neural Comput. 14, 2002).

    Attributes
    ----------
    log_shares_ : ndarray of shape (n_classes,), float64
        Logarithm of each class's share.
    """

    def fit(self, y: np.ndarray, n_classes: int) -> "PriorShift":
        """Take the shares of class numbers `y`, shape (n,), int; each class needs one."""
        self.log_shares_ = np.log(np.bincount(y, minlength=n_classes) / len(y))
        return self

    def shifted(self, scores: np.ndarray) -> np.ndarray:
        """Scores as `probabilities` takes them without calibrators, of the same shape."""
        if scores.ndim == 1:
            return scores + (self.log_shares_[1] - self.log_shares_[0])
        return scores + self.log_shares_


Calibrator = SigmoidCalibrator | IsotonicRegression | PriorShift


def fit_calibrators(scores: np.ndarray, y: np.ndarray, method: str) -> list[Calibrator]:
    """Fit what turns scores into probabilities.

    Parameters
    ----------
    scores : ndarray of shape (n,) or (n, n_classes)
        Scores of slices that the estimator was not fitted on; one column for two classes.
    y : ndarray of shape (n,), int
        Class numbers.
    method : str
        One of `METHODS`.

    Returns
    -------
    list
        One calibrator for two classes, one a class for more; none for the method ``none``, and a
        `PriorShift` for ``prior``, which is for log odds of classes that were balanced by weight.
    """
    if method not in METHODS:
        raise BadSettings(f"calibration {method!r} is not one of {', '.join(METHODS)}")
    if method == "none":
        return []
    if method == "prior":
        return [PriorShift().fit(y, 2 if scores.ndim == 1 else scores.shape[1])]
    if scores.ndim == 1:
        columns: Iterable[tuple[np.ndarray, np.ndarray]] = [(scores, y == 1)]
    else:
        columns = [(scores[:, one], y == one) for one in range(scores.shape[1])]
    return [
        SigmoidCalibrator().fit(score, is_class)
        if method == "sigmoid"
        else IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score, is_class.astype(float))
        for score, is_class in columns
    ]


def probabilities(scores: np.ndarray, calibrators: list[Calibrator]) -> np.ndarray:
    """Probabilities of each class, in 0..1, rows adding up to 1.

    Parameters
    ----------
    scores : ndarray of shape (n,) or (n, n_classes)
    calibrators : list
        From `fit_calibrators`. None of them: scores are taken as log odds (two classes) or as
        logarithms of unnormalised probabilities (more), which is what softmax and MLP heads give.

    Returns
    -------
    ndarray of shape (n, n_classes), float64
    """
    if calibrators and isinstance(calibrators[0], PriorShift):
        scores, calibrators = calibrators[0].shifted(scores), []
    if scores.ndim == 1:
        positive = calibrators[0].predict(scores) if calibrators else _logistic(scores)
        return np.column_stack([1 - positive, positive])
    if not calibrators:
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)
    each = np.column_stack([calibrator.predict(scores[:, one]) for one, calibrator in enumerate(calibrators)])
    total = each.sum(axis=1, keepdims=True)
    return np.divide(each, total, out=np.full_like(each, 1 / each.shape[1]), where=total > 0)


def cross_calibrated(scores: np.ndarray, y: np.ndarray, folds: np.ndarray, method: str) -> np.ndarray:
    """Probabilities of out-of-fold scores, each calibrated without its own fold.

    A calibrator that had seen the very slices would make them look better calibrated than new ones are.

    Parameters
    ----------
    scores, y, method
        As `fit_calibrators`.
    folds : ndarray of shape (n,), int

    Returns
    -------
    ndarray of shape (n, n_classes), float64
    """
    n_classes = 2 if scores.ndim == 1 else scores.shape[1]
    result = np.empty((len(scores), n_classes))
    for fold in np.unique(folds):
        inside = folds == fold
        # A class that only this fold has cannot be calibrated without it.
        rest = ~inside if len(np.unique(y[~inside])) == n_classes else np.ones_like(inside)
        result[inside] = probabilities(scores[inside], fit_calibrators(scores[rest], y[rest], method))
    return result


def cross_thresholds(
    scores: np.ndarray, y: np.ndarray, folds: np.ndarray, method: str, rule: ThresholdRule
) -> np.ndarray:
    """The threshold that each out-of-fold slice of two classes is held against, chosen without its own fold.

    Judged on the very slices that chose it, a threshold by Youden's rule finds more than chance in noise.

    Parameters
    ----------
    scores, y, folds, method
        As `cross_calibrated`.
    rule : ThresholdRule

    Returns
    -------
    ndarray of shape (n,), float64
        In 0..1, one value a fold.
    """
    result = np.empty(len(scores))
    for fold in np.unique(folds):
        inside = folds == fold
        # As in cross_calibrated.
        rest = ~inside if len(np.unique(y[~inside])) == 2 else np.ones_like(inside)
        # The probabilities too know nothing of this fold.
        chances = cross_calibrated(scores[rest], y[rest], folds[rest], method)[:, 1]
        result[inside] = rule.choose(y[rest] == 1, chances)
    return result


class CalibratedHead(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """A classifier on embeddings with calibrated probabilities and a threshold on them.

    The probabilities are fitted on out-of-fold scores; the estimator itself is fitted on everything.

    Parameters
    ----------
    estimator : estimator
        With ``decision_function``.
    classes : sequence of str, optional
        Class names in the order of the columns; of two classes the second is the positive one. None
        sorts what `y` holds.
    method : str
        One of `METHODS`, see `fit_calibrators`.
    threshold : float in 0..1
        Probability from which the positive class is predicted. With more than two classes the most
        probable class is predicted.
    cv : int or iterable of (training, validation) index pairs
        Where out-of-fold scores come from when `fit` is called. The pairs are how whole patients are
        kept together; a number makes stratified folds of single rows.

    Attributes
    ----------
    estimator_ : estimator
        Fitted on class numbers, in the order of `classes_`.
    calibrators_ : list
    classes_ : ndarray of shape (n_classes,)
    """

    def __init__(self, estimator, classes=None, method="sigmoid", threshold=0.5, cv=5):
        self.estimator = estimator
        self.classes = classes
        self.method = method
        self.threshold = threshold
        self.cv = cv

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = True
        return tags

    def fit(self, X, y) -> "CalibratedHead":
        """Fit the estimator on all rows, and the probabilities on out-of-fold scores.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
        y : ndarray of shape (n,)
            Class names.
        """
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        numbers = self._numbers(y)
        pairs = (
            list(StratifiedKFold(self.cv).split(X, numbers)) if isinstance(self.cv, int) else list(self.cv)
        )
        parts = [
            clone(self.estimator).fit(X[train], numbers[train]).decision_function(X[validation])
            for train, validation in pairs
        ]
        seen = np.concatenate([validation for _, validation in pairs])
        fitted = clone(self.estimator).fit(X, numbers)
        return self._set_fitted(fitted, np.concatenate(parts), numbers[seen])

    def fit_calibration(self, fitted, scores: np.ndarray, y) -> "CalibratedHead":
        """Take an estimator that is fitted already, and fit the probabilities alone.

        Parameters
        ----------
        fitted : estimator
            Fitted on class numbers, in the order of `classes`.
        scores : ndarray of shape (n,) or (n, n_classes)
            Out-of-fold scores of the same kind of estimator.
        y : ndarray of shape (n,)
            Class names of the rows that the scores are of.
        """
        self.n_features_in_ = fitted.n_features_in_
        return self._set_fitted(fitted, scores, self._numbers(y))

    def _numbers(self, y: np.ndarray) -> np.ndarray:
        if self.classes is None:
            self.classes_, numbers = np.unique(y, return_inverse=True)
            if len(self.classes_) < 2:
                raise ValueError(f"there is only one class in y: {self.classes_}")
            return numbers
        self.classes_ = np.array(self.classes)
        place = {name: number for number, name in enumerate(self.classes)}
        return np.array([place[name] for name in y])

    def _set_fitted(self, fitted, scores: np.ndarray, numbers: np.ndarray) -> "CalibratedHead":
        self.calibrators_ = fit_calibrators(scores, numbers, self.method)
        self.estimator_ = fitted
        return self

    def decision_function(self, X) -> np.ndarray:
        """Scores of shape (n,) for two classes, of the positive one, else (n, n_classes); float64.

        A row's score is the same, bit for bit, whatever rows it is scored with.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        blocks = []
        for start in range(0, len(X), _BLOCK):
            block = X[start : start + _BLOCK]
            padded = np.zeros((_BLOCK, X.shape[1]), dtype=X.dtype)
            padded[: len(block)] = block
            blocks.append(self.estimator_.decision_function(padded)[: len(block)])
        return np.concatenate(blocks).astype(np.float64)

    def predict_proba(self, X) -> np.ndarray:
        """Probabilities of shape (n, n_classes), in the order of `classes_`."""
        check_is_fitted(self)
        return self.probabilities(self.decision_function(X))

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities of shape (n, n_classes) for scores that `decision_function` gave."""
        return probabilities(scores, self.calibrators_)

    def predict(self, X) -> np.ndarray:
        """Class names of shape (n,)."""
        check_is_fitted(self)
        return self.classes_[self.choose(self.predict_proba(X))]

    def choose(self, chances: np.ndarray) -> np.ndarray:
        """Class numbers for probabilities of shape (n, n_classes): by the threshold, or the most probable."""
        if len(self.classes_) == 2:
            return (chances[:, 1] >= self.threshold).astype(int)
        return chances.argmax(axis=1)


def _logistic(logits: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(np.asarray(logits, dtype=np.float64))
