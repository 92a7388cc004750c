"""One file, one slice: pixels as they were measured or displayed, with what the file says about them."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import UnreadableSlice

__all__ = [
    "MAX_PIXELS",
    "DicomTags",
    "Slice",
    "SliceHeader",
    "check_size",
    "content_hash",
    "damaged",
    "read_header",
    "read_slice",
]

# A CT slice has 512 x 512 pixels, seldom 1024 x 1024. Anything past 8192 x 8192 is a decompression bomb or
# a whole-slide scan, and would fill the memory of a small machine.
MAX_PIXELS = 8192 * 8192
_MAX_BYTES = 1 << 30
_SNIFFED = 132


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
    """

    pixels: np.ndarray
    is_hu: bool
    spacing_mm: tuple[float, float] | None = None
    mode: str = ""
    is_colour: bool = False


@dataclass(frozen=True, slots=True)
class DicomTags:
    """Who and where a DICOM slice is; empty text where the file does not say.

    Attributes
    ----------
    sop_instance_uid, patient, study, series : str
    z_mm : float or None
        Place along the normal of the slice, from Image Position and Orientation (Patient).
    slice_location_mm : float or None
    instance_number : float or None
    """

    sop_instance_uid: str = ""
    patient: str = ""
    study: str = ""
    series: str = ""
    z_mm: float | None = None
    slice_location_mm: float | None = None
    instance_number: float | None = None


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
        None where the file is not DICOM.
    """

    size: tuple[int, int]
    mode: str
    tags: DicomTags | None = None


def read_slice(path: Path) -> Slice:
    """Decode one file: PNG, JPEG, TIFF, BMP or DICOM, told apart by content and not by name.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Slice

    Raises
    ------
    UnreadableSlice
        If the file is missing, empty, damaged, too large, or not one gray or colour picture or CT slice.
        The message is the reason, without the path.
    """
    # The readers are imported late: Pillow and pydicom take longer to load than `haemo --help` may last.
    data = _bytes_of(path)
    if _is_dicom(data[:_SNIFFED], path):
        from features.dicom import decode_dicom

        return decode_dicom(data)
    from features.raster import decode_raster

    return decode_raster(data)


def read_header(path: Path) -> SliceHeader:
    """Read size, mode and identifiers of one file, decoding no pixels.

    A file that passes may still fail in `read_slice`: damage past the header shows only there.

    Raises
    ------
    UnreadableSlice
        As in `read_slice`.
    """
    _size_of(path)
    try:
        with Path(path).open("rb") as stream:
            start = stream.read(_SNIFFED)
            stream.seek(0)
            if _is_dicom(start, path):
                from features.dicom import read_dicom_header

                return read_dicom_header(stream)
            from features.raster import read_raster_header

            return read_raster_header(stream)
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error


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
    pixels = np.ascontiguousarray(slice_.pixels, dtype=np.float32)
    compact = _compact(pixels)
    height, width = pixels.shape
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


def _compact(pixels: np.ndarray) -> np.ndarray:
    if pixels.size and pixels.min() >= -32768 and pixels.max() <= 32767:
        integers = pixels.astype(np.int16)
        if np.array_equal(integers, pixels):
            in_byte = integers.min() >= 0 and integers.max() <= 255
            return integers.astype(np.uint8) if in_byte else integers
    return pixels


def _size_of(path: Path) -> int:
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error
    if size == 0:
        raise UnreadableSlice("the file is empty")
    if size > _MAX_BYTES:
        raise UnreadableSlice(f"{size / 1e9:.1f} GB is too large for one slice")
    return size


def _bytes_of(path: Path) -> bytes:
    _size_of(path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error


def _is_dicom(start: bytes, path: Path) -> bool:
    """Tell DICOM by its magic word, or by the first tag where a file begins without a preamble."""
    if start[128:132] == b"DICM":
        return True
    # Files from before part 10 of the standard begin with group 0002 or 0008, in either byte order.
    bare = start[:2] in (b"\x08\x00", b"\x02\x00", b"\x00\x08", b"\x00\x02")
    return bare and Path(path).suffix.lower() in ("", ".dcm", ".dicom", ".ima")
