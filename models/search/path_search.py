"""The cells of a linear head's grid: every C, fold and class in one block of problems."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.class_weight import compute_class_weight

from haemo.errors import BadSettings, TooFewData
from haemo.models.heads.scaling import FlooredScaler
from haemo.models.search.cells import Candidate, Cell, Fold, Preparation, Task
from haemo.models.search.linear_path import PathProblems, solve_paths, solved_in_turn
from haemo.models.search.path_losses import BinaryLogistic, Multinomial, SquaredHinge
from haemo.models.search.rows import FoldScaling, Rows, fold_scaling

__all__ = [
    "Scored",
    "ScoredLogistic",
    "classes_of_all",
    "fit_linear",
    "is_linear",
    "is_linear_svm",
    "path_cells",
    "problem_columns",
]


# More columns than this make the block's own arrays larger than the features of a common run.
_COLUMNS = 256
_BYTES = 130  # that the block solver holds of each row and feature, for each column
_STATELESS = ("Normalizer",)


def is_linear(head: Any) -> bool:
    """Whether `head` minimises one of the block solver's objectives."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    if type(head) is LinearSVC:
        return (head.loss, head.penalty, head.multi_class) == (
            "squared_hinge",
            "l2",
            "ovr",
        ) and head.fit_intercept
    if type(head) is LogisticRegression:
        # liblinear penalises the intercept; the others minimise the same objective as each other.
        plain = head.solver != "liblinear" and head.fit_intercept and np.isfinite(head.C)
        return plain and head.penalty in ("l2", "deprecated") and not head.l1_ratio
    return False


def path_cells(
    task: Task, preparation: Preparation, wanted: Sequence[tuple[Candidate, Fold]]
) -> Iterator[Cell]:
    """Judge linear heads on all folds together.

    Where nothing but row normalisation and standardisation comes before the classifier, all folds share
    the features and each pass over them; other steps (PCA) give each fold features of its own, and the
    folds are then worked on one after another.

    Parameters
    ----------
    task : Task
    preparation : Preparation
    wanted : sequence of (Candidate, Fold)
        Cells to judge.

    Raises
    ------
    TooFewData
        If a fold's training rows lack a class.
    BadSettings
        If rows are streamed and a step has to see all of them.
    """
    X, y, folds, device = task.X, task.y, task.folds, task.device
    classes = classes_of_all(y, folds)
    shared = _shared(preparation)
    if shared is None:
        X = _in_memory(X)
        for fold in folds:
            mine = [(candidate, one) for candidate, one in wanted if one is fold]
            if mine:
                fitted, train = preparation.fit(X[fold.train], y[fold.train])
                prepared = np.empty((len(X), train.shape[1]), dtype=train.dtype)
                prepared[fold.train] = train
                prepared[fold.held_out] = preparation.apply(fitted, X[fold.held_out])
                rows = Rows(prepared, device=_of_rows(device))
                scaling = FoldScaling.none(1, train.shape[1])
                yield from _solve(task, rows, scaling, [0] * len(mine), mine)
        return
    stateless, scaler = shared
    rows = _rows(X, stateless, device)
    used = [fold for fold in folds if any(one is fold for _, one in wanted)]
    if scaler is not None:
        training = np.zeros((len(y), len(used)), dtype=bool)
        for place, fold in enumerate(used):
            training[fold.train, place] = True
        scaling = fold_scaling(rows, training, floor=_has_floor(scaler))
    else:
        scaling = FoldScaling.none(len(used), rows.shape[1])
    place = {fold.number: number for number, fold in enumerate(used)}
    # Neighbouring C need about as many steps, and leave the block at about the same time.
    ordered = sorted(wanted, key=lambda cell: (cell[0].head.C, cell[0].number, cell[1].number))
    n_columns = 1 if len(classes) == 2 else len(classes)
    at_a_time = max(1, _columns_at_a_time(rows.shape, task.memory) // n_columns)
    for start in range(0, len(ordered), at_a_time):
        part = ordered[start : start + at_a_time]
        numbers = [place[fold.number] for _, fold in part]
        yield from _solve(task, rows, scaling, numbers, part)


def _columns_at_a_time(shape: tuple[int, int], memory: int) -> int:
    """Columns of a block whose own arrays fit into a budget of bytes; at least one."""
    return max(1, min(_COLUMNS, memory // (_BYTES * sum(shape))))


def classes_of_all(y: np.ndarray, folds: Sequence[Fold]) -> np.ndarray:
    """The classes, which every fold's training rows must have.

    Raises
    ------
    TooFewData
        If one of them lacks a class, or there is only one.
    """
    classes = np.unique(y)
    for fold in folds:
        if len(np.unique(y[fold.train])) < max(2, len(classes)):
            raise TooFewData(
                f"the training part of fold {fold.number} has not all of the classes {list(classes)}; "
                "use fewer folds"
            )
    return classes


def fit_linear(
    head: Any,
    X: np.ndarray | Rows,
    y: np.ndarray,
    preparation: Preparation,
    tolerance: float,
    device: str,
    memory: int,
) -> tuple[list[tuple[str, Any]], Any]:
    """Fit a linear head on all rows.

    Returns
    -------
    list of (str, transformer)
        The fitted steps.
    LinearSVC or LogisticRegression
        As scikit-learn fits it, up to the tolerance.
    """
    classes = np.unique(y)
    if len(classes) < 2:
        raise TooFewData(f"there is only one class to train on: {list(classes)}")
    shared = _shared(preparation)
    if shared is not None:
        fitted, rows, scaling = _fit_shared(X, preparation, *shared, device)
    else:
        fitted, train = preparation.fit(_in_memory(X), y)
        rows = Rows(np.ascontiguousarray(train), device=_of_rows(device))
        scaling = FoldScaling.none(1, rows.shape[1])
    whole = Fold(0, np.arange(len(y)), np.arange(0))
    problems = _problems(rows, [0], y, classes, [(Candidate(0, head), whole)])
    solution = solve_paths(rows, problems, scaling, tolerance, memory)
    model = clone(head)
    model.classes_ = classes
    model.coef_ = solution.weights.reshape(-1, rows.shape[1])
    model.intercept_ = solution.intercepts.reshape(-1)
    model.n_features_in_ = rows.shape[1]
    steps = int(solution.newton_steps.max())
    model.n_iter_ = steps if is_linear_svm(head) else np.array([steps], dtype=np.int32)
    return fitted, model


def _fit_shared(
    X: np.ndarray | Rows, preparation: Preparation, stateless: Sequence[Any], scaler: Any, device: str
) -> tuple[list[tuple[str, Any]], Rows, FoldScaling]:
    """The fitted steps, the rows after all but the scaler, and what the scaler does, without scaled rows."""
    rows, n_features = _rows(X, stateless, device), X.shape[1]
    scaling = FoldScaling.none(1, n_features)
    fitted = [(name, clone(step)) for name, step in preparation.steps]
    for _, step in fitted:
        step.n_features_in_ = n_features
    if scaler is not None:
        everything = np.ones((rows.shape[0], 1), dtype=bool)
        scaling = fold_scaling(rows, everything, floor=_has_floor(scaler))
        mine = fitted[-1][1]
        mine.mean_, mine.scale_, mine.var_ = scaling.mean[0], scaling.scale[0], scaling.variance[0]
        mine.n_samples_seen_ = rows.shape[0]
    return fitted, rows, scaling


def _rows(X: np.ndarray | Rows, stateless: Sequence[Any], device: str) -> Rows:
    """The features after steps that look at each row alone."""
    if isinstance(X, Rows):
        X = X.on(_of_rows(device))
        for step in stateless:
            X = X.mapped(clone(step).fit_transform)
        return X
    features = X
    for step in stateless:
        features = clone(step).fit_transform(features)
    return Rows(features, device=_of_rows(device))


def _in_memory(X: np.ndarray | Rows) -> np.ndarray:
    if isinstance(X, Rows):
        raise BadSettings(
            "features that are streamed can be normalised and standardised; other steps (PCA, Nystroem) need "
            "them in memory"
        )
    return X


def _solve(
    task: Task,
    rows: Rows,
    scaling: FoldScaling,
    scalings: Sequence[int],
    cells: Sequence[tuple[Candidate, Fold]],
) -> Iterator[Cell]:
    start = time.perf_counter()
    y, classes = task.y, classes_of_all(task.y, task.folds)
    problems = _problems(rows, scalings, y, classes, cells)
    per_cell = len(problems.fold) // len(cells)
    parts: list[dict[int, np.ndarray]] = [{} for _ in cells]
    for solved, scores in solved_in_turn(rows, problems, scaling, task.tolerance, task.memory):
        ready = []
        for column, problem in enumerate(solved):
            place = problem // per_cell
            parts[place][problem % per_cell] = scores[:, column]
            if len(parts[place]) == per_cell:
                ready.append(place)
        seconds = (time.perf_counter() - start) / max(1, len(ready))
        for place in ready:
            start = time.perf_counter()
            candidate, fold = cells[place]
            found = np.hstack([parts[place][number] for number in range(per_cell)])[fold.held_out]
            found = found[:, 0] if found.shape[1] == 1 else found
            model = (Scored if is_linear_svm(candidate.head) else ScoredLogistic)(classes)
            value = task.scorer(model, found, y[fold.held_out])
            parts[place] = {}
            yield Cell(candidate.number, fold.number, value, seconds, time.perf_counter() - start, found)
        start = time.perf_counter()


def problem_columns(
    head: Any, fold: Fold, y: np.ndarray, classes: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """The problems of one cell: which class is positive, and the row weights of shape (n,).

    There is one problem, but one for each class for a LinearSVC of more than two classes.
    """
    labels = y[fold.train]
    weights = compute_class_weight(head.class_weight, classes=classes, y=labels)
    each = weights[np.searchsorted(classes, labels)]
    one_for_each = is_linear_svm(head) and len(classes) > 2
    for one in range(len(classes)) if one_for_each else (1,):
        column = np.zeros(len(y))
        # liblinear weighs the class itself only, not the rest that it is set against.
        column[fold.train] = head.C * (np.where(labels == classes[one], each, 1.0) if one_for_each else each)
        yield one, column


def _problems(
    rows: Rows,
    scalings: Sequence[int],
    y: np.ndarray,
    classes: np.ndarray,
    cells: Sequence[tuple[Candidate, Fold]],
) -> PathProblems:
    found = [
        column for candidate, fold in cells for column in problem_columns(candidate.head, fold, y, classes)
    ]
    row_weights = np.stack([weights for _, weights in found], axis=1)
    repeated = np.repeat(np.asarray(scalings), len(found) // len(cells))
    head = cells[0][0].head
    svm = is_linear_svm(head)
    if svm or len(classes) == 2:
        targets = np.where(y[:, None] == classes[[one for one, _ in found]], 1.0, -1.0)[:, :, None]
        loss = (SquaredHinge if svm else BinaryLogistic)(rows.xp, rows.array(targets))
    else:
        loss = Multinomial(rows.xp, rows.array((y[:, None] == classes)[:, None, :]))
    if svm:
        return PathProblems(loss, repeated, row_weights, float(head.intercept_scaling), True)
    return PathProblems(loss, repeated, row_weights, 1.0, False)


def _shared(preparation: Preparation) -> tuple[list[Any], Any] | None:
    """Steps that need no fitting, and the scaler that follows or None; None where folds cannot share rows."""
    from sklearn.preprocessing import StandardScaler

    steps = [step for _, step in preparation.steps if step not in (None, "passthrough")]
    scaler = steps.pop() if steps and type(steps[-1]) in (StandardScaler, FlooredScaler) else None
    if scaler is not None and not (scaler.with_mean and scaler.with_std):
        return None
    if any(type(step).__name__ not in _STATELESS for step in steps):
        return None
    return steps, scaler


def _has_floor(scaler: Any) -> bool:
    return type(scaler) is FlooredScaler


def is_linear_svm(head: Any) -> bool:
    """Whether `head`, a linear head, is an SVM and not a softmax regression."""
    return type(head).__name__ == "LinearSVC"


def _of_rows(device: str) -> str:
    return "numpy" if device == "cpu" else device


class Scored(ClassifierMixin, BaseEstimator):
    """A fitted linear classifier for scorers: what stands for its features are its scores themselves."""

    def __init__(self, classes):
        self.classes = classes

    @property
    def classes_(self) -> np.ndarray:
        """The classes."""
        return self.classes

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def decision_function(self, scores: np.ndarray) -> np.ndarray:
        """The scores."""
        return scores

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """The class with the highest score."""
        return self.classes[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]


class ScoredLogistic(Scored):
    """The same for a softmax regression, which gives probabilities too."""

    def predict_proba(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        from scipy.special import expit, softmax

        if scores.ndim == 1:
            return np.column_stack([expit(-scores), expit(scores)])
        return softmax(scores, axis=1)
