"""Networks in ONNX: planes to embeddings, or to logits and what the last layer makes them of."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from haemo.errors import BadSettings
from haemo.models.networks.gray import IMAGENET_MEAN, IMAGENET_STD
from haemo.pipeline.exporting.graph import Graph

if TYPE_CHECKING:
    from haemo.models.networks.frozen import Embedder
    from haemo.models.training.trained import TrainedNetwork

__all__ = ["write_extractor", "write_network"]


def write_extractor(graph: Graph, planes: str, extractor: "Embedder", is_gray: bool = True) -> str:
    """Write a frozen network; gives the embeddings' name, float32, (n, dimension).

    Parameters
    ----------
    graph : Graph
    planes : str
        uint8, (n, size, size), or (n, 3, size, size) of three windows.
    extractor : Extractor, CNNExtractor or MirroredExtractor
    is_gray : bool
        Whether planes have one channel.

    Raises
    ------
    BadSettings
        If it is another network, which cannot be written.
    """
    from haemo.models.networks.alexnet import AlexNet, Extractor
    from haemo.models.networks.mirrored import MirroredExtractor
    from haemo.models.training.cnn_extractor import CNNExtractor

    if isinstance(extractor, MirroredExtractor):
        last = np.iinfo(np.int64).min
        ends = [graph.constant([value], "int64") for value in (-1, last, 2 if is_gray else 3, -1)]
        turned = graph.op("Slice", planes, *ends)
        both = write_extractor(graph, graph.op("Concat", planes, turned, axis=0), extractor.once, is_gray)
        one, other = graph.op("Split", both, outputs=2, axis=0)
        difference = graph.op("Abs", graph.op("Sub", one, other))
        return graph.op("Concat", graph.op("Add", one, other), difference, axis=1)
    if isinstance(extractor, CNNExtractor):
        network = extractor.trained
        maps = _Written(graph, *_scaling(network), size=network.recipe.input_size)
        cut = _middle(graph, planes, network)
        return maps.write(maps.write(cut, network.network.features), network.network.classifier[:4])
    if not isinstance(extractor, Extractor):
        raise BadSettings(
            f"{extractor.describe()['network']} cannot be exported; AlexNet and the scratch cnn can"
        )
    plain = AlexNet(extractor.layer).eval()
    plain.load_state_dict(extractor.weights.state_dict)
    scale = 1 / (255 * np.array(IMAGENET_STD))
    shift = -np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD)
    written = _Written(graph, scale, shift, extractor.size, is_gray)
    return written.write(graph.op("Flatten", written.write(planes, plain.features)), plain.classifier)


def write_network(graph: Graph, planes: str, network: "TrainedNetwork") -> tuple[str, str]:
    """Write an end-to-end network; gives the names of its logits and of what its last layer is given."""
    maps = _Written(graph, *_scaling(network), size=network.recipe.input_size)
    *layers, last = network.network.classifier
    features = maps.write(_middle(graph, planes, network), network.network.features)
    activations = maps.write(features, layers)
    return maps.write(activations, [last]), activations


def _scaling(network: "TrainedNetwork") -> tuple[np.ndarray, np.ndarray]:
    mean, std = np.asarray(network.recipe.mean), np.asarray(network.recipe.std)
    return 1 / (255 * std), -mean / std


def _middle(graph: Graph, planes: str, network: "TrainedNetwork") -> str:
    """The middle of larger planes, which the network was trained on shifted cuts of."""
    size = network.recipe.input_size
    margin = network.plane_size - size
    if not margin:
        return planes
    first = margin // 2
    ends = ([first] * 2, [first + size] * 2, [1, 2])
    return graph.op("Slice", planes, *(graph.constant(end, "int64") for end in ends))


class _Written:
    """Writes layers, and folds what happens to gray levels into the first convolution.

    Gray levels g become scale_c g + shift_c in each channel, and are padded with zeros then. The convolution
    of that is a convolution of g with one channel, and a map that does not depend on g. Where each channel
    has levels of its own it stays one of as many channels.
    """

    def __init__(self, graph: Graph, scale: np.ndarray, shift: np.ndarray, size: int, is_gray: bool = True):
        self.graph = graph
        self.scale = torch.from_numpy(np.asarray(scale, dtype=np.float64)).view(1, -1, 1, 1)
        self.shift = torch.from_numpy(np.asarray(shift, dtype=np.float64)).view(1, -1, 1, 1)
        self.size = size
        self.is_gray = is_gray
        self.is_first = True

    def write(self, value: str, layers: Iterable[nn.Module]) -> str:
        for layer in layers:
            value = self._layer(value, layer)
        return value

    def _layer(self, value: str, layer: nn.Module) -> str:
        graph = self.graph
        match layer:
            case nn.Conv2d() if self.is_first:
                self.is_first = False
                return self._first(value, layer)
            case nn.Conv2d():
                return graph.op("Conv", value, *self._weights(layer), **_window(layer))
            case nn.ReLU():
                return graph.op("Relu", value)
            case nn.MaxPool2d():
                sides = [int(side) for side in (layer.kernel_size, layer.stride)]
                return graph.op("MaxPool", value, kernel_shape=[sides[0]] * 2, strides=[sides[1]] * 2)
            case nn.Flatten():
                return graph.op("Flatten", value)
            case nn.Linear():
                return graph.op("Gemm", value, *self._weights(layer), transB=1)
            case nn.Dropout():
                return value
        raise BadSettings(f"a network with the layer {type(layer).__name__} cannot be exported")

    def _weights(self, layer: nn.Conv2d | nn.Linear) -> list[str]:
        return [
            self.graph.constant(one.detach().cpu().numpy(), "float32") for one in (layer.weight, layer.bias)
        ]

    def _first(self, planes: str, layer: nn.Conv2d) -> str:
        graph = self.graph
        weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
        window = {"stride": layer.stride, "padding": layer.padding}
        level = self.shift.expand(1, weight.shape[1], self.size, self.size)
        constant = functional.conv2d(level, weight, bias, **window)
        scaled, levels = weight * self.scale, graph.cast(planes, "float32")
        if self.is_gray:
            scaled = scaled.sum(dim=1, keepdim=True)
            levels = graph.op("Unsqueeze", levels, graph.constant([1], "int64"))
        name = graph.constant(scaled.numpy(), "float32")
        if not any(layer.padding):
            flat = graph.constant(constant[0, :, 0, 0].numpy(), "float32")
            return graph.op("Conv", levels, name, flat, **_window(layer))
        maps = graph.op("Conv", levels, name, **_window(layer))
        return graph.op("Add", maps, graph.constant(constant.numpy(), "float32"))


def _window(layer: nn.Conv2d) -> dict[str, list[int]]:
    return {
        "kernel_shape": list(layer.kernel_size),
        "strides": list(layer.stride),
        "pads": [int(side) for side in layer.padding] * 2,
    }
