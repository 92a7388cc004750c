"""From planes to the maps of a network's convolutions, as quickly as a CPU can; for answers alone."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from haemo.models.networks.gray import GrayConv
from haemo.models.networks.packed import packed

__all__ = ["PlaneMaps"]


class PlaneMaps:
    """Runs planes through layers, without gradients.

    The conv1 of AlexNet is given gray levels as they are (`models.networks.gray`), and the weights behind it
    are laid out once (`models.networks.packed`). What comes out differs from what the layers give to
    normalised images by the rounding of conv1.

    Parameters
    ----------
    layers : Sequential
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
        layers: nn.Sequential,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ):
        self._dtype = dtype
        self._mean = torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1)
        self._gray: GrayConv | None = None
        self._layers, self._is_packed = layers, True
        first, *others = layers
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

    def __call__(self, planes: torch.Tensor) -> torch.Tensor:
        """Run planes (n, size, size) or (n, 3, size, size), uint8, through the layers.

        Returns
        -------
        Tensor of shape (n, channels, height, width), float32
        """
        with torch.no_grad():
            if self._gray is None:
                levels = planes if planes.ndim == 4 else planes.unsqueeze(1)
                images = (levels.float() / 255 - self._mean) / self._std
                return self._layers(images.to(self._dtype)).float()
            maps = self._gray(planes)
            if not self._is_packed:
                self._layers, self._is_packed = packed(self._layers, maps), True
            return self._layers(maps).float()


def _is_conv1(layer: nn.Conv2d) -> bool:
    """Whether `GrayConv` can be made of a layer."""
    sizes = layer.in_channels, layer.kernel_size, layer.stride, layer.padding
    return sizes == (3, (11, 11), (4, 4), (2, 2))
