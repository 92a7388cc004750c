"""One file, one slice: pixels as they were measured or displayed, with what the file says about them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Slice", "read_slice"]


@dataclass(frozen=True, slots=True)
class Slice:
    """One axial slice as decoded from its file.

    Attributes
    ----------
    pixels : ndarray of shape (height, width), float32
        Hounsfield units if `is_hu`, else gray levels in 0..255.
    is_hu : bool
        Whether the pixels are Hounsfield units (DICOM) and still have to be windowed.
    spacing_mm : tuple of float or None
        Row and column spacing in mm, where the file says.
    mode : str
        What the file held, for the counts that `index` prints: ``L``, ``RGB``, ``I;16``, ``DICOM int16``.
    is_colour : bool
        Whether the file was a colour image whose channels differ, converted to luma.
    """

    pixels: np.ndarray
    is_hu: bool
    spacing_mm: tuple[float, float] | None = None
    mode: str = ""
    is_colour: bool = False


def read_slice(path: Path) -> Slice:
    """Decode one file."""
    raise NotImplementedError(path)
