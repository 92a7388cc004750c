"""The trunk of AlexNet further trained to say which parts of a head hold blood, for hypercolumns."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from haemo.models.networks.alexnet import AlexNet
from haemo.models.networks.gray import IMAGENET_MEAN, IMAGENET_STD
from haemo.models.weights.imagenet import Weights
from haemo.progress import Progress, silent

__all__ = ["TrunkSettings", "train_blood_trunk"]

_CELLS, _CELL, _BEFORE = 13, 16, 7  # units of conv5 on a plane of 227 pixels; the first spans pixels 7 to 22
_SURELY, _BARELY = 0.05, 0.002  # share of blood in a cell from which it counts; between the two it does not
_BLOOD_WEIGHT, _SLICE_WEIGHT = 4.0, 0.1


@dataclass(frozen=True)
class TrunkSettings:
    """How the trunk is trained.

    Attributes
    ----------
    steps, batch : int
        How many passes, and planes in each; half of them have blood.
    rate, head_rate : float
        Learning rates of AdamW for the trunk and for the new last layer; both fall along a cosine.
    """

    steps: int = 400
    batch: int = 24
    rate: float = 2e-4
    head_rate: float = 2e-3


def train_blood_trunk(
    planes: np.ndarray,
    masks: np.ndarray,
    weights: Weights,
    settings: TrunkSettings | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, np.ndarray]:
    """Train conv1 to conv5 and a 1 x 1 convolution that says of each of 13 x 13 cells whether it holds blood.

    The loss is the cross-entropy of cells, those with blood counted four times and those barely touched not
    at all, and that of slices, by the log-sum-exp of their cells. Planes are mirrored at random.

    Parameters
    ----------
    planes : ndarray of shape (n, 227, 227), uint8
    masks : ndarray of the same shape, bool
    weights : Weights
        To begin with, up to conv5.
    settings : TrunkSettings, optional
    seed : int
    progress : Progress

    Returns
    -------
    dict of str to ndarray, float16
        conv1 to conv5 under torchvision's names.
    """
    settings = settings or TrunkSettings()
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk, head = AlexNet("pool5").features[:-1], nn.Conv2d(256, 1, 1)
    state = {name.removeprefix("features."): value for name, value in weights.state_dict.items()}
    trunk.load_state_dict({name: state[name] for name in trunk.state_dict()})
    nn.init.constant_(head.get_parameter("bias"), -3.0)  # most cells have no blood
    optimiser = torch.optim.AdamW(
        [
            {"params": trunk.parameters(), "lr": settings.rate},
            {"params": head.parameters(), "lr": settings.head_rate},
        ],
        weight_decay=1e-4,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    bleeding = masks.any(axis=(1, 2))
    groups = np.flatnonzero(bleeding), np.flatnonzero(~bleeding)
    for _ in progress(range(settings.steps), total=settings.steps, label="segment: training the trunk"):
        half = settings.batch // 2
        chosen = np.concatenate([rng.choice(group, half) for group in groups if len(group)])
        batch, blood = torch.from_numpy(planes[chosen]), torch.from_numpy(masks[chosen])
        turned = torch.from_numpy(rng.random(len(chosen)) < 0.5)
        batch[turned], blood[turned] = batch[turned].flip(-1), blood[turned].flip(-1)
        loss = _loss(head(trunk(_normalised(batch)))[:, 0], _cells(blood))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return {
        f"features.{name}": value.detach().numpy().astype(np.float16)
        for name, value in trunk.state_dict().items()
    }


def _normalised(planes: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(own).view(1, 3, 1, 1) for own in (IMAGENET_MEAN, IMAGENET_STD))
    return (planes[:, None].float() / 255 - mean) / std


def _cells(masks: torch.Tensor) -> torch.Tensor:
    """Share of blood in each cell: (batch, 13, 13)."""
    end = _BEFORE + _CELL * _CELLS
    return functional.avg_pool2d(masks[:, None, _BEFORE:end, _BEFORE:end].float(), _CELL)[:, 0]


def _loss(answers: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    blood = (shares >= _SURELY).float()
    counted = 1 - ((shares > _BARELY) & (shares < _SURELY)).float()
    of_cells = functional.binary_cross_entropy_with_logits(answers, blood, reduction="none")
    of_cells = (of_cells * counted * (1 + (_BLOOD_WEIGHT - 1) * blood)).mean()
    strongest = torch.logsumexp(answers.flatten(1), dim=1)
    bleeds = (shares > _BARELY).flatten(1).any(1).float()
    of_slices = functional.binary_cross_entropy_with_logits(strongest, bleeds)
    return of_cells + _SLICE_WEIGHT * of_slices
