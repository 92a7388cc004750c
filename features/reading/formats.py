"""One file, one slice: the table of file formats, and which of them reads a file."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.extensions import Extensions
from haemo.features.reading.format import Format
from haemo.features.reading.slice import Slice, SliceHeader

__all__ = ["FORMATS", "by_suffix", "format_names", "read_header", "read_slice"]

# A file is read by the first format that knows it, those that tell by content before those that tell by
# suffix alone. Built-in ones come first, so that no plug-in takes a file away from them.
FORMATS: Extensions[Format] = Extensions(
    "file format",
    "haemo.readers",
    Format,
    {
        "dicom": "haemo.features.reading.dicom_format:DICOM",
        "pictures": "haemo.features.reading.raster:PICTURES",
    },
)

Read = TypeVar("Read")

_MAX_BYTES = 1 << 30
_SNIFFED = 132


def by_suffix() -> dict[str, Format]:
    """Give the format that files with a suffix are expected to have, by the suffix in lower case."""
    found: dict[str, Format] = {}
    for format_ in FORMATS.usable().values():
        for suffix in format_.suffixes:
            found.setdefault(suffix, format_)
    return found


def format_names() -> list[str]:
    """Give what can be read, as people call it: pictures first, DICOM and its like last."""
    formats = sorted(FORMATS.usable().values(), key=lambda format_: format_.has_tags)
    return [name for format_ in formats for name in format_.names]


def read_slice(path: Path) -> Slice:
    """Decode one file: PNG, JPEG, TIFF, BMP, DICOM or the format of a plug-in, told apart by content.

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
    data = _bytes_of(path)
    name, format_ = _format_of(data[:_SNIFFED], path)
    if FORMATS.is_builtin(name):
        return format_.decode(data)
    return _read_by_plugin(name, lambda: _checked(format_.decode(data)))


def read_header(path: Path) -> SliceHeader:
    """Read size, mode and identifiers of one file, decoding no pixels where its format can tell without.

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
            name, format_ = _format_of(start, path)
            if FORMATS.is_builtin(name):
                return format_.header(stream)
            return _read_by_plugin(name, lambda: format_.header(stream))
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error


def _format_of(start: bytes, path: Path) -> tuple[str, Format]:
    """The format that reads a file, with its name in the table."""
    suffix = Path(path).suffix.lower()
    formats = sorted(FORMATS.usable().items(), key=lambda item: not item[1].by_content)
    found = next((item for item in formats if item[1].knows(start, suffix)), None)
    if found is None:
        *names, last = format_names()
        kind = "text" if _is_text(start[:16]) else f"neither {', '.join(names)} nor {last}"
        raise UnreadableSlice(f"not a picture: the content is {kind}")
    return found


def _read_by_plugin(name: str, read: Callable[[], Read]) -> Read:
    """What a plug-in reads; whatever it raises over the bytes of a file means that this cannot be used."""
    try:
        return read()
    except (UnreadableSlice, MemoryError):
        raise
    except Exception as error:
        raise UnreadableSlice(f"the reader {name!r} failed ({type(error).__name__}: {error})") from error


def _checked(slice_: Slice) -> Slice:
    """Refuse a slice of a plug-in that is not what every slice must be."""
    pixels = slice_.pixels
    if pixels.ndim != 2 or pixels.dtype != np.float32 or not np.isfinite(pixels).all():
        raise ValueError(f"pixels must be finite float32 in 2-D, not {pixels.dtype} of shape {pixels.shape}")
    if not slice_.is_hu and not (pixels.min() >= 0 and pixels.max() <= 255):
        raise ValueError(f"gray levels from {pixels.min():g} to {pixels.max():g}, not within 0 to 255")
    return slice_


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


def _is_text(start: bytes) -> bool:
    try:
        return all(character.isprintable() or character.isspace() for character in start.decode("utf-8"))
    except UnicodeDecodeError:
        return False
