"""One slice as decoded: pixels as they were measured or displayed, with what its file says about them."""

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.series_tags import SeriesTags

__all__ = [
    "MAX_PIXELS",
    "DicomTags",
    "Slice",
    "SliceHeader",
    "Unitless",
    "check_size",
    "content_hash",
    "damaged",
]

# A CT slice has 512 x 512 pixels, seldom 1024 x 1024. Anything past 8192 x 8192 is a decompression bomb or
# a whole-slide scan, and would fill the memory of a small machine.
MAX_PIXELS = 8192 * 8192


@dataclass(frozen=True, slots=True)
class Slice:
    """One axial slice as decoded from its file.

    Attributes
    ----------
    pixels : ndarray of shape (height, width), float32
        Hounsfield units if `is_hu`, else gray levels in 0..255. Always finite.
    is_hu : bool
        Whether the pixels are Hounsfield units (DICOM) and still have to be windowed.
    spacing_mm : tuple of float or None
        Row and column spacing in mm, where the file says.
    mode : str
        What the file held: ``PNG RGB``, ``TIFF I;16``, ``DICOM int16``, ``DICOM int16 JPEG 2000 ...``.
    is_colour : bool
        Whether the file was a colour image whose channels differ, converted to luma.
    integers : ndarray of shape (height, width), uint8 or int16, or None
        The same values once more, where `of_integers` made the slice; who changes `pixels` in place must not
        hand the slice on. One that `dataclasses.replace` makes has none.
    """

    pixels: np.ndarray
    is_hu: bool
    spacing_mm: tuple[float, float] | None = None
    mode: str = ""
    is_colour: bool = False
    integers: np.ndarray | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of_integers(
        cls,
        integers: np.ndarray,
        is_hu: bool,
        spacing_mm: tuple[float, float] | None = None,
        mode: str = "",
        is_colour: bool = False,
    ) -> "Slice":
        """Make a slice of uint8 or int16 values; its pixels are made of them when first asked for."""
        made = object.__new__(cls)
        facts = (is_hu, spacing_mm, mode, is_colour, integers)
        for name, value in zip(("is_hu", "spacing_mm", "mode", "is_colour", "integers"), facts, strict=True):
            object.__setattr__(made, name, value)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        # Pixels that can be made of integers need not go to another process.
        facts = (self.is_hu, self.spacing_mm, self.mode, self.is_colour)
        if self.integers is not None:
            return Slice.of_integers, (self.integers, *facts)
        return Slice, (self.pixels, *facts)

    def __getattr__(self, name: str) -> np.ndarray:
        if name != "pixels":
            raise AttributeError(name, name=name, obj=self)
        pixels = self.integers.astype(np.float32)
        object.__setattr__(self, "pixels", pixels)
        return pixels

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.pixels if self.integers is None else self.integers).shape


@dataclass(frozen=True, slots=True)
class Unitless:
    """Pixels of a slice whose file does not say what its numbers are (`unit.settled` makes a slice of them).

    Attributes
    ----------
    pixels : ndarray of shape (height, width), float32
        As they are stored, after the rescale if there is one. What lies outside the scan may be NaN.
    spacing_mm, mode, is_colour
        As in `Slice`.
    gray_full : float
        What white would be if they were gray levels: 255, or 65535 in 16-bit pictures.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None = None
    mode: str = ""
    is_colour: bool = False
    gray_full: float = 255.0


@dataclass(frozen=True, slots=True)
class DicomTags:
    """Who and where a slice of a scan is; empty text where the file does not say.

    Attributes
    ----------
    sop_instance_uid, patient, study, series : str
    z_mm : float or None
        Place along the normal of the slice, from Image Position and Orientation (Patient).
    slice_location_mm : float or None
    instance_number : float or None
    body_part : str
        Body Part Examined.
    tilt_deg : float or None
        Between the normal of the slice and the long axis of the patient: the tilt of the gantry.
    thickness_mm : float or None
    sides_known : bool
        Whether the file says how the slice lies, so that it is turned with the patient's left on the right.
    of_series : SeriesTags
        What is said of the whole series.
    """

    sop_instance_uid: str = ""
    patient: str = ""
    study: str = ""
    series: str = ""
    z_mm: float | None = None
    slice_location_mm: float | None = None
    instance_number: float | None = None
    body_part: str = ""
    tilt_deg: float | None = None
    thickness_mm: float | None = None
    sides_known: bool = False
    of_series: SeriesTags = field(default_factory=SeriesTags)


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """What can be told of a slice without decoding its pixels.

    Attributes
    ----------
    size : tuple of int
        Height and width in pixels.
    mode : str
        As in `Slice`.
    tags : DicomTags or None
        None where the file is a picture.
    unit_open : bool
        Whether the file does not say what its numbers are, so that it is told by their looks or by the user.
    """

    size: tuple[int, int]
    mode: str
    tags: DicomTags | None = None
    unit_open: bool = False


def content_hash(slice_: Slice) -> str:
    """Hash what was decoded: equal pixels give equal hashes, whatever the file's name, format or date.

    The bytes are those of the smallest of uint8, int16 and float32 that holds every pixel exactly, so that
    the hash depends on pixel values alone and is cheap for the usual integer-valued slices.

    Parameters
    ----------
    slice_ : Slice

    Returns
    -------
    str
        64 hexadecimal digits: sha256 over shape, `is_hu` and pixels.
    """
    compact = _compact(slice_)
    height, width = slice_.shape
    unit = "HU" if slice_.is_hu else "gray"
    digest = hashlib.sha256(f"{height}x{width} {unit} {compact.dtype.name}\n".encode())
    digest.update(compact.astype(compact.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def check_size(height: int, width: int) -> None:
    """Refuse an empty picture, and one so large that decoding it could fill the memory."""
    if height < 1 or width < 1:
        raise UnreadableSlice(f"the picture is empty ({height} x {width} pixels)")
    if height * width > MAX_PIXELS:
        raise UnreadableSlice(
            f"{height} x {width} pixels are too many for one slice (limit {math.isqrt(MAX_PIXELS)} squared)"
        )


def damaged(error: Exception) -> UnreadableSlice:
    """The refusal of a file that its decoder gave up on, with what the decoder said in one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    return UnreadableSlice(f"the file is damaged or cut short ({said})")


def _compact(slice_: Slice) -> np.ndarray:
    """The pixels in the smallest of uint8, int16 and float32 that holds them all."""
    integers = slice_.integers
    if integers is None:
        pixels = np.ascontiguousarray(slice_.pixels, dtype=np.float32)
        with np.errstate(invalid="ignore"):  # what is too large, or no number, becomes another one
            integers = pixels.astype(np.int16)
        if not pixels.size or not np.array_equal(integers, pixels):
            return pixels
    in_byte = integers.dtype == np.uint8 or (integers.min() >= 0 and integers.max() <= 255)
    return np.ascontiguousarray(integers, dtype=np.uint8 if in_byte else np.int16)
