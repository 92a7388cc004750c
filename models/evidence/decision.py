"""Fitted scikit-learn heads written in torch, so that their scores have gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from haemo.errors import BadSettings

__all__ = ["DecisionFunction", "decision_function"]

Function = Callable[[torch.Tensor], torch.Tensor]

_CLASSIFIERS = ("LinearSVC", "LogisticRegression", "ScoredLogistic", "EarlyStoppingMLP", "SVC")


class DecisionFunction(nn.Module):
    """The decision function of a fitted head, in float64; equal to scikit-learn's up to its rounding.

    Parameters
    ----------
    steps : list of Module
        What the head does to embeddings, one step after the other; the last gives scores.
    dimension : int
        Numbers of an embedding.
    outputs : int
        Scores of an embedding: 1 for two classes, else one a class.
    """

    def __init__(self, steps: list[nn.Module], dimension: int, outputs: int):
        super().__init__()
        self.steps = nn.Sequential(*steps)
        self.dimension = dimension
        self.outputs = outputs
        self.requires_grad_(False)

    @property
    def has_gradients(self) -> bool:
        """Whether every step is written in torch, so that scores have gradients."""
        return not any(isinstance(step, _Called) for step in self.steps)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Scores of embeddings (n, d): (n,) for two classes, of the positive one, else (n, n_classes)."""
        scores = self.steps(embeddings.double())
        return scores.squeeze(1) if scores.shape[1] == 1 else scores

    def randomised(self, seed: int) -> "DecisionFunction":
        """A head that has learned nothing: scores along random directions."""
        weights = np.random.default_rng(seed).normal(size=(self.outputs, self.dimension))
        return DecisionFunction([_Linear(weights, np.zeros(self.outputs))], self.dimension, self.outputs)


def decision_function(
    head: Any, fixed: np.ndarray | None = None, own: slice = slice(None)
) -> DecisionFunction:
    """Write a fitted head in torch.

    Parameters
    ----------
    head : CalibratedHead, Pipeline or classifier
        A CalibratedHead stands for its estimator: probabilities are no part of the score. A pipeline may
        hold FlooredScaler or StandardScaler, Normalizer (L2), PCA and Nystroem before one of LinearSVC,
        LogisticRegression, SVC and EarlyStoppingMLP; kernels may be linear, rbf, poly or sigmoid. Any other
        classifier is called as it is: its scores have no gradients.
    fixed : ndarray of shape (d,), optional
        A whole row, for a head whose rows hold more than the embedding: what is not `own` stays as it is
        there.
    own : slice
        Columns of the row that the embedding takes; all without `fixed`.

    Raises
    ------
    BadSettings
        If another step is none of these, or the classifier has no decision scores; it is named.
    """
    estimator = getattr(head, "estimator_", head)
    chain = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    classes = len(chain[-1].classes_)
    *before, last = chain
    is_called = type(last).__name__ not in _CLASSIFIERS and hasattr(last, "decision_function")
    steps = [*map(_written, before), _Called(last) if is_called else _written(last)]
    dimension, outputs = chain[0].n_features_in_, 1 if classes == 2 else classes
    if fixed is not None:
        steps = [_Within(fixed, own), *steps]
        dimension = len(range(dimension)[own])
    return DecisionFunction(steps, dimension, outputs)


def _written(step: Any) -> nn.Module:
    # By name: importing every estimator of scikit-learn to compare types would cost a second.
    match type(step).__name__:
        case "StandardScaler" | "FlooredScaler":
            # A scaler that does not centre may know the mean all the same.
            mean = step.mean_ if step.with_mean else np.zeros(step.n_features_in_)
            return _Affine(mean, 1 / (step.scale_ if step.with_std else np.ones(step.n_features_in_)))
        case "Normalizer" if step.norm == "l2":
            return _UnitLength()
        case "PCA":
            if step.whiten:
                components = step.components_ / np.sqrt(step.explained_variance_)[:, None]
            else:
                components = step.components_
            return _Linear(components, -step.mean_ @ components.T)
        case "Nystroem":
            return _Landmarks(step)
        case "LinearSVC" | "LogisticRegression" | "ScoredLogistic":
            return _Linear(step.coef_, step.intercept_)
        case "EarlyStoppingMLP":
            first, last = zip(step.coefs_, step.intercepts_, strict=True)
            return nn.Sequential(_Linear(first[0].T, first[1]), nn.ReLU(), _Linear(last[0].T, last[1]))
        case "SVC":
            return _KernelMachine(step)
        case name:
            raise BadSettings(
                f"a head with the step {name} cannot be explained by gradients; occlusion needs none"
            )


class _Within(nn.Module):
    """Embeddings put into their columns of a row whose other columns are fixed."""

    before: torch.Tensor
    after: torch.Tensor

    def __init__(self, fixed: np.ndarray, own: slice):
        super().__init__()
        self.register_buffer("before", _tensor(fixed[: own.start]))
        self.register_buffer("after", _tensor(fixed[own.stop :]))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        parts = (self.before.expand(len(rows), -1), rows, self.after.expand(len(rows), -1))
        return torch.cat(parts, dim=1)


class _Called(nn.Module):
    """A fitted classifier that is not written in torch: scores without gradients."""

    def __init__(self, classifier: Any):
        super().__init__()
        self.classifier = classifier

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        scores = self.classifier.decision_function(rows.numpy())
        return torch.from_numpy(scores.reshape(len(rows), -1))


class _Affine(nn.Module):
    mean: torch.Tensor
    factor: torch.Tensor

    def __init__(self, mean: np.ndarray, factor: np.ndarray):
        super().__init__()
        self.register_buffer("mean", _tensor(mean))
        self.register_buffer("factor", _tensor(factor))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (rows - self.mean) * self.factor


class _UnitLength(nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        lengths = rows.norm(dim=1, keepdim=True)
        return rows / torch.where(lengths == 0, 1.0, lengths)


class _Linear(nn.Module):
    weights: torch.Tensor
    bias: torch.Tensor

    def __init__(self, weights: np.ndarray, bias: np.ndarray):
        super().__init__()
        self.register_buffer("weights", _tensor(weights))
        self.register_buffer("bias", _tensor(bias))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows @ self.weights.T + self.bias


class _Kernel(nn.Module):
    """Kernel values of rows with fixed points."""

    points: torch.Tensor
    squares: torch.Tensor

    def __init__(self, kernel: str, points: np.ndarray, gamma: float | None, degree: float, coef0: float):
        super().__init__()
        if kernel not in ("linear", "rbf", "poly", "sigmoid"):
            raise BadSettings(f"a head with the kernel {kernel!r} cannot be explained by gradients")
        self.kernel, self.degree, self.coef0 = kernel, degree, coef0
        self.gamma = 1 / points.shape[1] if gamma is None else float(gamma)
        self.register_buffer("points", _tensor(points))
        self.register_buffer("squares", self.points.square().sum(dim=1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        products = rows @ self.points.T
        match self.kernel:
            case "linear":
                return products
            case "rbf":
                distances = rows.square().sum(dim=1, keepdim=True) + self.squares - 2 * products
                return torch.exp(-self.gamma * distances.clamp_min(0))
            case "poly":
                return (self.gamma * products + self.coef0) ** self.degree
            case _:
                return torch.tanh(self.gamma * products + self.coef0)


class _Landmarks(nn.Module):
    """Nystroem's features: kernel values with landmarks, whitened."""

    def __init__(self, step: Any):
        super().__init__()
        # scikit-learn's defaults where a parameter is None.
        degree = 3 if step.degree is None else step.degree
        coef0 = 1 if step.coef0 is None else step.coef0
        self.kernel = _Kernel(step.kernel, step.components_, step.gamma, degree, coef0)
        self.register_buffer("mixing", _tensor(step.normalization_))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.kernel(rows) @ self.mixing.T


class _KernelMachine(nn.Module):
    """An SVC: kernel with its support vectors, then one score for each pair of classes.

    For more than two classes scikit-learn adds the pairs up to one score a class: the number of pairs that
    the class wins, and a bounded function of its summed margins to break ties
    (``decision_function_shape="ovr"``, `sklearn.utils.multiclass._ovr_decision_function`). The number of
    wins is a step function; the gradient is that of the margins.
    """

    def __init__(self, svc: Any):
        super().__init__()
        self.classes = len(svc.classes_)
        # What gamma="scale" came to; scikit-learn has no public name for it.
        self.kernel = _Kernel(svc.kernel, svc.support_vectors_, svc._gamma, svc.degree, svc.coef0)
        weights = svc.dual_coef_ if self.classes == 2 else _pair_weights(svc)
        self.register_buffer("weights", _tensor(weights))
        self.register_buffer("bias", _tensor(svc.intercept_))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        margins = self.kernel(rows) @ self.weights.T + self.bias
        return margins if self.classes == 2 else self._per_class(margins)

    def _per_class(self, margins: torch.Tensor) -> torch.Tensor:
        wins = margins.new_zeros(len(margins), self.classes)
        sums = margins.new_zeros(len(margins), self.classes)
        for column, (one, other) in enumerate(_pairs(self.classes)):
            margin = margins[:, column]
            for number, signed, won in ((one, margin, margin >= 0), (other, -margin, margin < 0)):
                wins = wins.index_add(1, torch.tensor([number]), won.to(wins.dtype)[:, None])
                sums = sums.index_add(1, torch.tensor([number]), signed[:, None])
        return wins + sums / (3 * (sums.abs() + 1))


def _pairs(classes: int) -> list[tuple[int, int]]:
    """Pairs of classes in libsvm's order."""
    return [(one, other) for one in range(classes) for other in range(one + 1, classes)]


def _pair_weights(svc: Any) -> np.ndarray:
    """Weights of all support vectors for each pair of classes, (n_pairs, n_support).

    libsvm keeps, for each support vector, the coefficients of the pairs that its own class is in: those with
    class j in row j of `dual_coef_`, or in row j - 1 where j stands behind the own class.
    """
    ends = np.cumsum(svc.n_support_)
    own = [slice(end - count, end) for end, count in zip(ends, svc.n_support_, strict=True)]
    pairs = _pairs(len(own))
    weights = np.zeros((len(pairs), len(svc.support_vectors_)))
    for row, (one, other) in enumerate(pairs):
        weights[row, own[one]] = svc.dual_coef_[other - 1, own[one]]
        weights[row, own[other]] = svc.dual_coef_[one, own[other]]
    return weights


def _tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float64))
