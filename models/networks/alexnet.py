"""AlexNet as a frozen feature extractor: planes in, one embedding per slice out."""

import time

import numpy as np
import torch
from torch import nn

from haemo.errors import BadSettings
from haemo.extensions import unknown
from haemo.models.networks.engine import Engine, choose_engine, resolve_device, resolve_precision
from haemo.models.networks.extractor import PlaneExtractor
from haemo.models.networks.frozen import FrozenNetwork, NetworkRequest
from haemo.models.networks.gray import IMAGENET_MEAN, IMAGENET_STD, GrayConv
from haemo.models.networks.pooling import pooled, rectified
from haemo.models.weights import imagenet
from haemo.models.weights.imagenet import LAYERS, TRUNK_LAYERS, Weights

__all__ = ["ALEXNET", "SIZE", "AlexNet", "Extractor", "GrayAlexNet", "load_extractor"]

SIZE = 227  # pixels; the pooled map of conv5 is then exactly 6 x 6

_BATCH = {"cpu": 64, "cuda": 256}
_MEASURED_SLICES = 16


class AlexNet(nn.Module):
    """torchvision's AlexNet cut after one layer, under the same tensor names: the reference form.

    Parameters
    ----------
    layer : {'pool3', 'pool4', 'pool5', 'fc6', 'fc7'}
        fc6 and fc7 are taken after their ReLU; pool3 and pool4 are the maps of conv3 and conv4, max-pooled as
        those of conv5 are.
    """

    def __init__(self, layer: str = "fc7"):
        super().__init__()
        self.layer = layer
        maps = [
            nn.Conv2d(3, 64, 11, stride=4, padding=2),  # (64, 56, 56)
            nn.ReLU(),
            nn.MaxPool2d(3, 2),  # (64, 27, 27)
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),  # (192, 13, 13)
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        ]
        upto = {"pool3": 8, "pool4": 10}.get(layer, len(maps))
        self.features = nn.Sequential(*maps[:upto], nn.MaxPool2d(3, 2))  # (256, 6, 6), or 384 of pool3
        dense = [
            nn.Dropout(),
            nn.Linear(9216, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
        ]
        self.classifier = nn.Sequential(*dense[: {"fc6": 3, "fc7": 6}.get(layer, 0)])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed normalised RGB images of shape (batch, 3, 227, 227)."""
        return self.classifier(self.features(images).flatten(1))


class GrayAlexNet(nn.Module):
    """`AlexNet` rewritten for uint8 planes, gray or of three windows; equal to it up to rounding.

    The normalisation and the replication of gray to three channels are folded into conv1, and pooling comes
    before ReLU (`models.networks.pooling`).

    Parameters
    ----------
    weights : Weights
    layer : {'pool3', 'pool4', 'pool5', 'fc6', 'fc7'}
    engine : Engine
    """

    def __init__(self, weights: Weights, layer: str, engine: Engine):
        super().__init__()
        state = weights.state_dict
        self.conv1 = GrayConv(
            state["features.0.weight"], state["features.0.bias"], SIZE, engine.dtype, engine.memory_format
        )
        self.convolutions = nn.ModuleList(
            _convolution(state, f"features.{place}", engine)
            for place in (3, 6, 8, 10)[: {"pool3": 2, "pool4": 3}.get(layer)]
        )
        dense = {"fc6": (1,), "fc7": (1, 4)}.get(layer, ())
        self.dense = nn.ModuleList(_linear(state, f"classifier.{place}", engine) for place in dense)
        self.requires_grad_(False).eval().to(engine.device)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Embed uint8 planes (batch, 227, 227) or (batch, 3, 227, 227); float32, (batch, dimension)."""
        conv2, *between, last = self.convolutions
        maps = pooled(self.conv1(planes))
        maps = pooled(conv2(maps))
        for convolution in between:
            maps = rectified(convolution(maps))
        embedding = pooled(last(maps)).flatten(1)
        for layer in self.dense:
            embedding = rectified(layer(embedding))
        return embedding.float()


class Extractor(PlaneExtractor):
    """AlexNet as an extractor.

    Parameters
    ----------
    weights : Weights
    layer : {'pool3', 'pool4', 'pool5', 'fc6', 'fc7'}
    engine : Engine
    batch : int, optional
        Slices per pass: 64 on a CPU; 256 on CUDA, or what fits into its free memory.
    """

    def __init__(self, weights: Weights, layer: str, engine: Engine, batch: int | None = None):
        super().__init__(
            "alexnet",
            GrayAlexNet(weights, layer, engine),
            weights,
            layer,
            engine,
            batch,
            usual=_BATCH[engine.device],
            dimension=LAYERS[layer],
            size=SIZE,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )


def load_extractor(
    weights: Weights,
    layer: str = "fc7",
    precision: str = "auto",
    device: str = "auto",
    *,
    engine: Engine | None = None,
    batch: int | None = None,
) -> Extractor:
    """Make AlexNet ready to embed gray planes.

    Parameters
    ----------
    weights : Weights
        As `models.weights.imagenet.resolve_weights` gives them, reaching at least `layer`.
    layer : {'pool3', 'pool4', 'pool5', 'fc6', 'fc7'}
        Numbers per slice, after ReLU, as `models.weights.imagenet.LAYERS` has them.
    precision : {'auto', 'float32', 'bfloat16', 'float16'}
        ``auto`` takes bfloat16 where the hardware has it. On head-CT slices that moves pool5 by about 1 % of
        its length (cosine above 0.9998), as much as in the network that is not rewritten.
    device : {'auto', 'cpu', 'cuda'}
    engine : Engine, optional
        To carry on with what a store was begun with; `precision` and `device` are then not looked at.
    batch : int, optional
        As `Extractor` has it.

    Raises
    ------
    BadSettings
        If an option is unknown or cannot be had on this host, or `weights` do not reach `layer`.
    """
    if batch is not None and batch < 1:
        raise BadSettings(f"batch {batch}: a pass takes at least one slice")
    if layer not in LAYERS:
        raise unknown("layer of AlexNet", layer, LAYERS)
    if list(LAYERS).index(weights.layer) < list(LAYERS).index(layer):
        raise BadSettings(f"the weights were resolved up to {weights.layer} and do not reach {layer}")
    if engine is None:
        device = resolve_device(device)
        engine = choose_engine(device, resolve_precision(precision, device), _Stopwatch(weights))
    else:
        resolve_device(engine.device)
    return Extractor(weights, layer, engine, batch)


class _AlexNetOfStageOne(FrozenNetwork):
    """AlexNet with ImageNet weights; its layers are pool3, pool4, pool5, fc6 and fc7."""

    size = SIZE
    takes_windows = True

    def load(self, request: NetworkRequest) -> Extractor:
        weights = imagenet.resolve_weights(request.weights, request.seed, request.layer, request.progress)
        return load_extractor(
            weights,
            request.layer,
            request.precision,
            request.device,
            engine=request.engine,
            batch=request.batch,
        )


ALEXNET = _AlexNetOfStageOne()


class _Stopwatch:
    """Times the convolutional trunk on one small batch, keeping the extractor of each engine it has seen."""

    def __init__(self, weights: Weights):
        self._weights = weights
        self._layer = weights.layer if weights.layer in TRUNK_LAYERS else "pool5"
        self._extractors: dict[Engine, Extractor] = {}
        self._planes = np.zeros((_MEASURED_SLICES, SIZE, SIZE), dtype=np.uint8)

    def __call__(self, engine: Engine) -> float:
        if engine not in self._extractors:
            self._extractors[engine] = Extractor(self._weights, self._layer, engine, _MEASURED_SLICES)
        start = time.perf_counter()
        self._extractors[engine](self._planes)
        return time.perf_counter() - start


def _convolution(state: dict[str, torch.Tensor], name: str, engine: Engine) -> nn.Conv2d:
    weight = state[f"{name}.weight"]
    outputs, inputs, size, _ = weight.shape
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, device="meta")
    layer.weight = nn.Parameter(weight.to(engine.dtype, memory_format=engine.memory_format))
    layer.bias = nn.Parameter(state[f"{name}.bias"].to(engine.dtype))
    return layer


def _linear(state: dict[str, torch.Tensor], name: str, engine: Engine) -> nn.Linear:
    weight = state[f"{name}.weight"]
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight = nn.Parameter(weight.to(engine.dtype))
    layer.bias = nn.Parameter(state[f"{name}.bias"].to(engine.dtype))
    return layer
