"""One cell of a grid search: a setting judged on a fold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.memory import free_memory
from haemo.processors import usable_processors

__all__ = [
    "Candidate",
    "Cell",
    "Fold",
    "Preparation",
    "Scorer",
    "Task",
    "available_memory",
    "out_of_fold_scores",
    "usable_cores",
]


Scorer = Callable[[Any, np.ndarray, np.ndarray], float]


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows of one fold.

    Attributes
    ----------
    number : int
    train, held_out : ndarray of int
        Positions of rows.
    """

    number: int
    train: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True, eq=False)
class Task:
    """What all cells of a search are judged on, and with.

    Attributes
    ----------
    X : ndarray of shape (n, d), or Rows
        Rows are streamed in blocks at every pass, for features that do not fit into memory.
    y : ndarray of shape (n,)
    groups : ndarray of shape (n,) or None
        Patients, for classifiers whose fit takes them.
    folds : list of Fold
    scorer : callable
    n_jobs : int
    memory : int
        Bytes.
    device : str
    tolerance : float
        Largest optimality gap of the block solver, relative to the objective.
    blocks : sequence of int, optional
        Widths of the blocks that the columns are made of, where products may be made block by block.
    """

    X: Any
    y: np.ndarray
    groups: np.ndarray | None
    folds: list[Fold]
    scorer: Scorer
    n_jobs: int
    memory: int
    device: str
    tolerance: float
    blocks: Sequence[int] | None = None


@dataclass(frozen=True, eq=False)
class Candidate:
    """One setting of the grid.

    Attributes
    ----------
    number : int
        Its place in the grid.
    head : estimator
        Unfitted classifier with the setting's parameters.
    """

    number: int
    head: Any


@dataclass(frozen=True, eq=False)
class Cell:
    """What one setting reached on one fold.

    Attributes
    ----------
    candidate, fold : int
    score : float
    fit_seconds, score_seconds : float
        Share of the time where many cells were worked on together.
    scores : ndarray of shape (n_held_out,) or (n_held_out, n_classes), or None
        Decision scores of the held-out rows; None where the cell was finished in an earlier run.
    """

    candidate: int
    fold: int
    score: float
    fit_seconds: float
    score_seconds: float
    scores: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Preparation:
    """The steps before the classifier, unfitted, and the candidates that share them.

    Attributes
    ----------
    steps : sequence of (str, transformer)
    candidates : sequence of Candidate
    """

    steps: Sequence[tuple[str, Any]]
    candidates: Sequence[Candidate]

    def fit(self, X: np.ndarray, y: np.ndarray) -> tuple[list[tuple[str, Any]], np.ndarray]:
        """Fitted copies of the steps, and the rows they were fitted on as the classifier gets them."""
        from sklearn.base import clone

        fitted = []
        for name, step in self.steps:
            step = clone(step)
            X = step.fit_transform(X, y)
            fitted.append((name, step))
        return fitted, X

    @staticmethod
    def apply(fitted: Sequence[tuple[str, Any]], X: np.ndarray) -> np.ndarray:
        """Other rows as the classifier gets them."""
        for _, step in fitted:
            X = step.transform(X)
        return X


def out_of_fold_scores(model: Any, X: np.ndarray) -> np.ndarray:
    """Decision scores; for a model without them the probability of class 1, or of every class."""
    if hasattr(model, "decision_function"):
        return model.decision_function(X)
    chances = model.predict_proba(X)
    return chances[:, 1] if chances.shape[1] == 2 else chances


def usable_cores(n_jobs: int | None) -> int:
    """Number of fits to run at a time; None or -1 is one a core."""
    return usable_processors() if n_jobs is None or n_jobs < 0 else max(1, n_jobs)


def available_memory() -> int:
    """Bytes that a search may take unless it is told otherwise: half of what is free now."""
    return free_memory() // 2
