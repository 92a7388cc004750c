"""What is called by a path becomes a slice: the table of file formats, and which of them reads a file."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, TypeVar

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.extensions import Extensions
from haemo.features.reading.address import SliceAddress, file_of
from haemo.features.reading.format import Format, suffix_of
from haemo.features.reading.slice import Slice, SliceHeader, Unitless
from haemo.features.reading.unit import mode_in_unit, settled
from haemo.features.reading.volume import OpenVolumes, Volume

__all__ = [
    "FORMATS",
    "by_suffix",
    "decode_slice",
    "format_names",
    "may_hold_several",
    "open_volume",
    "read_header",
    "read_slice",
    "slices_in",
    "stamp_of",
]

# A file is read by the first format that knows it, those that tell by content before those that tell by
# suffix alone. Built-in ones come first, so that no plug-in takes a file away from them.
FORMATS: Extensions[Format] = Extensions(
    "file format",
    "haemo.readers",
    Format,
    {
        "enhanced-ct": "haemo.features.reading.volumes.enhanced_format:ENHANCED",
        "dicom": "haemo.features.reading.dicom_format:DICOM",
        "pictures": "haemo.features.reading.raster:PICTURES",
        "nifti": "haemo.features.reading.volumes.nifti:NIFTI",
        "nrrd": "haemo.features.reading.volumes.nrrd:NRRD",
        "metaimage": "haemo.features.reading.volumes.metaimage:METAIMAGE",
    },
)

Read = TypeVar("Read")

# Colour of the largest slice, as it is; and what is beside it.
_MAX_BYTES = 200 << 20
_SNIFFED = 1024
_volumes = OpenVolumes()


def by_suffix() -> Mapping[str, Format]:
    """Give the format that files with a suffix are expected to have, by the suffix in lower case."""
    return _by_suffix(FORMATS)


@lru_cache(maxsize=2)
def _by_suffix(table: Extensions[Format]) -> Mapping[str, Format]:
    found: dict[str, Format] = {}
    for format_ in table.usable().values():
        for suffix in format_.suffixes:
            found.setdefault(suffix, format_)
    return MappingProxyType(found)


def format_names() -> list[str]:
    """Give what can be read, as people call it: pictures first, DICOM and its like last."""
    formats = sorted(FORMATS.usable().values(), key=lambda format_: format_.has_tags)
    return [name for format_ in formats for name in format_.names]


def read_slice(path: Path) -> Slice:
    """Decode one slice: PNG, JPEG, TIFF, BMP, DICOM, or of a volume; told apart by content.

    Parameters
    ----------
    path : Path
        Of a file; of a slice of a volume ``FILE#12`` (`address`).

    Returns
    -------
    Slice

    Raises
    ------
    UnreadableSlice
        If the file is missing, empty, damaged, too large, or not one gray or colour picture or CT slice.
        The message is the reason, without the path.
    """
    address = SliceAddress.of(path)
    if address.number is not None:
        return open_volume(address.file).slice(address.number, address.unit)
    return decode_slice(_bytes_of(address.file), address)


def decode_slice(data: bytes, address: SliceAddress) -> Slice:
    """Decode all bytes of a file that is one slice; errors as `read_slice`."""
    name, format_ = _format_of(data[:_SNIFFED], address.file)
    if FORMATS.is_builtin(name):
        return _settled(format_.decode(data), address)
    return _read_by_plugin(name, lambda: _checked(_settled(format_.decode(data), address)))


def read_header(path: Path, read: Callable[[Path], Slice] = read_slice) -> SliceHeader:
    """Read size, mode and identifiers of one slice, decoding pixels only where nothing else tells their unit.

    A slice that passes may still fail in `read_slice`: damage past the header shows only there.

    Parameters
    ----------
    path : Path
    read : callable
        What decodes those pixels.

    Raises
    ------
    UnreadableSlice
        As in `read_slice`.
    """
    address = SliceAddress.of(path)
    if address.number is not None:
        volume = open_volume(address.file)
        if volume.is_compressed and volume.unit_open and address.unit is None:
            return replace(volume.header(address.number, "hu"), mode=read(path).mode)
        return volume.header(address.number, address.unit)
    size = _size_of(address.file)
    with _opened(address.file) as (stream, name, format_):
        if FORMATS.is_builtin(name):
            header = format_.header(stream)
        else:
            header = _read_by_plugin(name, lambda: format_.header(stream))
    _check_bytes(size)  # not before: what is no slice may be larger
    if not header.unit_open:
        return header
    if address.unit is not None:
        return replace(header, mode=mode_in_unit(header.mode, address.unit))
    return replace(header, mode=read(path).mode)


def open_volume(file: Path) -> Volume:
    """Open a file that holds several slices; those used last stay open.

    Raises
    ------
    UnreadableSlice
        If it is none, or damaged.
    """
    with _opened(file) as (_, name, format_):
        open_ = format_.open_volume
    if open_ is None:
        raise UnreadableSlice(f"{file.name} is one slice and not a volume: it has no slices by number")

    def opened(path: Path) -> Volume:
        try:
            return open_(path)
        except OSError as error:
            raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error

    if FORMATS.is_builtin(name):
        return _volumes.get(file, stamp_of(file), opened)
    return _read_by_plugin(name, lambda: _volumes.get(file, stamp_of(file), opened))


def stamp_of(path: Path) -> tuple[int, int]:
    """Size in bytes and time of last change in ns of what a slice is read from, also where that is two files.

    Raises
    ------
    UnreadableSlice
        If it is not there.
    """
    file = file_of(path)
    format_ = by_suffix().get(suffix_of(file))
    try:
        stamps = [file.stat()]
        if format_ is not None and format_.data_file is not None:
            data = format_.data_file(file)
            stamps += [data.stat()] if data != file else []
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error
    return sum(stamp.st_size for stamp in stamps), max(stamp.st_mtime_ns for stamp in stamps)


def may_hold_several(path: Path) -> bool:
    """Whether a file may be a volume by its suffix, or by having none, as DICOM files often do."""
    suffix = suffix_of(path)
    formats = [format_ for format_ in FORMATS.usable().values() if format_.open_volume]
    return any(suffix in format_.suffixes for format_ in formats) or suffix not in by_suffix()


def slices_in(path: Path) -> list[Path]:
    """Give the slices of a file: those of a volume each by its number, else the file itself.

    Raises
    ------
    UnreadableSlice
        If it is a volume that cannot be opened.
    """
    address = SliceAddress.of(path)
    if address.number is not None:
        return [path]
    try:
        with _opened(address.file) as (_, _, format_):
            is_volume = format_.open_volume is not None
    except UnreadableSlice:
        return [path]  # whoever reads it says why
    if not is_volume:
        return [path]
    numbers = range(1, open_volume(address.file).count + 1)
    return [replace(address, number=number).path for number in numbers]


@contextmanager
def _opened(file: Path) -> Iterator[tuple[BinaryIO, str, Format]]:
    """A file at its beginning, with its format and the name of this in the table."""
    try:
        with file.open("rb") as stream:
            start = stream.read(_SNIFFED)
            stream.seek(0)
            yield stream, *_format_of(start, file)
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error


def _settled(decoded: Slice | Unitless, address: SliceAddress) -> Slice:
    return settled(decoded, address.unit) if isinstance(decoded, Unitless) else decoded


def _format_of(start: bytes, path: Path) -> tuple[str, Format]:
    """The format that reads a file, with its name in the table."""
    suffix = suffix_of(path)
    found = next((item for item in _in_turn(FORMATS) if item[1].knows(start, suffix)), None)
    if found is None:
        *names, last = format_names()
        kind = "text" if _is_text(start[:16]) else f"neither {', '.join(names)} nor {last}"
        raise UnreadableSlice(f"not a picture: the content is {kind}")
    return found


@lru_cache(maxsize=2)
def _in_turn(table: Extensions[Format]) -> list[tuple[str, Format]]:
    """The formats in the order in which they are asked."""
    return sorted(table.usable().items(), key=lambda item: not item[1].by_content)


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
    return size


def _check_bytes(size: int) -> None:
    if size > _MAX_BYTES:
        raise UnreadableSlice(f"{size / 1e6:,.0f} MB are too much for one slice")


def _bytes_of(path: Path) -> bytes:
    _check_bytes(_size_of(path))
    try:
        with path.open("rb", buffering=0) as stream:
            return stream.read()
    except OSError as error:
        raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error


def _is_text(start: bytes) -> bool:
    try:
        return all(character.isprintable() or character.isspace() for character in start.decode("utf-8"))
    except UnicodeDecodeError:
        return False
