"""Choosing a head's parameters: every setting of a grid, judged by cross-validation over whole patients."""

import logging
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.errors import TooFewData
from models.heads import Grid, HeadSpec
from models.progress import Progress, silent
from pipeline.examples import Examples

__all__ = ["SearchResult", "run_search"]

log = logging.getLogger("haemo")


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search over a grid found.

    Attributes
    ----------
    estimator : estimator
        With the best parameters, fitted on all training rows.
    parameters : dict
        The best parameters.
    table : list of dict
        A row a setting, in the order of the grid: its parameters, ``mean`` and ``sd`` of the metric over
        folds, ``fold_0`` and on, ``rank``, ``seconds``, ``converged``.
    scores : ndarray of shape (n_train,) or (n_train, n_classes), float64
        Out-of-fold scores of the training slices with the best parameters.
    """

    estimator: Any
    parameters: dict[str, float | int]
    table: list[dict[str, Any]]
    scores: np.ndarray

    @property
    def best(self) -> dict[str, Any]:
        """The row of the table with the best parameters."""
        return next(row for row in self.table if row["rank"] == 1)


def run_search(
    spec: HeadSpec,
    examples: Examples,
    grid: Grid,
    metric: str,
    *,
    jobs: int = 1,
    progress: Progress = silent,
) -> SearchResult:
    """Try every setting of a grid in cross-validation over whole patients, and fit the best one.

    The best has the highest mean of the metric over folds; of equals the first in the grid's order. The
    number of jobs does not change the result.

    Raises
    ------
    TooFewData
        If the metric is undefined on every fold.
    """
    from joblib import Parallel, delayed
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import ParameterGrid
    from threadpoolctl import threadpool_limits

    candidates = list(ParameterGrid(grid))
    pairs = examples.fold_pairs
    tasks = [(candidate, pair) for candidate in candidates for pair in pairs]
    if spec.name == "svm" and spec.kernel is None:
        # liblinear draws from one generator for the whole process: fits side by side disturb each other.
        jobs = 1
    # What the warning says is read off each fit, and said once, in plain words, below.
    # One BLAS thread a fit: fits that run side by side need no more, and sums come out the same for any jobs.
    with (
        warnings.catch_warnings(action="ignore", category=ConvergenceWarning),
        threadpool_limits(1, user_api="blas"),
    ):
        done = Parallel(n_jobs=jobs, prefer="threads", return_as="generator")(
            delayed(_fit_fold)(spec, candidate, examples, pair, metric) for candidate, pair in tasks
        )
        outcomes = list(progress(done, total=len(tasks), label=f"{spec.name}: search"))
        outcomes = [outcomes[start : start + len(pairs)] for start in range(0, len(tasks), len(pairs))]
        table = [_row(candidate, folds) for candidate, folds in zip(candidates, outcomes, strict=True)]
        means = np.array([row["mean"] for row in table])
        if np.isnan(means).all():
            raise TooFewData(
                f"{metric} is undefined on every fold: none validates on slices of every class; add patients"
            )
        order = np.argsort(-np.where(np.isnan(means), -np.inf, means), kind="stable")
        for rank, position in enumerate(order, start=1):
            table[position]["rank"] = rank
        best = int(order[0])
        if not table[best]["converged"]:
            log.warning(
                "%s: the best setting (%s) had not converged when it was stopped; its scores are near the "
                "optimum, not at it. Smaller values of C converge sooner",
                spec.name,
                _named(candidates[best]),
            )
        estimator = spec.build(**candidates[best])
        estimator.fit(examples.X, examples.y, **_fit_arguments(spec, examples.patient))
    return SearchResult(
        estimator, candidates[best], table, _out_of_fold(outcomes[best], pairs, examples.n_train)
    )


def _fit_fold(
    spec: HeadSpec,
    candidate: dict[str, float | int],
    examples: Examples,
    pair: tuple[np.ndarray, np.ndarray],
    metric: str,
) -> dict[str, Any]:
    from models.scoring import score

    began = time.monotonic()
    train, validation = pair
    estimator = spec.build(**candidate)
    estimator.fit(examples.X[train], examples.y[train], **_fit_arguments(spec, examples.patient[train]))
    scores = estimator.decision_function(examples.X[validation])
    classifier = estimator[-1]
    limit = getattr(classifier, "max_iter", -1)
    return {
        "scores": scores,
        "value": score(metric, examples.y[validation], scores),
        "converged": limit < 0 or bool(np.max(classifier.n_iter_) < limit),
        "seconds": time.monotonic() - began,
    }


def _fit_arguments(spec: HeadSpec, patient: np.ndarray) -> dict[str, np.ndarray]:
    return {"head__groups": patient} if spec.name == "mlp" else {}


def _row(candidate: dict[str, float | int], folds: list[dict[str, Any]]) -> dict[str, Any]:
    values = np.array([fold["value"] for fold in folds])
    defined = values[~np.isnan(values)]
    return {
        **candidate,
        "mean": float(defined.mean()) if len(defined) else float("nan"),
        "sd": float(defined.std()) if len(defined) else float("nan"),
        **{f"fold_{number}": float(value) for number, value in enumerate(values)},
        "converged": all(fold["converged"] for fold in folds),
        "seconds": round(sum(fold["seconds"] for fold in folds), 3),
    }


def _out_of_fold(
    folds: list[dict[str, Any]], pairs: list[tuple[np.ndarray, np.ndarray]], n_train: int
) -> np.ndarray:
    first = folds[0]["scores"]
    scores = np.empty((n_train, *first.shape[1:]))
    for outcome, (_, validation) in zip(folds, pairs, strict=True):
        scores[validation] = outcome["scores"]
    return scores


def _named(parameters: dict[str, float | int]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in parameters.items())
