"""The losses of the block solver: values, slopes and curvature for every problem at once.

Scores have shape (n, P, K): rows, problems, outputs. Row weights have shape (n, P, 1). Arrays are numpy or
torch, `xp` is the module they belong to.
"""

from types import ModuleType
from typing import Any, Protocol, Self

__all__ = ["BinaryLogistic", "Loss", "Multinomial", "SquaredHinge"]

_MAX_LENGTHS = 60


class Loss(Protocol):
    """What the solver asks of a loss; each method treats problems apart from each other."""

    n_outputs: int

    def select(self, problems: Any) -> "Loss":
        """The same loss for the problems at the given positions."""
        ...

    def value(self, scores: Any, weights: Any) -> Any:
        """Weighted sum over rows, shape (P,)."""
        ...

    def slopes(self, scores: Any, weights: Any) -> Any:
        """First derivative by each score, shape (n, P, K)."""
        ...

    def curvature(self, scores: Any, weights: Any) -> Any:
        """What `bend` needs of the second derivative, shape (n, P, K)."""
        ...

    def bend(self, curvature: Any, weights: Any, change: Any) -> Any:
        """Second derivative times a change of the scores, shape (n, P, K)."""
        ...

    def diagonal(self, curvature: Any, weights: Any) -> Any:
        """Second derivative by each score twice, shape (n, P, K)."""
        ...

    def offset_bend(self, curvature: Any, weights: Any) -> Any:
        """Second derivative by a shift of all rows' scores, made regular, shape (P, K, K)."""
        ...


class _MarginLoss:
    """A loss of target times score, targets being -1 and +1: one output a problem.

    Parameters
    ----------
    xp : module
    targets : array of shape (n, P, 1), float64
    """

    n_outputs = 1

    def __init__(self, xp: ModuleType, targets: Any):
        self.xp = xp
        self.targets = targets

    def select(self, problems: Any) -> Self:
        return type(self)(self.xp, self.targets[:, problems])

    def bend(self, curvature: Any, weights: Any, change: Any) -> Any:
        del weights
        return curvature * change

    def diagonal(self, curvature: Any, weights: Any) -> Any:
        del weights
        return curvature

    def offset_bend(self, curvature: Any, weights: Any) -> Any:
        del weights
        return curvature.sum(axis=0)[:, :, None]


class SquaredHinge(_MarginLoss):
    """max(0, 1 - target score)^2, the loss of LinearSVC."""

    def _shortfall(self, scores: Any) -> Any:
        return (1.0 - self.targets * scores).clip(min=0.0)

    def value(self, scores: Any, weights: Any) -> Any:
        """Weighted sum over rows, shape (P,)."""
        return (weights * self._shortfall(scores) ** 2).sum(axis=(0, 2))

    def slopes(self, scores: Any, weights: Any) -> Any:
        """First derivative by each score, shape (n, P, 1)."""
        return -2.0 * weights * self.targets * self._shortfall(scores)

    def curvature(self, scores: Any, weights: Any) -> Any:
        """Second derivative by each score, shape (n, P, 1)."""
        return 2.0 * weights * (self.targets * scores < 1.0)

    def lowest(self, scores: Any, change: Any, weights: Any, slope: Any, bend: Any) -> Any:
        """The t at which slope t + bend t^2 / 2 + value(scores + t change) is least, shape (P,).

        Its derivative is a rising line with kinks, so that Newton's method between bounds finds the root.
        """
        shortfall, pull = 1.0 - self.targets * scores, self.targets * change
        low, high = self.xp.zeros_like(slope), self.xp.full_like(slope, float("inf"))
        t = self.xp.ones_like(slope)
        for _ in range(_MAX_LENGTHS):
            short = (shortfall - t[None, :, None] * pull).clip(min=0.0)
            first = slope + t * bend - 2.0 * (weights * pull * short).sum(axis=(0, 2))
            second = bend + 2.0 * (weights * pull**2 * (short > 0)).sum(axis=(0, 2))
            low, high = self.xp.where(first < 0, t, low), self.xp.where(first > 0, t, high)
            step = first / self.xp.where(second > 0, second, 1.0)
            if bool((abs(step) <= 1e-12 * t).all()):
                break
            middle = self.xp.where(self.xp.isinf(high), 2.0 * t, 0.5 * (low + high))
            t = self.xp.where((t - step > low) & (t - step < high), t - step, middle)
        return t


class BinaryLogistic(_MarginLoss):
    """log(1 + exp(-target score)), the loss of LogisticRegression for two classes."""

    def value(self, scores: Any, weights: Any) -> Any:
        """Weighted sum over rows, shape (P,)."""
        margin = self.targets * scores
        return (weights * self.xp.logaddexp(self.xp.zeros_like(margin), -margin)).sum(axis=(0, 2))

    def slopes(self, scores: Any, weights: Any) -> Any:
        """First derivative by each score, shape (n, P, 1)."""
        return -weights * self.targets * self._doubt(scores)

    def curvature(self, scores: Any, weights: Any) -> Any:
        """Second derivative by each score, shape (n, P, 1)."""
        doubt = self._doubt(scores)
        return weights * doubt * (1.0 - doubt)

    def _doubt(self, scores: Any) -> Any:
        # 1 / (1 + exp(margin)), written so that it cannot overflow.
        return 0.5 - 0.5 * self.xp.tanh(0.5 * self.targets * scores)


class Multinomial:
    """-log softmax of the true class, the loss of LogisticRegression for more than two classes.

    Parameters
    ----------
    xp : module
    membership : array of shape (n, 1, K), float64
        1 at the class of each row, else 0.
    """

    def __init__(self, xp: ModuleType, membership: Any):
        self.xp = xp
        self.membership = membership
        self.n_outputs = membership.shape[2]

    def select(self, problems: Any) -> "Multinomial":
        """The targets are the same for all problems."""
        del problems
        return self

    def value(self, scores: Any, weights: Any) -> Any:
        """Weighted sum over rows, shape (P,)."""
        top = self.xp.amax(scores, axis=2, keepdims=True)
        log_sum = self.xp.log(self.xp.exp(scores - top).sum(axis=2, keepdims=True)) + top
        true = (self.membership * scores).sum(axis=2, keepdims=True)
        return (weights * (log_sum - true)).sum(axis=(0, 2))

    def slopes(self, scores: Any, weights: Any) -> Any:
        """First derivative by each score, shape (n, P, K)."""
        return weights * (self._probabilities(scores) - self.membership)

    def curvature(self, scores: Any, weights: Any) -> Any:
        """The probabilities."""
        del weights
        return self._probabilities(scores)

    def bend(self, curvature: Any, weights: Any, change: Any) -> Any:
        """(diag(p) - p p') times the change, weighted."""
        lean = curvature * change
        return weights * (lean - curvature * lean.sum(axis=2, keepdims=True))

    def diagonal(self, curvature: Any, weights: Any) -> Any:
        """p (1 - p), weighted."""
        return weights * curvature * (1.0 - curvature)

    def offset_bend(self, curvature: Any, weights: Any) -> Any:
        """The sum over rows of diag(p) - p p', plus the direction in which the loss is flat."""
        lean = weights * curvature
        each = lean.sum(axis=0)
        total = self.xp.eye(self.n_outputs, dtype=each.dtype, device=each.device) * each[:, :, None]
        for output in range(self.n_outputs):
            total[:, output] -= (lean[:, :, output : output + 1] * curvature).sum(axis=0)
        return total + each.sum(axis=1)[:, None, None] / self.n_outputs**2

    def _probabilities(self, scores: Any) -> Any:
        raised = self.xp.exp(scores - self.xp.amax(scores, axis=2, keepdims=True))
        return raised / raised.sum(axis=2, keepdims=True)
