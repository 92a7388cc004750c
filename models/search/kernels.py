"""Kernel matrices from one product of the features, and SVMs on them that need no product of their own.

Inner products are multiplied in float64. libsvm rounds every kernel value to float32 before it works with
it; products in float64 agree with its own to 1e-13, so the rounded values are the same, libsvm takes the same
steps and ends at the same support vectors. Products in float32 are off in the last bit of the rounded
values, and decision scores then differ by up to 5e-4 (n = 2,000, 4,096 features), a stopping tolerance's
worth. On the CPU float64 costs twice the time of a part that is a few percent of the search.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["KernelSpec", "Products", "fit_on_kernel", "kernel_spec", "memory_needed", "on_embeddings"]

_ROWS_PER_BLOCK = 64


@dataclass(frozen=True)
class KernelSpec:
    """A kernel with numbers for all its parameters, so that equal specs mean equal matrices."""

    kernel: str
    gamma: float = 1.0
    degree: int = 3
    coef0: float = 0.0


def kernel_spec(svc: Any, variance: float, n_features: int) -> KernelSpec:
    """The kernel of an SVC.

    Parameters
    ----------
    svc : SVC
        With kernel ``linear``, ``rbf``, ``poly`` or ``sigmoid``.
    variance : float
        Of all values of the training rows, for ``gamma="scale"``.
    n_features : int
    """
    if svc.kernel == "linear":
        return KernelSpec("linear")
    if svc.gamma == "scale":
        gamma = 1.0 / (n_features * variance) if variance != 0 else 1.0
    elif svc.gamma == "auto":
        gamma = 1.0 / n_features
    else:
        gamma = float(svc.gamma)
    if svc.kernel == "rbf":
        return KernelSpec("rbf", gamma)
    if svc.kernel == "sigmoid":
        return KernelSpec("sigmoid", gamma, coef0=svc.coef0)
    return KernelSpec("poly", gamma, svc.degree, svc.coef0)


class Products:
    """Inner products of training rows with each other and with held-out rows.

    Parameters
    ----------
    train : ndarray of shape (n_train, d)
    held_out : ndarray of shape (n_held_out, d), optional
    device : str
        ``"cpu"`` multiplies with numpy, anything else with torch on that device.
    blocks : sequence of int, optional
        Widths of blocks of columns, which add up to d. The products are sums over the blocks, so that one
        block at a time is there in float64.

    Attributes
    ----------
    inner : ndarray of shape (n_train, n_train), float64
    across : ndarray of shape (n_held_out, n_train), float64, or None
    are_distances : bool
        Whether squared distances have taken their place.
    """

    def __init__(
        self,
        train: np.ndarray,
        held_out: np.ndarray | None = None,
        device: str = "cpu",
        blocks: Sequence[int] | None = None,
    ):
        multiply = _multiply if device == "cpu" else _device_multiply(device)
        self.across, self._squares_across = None, np.empty(0)
        ends = np.cumsum(blocks or [train.shape[1]])
        for number, stop in enumerate(ends):
            own = slice(ends[number - 1] if number else 0, stop)
            wide = train[:, own].astype(np.float64, copy=False)
            inner = multiply(wide, wide)
            self.inner = self.inner + inner if number else inner
            if held_out is not None:
                other = held_out[:, own].astype(np.float64, copy=False)
                across, squares = multiply(other, wide), np.einsum("ij,ij->i", other, other)
                self.across = across if self.across is None else self.across + across
                self._squares_across = self._squares_across + squares if number else squares
        self._squares = self.inner.diagonal().copy()
        self.are_distances = False

    def to_distances(self) -> None:
        """Turn the products into squared distances, in place; only RBF kernels can be made from then on."""
        if self.are_distances:
            return
        _distances(self.inner, self._squares, self._squares)
        if self.across is not None:
            _distances(self.across, self._squares_across, self._squares)
        self.are_distances = True

    def kernel(
        self,
        spec: KernelSpec,
        out: tuple[np.ndarray, np.ndarray | None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The kernel between training rows, and between held-out and training rows.

        Parameters
        ----------
        out : pair of ndarray, optional
            Where to put them; a linear kernel needs no room and is the products themselves.
        """
        if spec.kernel == "linear":
            return self.inner, self.across
        if spec.kernel == "rbf":
            self.to_distances()
        inner, across = self.room() if out is None else out
        _fill(spec, self.inner, inner)
        if self.across is not None:
            assert across is not None, "out has room for held-out rows too"  # noqa: S101 - for type checkers
            _fill(spec, self.across, across)
        return inner, across

    def room(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Uninitialised arrays that a kernel fits into."""
        return np.empty_like(self.inner), None if self.across is None else np.empty_like(self.across)


def _multiply(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    # numpy hands a product of a matrix with its own transpose to the symmetric BLAS routine: half the work.
    return left @ right.T


def _device_multiply(device: str) -> Any:
    import torch

    def multiply(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        on_device = torch.from_numpy(right).to(device)
        other = on_device if left is right else torch.from_numpy(left).to(device)
        return (other @ on_device.T).cpu().numpy()

    return multiply


def _distances(products: np.ndarray, squares: np.ndarray, other_squares: np.ndarray) -> None:
    for start in range(0, len(products), _ROWS_PER_BLOCK):
        block = products[start : start + _ROWS_PER_BLOCK]
        block *= -2.0
        block += squares[start : start + _ROWS_PER_BLOCK, None]
        block += other_squares
        np.maximum(block, 0.0, out=block)


def _fill(spec: KernelSpec, products: np.ndarray, out: np.ndarray) -> None:
    # Block by block: what is multiplied is still in the cache when it is raised.
    for start in range(0, len(products), _ROWS_PER_BLOCK):
        rows = slice(start, start + _ROWS_PER_BLOCK)
        block = np.multiply(
            products[rows], -spec.gamma if spec.kernel == "rbf" else spec.gamma, out=out[rows]
        )
        match spec.kernel:
            case "rbf":
                np.exp(block, out=block)
            case "sigmoid":
                block += spec.coef0
                np.tanh(block, out=block)
            case _:
                block += spec.coef0
                _raise(block, spec.degree)


def _raise(block: np.ndarray, degree: int) -> None:
    """Whole power, in place, by squaring as libsvm does it."""
    square, result = block.copy(), np.ones_like(block)
    while degree:
        if degree & 1:
            result *= square
        square *= square
        degree >>= 1
    block[:] = result


def fit_on_kernel(svc: Any, inner: np.ndarray, y: np.ndarray) -> Any:
    """Fit a copy of `svc` on its training kernel; the copy takes kernel rows where `svc` takes features.

    Parameters
    ----------
    svc : SVC
        Unfitted; its own kernel is not looked at.
    inner : ndarray of shape (n_train, n_train), float64, contiguous
        Not copied.
    y : ndarray of shape (n_train,)
    """
    import sklearn
    from sklearn.base import clone

    # Looking for NaN in a matrix that was just computed would read it once more for every fit.
    with sklearn.config_context(assume_finite=True):
        return clone(svc).set_params(kernel="precomputed").fit(inner, y)


def on_embeddings(svc: Any, fitted: Any, spec: KernelSpec, train: np.ndarray) -> Any:
    """The SVC that scikit-learn would have fitted on the features themselves.

    Parameters
    ----------
    svc : SVC
        Unfitted, with the parameters that were found.
    fitted : SVC
        From `fit_on_kernel`.
    spec : KernelSpec
    train : ndarray of shape (n_train, d)
        The rows that the kernel was of.

    Returns
    -------
    SVC
        With support vectors in place of kernel columns; it predicts from features and needs nothing else.
    """
    whole = copy.copy(svc)
    learned = {name: value for name, value in vars(fitted).items() if name not in vars(svc)}
    vars(whole).update(learned)
    whole.support_vectors_ = train[fitted.support_].astype(np.float64)
    whole.shape_fit_ = train.shape
    whole.n_features_in_ = train.shape[1]
    whole._gamma = spec.gamma if spec.kernel != "linear" else whole._gamma
    return whole


def memory_needed(
    n_train: int, n_held_out: int, n_features: int, kernels: int, caches_mb: float, widest: int | None = None
) -> int:
    """Bytes that one fold of a search takes at its peak, beside the features themselves.

    Parameters
    ----------
    n_train, n_held_out, n_features : int
    kernels : int
        Kernel matrices that are held at a time, beside the products: 0 where all kernels are linear.
    caches_mb : float
        libsvm's caches of all fits that run at a time, in MB (2^20 bytes).
    widest : int, optional
        Columns of the widest block, where products are sums over blocks; None is all.
    """
    matrix = 8 * n_train * (n_train + n_held_out)
    # While products are made: rows in float64, and in their own precision after standardisation; of the
    # second and later blocks also the products that are added.
    widest = n_features if widest is None else widest
    rows = (n_train + n_held_out) * (4 * n_features + 8 * widest) + (matrix if widest < n_features else 0)
    cache = int(caches_mb * 2**20)
    return matrix + max(rows, kernels * matrix + cache)
