"""Any pretrained network as a frozen extractor: cut after one of its layers, run on planes."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from haemo.errors import BadSettings, BrokenExtension, HaemoError, WeightsUnavailable
from haemo.extensions import did_you_mean
from haemo.models.networks.engine import Engine, resolve_device, resolve_precision
from haemo.models.networks.extractor import PlaneExtractor
from haemo.models.networks.frozen import PENULTIMATE, FrozenNetwork, NetworkRequest
from haemo.models.weights import hub
from haemo.models.weights.builtin import BUILTIN
from haemo.models.weights.imagenet import Weights, tensor_hash
from haemo.models.weights.statefile import read_state

__all__ = ["PretrainedExtractor", "PretrainedNetwork", "UpTo"]

_log = logging.getLogger("haemo")

_BATCH = {"cpu": 16, "cuda": 128}

State = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class PretrainedNetwork(FrozenNetwork):
    """A network of torch modules, and what its weights were trained with.

    Attributes
    ----------
    build : callable
        Takes nothing and gives the network as a Module that maps normalised images (n, 3, size, size),
        float32, to anything; its weights are replaced.
    size : int
        Height and width of the images in pixels.
    mean, std : tuple of three float
        The normalisation: an image is (level / 255 - mean) / std in each of its channels.
    url : str or None
        Where ``--weights auto`` gets the state dict: a file whose name ends in ``-`` and the first digits of
        its sha256, as torch.hub has them. None where only a file or random weights are taken.
    origin : str
        What those weights are, for people and for run.json.
    rename : callable or None
        Turns the tensor names of a file into those of the module.
    """

    build: Callable[[], nn.Module]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    url: str | None = None
    origin: str = ""
    rename: Callable[[State], State] | None = None

    takes_windows: ClassVar[bool] = True

    def load(self, request: NetworkRequest) -> "PretrainedExtractor":
        """Make it ready, cut after any of its modules, or before its last Linear: ``penultimate``."""
        if request.batch is not None and request.batch < 1:
            raise BadSettings(f"batch {request.batch}: a pass takes at least one slice")
        engine = request.engine
        if engine is None:
            device = resolve_device(request.device)
            engine = Engine(device, resolve_precision(request.precision, device), "channels_last")
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(request.seed)
                network = self.build().eval()
            dimension, unread = self._try_out(network, request)
        except HaemoError:
            raise
        # It may be code of others: whatever it raises means that it cannot be used.
        except Exception as error:
            raise BrokenExtension(
                f"the network {request.name!r} cannot be built and run on {self.size} x {self.size} pixels "
                f"({type(error).__name__}: {error}); mend it, or take another one"
            ) from error
        weights = self._weights(network, unread, request)
        _log.info("weights: %s", weights.origin)
        _fill(network, weights)
        return PretrainedExtractor(self, request, network, weights, engine, dimension)

    def _try_out(self, network: nn.Module, request: NetworkRequest) -> tuple[int, set[str]]:
        """Numbers per slice, and the tensors that the layer does not depend on: those of the last Linear."""
        reached: list[bool] = []
        last = _last_linear(network)
        until = UpTo(network, request.layer, request.name)
        watch = last[1].register_forward_hook(lambda *_: reached.append(True)) if last else None
        with torch.inference_mode():
            found = until(torch.zeros(1, 3, self.size, self.size))
        until.release()
        if watch:
            watch.remove()
        if not isinstance(found, torch.Tensor) or found.ndim < 2:
            raise BadSettings(
                f"layer {request.layer} of {request.name} does not give one array for each slice; take "
                "another one"
            )
        unread = {f"{last[0]}.{kind}" for kind in ("weight", "bias")} if last and not reached else set()
        return found.numel(), unread

    def _weights(self, network: nn.Module, unread: set[str], request: NetworkRequest) -> Weights:
        """The tensors that the layer depends on. Weights for other classes differ in the others only."""
        wanted = {
            name: tensor
            for name, tensor in network.state_dict().items()
            if name not in unread and not name.endswith("num_batches_tracked")  # which older files lack
        }
        if request.weights == "random":
            origin = f"random, as {request.name} is initialised, seed {request.seed}"
            return Weights(wanted, request.layer, tensor_hash(wanted), origin)
        path, origin = self._file(request)
        state = read_state(path)
        if self.rename:
            state = self.rename(state)
        kept = {}
        for name, tensor in wanted.items():
            found = state.get(name)
            if not isinstance(found, torch.Tensor):
                raise WeightsUnavailable(
                    f"{path} is no state dict of {request.name}: it has no tensor {name!r}"
                )
            if found.shape != tensor.shape:
                raise WeightsUnavailable(
                    f"{path}: {name} has shape {tuple(found.shape)}; {request.name} has {tuple(tensor.shape)}"
                )
            if not torch.isfinite(found).all():
                raise WeightsUnavailable(
                    f"{path}: {name} has values that are not finite; the file is damaged"
                )
            kept[name] = found.detach().to(tensor.dtype)
        return Weights(kept, request.layer, tensor_hash(kept), origin)

    def _file(self, request: NetworkRequest) -> tuple[Path, str]:
        """Where the weights lie, fetched if need be, and what they are."""
        if request.weights != "auto":
            path = Path(request.weights).expanduser()
            if request.weights == BUILTIN:
                raise WeightsUnavailable(
                    f"the built-in weights are AlexNet's: leave --network {request.name} out, or "
                    f"--weights {BUILTIN}"
                )
            if not path.is_file():
                raise WeightsUnavailable(
                    f"{path} is no file; for {request.name} --weights takes auto, random, or a state dict "
                    "(.pth, .safetensors)"
                )
            return path, f"file {path}"
        if self.url is None:
            raise WeightsUnavailable(
                f"{request.name} comes without weights; give its state dict with --weights FILE"
            )
        path = hub.kept_path(self.url)
        try:
            if not path.is_file():
                hub.fetch(path, request.progress, self.url)
            hub.check(path, self.url)
        except WeightsUnavailable as error:
            raise WeightsUnavailable(
                f"no weights of {request.name} can be had: {error}. Fetch {self.url} on another machine, "
                f"copy it to {path}, or give it with --weights FILE"
            ) from error
        return path, f"{self.origin} ({path})"


class PretrainedExtractor(PlaneExtractor):
    """A `PretrainedNetwork` that is ready to embed gray planes.

    Attributes
    ----------
    source : PretrainedNetwork
    """

    def __init__(
        self,
        source: PretrainedNetwork,
        request: NetworkRequest,
        network: nn.Module,
        weights: Weights,
        engine: Engine,
        dimension: int,
    ):
        self.source = source
        super().__init__(
            request.name,
            _OnPlanes(UpTo(network, request.layer, request.name), source, engine),
            weights,
            request.layer,
            engine,
            request.batch,
            usual=_BATCH[engine.device],
            dimension=dimension,
            size=source.size,
            mean=source.mean,
            std=source.std,
        )

    def reference(self) -> nn.Module:
        """The network whole, in float32 on the CPU, on normalised images."""
        with torch.random.fork_rng(devices=[]):
            network = self.source.build()
        _fill(network, self.weights)
        return network.eval().requires_grad_(False)


class UpTo(nn.Module):
    """A network that is run up to a layer, and gives what the layer gives.

    What comes after is not computed. It leaves the network by an exception, since in one thread an attribute
    that keeps the activations might be those of another one's batch.

    Parameters
    ----------
    network : Module
    layer : str
        Name of a module, taken where it runs first, or ``penultimate``.
    name : str
        Of the network, for messages.

    Raises
    ------
    BadSettings
        If there is no such layer; when it runs, if the network never gets there.
    """

    def __init__(self, network: nn.Module, layer: str, name: str = "the network"):
        super().__init__()
        self.network = network
        self.layer = layer
        self.name = name
        children = [child for child, _ in network.named_children()]
        if layer == PENULTIMATE:
            last = _last_linear(network)
            if last is None:
                raise BadSettings(
                    f"{layer} is what the last Linear layer is given, and {name} has none; name another one: "
                    f"{', '.join(children)}, or a module in one of these"
                )
            self._hook = last[1].register_forward_pre_hook(_leave_before)
        else:
            modules = dict(network.named_modules())
            if layer not in modules or not layer:
                names = [PENULTIMATE, *filter(None, modules)]
                raise BadSettings(
                    f"there is no layer {layer!r} in {name}.{did_you_mean(layer, names)} There are "
                    f"{', '.join([PENULTIMATE, *children])}, and every module in one of these"
                )
            self._hook = modules[layer].register_forward_hook(_leave_after)

    def forward(self, images: torch.Tensor) -> Any:
        """Activations of the layer for normalised images (n, 3, size, size)."""
        try:
            self.network(images)
        except _Reached as reached:
            return reached.activations
        raise BadSettings(f"{self.name} never runs its layer {self.layer!r} by itself; take another one")

    def release(self) -> None:
        """Let the network run to its end again."""
        self._hook.remove()


class _Reached(Exception):
    """The layer that was wanted has been computed."""

    def __init__(self, activations: Any):
        super().__init__()
        self.activations = activations


def _leave_before(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
    raise _Reached(inputs[0])


def _leave_after(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
    raise _Reached(output)


class _OnPlanes(nn.Module):
    """A network on uint8 planes (n, size, size) or (n, 3, size, size): float32 of shape (n, dimension)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: UpTo, source: PretrainedNetwork, engine: Engine):
        super().__init__()
        self.network = network.to(engine.dtype).to(memory_format=engine.memory_format)
        self.engine = engine
        for name, values in (("mean", source.mean), ("std", source.std)):
            numbers = torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
            self.register_buffer(name, numbers, persistent=False)
        self.requires_grad_(False).eval().to(engine.device)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        planes = planes if planes.ndim == 4 else planes.unsqueeze(1)
        images = (planes.float() / 255 - self.mean) / self.std
        images = images.to(dtype=self.engine.dtype, memory_format=self.engine.memory_format)
        return self.network(images).flatten(1).float()


def _fill(network: nn.Module, weights: Weights) -> None:
    """Put the weights in; what the layer does not depend on stays as it is."""
    state = network.state_dict()
    state.update(weights.state_dict)
    network.load_state_dict(state)


def _last_linear(network: nn.Module) -> tuple[str, nn.Linear] | None:
    found = [(name, one) for name, one in network.named_modules() if isinstance(one, nn.Linear)]
    return found[-1] if found else None
