"""Hypercolumns: what conv1 to conv5 of AlexNet say at single pixels (Hariharan et al. 2015, CVPR)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from haemo.models.networks.alexnet import SIZE
from haemo.models.networks.gray import GrayConv
from haemo.models.networks.unit_maps import interpolated
from haemo.models.weights.imagenet import SHAPES

__all__ = ["Hypercolumns"]

_LAYERS = ("features.0", "features.3", "features.6", "features.8", "features.10")
# Of each layer: pixels from one unit to the next, and the pixel in whose middle the first one lies.
_GRIDS = ((4, 3), (8, 7), (16, 15), (16, 15), (16, 15))
_POOLED_AFTER = (0, 1)


class Hypercolumns:
    """The maps of conv1 to conv5 after their ReLU, read at pixels of a gray plane of 227 x 227.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Weights and biases of the convolutions under torchvision's names, of any float type.
    """

    dimension = sum(SHAPES["pool5"][f"{layer}.bias"][0] for layer in _LAYERS)
    """Numbers a pixel: 1152."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        state = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in SHAPES["pool5"]}
        self._first = GrayConv(
            state[f"{_LAYERS[0]}.weight"],
            state[f"{_LAYERS[0]}.bias"],
            SIZE,
            memory_format=torch.contiguous_format,
        )
        self._others = [(state[f"{layer}.weight"], state[f"{layer}.bias"]) for layer in _LAYERS[1:]]

    def maps(self, plane: np.ndarray) -> list[np.ndarray]:
        """Run a plane (227, 227), uint8, through the network: of each layer (height, width, channels)."""
        with torch.no_grad():
            answer = self._first(torch.from_numpy(np.ascontiguousarray(plane))[None]).relu_()
            found = [answer]
            for place, (weight, bias) in enumerate(self._others):
                if place in _POOLED_AFTER:
                    answer = functional.max_pool2d(answer, 3, 2)
                answer = functional.conv2d(answer, weight, bias, padding=weight.shape[-1] // 2).relu_()
                found.append(answer)
        return [own[0].permute(1, 2, 0).contiguous().numpy() for own in found]

    def at(self, maps: Sequence[np.ndarray], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Interpolate maps linearly at pixels of the plane: (pixels, dimension), float32.

        Beyond the middle of a layer's outermost units these go on as they are.
        """
        found = [
            interpolated(own, (rows - first) / step, (columns - first) / step)
            for own, (step, first) in zip(maps, _GRIDS, strict=True)
        ]
        return np.concatenate(found, axis=1)
