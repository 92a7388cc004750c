"""A linear SVM fitted on many training parts, for questions that need many splits of the same slices.

Nothing is read from pixels again. Up to some thousand slices each split has one kernel matrix, and a fit
costs milliseconds (`search.newton_svm`); for more, all splits share each pass over the features
(`search.linear_path`). The number of passes grows with C, so where C is large each split has the kernel
matrix of its training part as long as there is room for it. All minimise the objective of the head ``svm``.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from haemo.features.store.table import FeatureTable
from haemo.models.search.linear_path import PathProblems, solved_in_turn
from haemo.models.search.newton_svm import newton_scores, scores_from_rows, standardised_kernel
from haemo.models.search.path_losses import SquaredHinge
from haemo.models.search.rows import Rows, fold_scaling
from haemo.piecework import done
from haemo.pipeline.run.predictions import Predictions
from haemo.progress import Progress, silent

__all__ = ["DEFAULT_C", "Features", "answers", "choose_c", "fit_splits", "store_rows"]

Features = np.ndarray | Rows
"""An array of shape (n, d), or rows that are streamed."""

DEFAULT_C = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""The grid of `choose_c`: that of the head ``svm`` but for its largest value, which takes longest."""

_INTERCEPT_SCALING = 10.0  # as in models.heads.spec: a nearly free intercept
_PROBLEMS_AT_ONCE = 48
_MOST_ROWS_OF_A_KERNEL = 4000  # 128 MB; from about there on the shared passes are faster
# Ten splits of 6,622 rows x 9,216 by passes: 7 s of one core at C = 1e-6, 22 s at 1e-4, minutes at 1e-2.
# By the kernels of their training parts 33 s at 1e-2, and not much else at other C.
_LARGEST_C_OF_PASSES = 3e-4
_MOST_TRAINING_ROWS_OF_A_KERNEL = 8000  # 512 MB, and as much again while it is solved
_MOST_BYTES_IN_MEMORY = 1_000_000_000
_TOLERANCE = 1e-6


def store_rows(store: FeatureTable, slice_ids: Sequence[str], variants: Sequence[int] = (0,)) -> Features:
    """Embeddings of all slices in the first variant, then in the second, and so on.

    Up to 1 GB is held in memory; more is read from the store again at every pass.
    """
    count = len(slice_ids) * len(variants)
    if count * store.dimension * 4 <= _MOST_BYTES_IN_MEMORY:
        return np.concatenate([store.embeddings(slice_ids, variant) for variant in variants])

    def stream():
        for variant in variants:
            yield from store.blocks(slice_ids, variant=variant)

    return Rows(stream, shape=(count, store.dimension))


def fit_splits(
    features: Features,
    classes: np.ndarray,
    training: np.ndarray,
    c: float | np.ndarray,
    n_classes: int = 2,
    progress: Progress = silent,
) -> np.ndarray:
    """Decision scores, for every row, of a linear SVM fitted on each training part.

    Features are standardised on each training part; classes are balanced by weight; with more than two
    classes there is one problem a class, against the others, in which the class alone is weighed, as
    liblinear does it (Fan et al., J. Mach. Learn. Res. 9, 2008). So the objective is that of LinearSVC.

    Parameters
    ----------
    features : Features
        n rows.
    classes : ndarray of shape (n,) or (n, n_splits), int
        Class numbers; a column a split where labels differ between splits.
    training : ndarray of shape (n, n_splits), bool
        Each needs rows of every class.
    c : float, or ndarray of shape (n_splits,)
        Penalty parameter C.
    n_classes : int
    progress : Progress

    Returns
    -------
    ndarray of shape (n, n_splits) for two classes, (n, n_splits, n_classes) for more
    """
    n_splits = training.shape[1]
    labels = np.broadcast_to(classes[:, None] if classes.ndim == 1 else classes, training.shape)
    penalties = np.broadcast_to(np.asarray(c, dtype=float), (n_splits,))
    wanted = [1] if n_classes == 2 else list(range(n_classes))
    targets = np.stack([np.where(labels == one, 1.0, -1.0) for one in wanted], axis=2)
    costs = np.stack(
        [_balanced(targets[:, :, column], training, n_classes) * penalties for column in range(len(wanted))],
        axis=2,
    )
    in_memory = isinstance(features, np.ndarray)
    if in_memory and len(features) <= _MOST_ROWS_OF_A_KERNEL:
        way = _by_kernel
    elif (
        in_memory
        and penalties.max() > _LARGEST_C_OF_PASSES
        and training.sum(axis=0).max() <= _MOST_TRAINING_ROWS_OF_A_KERNEL
    ):
        way = _by_training_kernel
    else:
        way = _by_shared_passes
        features = Rows(features) if in_memory else features
    # One thread for products that are narrow or small: on a busy machine threads that waited for each other
    # made haemo leakage four times slower.
    with threadpool_limits(None if way is _by_training_kernel else 1):
        scores = way(features, training, targets, costs, progress)
    return scores[:, :, 0] if n_classes == 2 else scores


def _balanced(targets: np.ndarray, training: np.ndarray, n_classes: int) -> np.ndarray:
    """Weight of each row of a training part in the problem of one class; 0 outside it.

    A class weighs n / (n_classes * n of the class). The rest that it is set against, where there are more
    than two classes, weighs 1 a row.
    """
    positive = training & (targets > 0)
    negative = training & (targets < 0)
    share = training.sum(axis=0) / n_classes
    of_class = share * positive / positive.sum(axis=0)
    return of_class + (share * negative / negative.sum(axis=0) if n_classes == 2 else negative)


def _by_kernel(
    features: np.ndarray, training: np.ndarray, targets: np.ndarray, costs: np.ndarray, progress: Progress
) -> np.ndarray:
    """One kernel a training part, for all its splits."""
    return _part_by_part(_scores_by_kernel, 1, features, training, targets, costs, progress)


def _by_training_kernel(
    features: np.ndarray, training: np.ndarray, targets: np.ndarray, costs: np.ndarray, progress: Progress
) -> np.ndarray:
    """One kernel a training part, of its training rows alone."""
    return _part_by_part(_scores_by_training_kernel, None, features, training, targets, costs, progress)


def _part_by_part(
    way: Callable[..., np.ndarray],
    threads: int | None,
    features: np.ndarray,
    training: np.ndarray,
    targets: np.ndarray,
    costs: np.ndarray,
    progress: Progress,
) -> np.ndarray:
    scores = np.empty_like(targets)
    parts = list(_equal_parts(training))
    pieces = [(training[:, own.start], targets[:, own], costs[:, own]) for own in parts]
    found = progress(done(way, features, pieces, threads), total=len(parts), label="training parts")
    for own, of_part in zip(parts, found, strict=True):
        scores[:, own] = of_part
    return scores


def _scores_by_kernel(
    features: np.ndarray, training: np.ndarray, targets: np.ndarray, costs: np.ndarray
) -> np.ndarray:
    """Scores of the splits of one training part."""
    scores = np.empty_like(targets)
    kernel = standardised_kernel(features, training, _INTERCEPT_SCALING)
    for split in range(targets.shape[1]):
        for column in range(targets.shape[2]):
            scores[:, split, column] = newton_scores(
                kernel, targets[:, split, column], costs[:, split, column]
            )
    return scores


def _scores_by_training_kernel(
    features: np.ndarray, training: np.ndarray, targets: np.ndarray, costs: np.ndarray
) -> np.ndarray:
    """The same with a kernel of the training rows."""
    return scores_from_rows(
        features,
        training,
        targets.reshape(len(features), -1),
        costs.reshape(len(features), -1),
        _INTERCEPT_SCALING,
    ).reshape(targets.shape)


def _equal_parts(training: np.ndarray) -> Iterator[slice]:
    """Runs of neighbouring splits with the same training part."""
    changes = (training[:, 1:] != training[:, :-1]).any(axis=0)
    ends = [*(np.flatnonzero(changes) + 1).tolist(), training.shape[1]]
    for start, stop in zip([0, *ends], ends, strict=False):
        yield slice(start, stop)


def _by_shared_passes(
    rows: Rows, training: np.ndarray, targets: np.ndarray, costs: np.ndarray, progress: Progress
) -> np.ndarray:
    """Blocks of problems that share each pass over the rows."""
    scores = np.empty_like(targets)
    flat = scores.reshape(len(targets), -1)
    solved = _solved_one_by_one(rows, training, targets, costs)
    for place, found in progress(solved, total=flat.shape[1], label="fits"):
        flat[:, place] = found
    return scores


def _solved_one_by_one(
    rows: Rows, training: np.ndarray, targets: np.ndarray, costs: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Which problem, counted output by output and split by split, and its scores; as they are solved."""
    n_splits, n_outputs = targets.shape[1:]
    splits_at_once = max(1, _PROBLEMS_AT_ONCE // n_outputs)
    for start in range(0, n_splits, splits_at_once):
        own = slice(start, min(start + splits_at_once, n_splits))
        problems = PathProblems(
            loss=SquaredHinge(rows.xp, rows.array(targets[:, own].reshape(len(targets), -1, 1))),
            fold=np.repeat(np.arange(own.stop - own.start), n_outputs),
            row_weights=costs[:, own].reshape(len(targets), -1),
            intercept_scaling=_INTERCEPT_SCALING,
        )
        scaling = fold_scaling(rows, training[:, own], floor=True)
        for solved, found in solved_in_turn(rows, problems, scaling, tolerance=_TOLERANCE):
            for column, place in enumerate(solved):
                yield start * n_outputs + int(place), found[:, column, 0]


def choose_c(
    features: Features,
    classes: np.ndarray,
    folds: np.ndarray,
    n_classes: int = 2,
    grid: Sequence[float] = DEFAULT_C,
) -> float:
    """The C with the highest mean ROC AUC over folds (one against the others, where there are several).

    Parameters
    ----------
    features : Features
    classes : ndarray of shape (n,), int
    folds : ndarray of shape (n,), int
        Fold of each row; -1 for rows that take no part. Where two C are equally good the smaller is taken.
    n_classes : int
    grid : sequence of float
        Ascending.
    """
    from sklearn.metrics import roc_auc_score

    numbers = range(int(folds.max()) + 1)
    training = np.stack([(folds >= 0) & (folds != k) for k in numbers for _ in grid], axis=1)
    scores = fit_splits(features, classes, training, np.tile(np.asarray(grid), len(numbers)), n_classes)
    scores = scores.reshape(len(classes), len(numbers), len(grid), -1)
    wanted = [1] if n_classes == 2 else range(n_classes)
    areas = np.zeros(len(grid))
    for place in range(len(grid)):
        found = []
        for k in numbers:
            held_out = folds == k
            for column, one in enumerate(wanted):
                truth = classes[held_out] == one
                if 0 < truth.sum() < len(truth):
                    found.append(roc_auc_score(truth, scores[held_out, k, place, column]))
        areas[place] = np.mean(found) if found else 0.5
    return float(grid[int(np.argmax(areas))])


def answers(
    slice_id: np.ndarray,
    patient: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    names: tuple[str, ...],
) -> Predictions:
    """Scores as predictions; there are no calibrated probabilities, so these are 0 or 1 (what was predicted).

    Parameters
    ----------
    slice_id, patient : ndarray of shape (n,), str
    classes : ndarray of shape (n,), int
        True classes.
    scores : ndarray of shape (n,) or (n, n_classes)
    names : tuple of str
    """
    named = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
    certain = np.eye(len(names))[named]
    labels = np.array(names)
    return Predictions(
        slice_id=slice_id,
        patient=patient,
        study=patient,
        label=labels[classes],
        part=np.full(len(slice_id), "test"),
        fold=np.full(len(slice_id), -1),
        scores=scores,
        probabilities=certain[:, 1] if scores.ndim == 1 else certain,
        predicted=labels[named],
        classes=names,
    )
