"""Class-activation maps: from activations of a convolution and the gradients of a score to evidence by place.

All maps are signed: above 0 speaks for the class, below 0 against it. None is cut off or scaled.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from haemo.errors import BadSettings
from haemo.extensions import unknown

__all__ = ["METHODS", "Grid", "class_activation_map", "grid_of", "projection"]

METHODS = ("contrast", "hirescam", "gradcam", "gradcam++", "occlusion")


def class_activation_map(
    method: str, activations: torch.Tensor, gradients: torch.Tensor, average: torch.Tensor | None = None
) -> torch.Tensor:
    """Weigh activations by gradients, and add up the channels.

    ``contrast`` is ``hirescam`` of what departs from the average training slice: skull and background, which
    all slices have, cancel. For a linear score it is what Shapley values credit each activation with, were
    they independent (Lundberg and Lee, NeurIPS 2017, corollary 1).
    ``gradcam`` weighs a channel by its mean gradient (Selvaraju et al., ICCV 2017), without the ReLU that
    hides what speaks against the class. ``hirescam`` multiplies place by place (Draelos and Carin, 2020):
    where all above the layer is linear but for max-pooling and ReLU, its sum is the score less the constant
    terms. ``gradcam++`` weighs positive gradients by a closed-form share (Chattopadhay et al., WACV 2018,
    equation 19); it knows no evidence against, so the same of the negated score is subtracted.

    Parameters
    ----------
    method : {'contrast', 'hirescam', 'gradcam', 'gradcam++'}
    activations, gradients : Tensor of shape (n, channels, height, width)
        Of one layer, and of the score by them.
    average : Tensor of shape (channels, height, width), optional
        Mean activations over training slices, for ``contrast``.

    Returns
    -------
    Tensor of shape (n, height, width)
    """
    match method:
        case "contrast":
            if average is None:
                raise BadSettings("the method contrast needs the average over training slices")
            return ((activations - average) * gradients).sum(dim=1)
        case "hirescam":
            return (activations * gradients).sum(dim=1)
        case "gradcam":
            return (activations * gradients.mean(dim=(2, 3), keepdim=True)).sum(dim=1)
        case "gradcam++":
            return _plus_plus(activations, gradients) - _plus_plus(activations, -gradients)
        case _:
            raise unknown("method", method, METHODS)


def _plus_plus(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    square, cube = gradients**2, gradients**3
    below = 2 * square + (activations.sum(dim=(2, 3), keepdim=True) * cube)
    share = torch.where(below != 0, square / torch.where(below != 0, below, 1.0), 0.0)
    weights = (share * gradients.relu()).sum(dim=(2, 3), keepdim=True)
    return (activations * weights).sum(dim=1)


class Grid:
    """Where the values of a map lie on the plane that the network sees.

    Parameters
    ----------
    start, step : float
        Value i of a line is centred on pixel ``start + step * i``; pixel centres are whole numbers.
    """

    def __init__(self, start: float, step: float):
        self.start = start
        self.step = step

    def __repr__(self) -> str:
        return f"Grid(start={self.start:g}, step={self.step:g})"


def grid_of(layers: Iterable[nn.Module]) -> Grid:
    """Follow convolutions and pools down from the plane to the centres of what the last one looks at.

    Stretching a 13 x 13 map over 227 pixels, as is often done, is off by up to 10 pixels on the border.
    """
    start, step = 0.0, 1.0
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            size, stride, padding = (
                int(value if isinstance(value, int) else value[0])
                for value in (layer.kernel_size, layer.stride, layer.padding)
            )
            start += ((size - 1) / 2 - padding) * step
            step *= stride
    return Grid(start, step)


def projection(grid: Grid, count: int, plane: int, pixels: int) -> np.ndarray:
    """The matrix that interpolates a line of a map for the pixels of a slice, or of a part of it.

    Parameters
    ----------
    grid : Grid
    count : int
        Values of the line.
    plane : int
        Pixels of the plane that these were resized to.
    pixels : int
        Pixels of the slice or part.

    Returns
    -------
    ndarray of shape (pixels, count), float32
        Rows sum to 1. Beyond the outermost values these go on.
    """
    on_plane = (np.arange(pixels) + 0.5) * plane / pixels - 0.5
    places = np.clip((on_plane - grid.start) / grid.step, 0, count - 1)
    left = np.minimum(places.astype(int), max(count - 2, 0))
    share = places - left
    matrix = np.zeros((pixels, count), dtype=np.float32)
    rows = np.arange(pixels)
    matrix[rows, left] = 1 - share
    matrix[rows, np.minimum(left + 1, count - 1)] += share
    return matrix
