"""The weights that come with haemo: AlexNet's convolutions, further trained on phantoms."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from haemo.errors import WeightsUnavailable
from haemo.models.weights.statefile import read_state

if TYPE_CHECKING:
    import torch

__all__ = ["BUILTIN", "BUILTIN_ORIGIN", "BUILTIN_PATH", "builtin_state"]

BUILTIN = "builtin"
"""Their name among weights."""

BUILTIN_PATH = Path(__file__).with_name("builtin.safetensors")
BUILTIN_ORIGIN = "built-in trunk conv1..conv5, trained on synthetic heads only, not validated on patients"


@lru_cache(maxsize=1)
def builtin_state() -> "dict[str, torch.Tensor]":
    """conv1 to conv5 under torchvision's names and the layer on top of them, ``head``, float16.

    Raises
    ------
    WeightsUnavailable
        If the file is not there or damaged.
    """
    if not BUILTIN_PATH.is_file():
        raise WeightsUnavailable(f"{BUILTIN_PATH} is not there; install haemo again, or give --weights FILE")
    return read_state(BUILTIN_PATH)
