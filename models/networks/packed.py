"""Convolutions for answers alone on a CPU: weights laid out once, and ReLU in the same pass.

oneDNN wants weights in blocks, in an order that depends on processor and sizes. A convolution of torch lays
them out so each time that it is asked; of a few planes that takes up to half of the time. Here it is done
once. The kernels are the same, and so is every bit.

torch has no public name for this. It is what `torch.compile` makes of frozen weights; where an operation that
it takes is missing, layers stay as they are.
"""

from collections.abc import Iterable

import torch
from torch import nn

__all__ = ["PackedConvolution", "is_laid_out", "packed"]


class PackedConvolution(nn.Module):
    """A convolution and its ReLU; it has no parameters, and learns nothing.

    Parameters
    ----------
    layer : Conv2d
        It is left as it is.
    shape : sequence of int
        Of what it will be given: weights are laid out for that. Other sizes are convolved too, later.
    """

    def __init__(self, layer: nn.Conv2d, shape: Iterable[int]):
        super().__init__()
        weight = layer.weight.detach()
        self._weight = torch.ops.aten.mkldnn_reorder_conv2d_weight(
            weight.to_mkldnn(), layer.padding, layer.stride, layer.dilation, layer.groups, list(shape)
        )
        self._bias = None if layer.bias is None else layer.bias.detach()
        self._how = layer.padding, layer.stride, layer.dilation, layer.groups

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Convolve maps of shape (batch, channels, height, width), and rectify."""
        convolve = torch.ops.mkldnn._convolution_pointwise
        return convolve(maps, self._weight, self._bias, *self._how, "relu", [], None)


def packed(layers: nn.Sequential, example: torch.Tensor) -> nn.Sequential:
    """Layers of which each convolution with a ReLU behind it is packed, and so has the ReLU.

    Parameters
    ----------
    layers : Sequential
        They are left as they are.
    example : Tensor
        Something that they may be given, of the size, type and layout that they will be given.

    Returns
    -------
    Sequential
        Each layer stands where it stood, and for a ReLU that is done already Identity.
    """
    kept = list(layers)
    with torch.inference_mode():
        for place, layer in enumerate(layers):
            behind = layers[place + 1] if place + 1 < len(layers) else None
            if isinstance(layer, nn.Conv2d) and isinstance(behind, nn.ReLU) and _is_packable(layer, example):
                kept[place] = PackedConvolution(layer, example.shape)
                kept[place + 1] = nn.Identity()
            example = layer(example)
    return nn.Sequential(*kept)


def _is_packable(layer: nn.Conv2d, example: torch.Tensor) -> bool:
    return (
        type(layer) is nn.Conv2d
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and example.device.type == "cpu"
        and example.dtype == layer.weight.dtype
        and is_laid_out(example.dtype)
    )


def is_laid_out(dtype: torch.dtype) -> bool:
    """Whether weights of a type can be laid out here: in bfloat16 where the processor has it."""
    if not torch.backends.mkldnn.is_available():
        return False
    names = ("_convolution_pointwise", "_is_mkldnn_bf16_supported")
    known = hasattr(torch.ops.aten, "mkldnn_reorder_conv2d_weight")
    if not known or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
