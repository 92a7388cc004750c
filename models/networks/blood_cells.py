"""AlexNet's convolutions with one more on top, which says of each cell of a plane whether it holds blood."""

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from haemo.models.networks.alexnet import SIZE, AlexNet
from haemo.models.networks.gray import IMAGENET_MEAN, IMAGENET_STD
from haemo.models.networks.packed import packed
from haemo.models.networks.plane_maps import PlaneMaps
from haemo.models.networks.unit_maps import interpolated

__all__ = ["BARELY", "BloodCells", "blood_in_cells", "cells_at", "cells_of", "slice_scores"]

_CELLS, _CELL, _BEFORE = 13, 16, 7  # units of conv5 on a plane of 227 pixels; the first spans pixels 7 to 22
BARELY = 0.002
"""Share of a cell up to which blood does not count: a pixel at its edge."""
_BATCH = 32
_CONV2 = 3  # its place


class BloodCells(nn.Module):
    """conv1 to conv5, and a 1 x 1 convolution on conv5.

    Its tensors are AlexNet's under torchvision's names, and ``head.weight`` and ``head.bias``. They are not
    drawn here: what is made has no values before a state dict is loaded.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):
            self.features = AlexNet("pool5").features[:-1]
            self.head = nn.Conv2d(256, 1, 1)
        self.to_empty(device="cpu")
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def of(cls, arrays: "Mapping[str, np.ndarray | torch.Tensor]") -> "BloodCells":
        """Make one of its tensors, of any float type."""
        network = cls()
        network.load_state_dict({name: torch.as_tensor(array).float() for name, array in arrays.items()})
        return network.eval()

    def packed(self) -> "BloodCells":
        """The same network for answers alone, a plane at a time: the same bits, sooner."""
        network = copy.copy(self)
        network._modules = dict(self._modules)
        example = torch.zeros(1, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
        network.features = packed(self.features, example)
        return network

    def in_bfloat16(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The same for answers alone, its convolutions in bfloat16: log odds are a few hundredths off."""
        maps = PlaneMaps(self.features, SIZE, IMAGENET_MEAN, IMAGENET_STD, torch.bfloat16)
        return lambda gray: self.head(maps(gray))[:, 0]

    def forward(self, gray: torch.Tensor) -> torch.Tensor:
        """Log odds of blood in each cell of gray planes (n, 227, 227), levels 0 to 255: (n, 13, 13)."""
        images = (gray[:, None].float() / 255 - self.mean) / self.std
        images = images.contiguous(memory_format=torch.channels_last)
        return self.above_conv1(self.features[:_CONV2](images))

    def above_conv1(self, maps: torch.Tensor) -> torch.Tensor:
        """The same from the maps of conv1 after ReLU and pooling: (n, 64, 27, 27)."""
        return self.head(self.features[_CONV2:](maps))[:, 0]


def cells_of(network: Callable[[torch.Tensor], torch.Tensor], planes: np.ndarray) -> np.ndarray:
    """What a network says of planes (n, 227, 227), uint8: log odds of each cell, (n, 13, 13), float32.

    The network is a `BloodCells`, or what one gives for answers alone.
    """
    parts = [np.empty((0, _CELLS, _CELLS), dtype=np.float32)]
    with torch.inference_mode():
        for start in range(0, len(planes), _BATCH):
            parts.append(network(torch.from_numpy(planes[start : start + _BATCH])).numpy())
    return np.concatenate(parts)


def cells_at(cells: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate the cells of one plane (13, 13) at places of it, in pixels: (n,), float32."""
    places = ((own - (_BEFORE + (_CELL - 1) / 2)) / _CELL for own in (rows, columns))
    return interpolated(cells[..., None], *places)[:, 0]


def blood_in_cells(masks: torch.Tensor) -> torch.Tensor:
    """Share of blood in each cell of masks (n, 227, 227), bool or 0 to 1: (n, 13, 13)."""
    end = _BEFORE + _CELL * _CELLS
    return functional.avg_pool2d(masks[:, None, _BEFORE:end, _BEFORE:end].float(), _CELL)[:, 0]


def slice_scores(cells: np.ndarray) -> np.ndarray:
    """One number a slice from the log odds of its cells (n, 13, 13): their log-sum-exp, (n,)."""
    return np.logaddexp.reduce(cells.reshape(len(cells), -1), axis=1)
