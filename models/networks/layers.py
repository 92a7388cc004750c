"""The layer table of a network: what each layer gives out, and what it costs."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Layer", "layer_table"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a network.

    Attributes
    ----------
    name : str
        Its name in the state dict, e.g. ``features.conv1``.
    kind : str
        Its type, e.g. ``Conv2d``.
    output : tuple of int
        Shape of its output for one slice: (channels, height, width) or (units,).
    parameters : int
        Weights and biases.
    multiply_adds : int
        Multiply-adds for one slice. Adding a bias counts as one, as in the tables of torchinfo, which the
        published figure for TinyVGG (6.74 M) follows; layers without parameters count as none.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layer_table(network: "nn.Module", channels: int, size: int) -> list[Layer]:
    """List the layers of `network` in the order in which one slice runs through them.

    No number is computed: the network runs on shapes alone, so even a large one takes milliseconds.

    Parameters
    ----------
    network : torch.nn.Module
        It is left as it is.
    channels, size : int
        Channels and side of its square input.
    """
    import copy

    import torch

    layers: list[Layer] = []
    shapes_only = copy.deepcopy(network).to("meta").eval()

    def note(name: str):
        def hook(module: "nn.Module", _inputs: tuple, output: "torch.Tensor") -> None:
            shape = tuple(output.shape[1:])
            parameters = sum(parameter.numel() for parameter in module.parameters())
            # A convolution uses each of its parameters once for every position of its output.
            positions = math.prod(shape[1:])
            layers.append(Layer(name, type(module).__name__, shape, parameters, parameters * positions))

        return hook

    for name, module in shapes_only.named_modules():
        if not list(module.children()):
            module.register_forward_hook(note(name))
    with torch.no_grad():
        shapes_only(torch.empty(1, channels, size, size, device="meta"))
    return layers
