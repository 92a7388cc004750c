"""Weights on disk: a trained network with what it needs to be used, and a training that can go on."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from haemo.atomic import parse_json
from haemo.cache import replacing
from haemo.errors import MissingStep, WeightsUnavailable

__all__ = ["Checkpoint", "read_network", "write_network"]

_SCHEMA = 1
_KEY = "haemo"


def write_network(path: Path, network: nn.Module, facts: dict[str, Any]) -> None:
    """Write the weights as safetensors, with `facts` in the file's own header, atomically.

    Weights and preprocessing are one file, so they cannot drift apart.
    """
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    header = {_KEY: json.dumps({"schema": _SCHEMA, **facts}, sort_keys=True)}
    with replacing(path) as stream:
        stream.write(save(state, metadata=header))


def read_network(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the weights and the facts that `write_network` wrote.

    Raises
    ------
    MissingStep
        If there is no such file.
    WeightsUnavailable
        If it is damaged, or no network of haemo's.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).exists():
        raise MissingStep(f"{path} is not there; train that network first")
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_json((file.metadata() or {})[_KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if facts.pop("schema") != _SCHEMA:
            raise ValueError("written by another version of haemo")
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsUnavailable(
            f"{path} is not a network that haemo trained, or it is damaged ({error}); train it again"
        ) from error
    return state, facts


class Checkpoint:
    """The file that an interrupted training goes on from.

    Parameters
    ----------
    path : Path
    key : str
        Hash of everything that the training depends on; a checkpoint with another key is left alone and
        written over.
    """

    def __init__(self, path: Path, key: str):
        self.path = Path(path)
        self.key = key

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state` (tensors and plain values), atomically."""
        with replacing(self.path) as stream:
            torch.save({"key": self.key, **state}, stream)

    def load(self) -> dict[str, Any] | None:
        """What was kept last under this key, else None. No code in the file is run."""
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, weights_only=True)
        except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError):
            return None
        return state if isinstance(state, dict) and state.get("key") == self.key else None

    def remove(self) -> None:
        """Delete the file: the training is over and its results are kept."""
        self.path.unlink(missing_ok=True)
