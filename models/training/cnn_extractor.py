"""The trained scratch CNN as a feature extractor, in AlexNet's place."""

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import WeightsUnavailable
from haemo.models.networks.engine import Engine, resolve_device
from haemo.models.networks.frozen import FrozenNetwork, NetworkRequest
from haemo.models.training.batches import EVALUATION_BATCH
from haemo.models.training.trained import TrainedNetwork
from haemo.models.weights.imagenet import Weights, tensor_hash

__all__ = ["SCRATCH_CNN", "CNNExtractor", "load_extractor"]


class CNNExtractor:
    """A trained scratch CNN as a feature extractor, with the interface of `networks.alexnet.Extractor`.

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

    def __init__(self, trained: TrainedNetwork, origin: str):
        state = trained.network.state_dict()
        self.trained = trained
        self.weights = Weights(state, self.layer, tensor_hash(state), origin)
        self.engine = Engine(trained.device, "float32", "channels_last")
        self.batch = EVALUATION_BATCH
        self.dimension = len(trained.network.classifier.get_parameter("fc5.bias"))

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

    def stream(self, batches: Iterable[np.ndarray]) -> Generator[np.ndarray]:
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
    path = Path(folder) / "model.safetensors"
    trained = TrainedNetwork.load(path, resolve_device(device))
    if trained.recipe.name != "cnn":
        raise WeightsUnavailable(f"{path} is a {trained.recipe.name}; only the scratch cnn gives features")
    return CNNExtractor(trained, f"scratch CNN trained in {Path(folder)}")


class _ScratchCNNOfStageOne(FrozenNetwork):
    """The scratch CNN; its weights are the folder it was trained into, and it has one layer."""

    size = None

    def load(self, request: NetworkRequest) -> CNNExtractor:
        return load_extractor(Path(request.weights), request.device)


SCRATCH_CNN = _ScratchCNNOfStageOne()
