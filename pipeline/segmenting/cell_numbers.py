"""What the trunk that comes with haemo says of the surroundings of a pixel."""

import hashlib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.features.views.head_grid import HeadGrid
from haemo.features.views.head_plane import HEAD_PLANE_SCHEMA, HeadPlane
from haemo.models.weights.builtin import BUILTIN_PATH, builtin_state

if TYPE_CHECKING:
    import torch

__all__ = ["CELL_NUMBERS", "PRECISIONS", "CellNumbers", "cells_described"]

CELL_NUMBERS = ("cell_less_highest", "cell_less_mirrored")
"""Names of the numbers, in order. Both are differences of log odds."""

PRECISIONS = ("float32", "bfloat16")
"""Of the trunk. Trees are learned, and thresholds chosen, on what it says in the first."""

_SCHEMA = 1
_SIDE = 227  # of the trunk's plane


class CellNumbers:
    """The numbers of pixels inside the skull, from the log odds of blood in 13 x 13 cells of a head.

    Log odds are interpolated linearly between the middles of cells. They count less the highest of the slice,
    and less those of the mirrored place: they say where blood is likelier, and not how likely it is. By
    themselves they do not carry over: on the public 200-image head-CT set they are higher than on the
    phantoms that the trunk was trained on, by 4 or so, with blood and without; and with the median of the
    slice for a third number more normal slices of that set were taken for bleeds.

    Parameters
    ----------
    grid : HeadGrid
    precision : str
        Of `PRECISIONS`. In bfloat16 log odds are a few hundredths off.
    """

    def __init__(self, grid: HeadGrid, precision: str = PRECISIONS[0]) -> None:
        from haemo.models.networks.blood_cells import cells_at, cells_of

        self._plane = plane = HeadPlane.of(grid, _SIDE)
        if plane is None:
            return
        self._at = partial(cells_at, cells_of(_network(precision), plane.gray[None])[0])
        self._rows, self._columns = plane.places(*np.nonzero(grid.inside))
        self._own = self._at(self._rows, self._columns)

    def rows(self, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Numbers of some pixels, in the order of ``grid.hu[grid.inside]``: (pixels, 2), float32."""
        if self._plane is None:
            return np.empty((0, len(CELL_NUMBERS)), dtype=np.float32)
        own = self._own[chosen]
        mirrored = self._at(self._rows[chosen], _SIDE - 1 - self._columns[chosen])
        return np.stack([own - self._own.max(), own - mirrored], axis=1)


def cells_described() -> dict[str, Any]:
    """What a classifier that reads these numbers is bound to."""
    return {
        "schema": _SCHEMA,
        "plane": HEAD_PLANE_SCHEMA,
        "names": list(CELL_NUMBERS),
        "trunk": _trunk_sha256(),
    }


@lru_cache(maxsize=2)
def _network(precision: str) -> "Callable[[torch.Tensor], torch.Tensor]":
    import torch

    from haemo.models.networks.blood_cells import BloodCells

    network = BloodCells.of(builtin_state()).to(memory_format=torch.channels_last)
    return network.packed() if precision == PRECISIONS[0] else network.in_bfloat16()


@lru_cache(maxsize=1)
def _trunk_sha256() -> str:
    return hashlib.sha256(BUILTIN_PATH.read_bytes()).hexdigest()
