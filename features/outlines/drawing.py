"""What a file of outlines holds: pieces of named segments, and of which slices it says that they are."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from haemo.features.outlines.plane import PlacedSlice
from haemo.features.reading.dicom_header import Elements

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["AUTOMATIC", "MANUFACTURER", "Drawing", "Piece", "Segment", "referenced"]

MANUFACTURER = 0x00080070
AUTOMATIC = "AUTOMATIC"
_INSTANCE, _FRAME_NUMBER = 0x00081155, 0x00081160


@dataclass(frozen=True, slots=True)
class Segment:
    """What a segment is called, and what its code means; empty where the file does not say.

    `is_automatic` is whether a program drew it with nobody's help.
    """

    name: str
    meaning: str = ""
    is_automatic: bool = False

    @property
    def shown(self) -> str:
        """As it is named in messages."""
        return self.name or self.meaning or "without a name"


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a segment that lies on one slice.

    Attributes
    ----------
    segment : int
    refers_to : frozenset of (str, int or None)
        Slices that it says it is of: SOP Instance UID, and number of the frame in an enhanced CT.
    point : ndarray of shape (3,) or None
        A point of its plane; None where the file does not say where it lies.
    """

    segment: int
    refers_to: frozenset[tuple[str, int | None]]
    point: np.ndarray | None


class Drawing(ABC):
    """A file of outlines.

    Attributes
    ----------
    path : Path
    segments : dict of int to Segment
    frame_of_reference : str
    instances : frozenset of str
        SOP Instance UIDs of all slices that it says it is of.
    maker : str
        Manufacturer of what wrote it.
    """

    path: Path
    segments: dict[int, Segment]
    frame_of_reference: str
    instances: frozenset[str]
    maker: str

    @abstractmethod
    def pieces(self, wanted: Sequence[int]) -> Iterator[Piece]:
        """Pieces of some segments, in the order of the file.

        Raises
        ------
        UnreadableSlice
            If the file is damaged there.
        """

    @abstractmethod
    def draw(self, piece: Piece, on: PlacedSlice) -> np.ndarray:
        """Draw a piece on a slice, (rows, columns) as that is stored, bool. Errors as `pieces`."""

    @abstractmethod
    def join(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Join what two pieces of a segment are on one slice."""


def referenced(sources: Sequence["Dataset"]) -> frozenset[tuple[str, int | None]]:
    """Slices that items refer to: SOP Instance UID, and number of the frame where one is given."""
    found = set()
    for source in map(Elements, sources):
        frames = source.numbers(_FRAME_NUMBER) or [None]
        found |= {(source.text(_INSTANCE), None if one is None else int(one)) for one in frames}
    return frozenset(one for one in found if one[0])
