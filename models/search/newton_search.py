"""The cells of a linear SVM's grid where rows are few: one kernel a fold, exact Newton steps on it.

Below some thousand rows a fold's inner products fit into the cache, and a Newton step costs one Cholesky
factorisation; above, the block solver's shared passes over the features are faster (`path_search`).
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from haemo.models.search.cells import Candidate, Cell, Fold, Preparation, Task
from haemo.models.search.kernels import Products
from haemo.models.search.newton_svm import newton_scores
from haemo.models.search.path_search import Scored, classes_of_all, is_linear_svm, problem_columns

__all__ = ["fit_few", "is_few", "newton_cells"]

_MOST_ROWS = 4000


def is_few(head: Any, shape: tuple[int, int], memory: int) -> bool:
    """Whether a linear head on features of this shape is better fitted by way of a kernel matrix."""
    n, d = shape
    return is_linear_svm(head) and n <= _MOST_ROWS and 8 * n * (3 * n + 2 * d) <= memory


def newton_cells(
    task: Task, fold: Fold, preparation: Preparation, candidates: Sequence[Candidate]
) -> Iterator[Cell]:
    """Judge linear SVMs on one fold.

    Raises
    ------
    TooFewData
        If the training rows of one of the task's folds lack a class.
    """
    X, y = task.X, task.y
    classes = classes_of_all(y, task.folds)
    start = time.perf_counter()
    fitted, train = preparation.fit(X[fold.train], y[fold.train])
    rows = np.concatenate([train, preparation.apply(fitted, X[fold.held_out])])
    order = np.concatenate([fold.train, fold.held_out])
    labels, here = y[order], Fold(fold.number, np.arange(len(train)), np.arange(len(train), len(rows)))
    inner = Products(rows, None, task.device).inner
    shared = (time.perf_counter() - start) / len(candidates)

    def judge(candidate: Candidate) -> Cell:
        start = time.perf_counter()
        scores = _scores(candidate.head, inner, here, labels, classes)[here.held_out]
        middle = time.perf_counter()
        value = task.scorer(Scored(classes), scores, labels[here.held_out])
        end = time.perf_counter()
        return Cell(candidate.number, fold.number, value, shared + middle - start, end - middle, scores)

    # Matrices are small: one thread for each problem is faster than all threads for one.
    with threadpool_limits(1), ThreadPoolExecutor(task.n_jobs) as pool:
        yield from pool.map(judge, candidates)


def fit_few(
    head: Any, X: np.ndarray, y: np.ndarray, preparation: Preparation, device: str
) -> tuple[list[tuple[str, Any]], Any]:
    """Fit a linear SVM on all rows.

    Returns
    -------
    list of (str, transformer)
        The fitted steps.
    LinearSVC
        As scikit-learn fits it, to rounding.
    """
    whole = Fold(0, np.arange(len(y)), np.arange(0))
    classes = classes_of_all(y, [whole])
    fitted, train = preparation.fit(X, y)
    inner = Products(train, None, device).inner
    scores = _scores(head, inner, whole, y, classes).reshape(len(y), -1)
    targets, costs = _problems(head, whole, y, classes)
    # The optimum as a sum over the rows inside the margin: each pulls by the slope of its loss.
    pulls = 2.0 * costs * targets * np.maximum(0.0, 1.0 - targets * scores)
    model = clone(head)
    model.classes_ = classes
    model.coef_ = pulls.T @ train
    model.intercept_ = head.intercept_scaling**2 * pulls.sum(axis=0)
    model.n_features_in_ = train.shape[1]
    model.n_iter_ = 1
    return fitted, model


def _scores(head: Any, inner: np.ndarray, fold: Fold, y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Scores of all rows: (n,) for two classes, else (n, n_classes)."""
    targets, costs = _problems(head, fold, y, classes)
    kernel = inner + head.intercept_scaling**2
    columns = [newton_scores(kernel, *pair) for pair in zip(targets.T, costs.T, strict=True)]
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)


def _problems(head: Any, fold: Fold, y: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets and row weights, a column a problem."""
    found = list(problem_columns(head, fold, y, classes))
    targets = np.where(y[:, None] == classes[[one for one, _ in found]], 1.0, -1.0)
    return targets, np.stack([weights for _, weights in found], axis=1)
