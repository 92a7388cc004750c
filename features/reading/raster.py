"""Pictures as they are shown on a screen: PNG, JPEG, TIFF and BMP, in any colour mode, as gray 0..255.

Pillow decodes them. libpng and libjpeg-turbo by way of imagecodecs or simplejpeg give the same pixels, and
save a quarter of the decoder's time at most (``make bench-decoding``): no reason for another native decoder.
"""

import importlib
import math
import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.format import Format
from haemo.features.reading.said import said_on_stderr
from haemo.features.reading.slice import Slice, SliceHeader, Unitless, check_size, damaged
from haemo.features.reading.streams.jpeg import check_scans
from haemo.features.reading.streams.tiff import MOST_COUNTED, count_pictures

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = ["PICTURES", "decode_raster", "read_raster_header"]

_PNG = b"\x89PNG\r\n\x1a\n"
# First bytes -> Pillow's reader. The reader is called by itself, not through Image.open: that would try
# formats nobody asked for, and warn on standard error of sizes that are refused here anyway.
_READERS = {
    _PNG: ("PIL.PngImagePlugin", "PngImageFile"),
    b"\xff\xd8\xff": ("PIL.JpegImagePlugin", "JpegImageFile"),
    b"II*\x00": ("PIL.TiffImagePlugin", "TiffImageFile"),
    b"MM\x00*": ("PIL.TiffImagePlugin", "TiffImageFile"),
    b"II+\x00": ("PIL.TiffImagePlugin", "TiffImageFile"),
    b"MM\x00+": ("PIL.TiffImagePlugin", "TiffImageFile"),
    b"BM": ("PIL.BmpImagePlugin", "BmpImageFile"),
}
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_GRAY = ("1", "L")
_COLOUR = ("P", "RGB", "RGBX", "CMYK", "YCbCr")
_ORIENTATION = 0x0112  # of EXIF
# Orientations that change height and width for each other, and which axes are turned round, after that.
_ON_ITS_SIDE = (5, 6, 7, 8)
_FLIPS = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
_COMPRESSION, _PHOTOMETRIC, _TILE_WIDTH, _TILE_HEIGHT = 259, 262, 322, 323  # tags of TIFF
_NONE, _FAX = 1, (2, 3, 4)
_BMP_HEAD_BYTES = 54
# Decoders hold a whole tile; one as large as the picture, with its sides rounded up to 16, may be larger.
_MOST_TILE_PIXELS = 2048 * 2048


def decode_raster(data: bytes) -> Slice | Unitless:
    """Decode one picture.

    Gray is taken as it is: 1-bit as 0 and 255, 16-bit in its range of 0..65535, as it may be HU + 1024.
    16-bit colour and gray with alpha come from Pillow with their upper 8 bits. Colour becomes luma (ITU-R
    BT.601, 8-bit); a colour file whose channels agree is gray in disguise and keeps its values. Transparent
    pixels are laid over black, the colour of air. Pictures are turned as their EXIF orientation says, which
    phones write. Colour profiles are not applied.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    Slice or Unitless
        With gray levels in 0..255; of 16-bit gray the second.

    Raises
    ------
    UnreadableSlice
        If it is no such file, is damaged or cut short, holds several pictures, or a kind of pixel that has
        no defined gray level (32-bit integer or float, signed 16-bit, Lab).
    """
    if data.startswith(_PNG):
        _check_png(data)
    check_scans(data)
    if data.startswith(b"BM"):
        _check_bmp(data)
    image = _open(BytesIO(data))
    mode = f"{image.format} {image.mode}"
    try:
        _load(image)
        if image.mode in _SIXTEEN_BIT:
            values = _upright(np.asarray(image).astype(np.float32), _orientation(image))
            return Unitless(values, mode=mode, gray_full=65535.0)
        gray, is_colour = _as_gray(image)
        gray = _upright(gray, _orientation(image))
    except UnreadableSlice:
        raise
    # As in `_open`: whatever is raised over a broken byte means that the file is damaged.
    except Exception as error:
        raise damaged(error) from error
    return Slice.of_integers(gray, is_hu=False, mode=mode, is_colour=is_colour)


def read_raster_header(stream: BinaryIO) -> SliceHeader:
    """Read size and mode of a picture without decoding it.

    Raises
    ------
    UnreadableSlice
        As in `decode_raster`, as far as the header shows it.
    """
    image = _open(stream)
    height, width = image.height, image.width
    if _orientation(image) in _ON_ITS_SIDE:
        height, width = width, height
    mode = f"{image.format} {image.mode}"
    return SliceHeader((height, width), mode, unit_open=image.mode in _SIXTEEN_BIT)


def _open(stream: BinaryIO) -> "ImageFile":
    start = stream.read(16)
    stream.seek(0)
    reader = next((names for magic, names in _READERS.items() if start.startswith(magic)), None)
    if reader is None:
        raise UnreadableSlice("not a picture: it starts like neither PNG, JPEG, TIFF nor BMP")
    try:
        module, name = reader
        pictures = count_pictures(stream) if name == "TiffImageFile" else 0
        stream.seek(0)
        image = getattr(importlib.import_module(module), name)(stream)
        if pictures:
            _check_tags(image)
        pictures = pictures or getattr(image, "n_frames", 1)
    except UnreadableSlice:
        raise
    # Pillow's parsers raise whatever a broken byte leads to, from struct.error to KeyError; each of them
    # means the same here: the file is damaged.
    except Exception as error:
        raise damaged(error) from error
    check_size(image.height, image.width)
    if pictures > 1:
        number = f"{pictures} or more" if pictures == MOST_COUNTED else pictures
        raise UnreadableSlice(f"holds {number} pictures; save each slice as a file of its own")
    if image.mode not in (*_SIXTEEN_BIT, *_GRAY, *_COLOUR, "LA", "RGBA", "PA"):
        raise UnreadableSlice(
            f"{image.format} pixels of mode {image.mode} have no defined gray level; "
            "save as 8-bit or unsigned 16-bit, or as DICOM"
        )
    return image


def _load(image: "ImageFile") -> None:
    if image.format != "TIFF" or image.tag_v2.get(_COMPRESSION, _NONE) == _NONE:
        image.load()
        return
    # libtiff may go on after an error, and fill in what it could not unpack.
    with said_on_stderr() as said:
        image.load()
    if said:
        raise UnreadableSlice(f"the file is damaged ({said[0].strip()})")


def _as_gray(image: "ImageFile") -> tuple[np.ndarray, bool]:
    """Gray levels as uint8, and whether colour was lost on the way."""
    if image.has_transparency_data:
        image = _over_black(image)
    if image.mode in _GRAY:
        return np.asarray(image if image.mode == "L" else image.convert("L")), False
    colours = image if image.mode == "RGB" else image.convert("RGB")
    channels = colours.split()
    red, green, blue = (channel.tobytes() for channel in channels)
    is_colour = not red == green == blue
    return np.asarray(colours.convert("L") if is_colour else channels[0]), is_colour


def _orientation(image: "ImageFile") -> int:
    """How the picture is to be turned, 1 to 8 as EXIF 2.3 numbers it; Pillow has turned TIFF already."""
    # Asked for what is not there, Pillow decodes a whole PNG to look behind its pixels.
    if image.format == "TIFF" or "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    # Damaged notes of a camera say nothing, and the pixels are whole: they have been checked for themselves.
    except Exception:
        return 1


def _upright(gray: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in _ON_ITS_SIDE:
        gray = gray.T
    rows, columns = _FLIPS.get(orientation, (1, 1))
    return np.ascontiguousarray(gray[::rows, ::columns])


def _over_black(image: "ImageFile") -> "ImageFile":
    from PIL import Image

    is_gray = image.mode in ("1", "L", "LA")
    image = image.convert("LA" if is_gray else "RGBA")
    shown = image.convert("L" if is_gray else "RGB")
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return shown
    return Image.composite(shown, Image.new(shown.mode, shown.size), alpha)


def _check_tags(image: "ImageFile") -> None:
    if image.tag_v2.get(_PHOTOMETRIC) is None:
        raise UnreadableSlice("the file is damaged: it does not say whether 0 is black or white")
    if image.tag_v2.get(_COMPRESSION) in _FAX:
        raise UnreadableSlice(
            "packed by fax codes, whose decoder fills in what is damaged without saying so; save as PNG"
        )
    tile = [image.tag_v2.get(tag, 0) for tag in (_TILE_HEIGHT, _TILE_WIDTH)]
    if math.prod(tile) > max(_MOST_TILE_PIXELS, (image.height + 15) * (image.width + 15)):
        raise UnreadableSlice(
            f"the file is damaged: tiles of {tile[0]} x {tile[1]} pixels in a picture of {image.height} x "
            f"{image.width}"
        )


def _check_png(data: bytes) -> None:
    """Verify the checksum of every chunk: Pillow skips those of the pixels, and decodes a flipped bit."""
    place = len(_PNG)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            raise UnreadableSlice("the file is cut short")
        if struct.unpack_from(">I", data, end)[0] != zlib.crc32(memoryview(data)[place + 4 : end]):
            raise UnreadableSlice("the file is damaged: a PNG checksum does not match")
        if data[place + 4 : place + 8] == b"IEND":
            return
        place = end + 4
    raise UnreadableSlice("the file is cut short")


def _check_bmp(data: bytes) -> None:
    """Refuse pixels that begin before the palette ends: Pillow would take them from elsewhere."""
    if len(data) < _BMP_HEAD_BYTES:
        raise UnreadableSlice("the file is cut short")
    pixels, head = struct.unpack_from("<II", data, 10)
    bits, colours = (0, 0)
    if head >= _BMP_HEAD_BYTES - 14:
        (bits,), (colours,) = struct.unpack_from("<H", data, 28), struct.unpack_from("<I", data, 46)
    palette = 4 * min(colours or 256, 1 << bits) if 0 < bits <= 8 else 0
    if pixels < 14 + head + palette:
        raise UnreadableSlice(f"the file is damaged: its pixels would begin at byte {pixels}, in its head")


PICTURES = Format(
    names=("PNG", "JPEG", "TIFF", "BMP"),
    suffixes=(".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp"),
    decode=decode_raster,
    read_header=read_raster_header,
    starts=tuple(_READERS),
)
