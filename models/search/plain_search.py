"""Cells of a grid one by one, each a plain fit; and the cells of one fold as workers judge them."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from haemo.models.search.cells import (
    Candidate,
    Cell,
    Fold,
    Preparation,
    Task,
    available_memory,
    out_of_fold_scores,
    usable_cores,
)
from haemo.piecework import threads_of_a_piece

__all__ = ["cells_of", "groups_for", "plain_cell", "plain_cells", "plain_fits"]


def cells_of(
    shared: tuple[Task, Preparation],
    way: Callable[..., Iterable[Cell]],
    fold: Fold,
    candidates: list[Candidate],
) -> list[Cell]:
    """Cells of one fold, on a worker, which has a share of its host."""
    task, preparation = shared
    threads = threads_of_a_piece()
    memory = min(task.memory, available_memory() * threads // usable_cores(None))
    return list(way(replace(task, n_jobs=threads, memory=memory), fold, preparation, candidates))


def plain_cells(
    task: Task, fold: Fold, preparation: Preparation, candidates: list[Candidate]
) -> Iterator[Cell]:
    """Judge settings on one fold, one fit each; steps before the classifier are fitted once."""
    for fit in plain_fits(task, fold, preparation, candidates):
        yield plain_cell(*fit)


def plain_fits(
    task: Task, fold: Fold, preparation: Preparation, candidates: list[Candidate]
) -> Iterator[tuple[Task, Candidate, Fold, np.ndarray, np.ndarray, float]]:
    """Arguments of `plain_cell` for settings on one fold; steps before the classifier are fitted once."""
    start = time.perf_counter()
    fitted, train = preparation.fit(task.X[fold.train], task.y[fold.train])
    held_out = preparation.apply(fitted, task.X[fold.held_out])
    share = (time.perf_counter() - start) / len(candidates)
    for candidate in candidates:
        yield task, candidate, fold, train, held_out, share


def plain_cell(
    task: Task,
    candidate: Candidate,
    fold: Fold,
    train: np.ndarray,
    held_out: np.ndarray,
    shared_seconds: float,
) -> Cell:
    """Fit and judge one setting; rows are as the classifier gets them."""
    start = time.perf_counter()
    head = clone(candidate.head)
    part = None if task.groups is None else task.groups[fold.train]
    head.fit(train, task.y[fold.train], **groups_for(head, part))
    middle = time.perf_counter()
    scores = out_of_fold_scores(head, held_out)
    value = task.scorer(head, held_out, task.y[fold.held_out])
    seconds = (shared_seconds + middle - start, time.perf_counter() - middle)
    return Cell(candidate.number, fold.number, value, *seconds, scores)


def groups_for(estimator, groups: np.ndarray | None) -> dict[str, np.ndarray]:
    """`groups` as an argument of the estimator's fit, if its classifier takes them."""
    name, head = estimator.steps[-1] if isinstance(estimator, Pipeline) else ("", estimator)
    if groups is None or not has_fit_parameter(head, "groups"):
        return {}
    return {f"{name}__groups" if name else "groups": groups}
