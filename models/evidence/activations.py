"""From planes to the maps of the last convolution, of a network that may be shown mirror images too."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from haemo.models.evidence.both_sides import MapsOfBoth
from haemo.models.networks.plane_maps import PlaneMaps

__all__ = ["Activations"]


class Activations:
    """Runs planes through the layers below a cut, without gradients.

    Parameters
    ----------
    below : Sequential
    size, mean, std, dtype
        As for `models.networks.plane_maps.PlaneMaps`.
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
        layers = first.below if isinstance(first, MapsOfBoth) else below
        self._maps = PlaneMaps(layers, size, mean, std, dtype)

    def __call__(self, planes: np.ndarray) -> torch.Tensor:
        """Run planes (n, size, size) or (n, 3, size, size), uint8, through the layers.

        Returns
        -------
        Tensor of shape (n, channels, height, width), float32
            Maps of mirror images are mirrored back, and stand behind the others.
        """
        levels = torch.from_numpy(np.ascontiguousarray(planes))
        if not self._of_both:
            return self._maps(levels)
        return torch.cat([self._maps(levels), self._maps(levels.flip(-1)).flip(-1)], dim=1)
