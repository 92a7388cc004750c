"""attributes.csv: what tells patients and scans apart (sex, age, scanner ...), kept aside from what trains.

Nothing that trains, embeds or predicts reads it; it says in whom a model was judged, and in whom it holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from haemo.tables import Records, write_csv

__all__ = ["KNOWN", "OF_BLEEDS", "Attributes"]

OF_BLEEDS = ("bleed", "size")
"""Attributes that only slices with a bleed have: its type, and its area on the slice in mm2."""

KNOWN = ("sex", "age", "scanner", "kernel", "thickness", "site", *OF_BLEEDS)
"""Names whose meaning haemo knows; others are columns of a table."""

_KEY = "slice_id"


@dataclass(frozen=True, eq=False)
class Attributes:
    """Values by slice; an empty text where one is not known.

    Attributes
    ----------
    names : tuple of str
    of_slice : mapping of str to mapping of str to str
        Slice id to name to value.
    """

    names: tuple[str, ...]
    of_slice: Mapping[str, Mapping[str, str]]

    def columns(self, slice_ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Values of some slices by name: ndarray of shape (n,), str. Rotated copies have their slice's."""
        rows = [
            self.of_slice.get(name) or self.of_slice.get(name.rsplit("@", 1)[0], {}) for name in slice_ids
        ]
        return {name: np.array([row.get(name, "") for row in rows], dtype=object) for name in self.names}

    def write(self, path: Path) -> None:
        """Write as CSV, atomically, in the order of `of_slice`."""
        rows = [
            [key, *(values.get(name, "") for name in self.names)] for key, values in self.of_slice.items()
        ]
        write_csv(path, [[_KEY, *self.names], *rows])

    @classmethod
    def read(cls, path: Path) -> "Attributes | None":
        """Read attributes.csv; None where there is no such file.

        Raises
        ------
        BadDataset
            If it has no column ``slice_id``, or a line has another number of fields.
        """
        if not path.exists():
            return None
        remedy = "make it again: haemo index DATA --run RUN --keep NAMES, or delete it"
        records = Records(path).require([_KEY], remedy)
        names = tuple(name for name in records.headings if name != _KEY)
        return cls(names, {entry[_KEY]: {name: entry[name] for name in names} for entry in records})
