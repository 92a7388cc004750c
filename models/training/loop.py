"""The training loop of every end-to-end network."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from haemo.errors import MemoryBudgetExceeded, TooFewData, TrainingDiverged
from haemo.models.networks.device_memory import ran_out, room_in_words
from haemo.models.networks.finetune import AlexNetClassifier
from haemo.models.training.batches import Batches
from haemo.models.training.checkpoint import Checkpoint
from haemo.models.training.history import Epoch
from haemo.models.training.recipes import TrainingSettings
from haemo.progress import Progress, silent

__all__ = ["TrainingData", "class_weights", "train"]

log = logging.getLogger("haemo")

# A checkpoint of AlexNet is near 1 GB. Epochs that end sooner than this after the last one are not kept: a
# kill costs so many seconds of work at most, or the epoch that was running.
_SECONDS_BETWEEN_CHECKPOINTS = 20.0


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a training reads.

    Attributes
    ----------
    batches : Batches
    targets : ndarray of shape (n,), int
        Class number of each plane; read for the rows of `fit` and `validation` only.
    classes : int
        Number of classes.
    fit, validation : ndarray of int
        Rows to learn from, and rows to choose the epoch by, of other patients if the figures shall hold.
    """

    batches: Batches
    targets: np.ndarray
    classes: int
    fit: np.ndarray
    validation: np.ndarray


def class_weights(targets: np.ndarray, classes: int, mode: str) -> np.ndarray:
    """Weight of each class in the loss, float32: 1 each, or ``balanced``, n / (classes * n of the class).

    Raises
    ------
    TooFewData
        If a class has no slice.
    """
    counts = np.bincount(targets, minlength=classes)
    if not counts.all():
        raise TooFewData(f"class number {int(np.argmin(counts))} has no slice to train on")
    if mode == "none":
        return np.ones(classes, dtype=np.float32)
    return (len(targets) / (classes * counts)).astype(np.float32)


def train(
    network: nn.Module,
    data: TrainingData,
    settings: TrainingSettings,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
    label: str = "",
) -> list[Epoch]:
    """Train `network` in place and leave it with the weights of the epoch with the lowest validation loss.

    What an epoch draws (order, augmentation, dropout) depends on the seed and its number alone, so a
    training that was killed and goes on from its checkpoint ends with the same weights, bit for bit on a
    CPU with the same number of threads, as one that was not.

    Parameters
    ----------
    network : torch.nn.Module
        Moved to the device of the batches. Layers whose parameters need no gradient stay as they are.
    data : TrainingData
    settings : TrainingSettings
        The precision ``bfloat16`` is autocast (weights, their updates and the loss stay float32); any other
        is float32.
    checkpoint : Checkpoint, optional
        Where to keep what is needed to go on.
    progress : Progress
        Counts batches.
    label : str
        For `progress`, and for messages.

    Returns
    -------
    list of Epoch

    Raises
    ------
    TooFewData
        If there is nothing to learn from, or nothing to validate on, or a class is missing.
    TrainingDiverged
        If loss or gradient are no longer finite.
    MemoryBudgetExceeded
        If the memory of a CUDA device does not hold a batch.
    """
    if not len(data.fit) or not len(data.validation):
        raise TooFewData(
            f"{label}: {len(data.fit)} slices to learn from and {len(data.validation)} to validate on; "
            "each needs one or more"
        )
    try:
        return _trained(network, data, settings, checkpoint, progress, label)
    except RuntimeError as error:
        if not ran_out(error):
            raise
        raise MemoryBudgetExceeded(
            f"{label}: the memory of the GPU does not hold a batch of {settings.batch_size} slices"
            f"{room_in_words()}; give a smaller --batch-size, end other programs there, or use --device cpu"
        ) from error


def _trained(
    network: nn.Module,
    data: TrainingData,
    settings: TrainingSettings,
    checkpoint: Checkpoint | None,
    progress: Progress,
    label: str,
) -> list[Epoch]:
    training = _Training(network, data, settings, label)
    if checkpoint and (kept := checkpoint.load()):
        training.restore(kept)
        log.info("%s: going on after epoch %d of a training that was stopped", label, len(training.history))
    remaining = range(training.batches_done, training.batches_in_all)
    ticks = iter(progress(remaining, total=len(remaining), label=label))
    last_kept = time.monotonic()
    while not training.is_over():
        training.run_epoch(ticks)
        if checkpoint and time.monotonic() - last_kept >= _SECONDS_BETWEEN_CHECKPOINTS:
            checkpoint.save(training.state())
            last_kept = time.monotonic()
    training.restore_best()
    return training.history


@dataclass
class _Best:
    epoch: int = 0
    loss: float = math.inf
    weights: dict[str, torch.Tensor] | None = None


class _Training:
    """A training between two epochs: all that it takes to go on."""

    def __init__(self, network: nn.Module, data: TrainingData, settings: TrainingSettings, label: str):
        device = data.batches.device
        network.to(device).to(memory_format=torch.channels_last)
        weights = class_weights(data.targets[data.fit], data.classes, settings.class_weight)
        self.network = network
        self.data = data
        self.settings = settings
        self.label = label
        self.step = _Step(network, torch.from_numpy(weights).to(device), settings)
        self.history: list[Epoch] = []
        self.best = _Best()

    @property
    def _batches_an_epoch(self) -> int:
        return math.ceil(len(self.data.fit) / self.settings.batch_size)

    @property
    def batches_in_all(self) -> int:
        return self.settings.epochs * self._batches_an_epoch

    @property
    def batches_done(self) -> int:
        return len(self.history) * self._batches_an_epoch

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.step.optimizer.state_dict(),
            "history": [asdict(epoch) for epoch in self.history],
            "best": vars(self.best),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.step.optimizer.load_state_dict(state["optimizer"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best = _Best(**state["best"])

    def is_over(self) -> bool:
        done, patience = len(self.history), self.settings.patience
        if done == self.settings.epochs:
            return True
        if patience and done - self.best.epoch >= patience:
            log.info(
                "%s: stopped after epoch %d: the validation loss has not fallen since epoch %d",
                self.label,
                done,
                self.best.epoch,
            )
            return True
        return False

    def run_epoch(self, ticks: Iterator[int]) -> None:
        number, data = len(self.history) + 1, self.data
        began = time.monotonic()
        rate = _learning_rate(self.settings, number)
        self.step.set_rate(rate)
        trained = _Tally()
        random = np.random.default_rng([self.settings.seed, number])
        with _seeded(int(random.integers(2**31)), data.batches.device):
            for inputs, rows in data.batches.training(data.fit, self.settings.batch_size, random):
                next(ticks, None)
                trained += self.step(inputs, data.targets[rows], where=f"{self.label}, epoch {number}")
        validated = self.step.evaluate(data)
        seconds = time.monotonic() - began
        self.history.append(
            Epoch(number, trained.loss, trained.accuracy, validated.loss, validated.accuracy, rate, seconds)
        )
        if validated.loss < self.best.loss:
            self.best = _Best(number, validated.loss, deepcopy(self.network.state_dict()))

    def restore_best(self) -> None:
        if self.best.weights is None:
            raise TrainingDiverged(
                f"{self.label}: the validation loss was never finite; lower the rate with --learning-rate"
            )
        self.network.load_state_dict(self.best.weights)


@dataclass
class _Tally:
    """Sums from which the loss and the accuracy over many batches follow exactly, whatever their sizes."""

    weighted_loss: float = 0.0
    weight: float = 0.0
    correct: int = 0
    slices: int = 0

    def __add__(self, other: "_Tally") -> "_Tally":
        return _Tally(
            self.weighted_loss + other.weighted_loss,
            self.weight + other.weight,
            self.correct + other.correct,
            self.slices + other.slices,
        )

    @property
    def loss(self) -> float:
        return self.weighted_loss / self.weight

    @property
    def accuracy(self) -> float:
        return self.correct / self.slices


class _Step:
    """One batch forward, backward and into the weights."""

    def __init__(self, network: nn.Module, weights: torch.Tensor, settings: TrainingSettings):
        self.network = network
        self.weights = weights
        self.clip_norm = settings.clip_norm
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = _optimizer(network, settings)
        self.autocast = {
            "device_type": weights.device.type,
            "dtype": torch.bfloat16,
            "enabled": settings.precision == "bfloat16",
        }

    def set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["multiple"]

    def __call__(self, inputs: torch.Tensor, targets: np.ndarray, where: str) -> _Tally:
        self.network.train()
        expected = torch.from_numpy(targets).to(inputs.device)
        with torch.autocast(**self.autocast):
            logits = self.network(inputs).float()
        loss = functional.cross_entropy(logits, expected, weight=self.weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        if not torch.isfinite(loss) & torch.isfinite(norm):  # one wait for the device, not two
            rate = self.optimizer.param_groups[-1]["lr"]
            raise TrainingDiverged(
                f"{where}: loss {loss.item():g} and gradient norm {norm.item():g} are not both finite; "
                f"the learning rate was {rate:g}: lower it with --learning-rate"
            )
        self.optimizer.step()
        return self._tally(logits.detach(), expected)

    @torch.no_grad()
    def evaluate(self, data: TrainingData) -> _Tally:
        self.network.eval()
        total = _Tally()
        for inputs, held in data.batches.evaluation(data.validation):
            with torch.autocast(**self.autocast):
                logits = self.network(inputs)[: len(held)].float()
            total += self._tally(logits, torch.from_numpy(data.targets[held]).to(inputs.device))
        return total

    def _tally(self, logits: torch.Tensor, expected: torch.Tensor) -> _Tally:
        losses = functional.cross_entropy(logits, expected, weight=self.weights, reduction="none")
        sums = (
            losses.double().sum(),
            self.weights[expected].double().sum(),
            (logits.argmax(dim=1) == expected).double().sum(),
        )
        loss, weight, correct = torch.stack(sums).tolist()  # they come from the device at once
        return _Tally(weighted_loss=loss, weight=weight, correct=int(correct), slices=len(expected))


def _optimizer(network: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    layers = map(network.layer, network.pretrained) if isinstance(network, AlexNetClassifier) else ()
    pretrained = {id(parameter) for layer in layers for parameter in layer.parameters()}
    groups: list[dict[str, Any]] = []
    for multiple, wanted in ((settings.pretrained_rate, True), (1.0, False)):
        parameters = [
            parameter
            for parameter in network.parameters()
            if parameter.requires_grad and (id(parameter) in pretrained) == wanted
        ]
        if parameters:
            groups.append({"params": parameters, "multiple": multiple})
    common = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "fused": True}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, **common)
    return torch.optim.Adam(groups, **common)


def _learning_rate(settings: TrainingSettings, epoch: int) -> float:
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / settings.epochs))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed what dropout draws from, and give the caller's random state back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
