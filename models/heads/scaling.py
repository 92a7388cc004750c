"""Standardisation for units that are nearly always 0: their spread is not taken for more than noise.

After a ReLU many units of an embedding are 0 on nearly every slice. Their standard deviation over the
training slices is tiny, so dividing by it makes the few slices where such a unit does answer stand tens of
deviations out, and a head then listens to the rarest units most of all. On slices of another origin, where
other units are the rare ones, its scores mean little. With a floor under the deviations a unit that varies
more than the middle one is scaled as usual, and no other is magnified more than that one.
"""

import numpy as np
from sklearn.preprocessing import StandardScaler

__all__ = ["FlooredScaler", "deviations", "floored"]


def deviations(variance: np.ndarray, mean: np.ndarray, count: np.ndarray | int) -> np.ndarray:
    """Standard deviations, 0 for features that are constant up to rounding.

    Parameters
    ----------
    variance, mean : ndarray of shape (..., d), float64
    count : int or ndarray of shape (..., 1)
        Of rows. The bound below which a feature is constant is StandardScaler's.
    """
    epsilon = np.finfo(np.float64).eps
    constant = variance <= count * epsilon * variance + (count * mean * epsilon) ** 2
    return np.where(constant, 0.0, np.sqrt(variance))


def floored(spread: np.ndarray) -> np.ndarray:
    """Standard deviations, raised to the median of those above 0.

    Parameters
    ----------
    spread : ndarray of shape (..., d), float64
        0 or more, of d features; each row has a floor of its own.

    Returns
    -------
    ndarray of shape (..., d), float64
        Above 0. A row of zeros becomes ones.
    """
    rows = np.atleast_2d(np.asarray(spread, dtype=np.float64))
    floors = [np.median(row[row > 0]) if (row > 0).any() else 1.0 for row in rows]
    return np.maximum(rows, np.array(floors)[:, None]).reshape(np.shape(spread))


class FlooredScaler(StandardScaler):
    """StandardScaler that divides by no less than the median standard deviation of the features.

    Attributes
    ----------
    scale_ : ndarray of shape (n_features,), float64
        ``max(std, median of the stds above 0)``; a feature that is constant has the median too.
    mean_, var_ : ndarray of shape (n_features,), float64
        As StandardScaler has them.
    """

    def partial_fit(self, X, y=None, sample_weight=None) -> "FlooredScaler":
        """Learn from a batch of rows; see StandardScaler."""
        super().partial_fit(X, y, sample_weight)
        if self.with_std:
            self.scale_ = floored(deviations(self.var_, self.mean_, self.n_samples_seen_))
        return self
