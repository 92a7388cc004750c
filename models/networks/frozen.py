"""What stage one asks of a network: the planes it takes, and how it is made ready."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.models.networks.engine import Engine
    from haemo.models.weights.imagenet import Weights

__all__ = ["PENULTIMATE", "Embedder", "FrozenNetwork", "NetworkRequest"]

# The layer that is whatever the last linear layer of a network is given.
PENULTIMATE = "penultimate"


class Embedder(Protocol):
    """A network that is ready to embed gray planes.

    Attributes
    ----------
    weights : Weights
    layer : str
    engine : Engine
    batch : int
        Planes per pass; less than at first where the memory of a device ran out.
    dimension : int
        Numbers per plane.
    """

    weights: "Weights"
    layer: str
    engine: "Engine"
    dimension: int

    @property
    def batch(self) -> int:
        """Planes per pass."""
        ...

    def describe(self) -> dict[str, Any]:
        """Give the facts that an embedding depends on, for the fingerprint."""
        ...

    def __call__(self, planes: np.ndarray) -> np.ndarray:
        """Embed planes (n, size, size), uint8: (n, dimension), float32.

        Of three windows they are (n, 3, size, size).
        """
        ...

    def stream(self, batches: Iterable[np.ndarray]) -> Generator[np.ndarray]:
        """Embed batches of at most `batch` planes each, in their order."""
        ...


@dataclass(frozen=True, kw_only=True)
class NetworkRequest:
    """How a network is wanted.

    Attributes
    ----------
    name : str
        The name that it was chosen by, which goes into the fingerprint.
    layer : str
        The layer whose activations are the embedding.
    weights : str
        ``auto`` for its published ones, ``random`` for a control, or a file; AlexNet knows more.
    seed : int
        Of random weights.
    precision, device : str
        As `models.networks.engine` resolves them.
    engine : Engine, optional
        To carry on with what a store was begun with, in place of `precision` and `device`.
    batch : int, optional
        Slices per pass; None leaves it to the network.
    progress : Progress
        Shows a download.
    """

    name: str
    layer: str
    weights: str = "auto"
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    engine: "Engine | None" = None
    batch: int | None = None
    progress: Progress = silent


class FrozenNetwork(ABC):
    """A network that stage one can run.

    Attributes
    ----------
    size : int or None
        Height and width in pixels of the gray planes that it takes: whole slices, or their heads, resized.
        None where the folder it was trained into says how its planes are made.
    takes_windows : bool
        Whether planes may have three channels too, one a window.
    """

    size: int | None
    takes_windows: ClassVar[bool] = False

    @abstractmethod
    def load(self, request: NetworkRequest) -> Embedder:
        """Make it ready to embed gray planes.

        Returns
        -------
        Embedder

        Raises
        ------
        BadSettings
            If it has no such layer, or the request cannot be met on this host.
        WeightsUnavailable
            If the weights cannot be had or are not its own.
        """
