"""A trained network together with everything that is needed to use it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from haemo.models.heads.calibration import PriorShift, probabilities
from haemo.models.networks.cnn import ScratchCNN
from haemo.models.networks.end_to_end import EndToEndNetwork
from haemo.models.training.batches import EVALUATION_BATCH, Batches
from haemo.models.training.checkpoint import read_network, write_network
from haemo.models.training.recipes import Recipe, build, recipe_for
from haemo.progress import Progress, silent

__all__ = ["LogitHead", "TrainedNetwork"]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network, its classes, and what its planes must be like.

    It is evaluated in float32 whatever it was trained in, in batches of one size, so that a score is the
    same alone and among others.

    Attributes
    ----------
    network : EndToEndNetwork
    recipe : Recipe
    classes : tuple of str
        Of two the second is the positive one.
    facts : dict
        All that is known about the training, JSON-able; among it ``preprocessing``, ``settings``, ``split``.
    device : str
    """

    network: EndToEndNetwork
    recipe: Recipe
    classes: tuple[str, ...]
    facts: dict[str, Any]
    device: str = "cpu"

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "TrainedNetwork":
        """Read a file that `write` wrote; errors as `models.training.checkpoint.read_network`."""
        state, facts = read_network(path)
        network = build(facts["network"], len(facts["classes"]), trunk=facts["trunk"])
        network.load_state_dict(state)
        return cls(network, recipe_for(facts["network"]), tuple(facts["classes"]), facts, device)

    def write(self, path: Path) -> None:
        """Write weights and facts to one safetensors file, atomically."""
        write_network(path, self.network, self.facts)

    @property
    def batch(self) -> int:
        """Slices per pass of the network."""
        return EVALUATION_BATCH

    @property
    def plane_size(self) -> int:
        """Side of the planes that it is given, in pixels."""
        return self.recipe.plane_size(tuple(self.facts["settings"]["augment"]))

    def logits(
        self, planes: np.ndarray, rows: np.ndarray | None = None, progress: Progress = silent
    ) -> np.ndarray:
        """Logits of planes (n, plane_size, plane_size), uint8: (n, classes), float32.

        `rows` chooses some of the planes, in that order.
        """
        return self._run(self.network, planes, rows, progress)

    def logits_and_activations(
        self, planes: np.ndarray, rows: np.ndarray | None = None, progress: Progress = silent
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits, as `logits` gives them, and what the last layer makes them of: (n, units), float32."""
        *layers, last = self.network.classifier

        def both(inputs: torch.Tensor) -> torch.Tensor:
            activations = nn.Sequential(*layers)(self.network.features(inputs))
            return torch.cat([last(activations), activations], dim=1)

        logits, activations = np.split(self._run(both, planes, rows, progress), [len(self.classes)], axis=1)
        return logits, activations

    def embeddings(self, planes: np.ndarray) -> np.ndarray:
        """What the scratch CNN's hidden layer gives out: (n, 512), float32."""
        assert isinstance(self.network, ScratchCNN)  # noqa: S101 - for type checkers
        return self._run(self.network.embed, planes, None, silent)

    @torch.no_grad()
    def feature_maps(self, plane: np.ndarray) -> dict[str, np.ndarray]:
        """What each convolution makes of one plane, after its ReLU.

        Returns
        -------
        dict of str to ndarray of shape (channels, height, width), float32
            ``conv1``, ``conv2`` ..., in the order of the network.
        """
        self.network.to(self.device).to(memory_format=torch.channels_last).eval()
        ((maps, _),) = Batches(plane[None], self.recipe, device=self.device).evaluation(np.array([0]))
        found = {}
        for name, layer in self.network.features.named_children():
            maps = layer(maps)
            if name.startswith("relu"):
                found[name.replace("relu", "conv")] = maps[0].cpu().numpy()
        return found

    def kernels(self) -> np.ndarray:
        """First-layer kernels as they act on gray levels: (kernels, height, width), float32.

        The three channels of a slice are one gray plane, each scaled by its own deviation, so the kernel on
        gray is the sum over channels of weights divided by deviations.
        """
        weights = self.network.features.get_parameter("conv1.weight").detach().cpu().numpy()
        return (weights / np.reshape(self.recipe.std, (1, -1, 1, 1))).sum(axis=1).astype(np.float32)

    @torch.no_grad()
    def _run(
        self,
        function: Callable[[torch.Tensor], torch.Tensor],
        planes: np.ndarray,
        rows: np.ndarray | None,
        progress: Progress,
    ) -> np.ndarray:
        self.network.to(self.device).to(memory_format=torch.channels_last).eval()
        rows = np.arange(len(planes)) if rows is None else rows
        batches = Batches(planes, self.recipe, device=self.device).evaluation(rows)
        results = [
            function(inputs)[: len(held)].float().cpu().numpy()
            for inputs, held in progress(
                batches, total=-(-len(rows) // EVALUATION_BATCH), label=f"{self.recipe.name}: scoring"
            )
        ]
        return np.concatenate(results)

    def head(self) -> "LogitHead":
        """What turns the logits into scores, probabilities and classes.

        Where the loss balanced the classes, probabilities are those of classes as frequent as in training,
        and of two the positive one is predicted from log odds of 0 up all the same.
        """
        head = LogitHead(np.array(self.classes))
        if "class_slices" in self.facts:
            counts = self.facts["class_slices"]
            head.prior = PriorShift().fit(np.repeat(np.arange(len(counts)), counts), len(counts))
            if len(counts) == 2:
                head.threshold = float(head.probabilities(np.zeros(1))[0, 1])
        return head


@dataclass
class LogitHead:
    """The end of a network, with the interface of `models.heads.calibration.CalibratedHead`; X is its logits.

    Attributes
    ----------
    classes_ : ndarray of str
    threshold : float
        Probability from which the positive class is predicted; with more classes the most probable one is.
    prior : PriorShift or None
        What takes scores back to how often classes occur, where the loss balanced them.
    """

    classes_: np.ndarray
    threshold: float = 0.5
    prior: PriorShift | None = None

    def decision_function(self, logits: np.ndarray) -> np.ndarray:
        """For two classes the log odds of the positive one (n,), else the logits (n, classes); float64."""
        logits = logits.astype(np.float64)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Softmax, with the `prior`: probabilities (n, classes) for scores that `decision_function` gave."""
        return probabilities(scores, [self.prior] if self.prior else [])

    def choose(self, chances: np.ndarray) -> np.ndarray:
        """Class numbers for probabilities of shape (n, classes): by the threshold, or the most probable."""
        if len(self.classes_) == 2:
            return (chances[:, 1] >= self.threshold).astype(int)
        return chances.argmax(axis=1)
