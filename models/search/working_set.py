"""Linear SVMs with few rows inside the margin, solved on these rows alone: what ends hard problems soon.

Where C is large and the classes can nearly be parted, the rows inside the margin are about as few as the
features. Conjugate gradients then take a hundred passes over the features for a Newton step, and so many
rows enter and leave the margin at each step that there are fifty steps. But few rows fit into memory. They
are read in one pass, the SVM on them alone is solved on their kernel matrix (`newton_svm`), and the block
goes towards that optimum as far as the objective of all rows falls. The rows that it leaves inside the
margin join the set, and rows that stayed outside leave it.

A step goes down as long as the set has all rows that are inside the margin at its start: there, the SVM on
the set has the slope of the whole one. Where nothing is inside the margin but the set, its optimum is that
of all rows. All C of a fold work on the rows of all of them: large C end inside the margin of smaller ones.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from haemo.errors import NotSolved
from haemo.models.search.newton_svm import newton_coefficients, svm_objective
from haemo.models.search.rows import FoldScaling, Rows

__all__ = ["WorkingSets"]

_MOST_ROWS = 8000  # a Cholesky factor of more takes as long as many passes
_DEAR = 500  # multiplications and additions for a number of the features that some tens of passes are worth
_LEAST_NEW = 200
_ROWS_FOR_THREADS = 1500  # below, threads wait for each other longer than they work
_COLUMNS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class _Group:
    """Problems of one fold that share the rows of their working sets."""

    problems: list[int]
    rows: np.ndarray


class WorkingSets:
    """The rows that each SVM of a block is solved on.

    Parameters
    ----------
    rows : Rows
    scaling : FoldScaling
    fold : ndarray of shape (P,), int
        Which fold's scaling each SVM uses.
    row_weights, targets : ndarray of shape (n, P), float64
        c_i, 0 for rows that are not trained on, and y_i, -1 or 1.
    intercept_scaling : float
    memory : int
        Bytes that the rows of a set and their kernel matrices may take.
    """

    def __init__(
        self,
        rows: Rows,
        scaling: FoldScaling,
        fold: np.ndarray,
        row_weights: np.ndarray,
        targets: np.ndarray,
        intercept_scaling: float,
        memory: int,
    ):
        self._rows, self._scaling, self._fold = rows, scaling, fold
        self._row_weights, self._targets = row_weights, targets
        self._unit = intercept_scaling
        # Half of the memory is for the rows that are read at once, half for one set: its rows, the kernel
        # matrix, and the two copies of it that a system of equations takes.
        half, width = memory / 2, 8 * rows.shape[1]
        self._most = min(_MOST_ROWS, int((np.sqrt(width**2 + 96 * half) - width) / 48))
        self._most_read = max(self._most, int(half / width))
        self._kept: dict[int, np.ndarray] = {}
        self._solved: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._unfit: set[int] = set()

    def few(self, problems: np.ndarray, scores: np.ndarray, is_far: np.ndarray) -> np.ndarray:
        """Which SVMs are better solved on the rows inside their margin.

        Parameters
        ----------
        problems : ndarray of shape (p,), int
        scores : ndarray of shape (n, p), float64
        is_far : ndarray of shape (p,), bool
            Which are far from their optimum after many steps. Those may cost more, where they have fewer
            rows inside the margin than features: they have few of them the next time.

        Returns
        -------
        ndarray of shape (p,), bool
        """
        inside = np.array([len(rows) for rows in self._inside(problems, scores)])
        n, d = self._rows.shape
        cheap = inside.astype(float) ** 2 * (inside + d) <= _DEAR * n * d
        fit = np.array([problem not in self._unfit for problem in problems])
        return fit & (inside <= self._most) & (cheap | (is_far & (inside <= d)))

    def optima(self, problems: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The optimum of each SVM on its working set.

        Parameters
        ----------
        problems : ndarray of shape (p,), int
        scores : ndarray of shape (n, p), float64
            Of all rows.

        Returns
        -------
        ndarray of shape (d, p), float64
            Weights.
        ndarray of shape (p,), float64
            Intercepts divided by `intercept_scaling`.
        """
        weights, offsets = np.zeros((self._rows.shape[1], len(problems))), np.zeros(len(problems))
        place = {problem: column for column, problem in enumerate(problems.tolist())}
        for groups in _batches(self._groups(problems, scores), self._most_read):
            wanted = _union(group.rows for group in groups)
            read = self._rows.gather(wanted)
            for group in groups:
                own = read[np.searchsorted(wanted, group.rows)]
                columns = [place[problem] for problem in group.problems]
                with threadpool_limits(1 if len(own) < _ROWS_FOR_THREADS else None):
                    coefficients = self._coefficients(group, own, scores[group.rows[:, None], columns])
                weights[:, columns] = self._sum(own, coefficients, self._fold[group.problems[0]])
                offsets[columns] = self._unit * coefficients.sum(axis=0)
        return weights, offsets

    def take_in(self, problems: np.ndarray, scores: np.ndarray) -> None:
        """Let the rows that are farthest inside the margin at the optimum of the set join it.

        Parameters
        ----------
        problems : ndarray of shape (p,), int
        scores : ndarray of shape (n, p), float64
            Of all rows, at the optima.
        """
        for column, problem in enumerate(problems.tolist()):
            rows, coefficients = self._solved[problem]
            shortfall = 1.0 - self._targets[:, problem] * scores[:, column]
            shortfall[self._row_weights[:, problem] == 0] = 0.0
            shortfall[rows] = 0.0
            new = np.flatnonzero(shortfall > 0)
            most = max(_LEAST_NEW, len(rows) // 2)
            new = new[np.argsort(-shortfall[new], kind="stable")[:most]]
            self._kept[problem] = np.union1d(rows[coefficients != 0], new)

    def _inside(self, problems: np.ndarray, scores: np.ndarray) -> Iterator[np.ndarray]:
        """The rows inside the margin of each SVM."""
        for column, problem in enumerate(problems):
            inside = self._targets[:, problem] * scores[:, column] < 1.0
            yield np.flatnonzero(inside & (self._row_weights[:, problem] > 0))

    def _groups(self, problems: np.ndarray, scores: np.ndarray) -> Iterator[_Group]:
        """SVMs of a fold by rising cost, as many together as have few rows."""
        sets: dict[int, np.ndarray] = {}
        for problem, inside in zip(problems.tolist(), self._inside(problems, scores), strict=True):
            both = np.union1d(inside, self._kept.get(problem, inside))
            sets[problem] = both if len(both) <= self._most else inside
        ordered = sorted(sets, key=lambda one: (self._fold[one], self._row_weights[:, one].max(), one))
        together: list[int] = []
        for problem in ordered:
            more = [*together, problem]
            alike = self._fold[more[0]] == self._fold[problem]
            if together and not (alike and len(_union(sets[one] for one in more)) <= self._most):
                yield _Group(together, _union(sets[one] for one in together))
                more = [problem]
            together = more
        yield _Group(together, _union(sets[one] for one in together))

    def _coefficients(self, group: _Group, features: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """What each row of the set is multiplied with in the sum that makes the weights, a column an SVM."""
        kernel = self._kernel(features, self._fold[group.problems[0]])
        found = np.zeros((len(group.rows), len(group.problems)))
        for column, problem in enumerate(group.problems):
            costs = self._row_weights[group.rows, problem]
            own = np.flatnonzero(costs > 0)
            inner = kernel if len(own) == len(costs) else kernel[np.ix_(own, own)]
            y, c = self._targets[group.rows[own], problem], costs[own]
            # What pulls at the weights now, the same for a smaller C, and what the last step ended with.
            starts = [2.0 * c * y * np.maximum(0.0, 1.0 - y * scores[own, column])]
            if column:
                starts.append(found[own, column - 1])
            if problem in self._solved:
                before = np.zeros(len(self._row_weights))
                rows, coefficients = self._solved[problem]
                before[rows] = coefficients
                starts.append(before[group.rows[own]])
            try:
                found[own, column] = newton_coefficients(inner, y, c, _best(starts, inner, y, c))
            except (NotSolved, np.linalg.LinAlgError):
                # A cost without measure; conjugate gradients go on from where the block is.
                self._unfit.add(problem)
            self._solved[problem] = group.rows, found[:, column]
        return found

    def _kernel(self, features: np.ndarray, fold: int) -> np.ndarray:
        """Inner products of standardised rows in float64, plus the intercept's."""
        kernel = np.full((len(features), len(features)), self._unit**2)
        for own in _columns(features):
            part = (features[:, own] - self._scaling.mean[fold, own]) / self._scaling.scale[fold, own]
            kernel += part @ part.T
        return kernel

    def _sum(self, features: np.ndarray, coefficients: np.ndarray, fold: int) -> np.ndarray:
        """The weights, shape (d, p): standardised rows times coefficients of shape (m, p)."""
        weights = np.empty((features.shape[1], coefficients.shape[1]))
        for own in _columns(features):
            part = (features[:, own] - self._scaling.mean[fold, own]) / self._scaling.scale[fold, own]
            weights[own] = part.T @ coefficients
        return weights


def _best(starts: Sequence[np.ndarray], inner: np.ndarray, y: np.ndarray, c: np.ndarray) -> np.ndarray | None:
    """The coefficients with the lowest objective; None where 0 has a lower one."""
    best, lowest = None, c.sum()
    for start in starts:
        value = svm_objective(start, inner @ start, y, c)
        if value < lowest:
            best, lowest = start, value
    return best


def _batches(groups: Iterable[_Group], most: int) -> Iterator[list[_Group]]:
    """Groups, as many together as have no more than `most` rows."""
    batch: list[_Group] = []
    for group in groups:
        if batch and len(_union(one.rows for one in (*batch, group))) > most:
            yield batch
            batch = []
        batch.append(group)
    yield batch


def _union(sets: Iterable[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(list(sets)))


def _columns(features: np.ndarray) -> Iterator[slice]:
    for start in range(0, features.shape[1], _COLUMNS_AT_ONCE):
        yield slice(start, start + _COLUMNS_AT_ONCE)
