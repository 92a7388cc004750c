"""Synthetic embeddings for tests of the heads: non-negative, correlated, with patients."""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold


@dataclass(frozen=True, eq=False)
class Cohort:
    X: np.ndarray
    y: np.ndarray
    patients: np.ndarray

    def folds(self, n_splits: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
        splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=0)
        return list(splitter.split(self.X, self.y, self.patients))


def cohort(
    n: int = 160, d: int = 60, classes: int = 2, seed: int = 0, dtype: type = np.float64, signal: float = 0.6
) -> Cohort:
    """Rows like those of a rectified layer: a few latent factors, patient effects, noise, cut at zero."""
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, 30, n)
    y = np.where(rng.random(n) < 0.7, (np.arange(30) % classes)[patients], 0)
    latent = rng.normal(size=(n, 12)) + 0.7 * rng.normal(size=(30, 12))[patients]
    for one in range(1, classes):
        latent[y == one, 3 * one : 3 * one + 3] += signal
    X = latent @ rng.normal(size=(12, d)) + 0.5 * rng.normal(size=(n, d))
    return Cohort(np.maximum(X, 0).astype(dtype), y, patients)
