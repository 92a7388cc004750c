"""DICOM: one CT slice as Hounsfield units, and the tags that say whose it is and where it lies."""

import math
import os
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pydicom
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder

from haemo.errors import NotASlice, UnreadableSlice
from haemo.features.reading.series_tags import SERIES_ELEMENTS, read_series_tags
from haemo.features.reading.slice import (
    MAX_PIXELS,
    DicomTags,
    Slice,
    SliceHeader,
    check_size,
    damaged,
)
from haemo.features.reading.streams.deflate import BoundedInflation
from haemo.features.reading.streams.described import Described
from haemo.features.reading.streams.jpeg import check_jpeg, check_jpeg_ls
from haemo.features.reading.streams.jpeg2000 import check_jpeg2000
from haemo.features.reading.streams.lossless_jpeg import check_lossless_head
from haemo.features.reading.streams.rle import check_rle

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.pixels.decoders.base import Decoder

__all__ = ["AIR_HU", "decode_dicom", "read_dicom_header"]

# What pixels outside the scanned field become: air, whatever number the scanner filled in.
AIR_HU = -1000.0

_WRAPS_FROM = 3096
# Decoders in the order of trust. GDCM is left for what nothing else reads: damaged streams make it abort the
# whole process.
_PLUGINS = ("pylibjpeg", "pyjpegls", "pydicom", "pillow")
_LOSSLESS_JPEG = (uid.JPEGLossless, uid.JPEGLosslessSV1)
_NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
_OUTLINES = ("SEG", "RTSTRUCT")
# What reads the head of a stream before its decoder does.
_CHECKS = {
    **dict.fromkeys(uid.JPEGTransferSyntaxes, check_jpeg),
    **dict.fromkeys(uid.JPEGLSTransferSyntaxes, check_jpeg_ls),
    **dict.fromkeys(uid.JPEG2000TransferSyntaxes, check_jpeg2000),
    **dict.fromkeys(uid.RLETransferSyntaxes, check_rle),
}
# The largest slice, and as much beside it as any header has.
_MOST_INFLATED_BYTES = 2 * MAX_PIXELS + (1 << 26)
_IMAGE_TYPE = 0x00080008
_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
_MODALITY = 0x00080060
_PATIENT_ID = 0x00100020
_STUDY_UID = 0x0020000D
_SERIES_UID = 0x0020000E
_THICKNESS = 0x00180050
_INSTANCE_NUMBER = 0x00200013
_POSITION = 0x00200032
_ORIENTATION = 0x00200037
_SLICE_LOCATION = 0x00201041
_SAMPLES = 0x00280002
_PHOTOMETRIC = 0x00280004
_FRAMES = 0x00280008
_ROWS = 0x00280010
_COLUMNS = 0x00280011
_SPACING = 0x00280030
_ALLOCATED = 0x00280100
_STORED = 0x00280101
_HIGH_BIT = 0x00280102
_SIGNED = 0x00280103
_PADDING = 0x00280120
_PADDING_LIMIT = 0x00280121
_INTERCEPT = 0x00281052
_SLOPE = 0x00281053
_RESCALE_TYPE = 0x00281054
_PIXELS = 0x7FE00010
# Nothing else is read from a file, but for what is said of its series: free text, private tags and names of
# people stay where they are.
_WANTED = [
    value for name, value in list(globals().items()) if name.startswith("_") and isinstance(value, int)
]
_WANTED += SERIES_ELEMENTS
_WANTED += [0x00280006, 0x00280034]  # planar configuration and pixel aspect: some decoders ask for them


def decode_dicom(data: bytes) -> Slice:
    """Decode one CT slice to Hounsfield units.

    HU = stored value x Rescale Slope + Rescale Intercept, in float32. Before that, stored values are
    complemented where the file is MONOCHROME1 (such a file holds air bright, so that viewers show it black),
    and 12-bit values that wrapped around are unwrapped (see `_is_wrapped`). Pixels that equal Pixel Padding
    Value, or lie between it and Pixel Padding Range Limit, become air, -1000 HU. Windows stored in the file
    are not used.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    Slice

    Raises
    ------
    UnreadableSlice
        If it is not one gray CT slice with a rescale, is cut short, or is compressed in a way that needs a
        decoder which is not installed.
    """
    header = _Header(_parse(BytesIO(data), stop_before_pixels=False))
    header.check()
    slope, intercept = header.rescale()
    stored = _stored_values(header)
    padding = _padding(header, stored)
    if header.text(_PHOTOMETRIC) == "MONOCHROME1":
        highest = -1 if header.is_signed else 2**header.bits_stored - 1
        stored = stored.dtype.type(highest) - stored
    pixels = stored.astype(np.float32)
    if _is_wrapped(header, slope, intercept):
        pixels[stored >= _WRAPS_FROM] -= 4096
    if slope != 1:
        pixels *= np.float32(slope)
    if intercept != 0:
        pixels += np.float32(intercept)
    if padding is not None:
        pixels[padding] = AIR_HU
    return Slice(pixels, is_hu=True, spacing_mm=header.spacing_mm(), mode=header.mode())


def read_dicom_header(stream: BinaryIO) -> SliceHeader:
    """Read size, pixel type and identifiers of one CT slice without reading its pixels.

    Raises
    ------
    UnreadableSlice
        As in `decode_dicom`, as far as the header and the length of the file show it.
    """
    header = _Header(_parse(stream, stop_before_pixels=True))
    header.check()
    header.rescale()
    # The stream stands at the pixel data, where they are not deflated with all the rest.
    if header.syntax in _NATIVE:
        start = stream.tell() + (8 if header.syntax.is_implicit_VR else 12)
        _check_length(header, stream.seek(0, os.SEEK_END) - start)
    elif header.syntax != uid.DeflatedExplicitVRLittleEndian:
        _decoder(header)
    tags = DicomTags(
        sop_instance_uid=header.text(_SOP_INSTANCE_UID),
        patient=header.text(_PATIENT_ID),
        study=header.text(_STUDY_UID),
        series=header.text(_SERIES_UID),
        z_mm=header.z_mm(),
        slice_location_mm=header.first_number(_SLICE_LOCATION),
        instance_number=header.first_number(_INSTANCE_NUMBER),
        tilt_deg=header.tilt_deg(),
        thickness_mm=header.first_number(_THICKNESS),
        of_series=read_series_tags(header),
    )
    return SliceHeader(header.size, header.mode(), tags)


class _Header:
    """The elements that matter, read from their raw bytes.

    pydicom would convert and validate each value on access and warn of every identifier that is not a proper
    one, which de-identified data sets are full of; nothing here depends on that.
    """

    def __init__(self, dataset: "Dataset"):
        self.dataset = dataset
        self.is_signed = self.integer(_SIGNED, 0) == 1
        self.bits_allocated = self.integer(_ALLOCATED, 0)
        self.bits_stored = self.integer(_STORED, self.bits_allocated)
        self.size = (self.integer(_ROWS, 0), self.integer(_COLUMNS, 0))
        meta = getattr(dataset, "file_meta", {})
        # A damaged identifier may come as a list of several; as text it is none that is known.
        self.syntax = _uid(str(meta.get("TransferSyntaxUID") or uid.ImplicitVRLittleEndian))

    def raw(self, tag: int) -> bytes:
        """Bytes of one element; empty where it is absent."""
        if tag not in self.dataset:
            return b""
        try:
            value = self.dataset.get_item(tag).value
        # Where pydicom could not take the bytes of an element, it says so only now.
        except Exception as error:
            raise damaged(error) from error
        return value if isinstance(value, bytes) else b""

    def text(self, tag: int) -> str:
        value = self.raw(tag).strip(b" \x00")
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")

    def integer(self, tag: int, default: int, is_signed: bool = False) -> int:
        value = self.raw(tag)
        if len(value) < 2:
            return default
        order = "little" if self.dataset.get_item(tag).is_little_endian else "big"
        return int.from_bytes(value[:2], order, signed=is_signed)

    def numbers(self, tag: int) -> list[float]:
        """Values of a decimal or integer string; empty where it is absent or holds no finite numbers."""
        try:
            values = [float(part) for part in self.text(tag).split("\\")]
        except ValueError:
            return []
        return values if all(math.isfinite(value) for value in values) else []

    def first_number(self, tag: int) -> float | None:
        return next(iter(self.numbers(tag)), None)

    def check(self) -> None:
        """Refuse what is not one gray axial CT picture, naming what it is."""
        modality, sop_class = self.text(_MODALITY), _uid(self.text(_SOP_CLASS_UID))
        # pydicom gives nothing at all where an element runs past the end of the file.
        if not len(self.dataset):
            raise UnreadableSlice("the file is damaged or cut short: no element of it can be read")
        if self.size == (0, 0):
            # Without a class it may as well be a picture whose header is damaged.
            kind = (
                NotASlice if sop_class.name and not sop_class.name.startswith("CT Image") else UnreadableSlice
            )
            raise kind(f"a DICOM file without a picture ({sop_class.name or 'of unknown class'})")
        if modality in _OUTLINES:
            raise NotASlice(f"outlines ({sop_class.name or modality}), not CT values")
        if modality not in ("CT", "") and sop_class != uid.CTImageStorage:
            raise UnreadableSlice(f"modality {modality} is not CT")
        frames = self.first_number(_FRAMES) or 1
        if frames > 1 or sop_class == uid.EnhancedCTImageStorage:
            raise UnreadableSlice(
                f"{sop_class.name} with {frames:g} frames: only single-frame CT is read; "
                "split it into classic CT slices first"
            )
        photometric = self.text(_PHOTOMETRIC)
        if self.integer(_SAMPLES, 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2", ""):
            raise UnreadableSlice(f"a colour picture ({photometric}), not CT values")
        if "LOCALIZER" in self.text(_IMAGE_TYPE).split("\\"):
            raise NotASlice("a localizer (scout view), not an axial slice")
        if not self.bits_allocated:
            raise UnreadableSlice("the header ends before it describes the pixels; the file is cut short")
        if self.bits_allocated not in (8, 16) or not 1 <= self.bits_stored <= self.bits_allocated:
            raise UnreadableSlice(
                f"{self.bits_stored} bits stored in {self.bits_allocated} are not supported"
            )
        check_size(*self.size)

    def rescale(self) -> tuple[float, float]:
        """Rescale slope and intercept, without which stored values are no Hounsfield units."""
        unit = self.text(_RESCALE_TYPE)
        slope, intercept = self.first_number(_SLOPE), self.first_number(_INTERCEPT)
        if unit not in ("", "HU", "HU_MOD", "US"):
            raise UnreadableSlice(f"pixels are in {unit}, not in Hounsfield units")
        if slope is None or intercept is None or slope == 0:
            raise UnreadableSlice("no usable Rescale Slope and Intercept: Hounsfield units are unknown")
        return slope, intercept

    def spacing_mm(self) -> tuple[float, float] | None:
        spacing = self.numbers(_SPACING)
        return (spacing[0], spacing[1]) if len(spacing) == 2 and min(spacing) > 0 else None

    def z_mm(self) -> float | None:
        """Distance of the slice from the origin along its own normal; for untilted axial slices, z."""
        position, axes = self.numbers(_POSITION), self.numbers(_ORIENTATION)
        if len(position) != 3:
            return None
        normal = np.cross(axes[:3], axes[3:]) if len(axes) == 6 else np.array([0.0, 0.0, 1.0])
        return round(float(normal @ position), 4)

    def tilt_deg(self) -> float | None:
        """Angle between the normal of the slice and the long axis of the patient."""
        axes = self.numbers(_ORIENTATION)
        if len(axes) != 6:
            return None
        normal = np.cross(axes[:3], axes[3:])
        length = float(np.linalg.norm(normal))
        return round(math.degrees(math.acos(min(1.0, abs(normal[2]) / length))), 2) if length > 0 else None

    def mode(self) -> str:
        pixel = f"DICOM {'int' if self.is_signed else 'uint'}{self.bits_allocated}"
        return pixel if self.syntax in _NATIVE else f"{pixel} {self.syntax.name}"


def _uid(text: str) -> uid.UID:
    return uid.UID(text, pydicom.config.IGNORE)


def _parse(stream: BinaryIO, stop_before_pixels: bool) -> "Dataset":
    try:
        return pydicom.dcmread(
            BoundedInflation(stream, _MOST_INFLATED_BYTES),
            force=True,
            stop_before_pixels=stop_before_pixels,
            specific_tags=list(_WANTED),
        )
    except UnreadableSlice:
        raise
    # Like every parser of hostile bytes, pydicom raises whatever they lead to; each means the same here.
    except Exception as error:
        raise damaged(error) from error


def _check_length(header: _Header, available: int) -> None:
    rows, columns = header.size
    needed = rows * columns * header.bits_allocated // 8
    if available < needed:
        if available <= 0:
            raise UnreadableSlice("holds no pixel data")
        raise UnreadableSlice(f"the file is cut short: {available} of {needed} bytes of pixel data")


def _stored_values(header: _Header) -> np.ndarray:
    """Stored pixel values, signed or unsigned, with unused high bits put right (PS3.5 section 8.1.1)."""
    is_little = header.syntax != uid.ExplicitVRBigEndian
    if header.syntax not in (*_NATIVE, uid.DeflatedExplicitVRLittleEndian):
        return _decompressed(header)
    if header.bits_allocated == 8 and not is_little:
        raise UnreadableSlice("8-bit pixels in big endian are not supported: their order is ambiguous")
    native = header.raw(_PIXELS)
    _check_length(header, len(native))
    kind = f"{'<' if is_little else '>'}{'i' if header.is_signed else 'u'}{header.bits_allocated // 8}"
    rows, columns = header.size
    stored = np.frombuffer(native, kind, count=rows * columns).reshape(rows, columns)
    return _without_unused_bits(stored.astype(stored.dtype.newbyteorder("="), copy=False), header)


def _decompressed(header: _Header) -> np.ndarray:
    decoder, plugin = _decoder(header)
    try:
        # As pydicom will give it to the decoder.
        frame = get_frame(header.raw(_PIXELS), 0, number_of_frames=1)
        _CHECKS[header.syntax](frame, Described(*header.size, header.bits_allocated, header.bits_stored))
        if plugin == "gdcm":
            check_lossless_head(frame, header.size)
        stored, _ = decoder.as_array(header.dataset, index=0, raw=True, decoding_plugin=plugin)
    except UnreadableSlice:
        raise
    except Exception as error:
        raise damaged(error) from error
    if stored.shape != header.size:
        raise UnreadableSlice(f"decoded to shape {stored.shape} where the header says {header.size}")
    return stored


def _decoder(header: _Header) -> tuple["Decoder", str]:
    """The decoder for a compressed file, and the plug-in that shall do it."""
    syntax = header.syntax
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnreadableSlice(f"transfer syntax {syntax.name} is not supported") from error
    if syntax == uid.JPEGExtended12Bit and header.bits_stored > 8:
        raise UnreadableSlice("12-bit lossy JPEG is not supported: no decoder under a free licence reads it")
    trusted = [name for name in _PLUGINS if name in decoder.available_plugins]
    if not trusted and syntax in _LOSSLESS_JPEG and "gdcm" in decoder.available_plugins:
        trusted = ["gdcm"]
    if not trusted:
        raise UnreadableSlice(
            f"compressed as {syntax.name}, and no decoder for it is installed: pip install 'haemo[dicom]'"
        )
    return decoder, trusted[0]


def _without_unused_bits(values: np.ndarray, header: _Header) -> np.ndarray:
    unused = header.bits_allocated - header.bits_stored
    return (values << unused) >> unused if unused else values


def _padding(header: _Header, stored: np.ndarray) -> np.ndarray | None:
    """Where pixels lie outside what was scanned; None where there are none."""
    bounds = [
        # Read by Pixel Representation, whatever type the element itself claims: the two often disagree.
        _without_unused_bits(np.array(header.integer(tag, 0, header.is_signed)).astype(stored.dtype), header)
        for tag in (_PADDING, _PADDING_LIMIT)
        if header.raw(tag)
    ]
    if not header.raw(_PADDING):
        return None
    padding = (stored >= min(bounds)) & (stored <= max(bounds)) if len(bounds) == 2 else stored == bounds[0]
    return padding if padding.any() else None


def _is_wrapped(header: _Header, slope: float, intercept: float) -> bool:
    """Whether negative Hounsfield units wrapped around at 4096, as in some scanners' part of RSNA 2019.

    Such files claim 12 unsigned bits and no negative intercept, so that they could hold no air. What they
    hold is HU modulo 4096: -1000 stands as 3096, and 3096 and above are negative. First described in
    "Cleaning the data for rapid prototyping with fastai" (J. Howard, Kaggle 2019), with the same bounds.
    """
    return not header.is_signed and header.bits_stored == 12 and slope == 1 and intercept > -100
