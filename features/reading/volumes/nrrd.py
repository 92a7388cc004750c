"""NRRD, in one file (``.nrrd``) or as a header (``.nhdr``) with the voxels in a file beside it.

The header is text, one field a line (http://teem.sourceforge.net/nrrd/format.html).
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

__all__ = ["NRRD", "open_nrrd"]

_START = b"NRRD00"
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **{"float": "f4", "double": "f8"},
}
# To DICOM's coordinates: left, back, up.
_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
}
_VECTOR = re.compile(r"\(([^()]*)\)|none")


def open_nrrd(path: Path) -> GridVolume:
    """Open a NRRD file with one scan, its voxels raw or packed by gzip.

    Raises
    ------
    UnreadableSlice
        If it is damaged, holds several volumes or colours, or no axial slices.
    """
    fields, end = _fields(path)
    sides = three_sides(fields.get("sizes", ""))
    kind = fields.get("type", "").lower()
    if kind not in _TYPES:
        raise not_ct(kind)
    dtype = np.dtype(_TYPES[kind]).newbyteorder(
        "<" if fields.get("endian", "little").lower() == "little" else ">"
    )
    file, start = _data_file(path, fields), end
    if file != path:
        start = 0
    stored = Stored(file, dtype, sides, *_place(fields, file, start, dtype.itemsize * math.prod(sides)))
    steps, origin, has_place = _affine(fields)
    return GridVolume(
        Grid(stored, steps, origin, f"NRRD {dtype.newbyteorder('=').name}", has_place=has_place)
    )


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields by name in lower case, and where the header ends."""
    with path.open("rb") as stream:
        head = stream.read(MOST_BYTES)
    if not head.startswith(_START):
        raise UnreadableSlice("not a NRRD file: it does not begin with NRRD")
    end = min((at + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if (at := head.find(mark)) >= 0), default=-1)
    if end < 0:
        if len(head) == MOST_BYTES:
            raise UnreadableSlice("the header is damaged: it does not end")
        end = len(head)
    fields = {}
    for line in head[:end].decode("latin-1").splitlines()[1:]:
        name, colon, value = line.partition(":")
        # "name:=value" are notes of whoever wrote the file.
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    return fields, end


def _data_file(path: Path, fields: dict[str, str]) -> Path:
    name = fields.get("data file", fields.get("datafile", ""))
    if name.upper().startswith("LIST") or "%" in name:
        raise UnreadableSlice("its voxels lie in several files; save it as one .nrrd")
    return file_beside(path, name) if name else path


def _place(fields: dict[str, str], file: Path, start: int, size: int) -> tuple[int, int | None]:
    """Offset of the first voxel, and where a packed stream begins, if it is one."""
    encoding = fields.get("encoding", "").lower()
    lines, skip = (
        int((numbers_of(fields.get(name, fields.get(name.replace(" ", ""), "0"))) or [0])[0])
        for name in ("line skip", "byte skip")
    )
    if lines or skip < -1:
        raise UnreadableSlice("its voxels begin after lines of text; save it as one .nrrd")
    if encoding in ("gzip", "gz"):
        return max(0, skip), start
    if encoding != "raw":
        raise UnreadableSlice(
            f"its voxels are packed as {encoding or 'nothing says what'}; save it raw or by gzip"
        )
    if skip == -1:
        return max(0, file.stat().st_size - size), None
    return start + skip, None


def _affine(fields: dict[str, str]) -> tuple[np.ndarray, np.ndarray, bool]:
    directions = [
        numbers_of(found[1] or "") for found in _VECTOR.finditer(fields.get("space directions", ""))
    ]
    if not directions:
        spacings = numbers_of(fields.get("spacings", "")) or [1.0, 1.0, 1.0]
        return np.diag(np.abs(np.resize(spacings, 3))), np.zeros(3), False
    space = fields.get("space", "").lower()
    if space not in _SPACES:
        raise UnreadableSlice(f"its space {space or 'is not named'} says nothing of how the head lies")
    if len(directions) != 3 or any(len(one) != 3 for one in directions):
        raise UnreadableSlice("the header is damaged: its space directions are not three of three numbers")
    origin = numbers_of(fields.get("space origin", "").strip("()"))
    to_lps = np.array(_SPACES[space])
    steps = np.array(directions).T * to_lps[:, None]
    return steps, (np.array(origin) if len(origin) == 3 else np.zeros(3)) * to_lps, True


def _data_file_of(path: Path) -> Path:
    return _data_file(path, _fields(path)[0])


NRRD = Format(
    names=("NRRD",),
    suffixes=(".nrrd", ".nhdr"),
    decode=only_by_number,
    starts=(_START,),
    has_tags=True,
    open_volume=open_nrrd,
    data_file=_data_file_of,
)
