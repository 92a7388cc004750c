"""Where on a slice the evidence for a class lies: maps from the last convolution through any head."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from haemo.errors import BadSettings
from haemo.extensions import unknown
from haemo.models.evidence.activations import Activations
from haemo.models.evidence.both_sides import both_sides
from haemo.models.evidence.cut import cut_in_two
from haemo.models.evidence.decision import DecisionFunction, decision_function
from haemo.models.evidence.maps import METHODS, Grid, class_activation_map, grid_of, projection
from haemo.models.networks.end_to_end import EndToEndNetwork
from haemo.models.training.trained import TrainedNetwork

__all__ = ["ExplainedModel", "explain_extractor", "explain_network", "randomised"]

_BATCH = 16
_OCCLUDER_PIXELS = 32
_OCCLUDER_STEP = 16


class ExplainedModel:
    """A network cut in two after its last convolution, and what turns the upper part's output into scores.

    It computes in float32 with the weights of the model it explains (the head in float64). Scores differ from
    those of a bfloat16 network by its rounding.

    Parameters
    ----------
    below : sequence of Module
        From normalised planes to the rectified maps of the last convolution.
    above : Module
        From those maps to scores: (n,) for two classes, of the positive one, else (n, classes).
    size : int
        Side of a plane.
    mean, std : sequence of float, one a channel
        A plane enters as (gray / 255 - mean) / std in each channel.
    classes : tuple of str
    margin : int
        Pixels that are cut off on each side before the network: one trained on random crops of larger planes
        is evaluated on their middle.
    gradients_end_at : {'', 'head', 'network'}
        What keeps scores from being followed back to places by gradients, if anything does; then only
        ``occlusion`` draws maps.
    grid : Grid, optional
        Where the maps lie on what the network sees, if `below` is not made of plain layers that tell it.

    Attributes
    ----------
    references : ndarray of shape (n, size, size) or (n, 3, size, size), uint8, or None
        Planes of training slices that the method ``contrast`` sets a slice against; whoever has them gives
        them.
    average_dtype : torch.dtype
        What the average over `references` is computed in. In bfloat16 it takes a fifth of the time, and maps
        stay what they were but for 1 or 2 % of their highest value. Were the slices themselves computed so,
        rounding would decide which of two neighbours a pool takes, and evidence would change places.
    """

    def __init__(
        self,
        below: Sequence[nn.Module],
        above: nn.Module,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        classes: tuple[str, ...],
        margin: int = 0,
        gradients_end_at: str = "",
        grid: Grid | None = None,
    ):
        self.below = nn.Sequential(*below).eval().requires_grad_(False)
        self.above = above.eval().requires_grad_(False)
        self.size = size
        self.classes = classes
        self.margin = margin
        grid = grid or grid_of(below)
        self.grid = Grid(grid.start + margin, grid.step)
        self._mean, self._std = mean, std
        self._quick: dict[torch.dtype, Activations] = {}
        self.references: np.ndarray | None = None
        self._gradients_end_at = gradients_end_at
        self._average: torch.Tensor | None = None
        self.average_dtype = torch.float32

    @property
    def has_gradients(self) -> bool:
        """Whether methods that follow gradients draw maps."""
        return not self._gradients_end_at

    def scores(self, planes: np.ndarray) -> np.ndarray:
        """Scores of planes (n, size, size) or (n, 3, size, size), uint8: float64, (n,) or (n, classes)."""
        with torch.no_grad():
            parts = [self.above(self._activations(part)) for part in self._batches(planes)]
        return torch.cat(parts).double().numpy()

    def scores_for(self, planes: np.ndarray, target: str) -> np.ndarray:
        """Scores of one class (n,), float64; of two classes that of the first is the other's negative."""
        return self._of_target(torch.from_numpy(self.scores(planes)), target).numpy()

    def maps(
        self, planes: np.ndarray, method: str = "hirescam", target: str | Sequence[str] | None = None
    ) -> np.ndarray:
        """Signed evidence for a class, by place.

        Parameters
        ----------
        planes : ndarray of shape (n, size, size) or (n, 3, size, size), uint8
        method : str
            One of `models.evidence.maps.METHODS`.
        target : str, or sequence of n str, optional
            The class, or that of each plane; None takes the last one, which is the positive one of two.

        Returns
        -------
        ndarray of shape (n, height, width), float32
            In units of the score. For ``occlusion`` of the size of the planes, else of the last convolution;
            `on_slice` puts either on a slice.

        Raises
        ------
        BadSettings
            If there is no such method or class, or ``contrast`` has no `references`.
        """
        if method not in METHODS:
            raise unknown("method", method, METHODS)
        if method != "occlusion" and not self.has_gradients:
            raise BadSettings(
                f"the method {method} follows gradients, and this {self._gradients_end_at} has none; take "
                "--method occlusion"
            )
        references = self.references if method == "contrast" else None
        if method == "contrast" and references is None:
            raise BadSettings("the method contrast needs training slices; take another, such as hirescam")
        target = self.classes[-1] if target is None else target
        if not isinstance(target, str):
            return self._maps_of_each(planes, method, np.array(target))
        if target not in self.classes:
            raise unknown("class", target, self.classes)
        if method == "occlusion":
            return np.stack([self._occluded(plane, target) for plane in planes])
        average = None if references is None else self._average_over(references)
        parts = [
            class_activation_map(method, *self._gradients(part, target), average).numpy()
            for part in self._batches(planes)
        ]
        return np.concatenate(parts).astype(np.float32)

    def _maps_of_each(self, planes: np.ndarray, method: str, targets: np.ndarray) -> np.ndarray:
        order, parts = [], []
        for name in np.unique(targets):
            order.append(np.flatnonzero(targets == name))
            parts.append(self.maps(planes[order[-1]], method, str(name)))
        return np.concatenate(parts)[np.argsort(np.concatenate(order))]

    def on_slice(self, evidence: np.ndarray, height: int, width: int) -> np.ndarray:
        """Interpolate one map for the `height` by `width` pixels that were resized to the plane; float32.

        A value of a convolution's map is put where the middle of what it looked at lies.
        """
        grid = grid_of(()) if evidence.shape == (self.size, self.size) else self.grid
        rows = projection(grid, evidence.shape[0], self.size, height)
        columns = projection(grid, evidence.shape[1], self.size, width)
        return rows @ evidence @ columns.T

    def _batches(self, planes: np.ndarray) -> list[np.ndarray]:
        return [planes[start : start + _BATCH] for start in range(0, len(planes), _BATCH)]

    def _activations(self, planes: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        side = self.size - 2 * self.margin
        if dtype not in self._quick:
            self._quick[dtype] = Activations(self.below, side, self._mean, self._std, dtype)
        inside = slice(self.margin, self.margin + side)
        return self._quick[dtype](planes[..., inside, inside])

    def _average_over(self, references: np.ndarray) -> torch.Tensor:
        """Mean activations of the last convolution over the references, computed once."""
        if self._average is None:
            parts = self._batches(references)
            sums = (self._activations(part, self.average_dtype).sum(dim=0) for part in parts)
            self._average = sum(sums, start=torch.zeros(())) / len(references)
        return self._average

    def _gradients(self, planes: np.ndarray, target: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations of the last convolution, and the gradients of the target's score by them."""
        activations = self._activations(planes).requires_grad_()
        score = self._of_target(self.above(activations), target)
        (gradients,) = torch.autograd.grad(score.sum(), activations)
        return activations.detach(), gradients

    def _of_target(self, scores: torch.Tensor, target: str) -> torch.Tensor:
        place = self.classes.index(target)
        if scores.ndim == 1:
            return scores if place == 1 else -scores
        return scores[:, place]

    def _occluded(self, plane: np.ndarray, target: str) -> np.ndarray:
        """How far the score falls when a patch is painted over, averaged over the patches on each pixel.

        The paint is the slice's median gray level between black and white, in each channel of three where all
        are so: soft tissue.
        """
        channels = plane.reshape(-1, self.size, self.size)
        tissue = channels[:, ((channels > 0) & (channels < 255)).all(axis=0)]
        paint = (
            np.median(tissue, axis=1).astype(np.uint8) if tissue.size else np.zeros(len(channels), np.uint8)
        )
        painted_over = paint.reshape(*plane.shape[:-2], 1, 1)
        starts = list(range(0, self.size - _OCCLUDER_PIXELS, _OCCLUDER_STEP))
        starts.append(self.size - _OCCLUDER_PIXELS)
        places = [
            (slice(top, top + _OCCLUDER_PIXELS), slice(left, left + _OCCLUDER_PIXELS))
            for top in starts
            for left in starts
        ]
        painted = np.repeat(plane[None], len(places) + 1, axis=0)
        for number, place in enumerate(places):
            painted[number][..., *place] = painted_over
        scores = self.scores_for(painted, target)
        fallen, times = np.zeros((self.size, self.size)), np.zeros((self.size, self.size))
        for place, score in zip(places, scores[:-1], strict=True):
            fallen[place] += scores[-1] - score
            times[place] += 1
        return (fallen / times).astype(np.float32)


class _Above(nn.Module):
    """Layers above the last convolution, then a head on what they give out."""

    def __init__(self, layers: Sequence[nn.Module], head: DecisionFunction):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.head = head

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(maps).flatten(1))


class _LogOdds(nn.Module):
    """Layers above the last convolution of an end-to-end network; of two logits their difference."""

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        logits = self.layers(maps)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits


def explain_extractor(
    extractor: Any, head: Any, fixed: np.ndarray | None = None, own: slice = slice(None)
) -> ExplainedModel:
    """Prepare a head on an extractor's embeddings for explanation.

    Parameters
    ----------
    extractor : Extractor, PretrainedExtractor, CNNExtractor, or a MirroredExtractor of one
    head : CalibratedHead
        Trained on its embeddings.
    fixed, own
        As for `models.evidence.decision.decision_function`, where it was trained on rows that hold more.

    Raises
    ------
    BadSettings
        If the head has no form in torch (`models.evidence.decision`).
    """
    from haemo.models.networks.alexnet import Extractor
    from haemo.models.networks.engine import has_bfloat16_hardware
    from haemo.models.networks.mirrored import MirroredExtractor
    from haemo.models.training.cnn_extractor import CNNExtractor

    decision = decision_function(head, fixed, own)
    classes = tuple(str(name) for name in head.classes_)
    once: Any = extractor.once if isinstance(extractor, MirroredExtractor) else extractor
    below, layers, grid = _parts(once)
    if once is not extractor:
        below, layers = both_sides(below, layers, cut=grid is not None)
    above = _Above(layers, decision)
    ends = ("" if decision.has_gradients else "head") if grid else "network"
    if isinstance(once, CNNExtractor):
        return _of_trained(once.trained, below, above, classes, ends, grid)
    mean, std = once.mean, once.std
    explained = ExplainedModel(below, above, once.size, mean, std, classes, gradients_end_at=ends, grid=grid)
    is_bfloat16 = isinstance(once, Extractor) and once.engine.precision == "bfloat16"
    if is_bfloat16 and has_bfloat16_hardware():
        explained.average_dtype = torch.bfloat16
    return explained


def _parts(extractor: Any) -> tuple[list[nn.Module], list[nn.Module], Grid | None]:
    """Layers up to the last maps, those from there to the embedding, and where the maps lie on the plane.

    Where the network cannot be cut the first are all there are, and there is no grid.
    """
    from haemo.models.networks.alexnet import AlexNet
    from haemo.models.networks.pretrained import PretrainedExtractor
    from haemo.models.training.cnn_extractor import CNNExtractor

    if isinstance(extractor, PretrainedExtractor):
        below, above, grid = cut_in_two(extractor)
        return [below], [above], grid
    if isinstance(extractor, CNNExtractor):
        network = _own_copy(extractor.trained)
        below, pools = _cut(network.features)
        return below, [*pools, *network.classifier[:4]], grid_of(below)
    with torch.device("meta"):  # no random weights are drawn only to be replaced
        network = AlexNet(extractor.layer)
    state = extractor.weights.state_dict
    network.load_state_dict({name: state[name] for name in network.state_dict()}, assign=True)
    below, pools = _cut(network.features)
    return below, [*pools, nn.Flatten(), *network.classifier], grid_of(below)


def explain_network(trained: TrainedNetwork) -> ExplainedModel:
    """Prepare an end-to-end network for explanation."""
    network = _own_copy(trained)
    below, pools = _cut(network.features)
    return _of_trained(trained, below, _LogOdds([*pools, *network.classifier]), trained.classes)


def _own_copy(trained: TrainedNetwork) -> EndToEndNetwork:
    """The network on the CPU, for gradients; the original stays on its device and as it is."""
    return copy.deepcopy(trained.network).cpu()


def _of_trained(
    trained: TrainedNetwork,
    below: list[nn.Module],
    above: nn.Module,
    classes: tuple[str, ...],
    gradients_end_at: str = "",
    grid: Grid | None = None,
) -> ExplainedModel:
    recipe, size = trained.recipe, trained.plane_size
    margin = (size - recipe.input_size) // 2
    return ExplainedModel(
        below, above, size, recipe.mean, recipe.std, classes, margin, gradients_end_at, grid
    )


def randomised(model: ExplainedModel, seed: int, head_only: bool = False) -> ExplainedModel:
    """The same model with random numbers in place of what it has learned: maps of it mean nothing.

    Layers get the weights of a network before training (He et al. 2015), a classical head a random direction
    among the embeddings.

    Parameters
    ----------
    model : ExplainedModel
        It is left as it is.
    seed : int
    head_only : bool
        Keep the network, and draw the classical head or the last layer alone anew.
    """
    drawn = copy.copy(model)
    drawn._average, drawn._quick = None, {}
    drawn.below, drawn.above = copy.deepcopy(model.below), copy.deepcopy(model.above)
    layers = [one for one in drawn.above.modules() if isinstance(one, nn.Linear)]
    if isinstance(drawn.above, _Above):
        drawn.above.head = drawn.above.head.randomised(seed)
        changed = [] if head_only else layers
    else:
        changed = layers[-1:] if head_only else layers
    if not head_only:
        changed = [*(one for one in drawn.below.modules() if isinstance(one, nn.Conv2d)), *changed]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in changed:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if not head_only:
            for part in (drawn.below, drawn.above):
                for layer in part.modules():
                    if isinstance(layer, nn.BatchNorm2d):  # as before training, it passes on what comes
                        layer.reset_running_stats()
                        layer.reset_parameters()
    return drawn


def _cut(features: nn.Sequential) -> tuple[list[nn.Module], list[nn.Module]]:
    """Layers up to the last convolution and its ReLU, and those after."""
    layers = list(features)
    last = max(place for place, layer in enumerate(layers) if isinstance(layer, nn.Conv2d))
    return layers[: last + 2], layers[last + 2 :]
