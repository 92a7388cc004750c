"""Products with a feature matrix that may be an array, a stream of blocks, or an array on a CUDA device.

The block solver of `linear_path` touches its features only through the two products here, each of
which serves every problem of the block in one pass over the rows. Standardisation is not applied to the
rows: with a row x, a fold's means m and scales s, and weights v, the standardised score is
((x - m) / s) . v = x . (v / s) - m . (v / s), so all folds share the raw rows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from haemo.models.heads.scaling import deviations, floored

__all__ = ["FoldScaling", "Rows", "array_module", "fold_scaling", "to_numpy"]

ROWS_PER_BLOCK = 1024


def array_module(device: str) -> ModuleType:
    """numpy for ``"numpy"``, torch for a device; the solvers import torch nowhere else."""
    if device == "numpy":
        return np
    import torch

    return torch


def to_numpy(array: Any) -> np.ndarray:
    """The same numbers as a numpy array on the host."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


class Rows:
    """A feature matrix of n rows and d columns that is read in blocks of rows.

    Parameters
    ----------
    source : ndarray of shape (n, d), or callable
        The features, float32 or float64; or a function without arguments that yields blocks of rows,
        in order, anew each time it is called (for features that do not fit into memory).
    shape : (int, int), optional
        Needed with a callable only.
    device : str
        ``"numpy"``, or a torch device: the rows are then kept there and multiplied there.
    order : ndarray of shape (n,), int, optional
        With a callable: which row of the matrix each row is that it yields, where they do not come in
        order.
    """

    def __init__(
        self,
        source: np.ndarray | Callable[[], Iterable[np.ndarray]],
        shape: tuple[int, int] | None = None,
        device: str = "numpy",
        order: np.ndarray | None = None,
    ):
        self.xp = array_module(device)
        self.device = None if device == "numpy" else device
        if callable(source):
            if shape is None:
                raise TypeError("a stream of blocks needs its shape")
            self.shape = shape
            self._stream, self._order = source, order
        else:
            self.shape = source.shape
            self._array = source if self.device is None else self.array(source, source.dtype)
            self._stream = self._order = None

    def array(self, values: Any, dtype: Any = np.float64) -> Any:
        """`values` as an array of this matrix's module and device."""
        if self.device is None:
            return np.asarray(values, dtype=dtype)
        kind = getattr(self.xp, np.dtype(dtype).name)
        return self.xp.asarray(values, dtype=kind, device=self.device)

    def zeros(self, *shape: int) -> Any:
        """A float64 array of zeros."""
        return self.array(np.zeros(shape))

    def blocks(self) -> Iterator[tuple[slice | np.ndarray, Any]]:
        """Pairs of (which rows, those rows)."""
        start = 0
        if self._stream is None:
            for start in range(0, self.shape[0], ROWS_PER_BLOCK):
                where = slice(start, min(start + ROWS_PER_BLOCK, self.shape[0]))
                yield where, self._array[where]
            return
        for block in self._stream():
            where = slice(start, start + len(block))
            start = where.stop
            place = where if self._order is None else self.array(self._order[where], np.int64)
            yield place, block if self.device is None else self.array(block, block.dtype)

    def on(self, device: str) -> "Rows":
        """These rows, a stream, for products on another device."""
        assert self._stream is not None, "the rows are a stream"  # noqa: S101 - for type checkers
        return Rows(self._stream, self.shape, device, self._order)

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> "Rows":
        """These rows, a stream, with each block changed by `function` as it comes in."""
        stream = self._stream
        assert stream is not None, "the rows are a stream"  # noqa: S101 - for type checkers
        return Rows(lambda: map(function, stream()), self.shape, self.device or "numpy", self._order)

    def gather(self, wanted: np.ndarray) -> np.ndarray:
        """Some rows as they are, on the host; of a stream in one pass.

        Parameters
        ----------
        wanted : ndarray of shape (m,), int

        Returns
        -------
        ndarray of shape (m, d), in the precision of the features
        """
        place = np.full(self.shape[0], -1)
        place[wanted] = np.arange(len(wanted))
        found = None
        for where, block in self.blocks():
            at = place[where if isinstance(where, slice) else to_numpy(where)]
            mine = np.flatnonzero(at >= 0)
            if found is None:
                found = np.empty((len(wanted), self.shape[1]), dtype=_name(block.dtype))
            found[at[mine]] = to_numpy(block[self.array(mine, np.int64)])
        return np.empty((0, self.shape[1])) if found is None else found

    def multiply(self, columns: Any) -> Any:
        """X @ columns in float64; `columns` has shape (d, m), the result (n, m)."""
        out = self.zeros(self.shape[0], columns.shape[1])
        for where, block in self.blocks():
            out[where] = self._cast(block, np.float64) @ columns
        return out

    def multiply_transposed(self, columns: Any) -> Any:
        """X.T @ columns in float64; `columns` has shape (n, m), the result (d, m)."""
        out = self.zeros(self.shape[1], columns.shape[1])
        for where, block in self.blocks():
            out += self._cast(block, np.float64).T @ columns[where]
        return out

    def sandwich(self, columns: Any, middle: Callable[[Any, slice | np.ndarray], Any]) -> tuple[Any, Any]:
        """X.T @ middle(X @ columns) in one pass, multiplied in the precision of the features.

        Parameters
        ----------
        columns : array of shape (d, m), float64
        middle : callable
            Gets the products of a block of rows, (block, m) float64, and which rows they are; returns an
            array of the same shape, acting on each row alone.

        Returns
        -------
        array of shape (d, m), float64
        array of shape (m,), float64
            The column sums of what `middle` returned.
        """
        out = self.zeros(self.shape[1], columns.shape[1])
        sums = self.zeros(columns.shape[1])
        narrow = None
        for where, block in self.blocks():
            if narrow is None:
                narrow = self._cast(columns, _name(block.dtype))
            bent = middle(self._cast(block @ narrow, np.float64), where)
            sums += bent.sum(axis=0)
            out += block.T @ self._cast(bent, _name(block.dtype))
        return out, sums

    def _cast(self, values: Any, dtype: Any) -> Any:
        if self.device is None:
            return values.astype(dtype, copy=False)
        return values.to(getattr(self.xp, np.dtype(dtype).name))


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True, eq=False)
class FoldScaling:
    """What a scaler learns from the training rows of each fold.

    Attributes
    ----------
    mean, scale : ndarray of shape (n_folds, d), float64
    variance : ndarray of shape (n_folds, d), float64
    """

    mean: np.ndarray
    scale: np.ndarray
    variance: np.ndarray

    @classmethod
    def none(cls, n_folds: int, n_features: int) -> "FoldScaling":
        """No standardisation."""
        ones = np.ones((n_folds, n_features))
        return cls(np.zeros((n_folds, n_features)), ones, ones)


def fold_scaling(rows: Rows, training: np.ndarray, *, floor: bool) -> FoldScaling:
    """Means and standard deviations of every fold's training rows, in one pass over the features.

    Sums are of differences to the first row, so that a large offset cancels before it is squared, and a
    constant feature has a variance of exactly zero.

    Parameters
    ----------
    training : ndarray of shape (n, n_folds), bool
        Which rows each fold trains on.
    floor : bool
        Whether to scale as FlooredScaler does (`heads.scaling`), or as StandardScaler does, which leaves
        a feature that is constant as it is.
    """
    masks = rows.array(training)
    counts = training.sum(axis=0)[:, None]
    n_folds = training.shape[1]
    sums, squares = rows.zeros(n_folds, rows.shape[1]), rows.zeros(n_folds, rows.shape[1])
    first = None
    for where, block in rows.blocks():
        wide = rows._cast(block, np.float64)
        if first is None:
            first = rows.array(wide[0])
        wide = wide - first
        sums += masks[where].T @ wide
        squares += masks[where].T @ (wide * wide)
    shift = to_numpy(sums) / counts
    variance = np.maximum(to_numpy(squares) / counts - shift**2, 0.0)
    mean = to_numpy(first) + shift
    spread = deviations(variance, mean, counts)
    return FoldScaling(mean, floored(spread) if floor else np.where(spread == 0, 1.0, spread), variance)
