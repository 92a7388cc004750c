"""What a classifier of pixels reads: descriptors of anatomy and HU, cells of a trunk, or hypercolumns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.errors import BadSettings
from haemo.features.pixels.descriptors import DESCRIPTOR_SCHEMA, DESCRIPTORS, PixelNumbers
from haemo.features.views.head_grid import BLACK_HU, GRID_SCHEMA, WHITE_HU, HeadGrid
from haemo.pipeline.segmenting.cell_numbers import PRECISIONS, CellNumbers, cells_described

if TYPE_CHECKING:
    from haemo.models.networks.hypercolumns import Hypercolumns

__all__ = [
    "ANATOMY",
    "BOTH",
    "CELLS",
    "FEATURES",
    "DescribedSlice",
    "PixelFeatures",
    "has_hypercolumns",
    "pixels_described",
    "plane_of",
]

ANATOMY = "anatomy"
CELLS = "cells"
BOTH = f"{ANATOMY}+{CELLS}"
FEATURES = (BOTH, ANATOMY, CELLS, "alexnet", "trained", "anatomy+alexnet", "anatomy+trained")
"""``cells`` are those of the trunk that comes with haemo; the others hypercolumns: ``alexnet`` of the frozen
network, ``trained`` of that network further trained on masks."""

_HYPERCOLUMN_SCHEMA = 1
_SIDE = 227  # of AlexNet's plane; a pixel is 1 mm

_Rows = Callable[[np.ndarray | slice], np.ndarray]


@dataclass(frozen=True, eq=False)
class PixelFeatures:
    """Describes the pixels inside the skull.

    Attributes
    ----------
    name : str
        Of `FEATURES`.
    trunk : dict of str to ndarray
        Of hypercolumns: weights of conv1 to conv5, float16, under torchvision's names; empty without.
    precision : str
        Of the trunk that comes with haemo, as `CellNumbers` has it. It is no part of what a classifier is
        bound to.
    """

    name: str = ANATOMY
    trunk: Mapping[str, np.ndarray] = field(default_factory=dict)
    precision: str = PRECISIONS[0]

    def __post_init__(self) -> None:
        if self.name not in FEATURES:
            raise BadSettings(f"there are no pixel features {self.name!r}; they are {', '.join(FEATURES)}")
        if not self.trunk and has_hypercolumns(self.name):
            raise BadSettings(f"pixel features {self.name} are hypercolumns of a trunk, and there is none")
        if self.precision not in PRECISIONS:
            raise BadSettings(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.precision != PRECISIONS[0] and not self.name.endswith(CELLS):
            raise BadSettings(
                f"pixel features {self.name} do not read the trunk that comes with haemo, which alone can be "
                f"computed in {self.precision}; leave out --precision"
            )

    @cached_property
    def _columns(self) -> "Hypercolumns":
        from haemo.models.networks.hypercolumns import Hypercolumns

        return Hypercolumns(self.trunk)

    def of(self, grid: HeadGrid, anatomy: np.ndarray | None = None) -> "DescribedSlice":
        """Describe a slice.

        Parameters
        ----------
        grid : HeadGrid
        anatomy : ndarray, optional
            What `features.pixels.descriptors.describe` says of it, where that has been asked already.
        """
        parts: list[_Rows] = []
        for name in self.name.split("+"):
            if name == CELLS:
                parts.append(CellNumbers(grid, self.precision).rows)
            elif name != ANATOMY:
                parts.append(_ColumnNumbers(grid, self._columns).rows)
            else:
                parts.append(PixelNumbers(grid).rows if anatomy is None else anatomy.__getitem__)
        return DescribedSlice(parts)


@dataclass(frozen=True)
class DescribedSlice:
    """The pixels inside the skull of one slice, in numbers.

    Attributes
    ----------
    parts : sequence of callable
        Each gives numbers of chosen pixels: (pixels, numbers), float32.
    """

    parts: Sequence[_Rows]

    def rows(self, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Numbers of some pixels, in the order of ``grid.hu[grid.inside]``: (pixels, numbers), float32."""
        parts = [part(chosen) for part in self.parts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class _ColumnNumbers:
    """Hypercolumns of the pixels inside the skull."""

    def __init__(self, grid: HeadGrid, columns: "Hypercolumns") -> None:
        plane, top, left = plane_of(grid)
        self._columns, self._maps = columns, columns.maps(plane)
        rows, places = np.nonzero(grid.inside)
        self._rows, self._places = rows - top, places - left

    def rows(self, chosen: np.ndarray | slice) -> np.ndarray:
        return self._columns.at(self._maps, self._rows[chosen], self._places[chosen])


def plane_of(grid: HeadGrid, values: np.ndarray | None = None) -> tuple[np.ndarray, int, int]:
    """Cut a plane of 227 x 227 mm out of a grid, about the middle of the inside; 0 where the grid ends.

    Parameters
    ----------
    grid : HeadGrid
    values : ndarray of the grid's shape, optional
        What is cut out; its levels as gray, 0 to 255, without.

    Returns
    -------
    plane : ndarray of shape (227, 227)
    top, left : int
        Row and column of the grid that its first pixel has; below 0 where it lies beyond.
    """
    if values is None:
        scale = np.float32(255 / (WHITE_HU - BLACK_HU))
        values = np.rint((grid.hu - np.float32(BLACK_HU)) * scale).astype(np.uint8)
    inside = np.nonzero(grid.inside if grid.inside.any() else np.ones_like(grid.inside))
    top, left = (round(float(places.mean())) - _SIDE // 2 for places in inside)
    plane = np.zeros((_SIDE, _SIDE), dtype=values.dtype)
    rows, columns = (
        slice(max(start, 0), min(start + _SIDE, size))
        for start, size in zip((top, left), values.shape, strict=True)
    )
    plane[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = values[
        rows, columns
    ]
    return plane, top, left


def has_hypercolumns(name: str) -> bool:
    """Whether features of that name are read from a trunk of their own."""
    return not name.endswith((ANATOMY, CELLS))


def pixels_described(name: str = ANATOMY) -> dict[str, Any]:
    """What a classifier of pixels is bound to: how pixels are described by this version."""
    facts: dict[str, Any] = {"grid": GRID_SCHEMA}
    if name.startswith(ANATOMY):
        facts |= {"schema": DESCRIPTOR_SCHEMA, "names": list(DESCRIPTORS)}
    if name != ANATOMY:
        facts["features"] = name
    if name.endswith(CELLS):
        facts["cells"] = cells_described()
    if has_hypercolumns(name):
        facts["hypercolumns"] = _HYPERCOLUMN_SCHEMA
    return facts
