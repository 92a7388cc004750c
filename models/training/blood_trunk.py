"""The trunk of AlexNet further trained to say which parts of a head hold blood."""

import logging
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from haemo.errors import TooFewData, TrainingDiverged
from haemo.models.networks.alexnet import SIZE
from haemo.models.networks.blood_cells import BARELY, BloodCells, blood_in_cells
from haemo.models.networks.gray import GrayConv
from haemo.models.networks.pooling import pooled
from haemo.models.training.checkpoint import Checkpoint
from haemo.models.training.plane_looks import looks
from haemo.models.weights.imagenet import Weights
from haemo.progress import Progress, silent

__all__ = ["TrunkSettings", "train_blood_trunk"]

log = logging.getLogger("haemo")

_SURELY = 0.05  # share of blood in a cell from which it counts; from here down to `BARELY` it does not
_BLOOD_WEIGHT, _SLICE_WEIGHT = 4.0, 0.1
_SECONDS_BETWEEN_CHECKPOINTS = 20.0
_CLIP_NORM = 5.0


@dataclass(frozen=True)
class TrunkSettings:
    """How the trunk is trained.

    Attributes
    ----------
    steps, batch : int
        How many passes, and planes in each; half of them have blood.
    rate, head_rate : float
        Learning rates of AdamW for the trunk and for the new last layer; both fall along a cosine.
    varied : bool
        Whether planes are drawn in other looks (`models.training.plane_looks`), or only mirrored at random.
    precision : {'float32', 'bfloat16'}
        The latter is autocast: weights, their updates and the loss stay float32.
    """

    steps: int = 400
    batch: int = 24
    rate: float = 2e-4
    head_rate: float = 2e-3
    varied: bool = False
    precision: str = "float32"


def train_blood_trunk(
    planes: np.ndarray,
    masks: np.ndarray,
    weights: Weights,
    settings: TrunkSettings | None = None,
    *,
    wide: np.ndarray | None = None,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> BloodCells:
    """Train conv2 to conv5 and a 1 x 1 convolution that says of each of 13 x 13 cells whether it holds blood.

    conv1 stays as it is: its edges and spots are those of any picture, and its maps are the largest, so that
    to train it too would take half as much time again.
    The loss is the cross-entropy of cells, those with blood counted four times and those barely touched not
    at all, and that of slices, by the log-sum-exp of their cells. What a step draws depends on the seed and
    its number alone, so a training that goes on from its checkpoint ends with the same bytes as one that was
    never stopped, on one kind of machine with the same number of threads.

    Parameters
    ----------
    planes : ndarray of shape (n, 227, 227), uint8
    masks : ndarray of the same shape, bool
    weights : Weights
        To begin with, up to conv5.
    settings : TrunkSettings, optional
    wide : ndarray of shape (n,), bool, optional
        Planes that are still to be windowed, where `settings` has looks drawn; none without.
    seed : int
    checkpoint : Checkpoint, optional
        Where to keep what is needed to go on.
    progress : Progress

    Returns
    -------
    BloodCells
        In float16.

    Raises
    ------
    TooFewData
        If no mask has blood.
    TrainingDiverged
        If the loss is no longer finite.
    """
    if not masks.any():
        raise TooFewData("a trunk is trained on slices with masks, and none with blood can be used")
    settings = settings or TrunkSettings()
    wide = np.zeros(len(planes), dtype=bool) if wide is None else wide
    network = _begun(weights, seed)
    conv1 = _Conv1(weights, settings.precision)
    network.features[0].requires_grad_(False)
    learned = [parameter for parameter in network.features.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        [{"params": learned}, {"params": network.head.parameters()}], weight_decay=1e-4
    )
    done = 0
    if checkpoint and (kept := checkpoint.load()):
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
        done = kept["steps"]
        log.info("trunk: going on after step %d of a training that was stopped", done)
    bleeding = masks.any(axis=(1, 2))
    groups = [group for group in (np.flatnonzero(bleeding), np.flatnonzero(~bleeding)) if len(group)]
    last_kept = time.monotonic()
    for step in progress(range(done, settings.steps), total=settings.steps - done, label="trunk"):
        random = np.random.default_rng([seed, step])
        chosen = np.concatenate([random.choice(group, settings.batch // 2) for group in groups])
        draw = looks if settings.varied else _mirrored
        gray, blood = draw(planes[chosen], masks[chosen], wide[chosen], random)
        share = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        for group, rate in zip(optimiser.param_groups, (settings.rate, settings.head_rate), strict=True):
            group["lr"] = rate * share
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
            answers = network.above_conv1(conv1(gray))
        loss = _loss(answers.float(), blood_in_cells(blood))
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"trunk: the loss of step {step} is not finite; take fewer, or other slices"
            )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), _CLIP_NORM)
        optimiser.step()
        if checkpoint and time.monotonic() - last_kept >= _SECONDS_BETWEEN_CHECKPOINTS:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            checkpoint.save({"steps": step + 1, **state})
            last_kept = time.monotonic()
    return network.half().requires_grad_(False).eval()


def _begun(weights: Weights, seed: int) -> BloodCells:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Conv2d(256, 1, 1)
    nn.init.constant_(head.get_parameter("bias"), -3.0)  # most cells have no blood
    own = {f"head.{name}": value for name, value in head.state_dict().items()}
    network = BloodCells.of({**weights.state_dict, **own})
    return network.train().to(memory_format=torch.channels_last)


class _Conv1:
    """Maps of conv1 on gray planes, which are not trained through."""

    def __init__(self, weights: Weights, precision: str) -> None:
        state = weights.state_dict
        self._conv = GrayConv(
            state["features.0.weight"], state["features.0.bias"], SIZE, getattr(torch, precision)
        )

    @torch.no_grad()
    def __call__(self, gray: torch.Tensor) -> torch.Tensor:
        return pooled(self._conv(gray))


def _mirrored(
    planes: np.ndarray, masks: np.ndarray, wide: np.ndarray, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    del wide
    turned = random.random(len(planes)) < 0.5
    planes[turned], masks[turned] = planes[turned, :, ::-1], masks[turned, :, ::-1]
    return torch.from_numpy(planes), torch.from_numpy(masks)


def _loss(answers: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    blood = (shares >= _SURELY).float()
    counted = 1 - ((shares > BARELY) & (shares < _SURELY)).float()
    of_cells = functional.binary_cross_entropy_with_logits(answers, blood, reduction="none")
    of_cells = (of_cells * counted * (1 + (_BLOOD_WEIGHT - 1) * blood)).mean()
    strongest = torch.logsumexp(answers.flatten(1), dim=1)
    bleeds = (shares > BARELY).flatten(1).any(1).float()
    of_slices = functional.binary_cross_entropy_with_logits(strongest, bleeds)
    return of_cells + _SLICE_WEIGHT * of_slices
