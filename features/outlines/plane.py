"""Where the pixels of a slice, or of an outline, lie in the patient."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from haemo.features.reading.address import SliceAddress
from haemo.features.reading.dicom_header import Elements, Header, parsed_file
from haemo.features.reading.formats import open_volume
from haemo.features.reading.orientation import View
from haemo.features.reading.volumes.enhanced import EnhancedVolume

__all__ = ["FRAME_OF_REFERENCE", "PlacedSlice", "Plane", "read_placed"]

FRAME_OF_REFERENCE = 0x00200052
_SOP_INSTANCE_UID = 0x00080018
_SERIES_UID = 0x0020000E
_POSITION = 0x00200032
_ORIENTATION = 0x00200037


@dataclass(frozen=True, eq=False)
class Plane:
    """A grid of pixels in the patient, in mm and DICOM's coordinates.

    Attributes
    ----------
    origin : ndarray of shape (3,)
        Centre of the first pixel.
    right, down : ndarray of shape (3,)
        From a pixel to the next of its row, and of its column.
    size : tuple of int
        Rows and columns as they are stored.
    """

    origin: np.ndarray
    right: np.ndarray
    down: np.ndarray
    size: tuple[int, int]

    @classmethod
    def of(cls, elements: Elements, size: tuple[int, int]) -> "Plane | None":
        """Read the plane of a slice or frame; None where it does not say where it lies."""
        axes, origin, spacing = (
            elements.numbers(_ORIENTATION),
            elements.numbers(_POSITION),
            elements.spacing_mm(),
        )
        if not elements.sides_known() or len(origin) != 3 or spacing is None:
            return None
        right, down = (np.array(axis) / np.linalg.norm(axis) for axis in (axes[:3], axes[3:]))
        if abs(float(right @ down)) > 0.01:
            return None
        return cls(np.array(origin), right * spacing[1], down * spacing[0], size)

    @cached_property
    def normal(self) -> np.ndarray:
        """Unit vector across the plane."""
        across = np.cross(self.right, self.down)
        return across / np.linalg.norm(across)

    def places(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns, in fractions of a pixel, at which points of shape (..., 3) lie over the plane."""
        away = points - self.origin
        return away @ self.down / (self.down @ self.down), away @ self.right / (self.right @ self.right)

    def seen_on(self, mask: np.ndarray, other: "Plane") -> np.ndarray:
        """Give a mask of this plane on the pixels of another, which lies in it.

        A pixel of the other is set where its centre lies in a pixel that is set here: of equal grids, exactly
        the mask.
        """
        rows, columns = np.indices(other.size)
        centres = other.origin + columns[..., None] * other.right + rows[..., None] * other.down
        at_rows, at_columns = (np.rint(place).astype(np.int64) for place in self.places(centres))
        inside = (at_rows >= 0) & (at_rows < self.size[0]) & (at_columns >= 0) & (at_columns < self.size[1])
        seen = np.zeros(other.size, bool)
        seen[inside] = mask[at_rows[inside], at_columns[inside]]
        return seen


@dataclass(frozen=True, eq=False)
class PlacedSlice:
    """A slice of a CT, and where it lies.

    Attributes
    ----------
    path : Path
    instance : str
        SOP Instance UID.
    frame : int or None
        Its number in an enhanced CT.
    series, frame_of_reference : str
    size : tuple of int
        As it is stored.
    view : View
        How it is turned to be seen.
    plane : Plane or None
        None where the file does not say.
    """

    path: Path
    instance: str
    frame: int | None
    series: str
    frame_of_reference: str
    size: tuple[int, int]
    view: View
    plane: Plane | None


def read_placed(path: Path) -> PlacedSlice | None:
    """Read where a slice lies; None where it is no DICOM.

    Raises
    ------
    UnreadableSlice
        If it cannot be read.
    """
    address = SliceAddress.of(path)
    if address.number is None:
        header = Header(parsed_file(address.file, stop_before_pixels=True))
        elements, size = header, header.size
    else:
        volume = open_volume(address.file)
        if not isinstance(volume, EnhancedVolume):
            return None
        elements, size = volume.elements(address.number), volume.stored_size
    return PlacedSlice(
        path=path,
        instance=elements.text(_SOP_INSTANCE_UID),
        frame=address.number,
        series=elements.text(_SERIES_UID),
        frame_of_reference=elements.text(FRAME_OF_REFERENCE),
        size=size,
        view=elements.view(),
        plane=Plane.of(elements, size),
    )
