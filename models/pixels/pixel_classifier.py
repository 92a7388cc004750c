"""A classifier of pixels: boosted trees, logistic regression or a linear SVM on descriptors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.errors import BadSettings, TooFewData
from haemo.models.pixels.trees import BoostedTrees

__all__ = ["KINDS", "PixelClassifier", "fit_pixels"]

KINDS = ("trees", "logistic", "svm")

_ROUNDS = 300
_LEARNING_RATE = 0.08
_LEAVES = 31
_LEAST_LEAF = 100
# Log odds after shares of the trees. Of pixels on phantom and real slices that end at a probability over 0.3
# fewer than 1 in 1,000 are below any; of all pixels, half are below the first, 9 in 10 below the last.
_SURELY_NOT = ((0.05, -4.0), (1 / 6, -4.0), (0.25, -3.5), (0.5, -3.0))
# Log odds, a probability of 0.05. Where all neighbours on a grid of 2 mm are below, it has their highest.
_DARK = -3.0
_SVM_FOLDS = 3
_SVM_C = 1e-2


@dataclass(frozen=True, eq=False)
class LinearScores:
    """Scores that are a weighted sum of descriptors.

    Attributes
    ----------
    weights : ndarray of shape (descriptors,), float64
    intercept : float
    """

    weights: np.ndarray
    intercept: float

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, for a file."""
        return {"weights": self.weights, "intercept": np.array([self.intercept])}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "LinearScores":
        """The reverse of `arrays`."""
        return cls(arrays["weights"], float(arrays["intercept"][0]))

    def scores(self, X: np.ndarray) -> np.ndarray:
        """Log odds of blood: ndarray of shape (rows,), float64."""
        return X.astype(np.float64) @ self.weights + self.intercept


@dataclass(frozen=True, eq=False)
class PixelClassifier:
    """Tells blood from what is not, for each pixel by itself.

    Attributes
    ----------
    kind : str
        Of `KINDS`.
    model : BoostedTrees or LinearScores
    """

    kind: str
    model: BoostedTrees | LinearScores

    def probability(self, X: np.ndarray) -> np.ndarray:
        """Find the probability of blood of pixels, each by itself: (pixels,), float32, in 0..1.

        Parameters
        ----------
        X : ndarray of shape (pixels, descriptors), float32
        """
        from scipy.special import expit

        return expit(self._scores(X)).astype(np.float32)

    def probability_over(self, inside: np.ndarray, rows: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Find the probability of blood over a slice: ndarray of shape (pixels,), float32, in 0..1.

        Trees are asked of every second pixel of every second row first, and of the others only where one of
        these neighbours may be blood.

        Parameters
        ----------
        inside : ndarray of shape (height, width), bool
            Where the pixels lie, row by row.
        rows : callable
            Gives the descriptors of the pixels of some numbers: (pixels, descriptors), float32.
        """
        from scipy.special import expit

        at, columns = np.nonzero(inside)
        if not isinstance(self.model, BoostedTrees):
            return self.probability(rows(np.arange(len(at))))
        scores = np.empty(len(at))
        is_first = (at | columns) & 1 == 0
        first = np.flatnonzero(is_first)
        scores[first] = self._scores(rows(first))
        # Of each pixel the up to four asked neighbours, or itself; where there is none, it is asked.
        highest = np.full((inside.shape[0] + 2, inside.shape[1] + 2), np.nan)
        highest[at[first] + 1, columns[first] + 1] = scores[first]
        highest = _fmax_about(highest)[at + 1, columns + 1]
        dark = ~is_first & (highest < _DARK)
        scores[dark] = highest[dark]
        asked = np.flatnonzero(~is_first & ~dark)
        scores[asked] = self._scores(rows(asked))
        return expit(scores).astype(np.float32)

    def _scores(self, X: np.ndarray) -> np.ndarray:
        if isinstance(self.model, BoostedTrees):
            return self.model.scores(X, _SURELY_NOT)
        return self.model.scores(X)

    @classmethod
    def of_arrays(cls, kind: str, arrays: Mapping[str, np.ndarray]) -> "PixelClassifier":
        """The classifier whose `model.arrays` these are."""
        return cls(kind, (BoostedTrees if kind == "trees" else LinearScores).of_arrays(arrays))


def _fmax_about(values: np.ndarray) -> np.ndarray:
    """The largest number in the 3 x 3 places about each, inside an edge of one; NaN where there is none."""
    found = values.copy()
    found[1:] = np.fmax(found[1:], values[:-1])
    found[:-1] = np.fmax(found[:-1], values[1:])
    values = found.copy()
    found[:, 1:] = np.fmax(found[:, 1:], values[:, :-1])
    found[:, :-1] = np.fmax(found[:, :-1], values[:, 1:])
    return found


def fit_pixels(
    kind: str, X: np.ndarray, y: np.ndarray, weights: np.ndarray, patients: np.ndarray, seed: int = 0
) -> PixelClassifier:
    """Fit a classifier on pixels of slices.

    ``trees`` are gradient-boosted (scikit-learn's histogram kind); ``logistic`` and ``svm`` read standardised
    descriptors. Probabilities of the SVM are fitted on scores that whole patients got out of fold (Platt).

    Parameters
    ----------
    kind : str
        Of `KINDS`.
    X : ndarray of shape (pixels, descriptors), float32
    y : ndarray of shape (pixels,), bool
        Whether a pixel is blood.
    weights : ndarray of shape (pixels,), above 0
    patients : ndarray of shape (pixels,)
        Whom each pixel is from.
    seed : int

    Raises
    ------
    BadSettings
        If there is no such kind.
    TooFewData
        If there is no pixel of blood, or none without; for ``svm`` also under 3 patients who bleed.
    """
    if kind not in KINDS:
        raise BadSettings(f"there is no pixel classifier {kind!r}; it is one of {', '.join(KINDS)}")
    if not y.any() or y.all():
        raise TooFewData(
            "a pixel classifier needs pixels with blood and pixels without; "
            "the masks of the training slices have only one of both"
        )
    if kind == "trees":
        return PixelClassifier(kind, BoostedTrees.of(_trees(seed).fit(X, y, sample_weight=weights)))
    slope, intercept = (1.0, 0.0) if kind == "logistic" else _platt(X, y, weights, patients, seed)
    scale, head = _linear(kind, seed).fit(X, y, head__sample_weight=weights)
    own = head.coef_[0].astype(np.float64) / scale.scale_
    total = float(head.intercept_[0] - own @ scale.mean_)
    return PixelClassifier(kind, LinearScores(slope * own, slope * total + intercept))


def _trees(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=_ROUNDS,
        learning_rate=_LEARNING_RATE,
        max_leaf_nodes=_LEAVES,
        min_samples_leaf=_LEAST_LEAF,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )


def _linear(kind: str, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    head = (
        LogisticRegression(max_iter=1000)
        if kind == "logistic"
        else LinearSVC(C=_SVM_C, dual=False, intercept_scaling=10, random_state=seed)
    )
    return Pipeline([("scale", StandardScaler()), ("head", head)])


def _platt(
    X: np.ndarray, y: np.ndarray, weights: np.ndarray, patients: np.ndarray, seed: int
) -> tuple[float, float]:
    """Slope and intercept of the SVM's log odds over its score, from scores out of fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    bleeding = len(np.unique(patients[y]))
    if bleeding < _SVM_FOLDS:
        raise TooFewData(f"probabilities of the SVM need {_SVM_FOLDS} patients who bleed, not {bleeding}")
    folds = StratifiedGroupKFold(_SVM_FOLDS, shuffle=True, random_state=seed)
    scores = cross_val_predict(
        _linear("svm", seed),
        X,
        y,
        groups=patients,
        cv=folds,
        method="decision_function",
        params={"head__sample_weight": weights},
    )
    platt = LogisticRegression(C=1e6).fit(scores[:, None], y, sample_weight=weights)
    return float(platt.coef_[0, 0]), float(platt.intercept_[0])
