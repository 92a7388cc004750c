"""DICOM: the pixels of one CT slice, in Hounsfield units where the file says them."""

import os
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder

from haemo.errors import UnreadableSlice
from haemo.features.reading.dicom_header import (
    NATIVE,
    PADDING,
    PADDING_LIMIT,
    Elements,
    Header,
    parsed,
    parsed_bytes,
)
from haemo.features.reading.slice import Slice, SliceHeader, Unitless, damaged
from haemo.features.reading.streams.described import Described
from haemo.features.reading.streams.jpeg import check_jpeg, check_jpeg_ls
from haemo.features.reading.streams.jpeg2000 import check_jpeg2000
from haemo.features.reading.streams.lossless_jpeg import check_lossless_head
from haemo.features.reading.streams.rle import check_rle
from haemo.features.reading.unit import AIR_HU

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import Decoder

__all__ = ["decode_dicom", "decoder_of", "decompressed", "native_values", "picture_of", "read_dicom_header"]

_WRAPS_FROM = 3096
# Decoders in the order of trust. GDCM is left for what nothing else reads: damaged streams make it abort the
# whole process.
_PLUGINS = ("pylibjpeg", "pyjpegls", "pydicom", "pillow")
_LOSSLESS_JPEG = (uid.JPEGLossless, uid.JPEGLosslessSV1)
# What reads the head of a stream before its decoder does.
_CHECKS = {
    **dict.fromkeys(uid.JPEGTransferSyntaxes, check_jpeg),
    **dict.fromkeys(uid.JPEGLSTransferSyntaxes, check_jpeg_ls),
    **dict.fromkeys(uid.JPEG2000TransferSyntaxes, check_jpeg2000),
    **dict.fromkeys(uid.RLETransferSyntaxes, check_rle),
}


def decode_dicom(data: bytes) -> Slice | Unitless:
    """Decode one CT slice, turned so that it is seen as heads are.

    HU = stored value x Rescale Slope + Rescale Intercept, in float32. Before that, 12-bit values that wrapped
    around are unwrapped (see `_is_wrapped`). Pixels that equal Pixel Padding Value, or lie between it and
    Pixel Padding Range Limit, become air, -1000 HU. MONOCHROME1 says how the picture is to be shown, and not
    what its values are (PS3.3 section C.7.6.3.1.2); windows in the file are not used.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    Slice or Unitless
        The second where the file has no rescale, or is of Modality OT: then its numbers may be anything.

    Raises
    ------
    UnreadableSlice
        If it is not one gray axial CT slice, is cut short, or is compressed in a way that needs a decoder
        which is not installed.
    """
    header = Header(parsed_bytes(data))
    header.check()
    return picture_of(header, header, _stored_values(header))


def picture_of(header: Header, elements: Elements, stored: np.ndarray) -> Slice | Unitless:
    """Make a slice of stored values.

    Parameters
    ----------
    header : Header
    elements : Elements
        Those of the frame; the header itself where there is but one.
    stored : ndarray of shape (rows, columns)

    Raises
    ------
    UnreadableSlice
        As `decode_dicom`.
    """
    view, rescale = elements.view(), elements.rescale()
    padding = _padding(header, stored)
    is_hu = rescale is not None and header.is_hu
    kind = np.int16 if is_hu and _stay_integers(stored, *rescale) else np.float32
    pixels = stored.astype(kind)
    if rescale is not None:
        slope, intercept = rescale
        if _is_wrapped(header, slope, intercept):
            pixels[stored >= _WRAPS_FROM] -= 4096
        if slope != 1:
            pixels *= np.float32(slope)
        if intercept != 0:
            pixels += kind(intercept)
    if padding is not None:
        pixels[padding] = AIR_HU if is_hu else np.nan
    pixels = np.ascontiguousarray(view.turn(pixels))
    spacing_mm = elements.spacing_mm()
    spacing_mm = view.of_pair(spacing_mm) if spacing_mm else None
    if is_hu:
        make = Slice if kind is np.float32 else Slice.of_integers
        return make(pixels, is_hu=True, spacing_mm=spacing_mm, mode=header.mode())
    return Unitless(pixels, spacing_mm, header.mode())


def read_dicom_header(stream: BinaryIO) -> SliceHeader:
    """Read size, pixel type and identifiers of one CT slice without reading its pixels.

    Raises
    ------
    UnreadableSlice
        As in `decode_dicom`, as far as the header and the length of the file show it.
    """
    header = Header(parsed(stream, stop_before_pixels=True))
    header.check()
    rescale, tags = header.rescale(), header.tags()
    # The stream stands at the pixel data, where they are not deflated with all the rest.
    if header.syntax in NATIVE:
        start = stream.tell() + (8 if header.syntax.is_implicit_VR else 12)
        _check_length(header, stream.seek(0, os.SEEK_END) - start)
    elif header.syntax != uid.DeflatedExplicitVRLittleEndian:
        decoder_of(header)
    size = header.view().of_pair(header.size)
    return SliceHeader(size, header.mode(), tags, unit_open=rescale is None or not header.is_hu)


def _check_length(header: Header, available: int) -> None:
    rows, columns = header.size
    needed = rows * columns * header.bits_allocated // 8
    if available < needed:
        if available <= 0:
            raise UnreadableSlice("holds no pixel data")
        raise UnreadableSlice(f"the file is cut short: {available} of {needed} bytes of pixel data")


def _stored_values(header: Header) -> np.ndarray:
    """Stored pixel values, signed or unsigned, with unused high bits put right (PS3.5 section 8.1.1)."""
    is_little = header.syntax != uid.ExplicitVRBigEndian
    if header.syntax not in (*NATIVE, uid.DeflatedExplicitVRLittleEndian):
        return decompressed(header, 0, 1)
    if header.bits_allocated == 8 and not is_little:
        raise UnreadableSlice("8-bit pixels in big endian are not supported: their order is ambiguous")
    native = header.pixels()
    _check_length(header, len(native))
    return native_values(header, native)


def native_values(header: Header, native: bytes) -> np.ndarray:
    """Give the stored values of one frame that is not compressed."""
    is_little = header.syntax != uid.ExplicitVRBigEndian
    kind = f"{'<' if is_little else '>'}{'i' if header.is_signed else 'u'}{header.bits_allocated // 8}"
    rows, columns = header.size
    stored = np.frombuffer(native, kind, count=rows * columns).reshape(rows, columns)
    return _without_unused_bits(stored.astype(stored.dtype.newbyteorder("="), copy=False), header)


def decompressed(header: Header, index: int, frames: int) -> np.ndarray:
    """Decompress one of the frames of a file whose pixels are in its data set.

    Raises
    ------
    UnreadableSlice
        If its stream is damaged or declares another picture, or no decoder for it is installed.
    """
    decoder, plugin = decoder_of(header)
    try:
        # As pydicom will give it to the decoder.
        frame = get_frame(header.pixels(), index, number_of_frames=frames)
        _CHECKS[header.syntax](frame, Described(*header.size, header.bits_allocated, header.bits_stored))
        if plugin == "gdcm":
            check_lossless_head(frame, header.size)
        stored, _ = decoder.as_array(header.dataset, index=index, raw=True, decoding_plugin=plugin)
    except UnreadableSlice:
        raise
    # Decoders raise whatever a broken byte leads to; each means the same here.
    except Exception as error:
        raise damaged(error) from error
    if stored.shape != header.size:
        raise UnreadableSlice(f"decoded to shape {stored.shape} where the header says {header.size}")
    return stored


def decoder_of(header: Header) -> tuple["Decoder", str]:
    """Give the decoder for a compressed file, and the plug-in that shall do it.

    Raises
    ------
    UnreadableSlice
        If none is installed.
    """
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


def _without_unused_bits(values: np.ndarray, header: Header) -> np.ndarray:
    unused = header.bits_allocated - header.bits_stored
    return (values << unused) >> unused if unused else values


def _stay_integers(stored: np.ndarray, slope: float, intercept: float) -> bool:
    """Whether HU are whole numbers of 16 bits, before wrapped ones are unwrapped too."""
    if slope != 1 or not intercept.is_integer() or not -32768 <= intercept <= 32767:
        return False
    low, high = int(stored.min()), int(stored.max())
    return low + min(intercept, 0) >= -32768 and high + max(intercept, 0) <= 32767


def _padding(header: Header, stored: np.ndarray) -> np.ndarray | None:
    """Where pixels lie outside what was scanned; None where there are none."""
    bounds = [
        # Read by Pixel Representation, whatever type the element itself claims: the two often disagree.
        _without_unused_bits(np.array(header.integer(tag, 0, header.is_signed)).astype(stored.dtype), header)
        for tag in (PADDING, PADDING_LIMIT)
        if header.raw(tag)
    ]
    if not header.raw(PADDING):
        return None
    padding = (stored >= min(bounds)) & (stored <= max(bounds)) if len(bounds) == 2 else stored == bounds[0]
    return padding if padding.any() else None


def _is_wrapped(header: Header, slope: float, intercept: float) -> bool:
    """Whether negative Hounsfield units wrapped around at 4096, as in some scanners' part of RSNA 2019.

    Such files claim 12 unsigned bits and no negative intercept, so that they could hold no air. What they
    hold is HU modulo 4096: -1000 stands as 3096, and 3096 and above are negative. First described in
    "Cleaning the data for rapid prototyping with fastai" (J. Howard, Kaggle 2019), with the same bounds.
    """
    return not header.is_signed and header.bits_stored == 12 and slope == 1 and intercept > -100
