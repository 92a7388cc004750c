"""The scratch CNN: a plain stack of the AlexNet era on 227x227x3, trained on the slices alone."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from models.engine import Engine, resolve_device
from models.errors import WeightsUnavailable
from models.weights import Weights, tensor_hash

if TYPE_CHECKING:
    from models.trained import TrainedNetwork

__all__ = ["CNNExtractor", "ScratchCNN", "load_extractor"]


class ScratchCNN(nn.Module):
    """Four convolutions, three overlapping max-pools, one hidden layer with dropout.

    The paper shows its layer table only as a figure, so this is a choice: AlexNet's way down (11x11 with
    stride 4, then 5x5, then 3x3; overlapping 3x3 pools; ReLU; dropout before the linear layers) at about a
    quarter of its multiply-adds, without what came later (batch normalisation, residuals). Weights start as
    in He et al. 2015, biases at zero. docs/networks.md has the table.

    Parameters
    ----------
    classes : int
        Number of classes.
    """

    def __init__(self, classes: int = 2):
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 48, 11, stride=4),  # (48, 55, 55)
                relu1=nn.ReLU(inplace=True),
                pool1=nn.MaxPool2d(3, 2),  # (48, 27, 27)
                conv2=nn.Conv2d(48, 96, 5, padding=2),
                relu2=nn.ReLU(inplace=True),
                pool2=nn.MaxPool2d(3, 2),  # (96, 13, 13)
                conv3=nn.Conv2d(96, 128, 3, padding=1),
                relu3=nn.ReLU(inplace=True),
                conv4=nn.Conv2d(128, 128, 3, padding=1),
                relu4=nn.ReLU(inplace=True),
                pool4=nn.MaxPool2d(3, 2),  # (128, 6, 6)
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                drop5=nn.Dropout(0.5),
                fc5=nn.Linear(128 * 6 * 6, 512),
                relu5=nn.ReLU(inplace=True),
                drop6=nn.Dropout(0.5),
                fc6=nn.Linear(512, classes),
            )
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        # Small last weights: the first loss is that of even odds, whatever the scale of the hidden layer.
        nn.init.normal_(self.classifier.fc6.weight, std=0.01)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Logits (b, classes) of slices (b, 3, 227, 227) with values in -1..1."""
        return self.classifier(self.features(slices))

    def embed(self, slices: torch.Tensor) -> torch.Tensor:
        """Output of the hidden layer (b, 512) after its ReLU, for ``haemo features --network cnn``."""
        return self.classifier[:4](self.features(slices))


class CNNExtractor:
    """A trained scratch CNN as a feature extractor, with the interface of `models.alexnet.Extractor`.

    It computes in float32, in batches of one size, so a slice's embedding has the same bits whatever is
    computed beside it.

    Parameters
    ----------
    trained : TrainedNetwork
    origin : str
        Where it was read from, for people and for run.json.

    Attributes
    ----------
    dimension : int
        Numbers per slice: 512.
    batch : int
        Slices per pass.
    """

    layer = "fc5"

    def __init__(self, trained: "TrainedNetwork", origin: str):
        from models.batches import EVALUATION_BATCH

        state = trained.network.state_dict()
        self.trained = trained
        self.weights = Weights(state, self.layer, tensor_hash(state), origin)
        self.engine = Engine(trained.device, "float32", "channels_last")
        self.batch = EVALUATION_BATCH
        self.dimension = trained.network.classifier.fc5.out_features

    def describe(self) -> dict[str, Any]:
        """Give the facts that an embedding depends on, for the fingerprint.

        The split is among them: its training patients are known to the network, so its embeddings must not
        be used with a split that has one of them on the test side.
        """
        return {
            "network": "cnn",
            "layer": self.layer,
            "weights": self.weights.sha256,
            "precision": self.engine.precision,
            "mean": list(self.trained.recipe.mean),
            "std": list(self.trained.recipe.std),
            "split": self.trained.facts["split"],
        }

    def __call__(self, planes: np.ndarray) -> np.ndarray:
        """Embed planes (n, plane_size, plane_size), uint8: (n, 512), float32."""
        if not len(planes):
            return np.empty((0, self.dimension), dtype=np.float32)
        return self.trained.embeddings(planes)

    def stream(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Embed batches of at most `batch` planes each, in their order."""
        yield from map(self, batches)


def load_extractor(folder: Path, device: str = "auto") -> CNNExtractor:
    """Read a scratch CNN that ``haemo cnn`` trained, from its folder in a run.

    Raises
    ------
    MissingStep
        If there is no trained network in the folder.
    WeightsUnavailable
        If it is damaged, or another network.
    """
    from models.trained import TrainedNetwork

    path = Path(folder) / "model.safetensors"
    trained = TrainedNetwork.load(path, resolve_device(device))
    if trained.recipe.name != "cnn":
        raise WeightsUnavailable(f"{path} is a {trained.recipe.name}; only the scratch cnn gives features")
    return CNNExtractor(trained, f"scratch CNN trained in {Path(folder)}")
