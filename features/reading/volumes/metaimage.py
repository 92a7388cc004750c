"""MetaImage, in one file (``.mha``) or as a header (``.mhd``) with the voxels in a file beside it.

The header is text, ``Name = Value`` a line, up to the one that names the data
(https://itk.org/Wiki/ITK/MetaIO/Documentation).
"""

import math
import re
from pathlib import Path

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.format import Format, only_by_number
from haemo.features.reading.volumes.grid import Grid, GridVolume
from haemo.features.reading.volumes.text_header import (
    MOST_BYTES,
    file_beside,
    not_ct,
    numbers_of,
    three_sides,
)
from haemo.features.reading.volumes.voxels import Stored

__all__ = ["METAIMAGE", "open_metaimage"]

_TYPES = {
    **{"CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4"},
    **{"LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8"},
}
_LINE = re.compile(rb"[ \t]*(\w+)[ \t]*=[ \t]*([^\r\n]*)\r?\n?")
_LAST = "elementdatafile"


def open_metaimage(path: Path) -> GridVolume:
    """Open a MetaImage with one scan, its voxels as they are or packed by zlib.

    Raises
    ------
    UnreadableSlice
        If it is damaged, holds several volumes or colours, or no axial slices.
    """
    fields, end = _fields(path)
    sides = three_sides(fields.get("dimsize", ""))
    kind = fields.get("elementtype", "").upper().removeprefix("MET_")
    if kind not in _TYPES or fields.get("elementnumberofchannels", "1") != "1":
        raise not_ct(kind)
    if _is_true(fields, "binarydata", "true") is False:
        raise UnreadableSlice("its voxels are written as text; save it in binary")
    order = (
        ">" if _is_true(fields, "binarydatabyteordermsb") or _is_true(fields, "elementbyteordermsb") else "<"
    )
    dtype = np.dtype(_TYPES[kind]).newbyteorder(order)
    file = _data_file(path, fields)
    start = end if file == path else 0
    skip = int((numbers_of(fields.get("headersize", "0")) or [0])[0])
    if _is_true(fields, "compresseddata"):
        stored = Stored(file, dtype, sides, 0, start)
    elif skip == -1:
        size = dtype.itemsize * math.prod(sides)
        stored = Stored(file, dtype, sides, max(0, file.stat().st_size - size))
    else:
        stored = Stored(file, dtype, sides, start + max(0, skip))
    steps, origin, has_place = _affine(fields)
    return GridVolume(
        Grid(stored, steps, origin, f"MetaImage {dtype.newbyteorder('=').name}", has_place=has_place)
    )


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields by name in lower case, and where the header ends."""
    with path.open("rb") as stream:
        head = stream.read(MOST_BYTES)
    fields, place = {}, 0
    while match := _LINE.match(head, place):
        name = match[1].decode("latin-1").lower()
        fields[name] = match[2].decode("utf-8", "surrogateescape").strip()
        place = match.end()
        if name == _LAST:
            return fields, place
    raise UnreadableSlice("the header is damaged or cut short: it does not say where its voxels are")


def _data_file(path: Path, fields: dict[str, str]) -> Path:
    name = fields[_LAST]
    if name.upper() == "LOCAL":
        return path
    if not name or name.upper().startswith("LIST") or "%" in name:
        raise UnreadableSlice("its voxels lie in several files; save it as one .mha")
    return file_beside(path, name)


def _affine(fields: dict[str, str]) -> tuple[np.ndarray, np.ndarray, bool]:
    spacing = numbers_of(fields.get("elementspacing", fields.get("elementsize", "")))
    origin = next(
        (numbers_of(fields[name]) for name in ("offset", "position", "origin") if name in fields), []
    )
    turn = next(
        (
            numbers_of(fields[name])
            for name in ("transformmatrix", "rotation", "orientation")
            if name in fields
        ),
        [],
    )
    spacing, origin = (
        numbers[:3] if len(numbers) >= 3 else [default] * 3
        for numbers, default in ((spacing, 1.0), (origin, 0.0))
    )
    # Each row is the direction of one axis, in DICOM's coordinates.
    has_place = len(turn) == 9
    directions = np.array(turn).reshape(3, 3).T if has_place else np.eye(3)
    return directions * np.abs(spacing), np.array(origin), has_place


def _is_true(fields: dict[str, str], name: str, default: str = "false") -> bool:
    return fields.get(name, default).lower() in ("true", "t", "1", "yes")


def _sniff(start: bytes, suffix: str) -> bool:
    """Tell it by its first line; these are plain words, so that the suffix must agree."""
    return suffix in (".mha", ".mhd") and _LINE.match(start) is not None


def _data_file_of(path: Path) -> Path:
    return _data_file(path, _fields(path)[0])


METAIMAGE = Format(
    names=("MetaImage",),
    suffixes=(".mha", ".mhd"),
    decode=only_by_number,
    sniff=_sniff,
    has_tags=True,
    open_volume=open_metaimage,
    data_file=_data_file_of,
)
