"""How a training went, epoch by epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Epoch", "best_epoch"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of history.csv.

    Attributes
    ----------
    epoch : int
        From 1.
    train_loss, train_accuracy : float
        Mean over the epoch's training slices as they were trained on: augmented, with dropout, and while
        the weights moved. So the first ones may be worse than those of validation.
    validation_loss, validation_accuracy : float
        Of the slices of the held-out training patients, after the epoch, in the precision of the training.
    learning_rate : float
        Of new layers.
    seconds : float
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch whose weights are kept: the first with the lowest validation loss."""
    return min(history, key=lambda epoch: epoch.validation_loss)
