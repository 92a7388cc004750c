"""From planes to the maps of a network's last convolution, as quickly as a CPU can."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from haemo.models.evidence.both_sides import MapsOfBoth
from haemo.models.networks.gray import GrayConv
from haemo.models.networks.packed import packed

__all__ = ["Activations"]


class Activations:
    """Runs planes through layers, without gradients.

    The conv1 of AlexNet is given gray levels as they are (`models.networks.gray`), and the weights behind it
    are laid out once (`models.networks.packed`). What comes out differs from what the layers give to
    normalised images by the rounding of conv1.

    Parameters
    ----------
    below : Sequential
        They are left as they are; what is learned or drawn later has no part in it.
    size : int
        Side of the planes.
    mean, std : sequence of float, one a channel
        A plane enters as (gray / 255 - mean) / std in each channel.
    dtype : torch.dtype
        What is computed in.
    """

    def __init__(
        self,
        below: nn.Sequential,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ):
        first = below[0]
        self._of_both = isinstance(first, MapsOfBoth)
        if isinstance(first, MapsOfBoth):
            below = first.below
        self._dtype = dtype
        self._mean = torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1)
        self._gray: GrayConv | None = None
        self._layers, self._is_packed = below, True
        first, *others = below
        if isinstance(first, nn.Conv2d) and _is_conv1(first) and len(mean) == 3:
            if [type(layer) for layer in others[:2]] == [nn.ReLU, nn.MaxPool2d]:
                others[:2] = others[1], others[0]  # the same, and the ReLU has a quarter of the numbers
            (r, g, b), (own_r, own_g, own_b) = mean, std
            weight, bias = first.weight.detach(), torch.zeros(first.out_channels)
            if first.bias is not None:
                bias = first.bias.detach()
            self._gray = GrayConv(weight, bias, size, dtype, mean=(r, g, b), std=(own_r, own_g, own_b))
            self._layers, self._is_packed = nn.Sequential(*others), False
        if dtype is not torch.float32:
            self._layers = copy.deepcopy(self._layers).to(dtype).to(memory_format=torch.channels_last)

    def __call__(self, planes: np.ndarray) -> torch.Tensor:
        """Maps of planes (n, size, size) or (n, 3, size, size), uint8: (n, channels, height, width), float32.

        Of a network that is shown mirror images too, theirs are mirrored back, and stand behind the others.
        """
        levels = torch.from_numpy(np.ascontiguousarray(planes))
        with torch.no_grad():
            if not self._of_both:
                return self._run(levels).float()
            return torch.cat([self._run(levels), self._run(levels.flip(-1)).flip(-1)], dim=1).float()

    def _run(self, levels: torch.Tensor) -> torch.Tensor:
        if self._gray is None:
            gray = levels if levels.ndim == 4 else levels.unsqueeze(1)
            return self._layers(((gray.float() / 255 - self._mean) / self._std).to(self._dtype))
        maps = self._gray(levels)
        if not self._is_packed:
            self._layers, self._is_packed = packed(self._layers, maps), True
        return self._layers(maps)


def _is_conv1(layer: nn.Conv2d) -> bool:
    """Whether `GrayConv` can be made of a layer."""
    sizes = layer.in_channels, layer.kernel_size, layer.stride, layer.padding
    return sizes == (3, (11, 11), (4, 4), (2, 2))
