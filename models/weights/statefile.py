"""Files of weights: state dicts by name, from torch's own format or safetensors."""

from pathlib import Path
from typing import Any

from haemo.errors import WeightsUnavailable

__all__ = ["read_state"]


def read_state(path: Path) -> dict[str, Any]:
    """Read a state dict; of a pickle only tensors are admitted, and no code in it is run.

    Raises
    ------
    WeightsUnavailable
        If the file cannot be read as one.
    """
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_torch(path: Path) -> dict[str, Any]:
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsUnavailable(
            f"{path} cannot be read as weights: {str(error).splitlines()[0]}; save the state dict alone: "
            f"torch.save(model.state_dict(), FILE)"
        ) from error
    if not isinstance(state, dict):
        raise WeightsUnavailable(
            f"{path} holds a {type(state).__name__}, not a state dict; save it with "
            f"torch.save(model.state_dict(), FILE)"
        )
    return state


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsUnavailable(f"{path} cannot be read as safetensors: {error}") from error
