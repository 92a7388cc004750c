"""Choosing a head's parameters: every setting of a grid, judged by cross-validation over whole patients."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.models.heads.kinds import Grid
from haemo.models.heads.spec import HeadSpec
from haemo.pipeline.run.directory import software_versions
from haemo.pipeline.training.examples import Examples
from haemo.pipeline.training.journal import SearchJournal
from haemo.pipeline.training.resources import Resources
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.models.search.grid import SharedSearchCV

__all__ = ["Search", "SearchResult"]

log = logging.getLogger("haemo")

_VERSIONS_THAT_MATTER = ("haemo", "scikit-learn", "numpy")


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search over a grid found.

    Attributes
    ----------
    estimator : estimator
        With the best parameters, fitted on all training rows; None where that was not asked for.
    parameters : dict
        The best parameters.
    table : list of dict
        A row a setting, in the order of the grid: its parameters, ``mean`` and ``sd`` of the metric over
        folds, ``fold_0`` and on, ``rank``, ``seconds``.
    scores : ndarray of shape (n_train,) or (n_train, n_classes), float64
        Out-of-fold scores of the training slices with the best parameters.
    resumed : int
        Settings times folds that an earlier, unfinished search had found already.
    """

    estimator: Any
    parameters: dict[str, float | int]
    table: list[dict[str, Any]]
    scores: np.ndarray
    resumed: int = 0

    @property
    def best(self) -> dict[str, Any]:
        """The row of the table with the best parameters."""
        return next(row for row in self.table if row["rank"] == 1)


@dataclass(frozen=True)
class Search:
    """A search for the best setting of a head: that of the highest mean of a metric over folds.

    Of equals the first in the grid's order is best.

    Attributes
    ----------
    spec : HeadSpec
    grid : dict of str to list
    metric : str
        One of `models.search.scoring.METRICS`.
    resources : Resources
    """

    spec: HeadSpec
    grid: Grid
    metric: str
    resources: Resources = field(default_factory=Resources)

    def over_folds(
        self,
        examples: Examples,
        journal_path: Path | None = None,
        *,
        refit: bool = True,
        progress: Progress = silent,
    ) -> SearchResult:
        """Try every setting in cross-validation over whole patients, and fit the best one.

        Parameters
        ----------
        examples : Examples
        journal_path : Path, optional
            Where cells are kept while the search runs; those that a killed search left there are not worked
            on again. The file is gone when the search has finished.
        refit : bool
            Whether to fit the best setting on all training rows.
        progress : Progress

        Raises
        ------
        TooFewData
            If the metric is undefined on every fold.
        MemoryBudgetExceeded
            If kernel matrices do not fit into the budget.
        """
        from sklearn.model_selection import ParameterGrid

        from haemo.models.search.grid import SharedSearchCV
        from haemo.models.search.scoring import score_estimator

        settings = list(ParameterGrid(self.grid))
        with self._journal(journal_path, examples) as journal:
            finished = journal.cells(settings) if journal else []
            if finished:
                log.info("%s: %d cells of an unfinished search are kept", self.spec.name, len(finished))
            search = SharedSearchCV(
                self.spec.build(),
                [{self.spec.path_of(name): [value] for name, value in one.items()} for one in settings],
                scoring=partial(score_estimator, self.metric),
                cv=examples.fold_pairs,
                refit=refit,
                n_jobs=self.resources.jobs,
                memory=self.resources.memory,
                device=self.resources.device,
                blocks=examples.blocks,
                finished=finished,
                on_cell=(lambda cell: journal.add(settings[cell.candidate], cell)) if journal else None,
                progress=progress,
            ).fit(examples.X, examples.y, groups=examples.patient)
            if journal:
                journal.remove()
        return SearchResult(
            estimator=search.best_estimator_ if refit else None,
            parameters=settings[search.best_index_],
            table=_table(search, settings),
            scores=search.oof_scores_[: examples.n_train],
            resumed=len(finished),
        )

    def on_test(
        self, examples: Examples, journal_path: Path | None = None, *, progress: Progress = silent
    ) -> SearchResult:
        """Choose by the test slices, as a published protocol did; the rest as `over_folds`.

        The table holds the metric on the test slices. Out-of-fold scores are of the best setting in
        cross-validation, so that probabilities are fitted as elsewhere.
        """
        judged = self.over_folds(examples.judged_on_test(), refit=False, progress=progress)
        best = replace(self, grid={name: [value] for name, value in judged.parameters.items()})
        return replace(best.over_folds(examples, journal_path, progress=progress), table=judged.table)

    def again(self, found: SearchResult, examples: Examples, progress: Progress = silent) -> np.ndarray:
        """Out-of-fold scores of the setting that was found, on the folds of other examples.

        Returns
        -------
        ndarray of shape (n_train,) or (n_train, n_classes), float64
        """
        best = replace(self, grid={name: [value] for name, value in found.parameters.items()})
        return best.over_folds(examples, refit=False, progress=progress).scores

    @contextmanager
    def _journal(self, path: Path | None, examples: Examples) -> Iterator[SearchJournal | None]:
        if path is None:
            yield None
            return
        versions = software_versions()
        facts = {
            **asdict(self.spec),
            "metric": self.metric,
            "data": examples.hash,
            "versions": {name: versions[name] for name in _VERSIONS_THAT_MATTER if name in versions},
        }
        if self.spec.estimator is None:
            del facts["estimator"]  # searches that were stopped before there were others go on
        journal = SearchJournal(path, facts)
        try:
            yield journal
        finally:
            journal.close()


def _table(search: "SharedSearchCV", settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    results, n_folds = search.cv_results_, search.n_splits_
    order = np.argsort(results["rank_test_score"], kind="stable")
    rank = np.empty(len(settings), dtype=int)
    rank[order] = np.arange(1, len(settings) + 1)
    seconds = (results["mean_fit_time"] + results["mean_score_time"]) * n_folds
    return [
        {
            **setting,
            "mean": float(results["mean_test_score"][place]),
            "sd": float(results["std_test_score"][place]),
            **{f"fold_{fold}": float(results[f"split{fold}_test_score"][place]) for fold in range(n_folds)},
            "seconds": round(float(seconds[place]), 3),
            "rank": int(rank[place]),
        }
        for place, setting in enumerate(settings)
    ]
