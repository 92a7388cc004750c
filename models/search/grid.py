"""Grid search that does the work which settings have in common once: same answers as GridSearchCV, sooner."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_X_y, column_or_1d

from haemo.errors import BadSettings, TooFewData
from haemo.models.search.cells import (
    Candidate,
    Cell,
    Fold,
    Preparation,
    Task,
    available_memory,
    usable_cores,
)
from haemo.models.search.kernel_search import fit_kernel_svm, is_kernel_svm, kernel_cells
from haemo.models.search.newton_search import fit_few, is_few, newton_cells
from haemo.models.search.path_search import fit_linear, is_linear, path_cells
from haemo.models.search.plain_search import cells_of, groups_for, plain_cell, plain_cells, plain_fits
from haemo.models.search.rows import Rows
from haemo.piecework import done, has_workers
from haemo.progress import silent

__all__ = ["SharedSearchCV"]


class SharedSearchCV(GridSearchCV):
    """Exhaustive search over a grid by cross-validation, with scikit-learn's interface and results.

    How a setting is fitted depends on the classifier, alone or at the end of a Pipeline:

    - ``SVC``: inner products once a fold, a kernel matrix once a width, libsvm on slices of it. The steps
      before it are fitted on each fold's own training rows, and the products are of what they return.
    - ``LinearSVC`` (squared hinge) and ``LogisticRegression`` (L2): all C, folds and classes in one block
      that shares each pass over the features (`linear_path`); a LinearSVC on up to 4,000 rows by exact
      Newton steps on one kernel matrix a fold instead.
    - any other, or options that these do not cover: one plain fit a cell, in parallel threads; the steps
      before it are fitted once a fold.

    The refitted model is the ordinary scikit-learn estimator in each case.

    Parameters
    ----------
    estimator : classifier, or Pipeline that ends in one
    param_grid : dict or list of dict
        As GridSearchCV takes it.
    scoring : str or callable, optional
        One metric.
    cv : int, splitter or iterable, optional
    refit : bool
        Whether to fit the best setting on all rows.
    n_jobs : int, optional
        Fits at a time; None is one a core.
    memory : int, optional
        Budget in bytes for what the search holds beside the features; None is half of the free memory.
    device : str
        ``"cpu"``, or a torch device for the products and the block solver.
    tolerance : float
        Linear heads: largest optimality gap relative to the objective.
    blocks : sequence of int, optional
        Kernel SVMs: widths of blocks of columns, as of several sets of features side by side. The kernel of
        a concatenation follows from the sum of the products of its blocks, one of which is there in float64
        at a time.
    finished : iterable of Cell, optional
        Cells of an earlier run of the same search, which are not worked on again.
    on_cell : callable, optional
        Gets each new Cell as soon as it is there.
    progress : Progress

    Attributes
    ----------
    cv_results_, best_index_, best_params_, best_score_, best_estimator_, refit_time_, n_splits_, scorer_
        As GridSearchCV has them, except that a mean leaves out folds whose score is NaN.
    best_cells_ : list of Cell
        The best setting on each fold, with the scores of the held-out rows.
    oof_scores_ : ndarray of shape (n,) or (n, n_classes), float64
        Scores of the best setting for each row by the model that did not see it (the mean, where several
        folds hold it out; NaN, where none does).
    """

    def __init__(
        self,
        estimator,
        param_grid,
        *,
        scoring=None,
        cv=None,
        refit=True,
        n_jobs=None,
        memory=None,
        device="cpu",
        tolerance=1e-7,
        blocks=None,
        finished=(),
        on_cell=None,
        progress=silent,
    ):
        super().__init__(estimator, param_grid, scoring=scoring, cv=cv, refit=refit, n_jobs=n_jobs)
        self.memory = memory
        self.device = device
        self.tolerance = tolerance
        self.blocks = blocks
        self.finished = finished
        self.on_cell = on_cell
        self.progress = progress

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags

    def fit(self, X, y, *, groups=None) -> "SharedSearchCV":
        """Search, and refit.

        Parameters
        ----------
        X : ndarray of shape (n, d), or Rows
            Streamed `models.search.rows.Rows` are for linear heads with more features than memory.
        y : ndarray of shape (n,)
        groups : ndarray of shape (n,), optional
            Patients, for the splitter and for classifiers whose fit takes them.

        Raises
        ------
        MemoryBudgetExceeded
            If kernel matrices do not fit into the budget; nothing else is tried in their place.
        TooFewData
            If a training part lacks a class, for the linear heads, or the metric is undefined everywhere.
        """
        if isinstance(X, Rows):
            y = column_or_1d(y)
            check_consistent_length(np.empty(X.shape[0]), y)
        else:
            X, y = check_X_y(X, y, dtype=[np.float32, np.float64], order="C", estimator=self.estimator)
        check_classification_targets(y)
        _refuse_missing_device(self.device)
        self.scorer_ = check_scoring(self.estimator, self.scoring)
        self.multimetric_ = False
        splitter = check_cv(self.cv, y, classifier=True)
        folds = [Fold(number, *rows) for number, rows in enumerate(splitter.split(y, y, groups))]
        self.n_splits_ = len(folds)
        settings = list(ParameterGrid(self.param_grid))
        work = _Work(self, X, y, groups, folds, self._memory())
        cells = {(cell.candidate, cell.fold): cell for cell in self.finished}
        wanted = [
            (number, fold)
            for number in range(len(settings))
            for fold in folds
            if (number, fold.number) not in cells
        ]
        label = f"grid search, {len(settings)} settings x {len(folds)} folds"
        for cell in self.progress(work.cells(settings, wanted), total=len(wanted), label=label):
            cells[cell.candidate, cell.fold] = cell
            if self.on_cell is not None:
                self.on_cell(cell)
        self.cv_results_ = _results(settings, cells, len(folds))
        if np.isnan(self.cv_results_["mean_test_score"]).all():
            raise TooFewData(
                "the metric is undefined on every fold: none validates on slices of every class; add patients"
            )
        self.best_index_ = int(self.cv_results_["rank_test_score"].argmin())
        self.best_score_ = float(self.cv_results_["mean_test_score"][self.best_index_])
        self.best_params_ = settings[self.best_index_]
        self._collect_scores(work, settings, cells, folds, len(y))
        if self.refit:
            start = time.perf_counter()
            self.best_estimator_ = work.refit(self.best_params_)
            self.refit_time_ = time.perf_counter() - start
        return self

    def _memory(self) -> int:
        return available_memory() if self.memory is None else int(self.memory)

    def _collect_scores(self, work: "_Work", settings, cells, folds, n_rows: int) -> None:
        best = self.best_index_
        lost = [(best, fold) for fold in folds if cells[best, fold.number].scores is None]
        cells.update({(cell.candidate, cell.fold): cell for cell in work.cells(settings, lost)})
        self.best_cells_ = [cells[best, fold.number] for fold in folds]
        sums = np.zeros((n_rows, *self.best_cells_[0].scores.shape[1:]))
        times = np.zeros(n_rows)
        for fold, cell in zip(folds, self.best_cells_, strict=True):
            sums[fold.held_out] += cell.scores
            times[fold.held_out] += 1
        times[times == 0] = np.nan
        self.oof_scores_ = (sums.T / times).T


class _Work:
    """The rows and folds of one search, and the ways of fitting on them."""

    def __init__(self, search: SharedSearchCV, X, y, groups, folds: list[Fold], memory: int):
        self.search, self.X, self.y, self.folds, self.memory = search, X, y, folds, memory
        self.groups = None if groups is None else np.asarray(groups)
        self.n_jobs = usable_cores(search.n_jobs)
        self.task = Task(
            X,
            y,
            self.groups,
            folds,
            search.scorer_,
            n_jobs=self.n_jobs,
            memory=memory,
            device=search.device,
            tolerance=search.tolerance,
            blocks=search.blocks,
        )

    def cells(self, settings: list[dict], wanted: list[tuple[int, Fold]]) -> Iterator[Cell]:
        """Judge settings on folds, given as (place in the grid, fold), in the order they get ready."""
        numbers = sorted({number for number, _ in wanted})
        for preparation in self._preparations(settings, numbers):
            mine = {candidate.number: candidate for candidate in preparation.candidates}
            here = [(mine[number], fold) for number, fold in wanted if number in mine]
            head = preparation.candidates[0].head
            self._refuse_stream(head)
            if has_workers() and (is_kernel_svm(head) or self._is_few(head) or not is_linear(head)):
                yield from self._cells_elsewhere(preparation, here)
            elif is_kernel_svm(head):
                for fold, candidates in self._by_fold(here):
                    yield from kernel_cells(self.task, fold, preparation, candidates)
            elif self._is_few(head):
                for fold, candidates in self._by_fold(here):
                    yield from newton_cells(self.task, fold, preparation, candidates)
            elif is_linear(head):
                yield from path_cells(self.task, preparation, here)
            else:
                yield from self._plain_cells(preparation, here)

    def refit(self, setting: Mapping[str, Any]) -> Any:
        """The estimator with these parameters, fitted on all rows."""
        whole = self._estimator(setting)
        (preparation,) = self._preparations([dict(setting)], [0])
        head = preparation.candidates[0].head
        if is_kernel_svm(head):
            device, blocks = self.search.device, self.search.blocks
            steps, model = fit_kernel_svm(head, self.X, self.y, preparation, self.memory, device, blocks)
        elif self._is_few(head):
            steps, model = fit_few(head, self.X, self.y, preparation, self.search.device)
        elif is_linear(head):
            steps, model = fit_linear(
                head, self.X, self.y, preparation, self.search.tolerance, self.search.device, self.memory
            )
        else:
            return whole.fit(self.X, self.y, **groups_for(whole, self.groups))
        if not isinstance(whole, Pipeline):
            return model
        fitted = dict(steps)
        before = [(name, fitted.get(name, step)) for name, step in whole.steps[:-1]]
        return whole.set_params(steps=[*before, (whole.steps[-1][0], model)])

    def _by_fold(self, wanted: list[tuple[Candidate, Fold]]) -> Iterator[tuple[Fold, list[Candidate]]]:
        for fold in self.folds:
            candidates = [candidate for candidate, one in wanted if one is fold]
            if candidates:
                yield fold, candidates

    def _is_few(self, head: Any) -> bool:
        return not isinstance(self.X, Rows) and is_linear(head) and is_few(head, self.X.shape, self.memory)

    def _refuse_stream(self, head: Any) -> None:
        if isinstance(self.X, Rows) and not is_linear(head):
            raise BadSettings(f"{type(head).__name__} needs all features in memory; a linear head does not")

    def _estimator(self, setting: Mapping[str, Any]) -> Any:
        return clone(self.search.estimator).set_params(**clone(dict(setting), safe=False))

    def _preparations(self, settings: list[dict], numbers: list[int]) -> list[Preparation]:
        """The settings by what comes before their classifier, and by the way in which they are fitted."""
        grouped: dict[tuple, tuple[list, list[Candidate]]] = {}
        for number in numbers:
            whole = self._estimator(settings[number])
            if isinstance(whole, Pipeline):
                steps = [(name, step) for name, step in whole.steps[:-1] if step not in (None, "passthrough")]
                head = whole.steps[-1][1]
            else:
                steps, head = [], whole
            # Estimators print all their parameters that are not at their default.
            key = (repr(steps), type(head), is_kernel_svm(head), is_linear(head), _intercept(head))
            grouped.setdefault(key, (steps, []))[1].append(Candidate(number, head))
        return [Preparation(steps, candidates) for steps, candidates in grouped.values()]

    def _cells_elsewhere(
        self, preparation: Preparation, wanted: list[tuple[Candidate, Fold]]
    ) -> Iterator[Cell]:
        """Cells that workers judge: those that share a kernel at once, others one by one."""
        head = preparation.candidates[0].head
        if is_kernel_svm(head):
            pieces = [(kernel_cells, fold, candidates) for fold, candidates in self._by_fold(wanted)]
        elif self._is_few(head):
            pieces = [(newton_cells, fold, candidates) for fold, candidates in self._by_fold(wanted)]
        else:
            pieces = [(plain_cells, fold, [candidate]) for candidate, fold in wanted]
        threads = None if is_kernel_svm(head) else 1
        for cells in done(cells_of, (self.task, preparation), pieces, threads):
            yield from cells

    def _plain_cells(self, preparation: Preparation, wanted: list[tuple[Candidate, Fold]]) -> Iterator[Cell]:
        from joblib import Parallel, delayed
        from threadpoolctl import threadpool_limits

        def tasks() -> Iterator[Any]:
            for fold, candidates in self._by_fold(wanted):
                for fit in plain_fits(self.task, fold, preparation, candidates):
                    yield delayed(plain_cell)(*fit)

        # One thread inside each fit: fits fill the cores, and sums are added up in the same order always.
        # Tasks are taken from the generator as threads get free, so that few folds' rows are there at a time.
        with threadpool_limits(1):
            yield from Parallel(
                n_jobs=min(self.n_jobs, len(wanted)),
                prefer="threads",
                pre_dispatch="n_jobs",
                return_as="generator_unordered",
            )(tasks())


def _refuse_missing_device(device: str) -> None:
    if not device.startswith("cuda"):
        return
    import torch

    if not torch.cuda.is_available():
        raise BadSettings("PyTorch finds no CUDA device here (see haemo doctor); leave --device out")


def _intercept(head: Any) -> float | None:
    """LinearSVC's intercept_scaling, which all problems of a block must have in common."""
    return getattr(head, "intercept_scaling", None)


def _results(settings: list[dict], cells: Mapping[tuple[int, int], Cell], n_folds: int) -> dict[str, Any]:
    """What GridSearchCV calls cv_results_."""
    from scipy.stats import rankdata

    table = [[cells[number, fold] for fold in range(n_folds)] for number in range(len(settings))]
    results: dict[str, Any] = {}
    for key, name in (("fit_time", "fit_seconds"), ("score_time", "score_seconds"), ("test_score", "score")):
        values = np.array([[getattr(cell, name) for cell in row] for row in table], dtype=float)
        if key == "test_score":
            for fold in range(n_folds):
                results[f"split{fold}_test_score"] = values[:, fold]
        # A fold whose score is undefined (it holds out one class only) says nothing about the setting.
        defined = np.ma.masked_invalid(values)
        results[f"mean_{key}"] = defined.mean(axis=1).filled(np.nan)
        results[f"std_{key}"] = defined.std(axis=1).filled(np.nan)
    for name in sorted({name for setting in settings for name in setting}):
        column = np.ma.MaskedArray(np.empty(len(settings), dtype=object), mask=True)
        for number, setting in enumerate(settings):
            if name in setting:
                column[number] = setting[name]
        results[f"param_{name}"] = column
    results["params"] = settings
    means = results["mean_test_score"]
    # A setting whose score is undefined on every fold ranks behind all others.
    known = np.where(np.isnan(means), -np.inf, means)
    results["rank_test_score"] = rankdata(-known, method="min").astype(np.int32)
    return results
