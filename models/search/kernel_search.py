"""The cells of a kernel SVM's grid: one product a fold, one kernel a width, one libsvm run a cell."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.errors import MemoryBudgetExceeded
from haemo.models.search.cells import Candidate, Cell, Fold, Preparation, Task, out_of_fold_scores
from haemo.models.search.kernels import (
    KernelSpec,
    Products,
    fit_on_kernel,
    kernel_spec,
    memory_needed,
    on_embeddings,
)

__all__ = ["fit_kernel_svm", "is_kernel_svm", "kernel_cells"]


def is_kernel_svm(head: Any) -> bool:
    """Whether `head` is an SVC whose kernel can be made from inner products."""
    from sklearn.svm import SVC

    return (
        type(head) is SVC
        and head.kernel in ("linear", "rbf", "poly", "sigmoid")
        and head.probability in (False, "deprecated")
    )


@dataclass(frozen=True)
class _Room:
    """How many kernels are held, and fits run, at a time."""

    kernels: int
    threads: int


def kernel_cells(
    task: Task, fold: Fold, preparation: Preparation, candidates: Sequence[Candidate]
) -> Iterator[Cell]:
    """Judge SVMs on one fold, in the order in which they get ready.

    Parameters
    ----------
    task : Task
    fold : Fold
    preparation : Preparation
        Its steps are fitted on the fold's training rows only.
    candidates : sequence of Candidate

    Raises
    ------
    MemoryBudgetExceeded
        If not even one kernel matrix fits into the memory.
    """
    X, y = task.X, task.y
    heads = [candidate.head for candidate in candidates]
    room = _make_room(
        len(fold.train), len(fold.held_out), X.shape[1], heads, task.n_jobs, task.memory, blocks=task.blocks
    )
    fitted, train = preparation.fit(X[fold.train], y[fold.train])
    held_out = preparation.apply(fitted, X[fold.held_out])
    specs = _specs(train, heads)
    products = Products(train, held_out, task.device, _blocks_of(train, task.blocks))
    del train, held_out
    groups: dict[KernelSpec, list[Candidate]] = {}
    for spec, candidate in zip(specs, candidates, strict=True):
        groups.setdefault(spec, []).append(candidate)
    # Squared distances take the place of the products, so RBF kernels come last. The largest C, which takes
    # longest, goes first, so that no thread is left alone with it at the end.
    order = sorted(groups, key=lambda spec: spec.kernel == "rbf")
    free = [products.room() for _ in range(room.kernels)] if any(s.kernel != "linear" for s in order) else []
    pending: dict[Future, KernelSpec] = {}
    waiting: dict[KernelSpec, int] = {}
    used: dict[KernelSpec, tuple[np.ndarray, np.ndarray | None]] = {}

    def collect() -> Iterator[Cell]:
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            spec = pending.pop(future)
            waiting[spec] -= 1
            if not waiting[spec] and spec in used:
                free.append(used.pop(spec))
            yield future.result()

    with ThreadPoolExecutor(room.threads) as pool:
        for spec in order:
            if spec.kernel == "rbf" and not products.are_distances:
                while pending:
                    yield from collect()
            if spec.kernel != "linear":
                while not free:
                    yield from collect()
                used[spec] = free.pop()
            inner, across = products.kernel(spec, used.get(spec))
            assert across is not None, "the products are of held-out rows too"  # noqa: S101 - for type checkers
            waiting[spec] = len(groups[spec])
            for candidate in sorted(groups[spec], key=lambda one: -one.head.C):
                pending[pool.submit(_judge, task, fold, candidate, inner, across)] = spec
        while pending:
            yield from collect()


def _judge(task: Task, fold: Fold, candidate: Candidate, inner: np.ndarray, across: np.ndarray) -> Cell:
    import sklearn

    start = time.perf_counter()
    model = fit_on_kernel(candidate.head, inner, task.y[fold.train])
    middle = time.perf_counter()
    with sklearn.config_context(assume_finite=True):
        scores = out_of_fold_scores(model, across)
        score = task.scorer(model, across, task.y[fold.held_out])
    end = time.perf_counter()
    return Cell(candidate.number, fold.number, score, middle - start, end - middle, scores)


def _blocks_of(train: np.ndarray, blocks: Sequence[int] | None) -> Sequence[int] | None:
    """The blocks that the columns still have after the steps before the classifier; None after a PCA."""
    return blocks if blocks and sum(blocks) == train.shape[1] else None


def fit_kernel_svm(
    head: Any,
    X: np.ndarray,
    y: np.ndarray,
    preparation: Preparation,
    memory: int,
    device: str,
    blocks: Sequence[int] | None = None,
) -> tuple[list[tuple[str, Any]], Any]:
    """Fit an SVM on all rows by way of its kernel matrix.

    Returns
    -------
    list of (str, transformer)
        The fitted steps.
    SVC
        On features, as scikit-learn fits it.
    """
    _make_room(len(X), 0, X.shape[1], [head], 1, memory, in_place=True, blocks=blocks)
    fitted, train = preparation.fit(X, y)
    (spec,) = _specs(train, [head])
    products = Products(train, None, device, _blocks_of(train, blocks))
    inner, _ = products.kernel(spec, (products.inner, None))
    return fitted, on_embeddings(head, fit_on_kernel(head, inner, y), spec, train)


def _specs(train: np.ndarray, heads: Sequence[Any]) -> list[KernelSpec]:
    by_variance = any(head.kernel != "linear" and head.gamma == "scale" for head in heads)
    variance = float(train.astype(np.float64, copy=False).var()) if by_variance else 0.0
    return [kernel_spec(head, variance, train.shape[1]) for head in heads]


def _make_room(
    n: int,
    n_held_out: int,
    d: int,
    heads: Sequence[Any],
    n_jobs: int,
    memory: int,
    in_place: bool = False,
    blocks: Sequence[int] | None = None,
) -> _Room:
    """The widest way of working that fits into the budget."""
    widest = max(blocks) if blocks else None
    cache = max(head.cache_size for head in heads)
    kinds = len({(head.kernel, head.gamma, head.degree, head.coef0) for head in heads})
    linear = in_place or all(head.kernel == "linear" for head in heads)
    threads = min(n_jobs, len(heads))
    widths = [0] if linear else range(min(n_jobs, kinds), 0, -1)
    for kernels in widths:
        for fits in range(threads, 0, -1):
            if memory_needed(n, n_held_out, d, kernels, fits * cache, widest) <= memory:
                return _Room(kernels, fits)
    needed = memory_needed(n, n_held_out, d, widths[-1], cache, widest)
    rank = max(1, int(memory / (24 * (n + n_held_out))))
    raise MemoryBudgetExceeded(
        f"kernel matrices of {n:,} training slices need {needed / 2**30:.1f} GiB, the budget is "
        f"{memory / 2**30:.1f} GiB; raise --memory, leave --kernel out (the linear SVM needs no such matrix "
        f"and reads the features in blocks), or approximate the kernel: --nystroem {min(rank, 2000, n)}"
    )
