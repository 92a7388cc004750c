"""The two parts of a network that is shown each plane and its mirror image (`models.networks.mirrored`)."""

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["MapsOfBoth", "both_sides"]


def both_sides(
    below: Sequence[nn.Module], layers: Sequence[nn.Module], cut: bool
) -> tuple[list[nn.Module], list[nn.Module]]:
    """Make of the parts for planes as they are those for planes and their mirror images.

    The maps of the mirror image are mirrored back and stand behind the others, as further channels: so both
    speak of the same place of the slice, and one gradient credits both. Pooling is not quite symmetric: in
    AlexNet the two lie 4 pixels of 227 apart.

    Parameters
    ----------
    below, layers : sequence of Module
        From normalised planes to the last maps, and from these to the embedding, but for its flattening.
    cut : bool
        Whether `below` gives maps. If not, it gives the embedding, and `layers` nothing more.

    Returns
    -------
    below, layers : list of Module
    """
    lower, upper = nn.Sequential(*below), nn.Sequential(*layers)
    if not cut:
        return [_Embedded(nn.Sequential(lower, upper))], []
    return [MapsOfBoth(lower)], [_FromMaps(upper)]


class _Embedded(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return _joined(self.network(images), self.network(images.flip(-1)))


class MapsOfBoth(nn.Module):
    """Maps of images, and behind them those of their mirror images, mirrored back."""

    below: nn.Sequential

    def __init__(self, below: nn.Sequential):
        super().__init__()
        self.below = below

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps (n, 2 * channels, height, width) of images."""
        return torch.cat([self.below(images), self.below(images.flip(-1)).flip(-1)], dim=1)


class _FromMaps(nn.Module):
    def __init__(self, above: nn.Module):
        super().__init__()
        self.above = above

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        one, other = maps.chunk(2, dim=1)
        return _joined(self.above(one), self.above(other.flip(-1)))


def _joined(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    one, other = one.flatten(1), other.flatten(1)
    return torch.cat([one + other, (one - other).abs()], dim=1)
