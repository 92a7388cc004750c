"""The elements of a DICOM file that is as the standard has it, read in one pass over its bytes.

pydicom makes objects of every file's parts before one of its elements is asked for, which takes five times as
long. So what is beyond doubt is read here: little endian and not compressed, a preamble, elements of known
types in rising order, each whole, of lengths that are said. Of anything else nothing is said, and pydicom
reads it (`dicom_stream`).
"""

import struct
from collections.abc import Collection
from typing import NamedTuple

from pydicom import uid
from pydicom.charset import python_encoding
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

__all__ = ["Element", "PlainDataset", "plain_dataset"]

_SYNTAXES = {syntax.encode(): syntax for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)}
_TRANSFER_SYNTAX, _CHARACTER_SET = 0x00020010, 0x00080005
_PREAMBLE_BYTES, _MAGIC = 128, b"DICM"
_META, _KINDS_OF_META = range(0x00020000, 0x00030000), ("UL", "OB", "UI")
_FIRST = 0x00080000
_ITEMS = 0xFFFE0000  # and all after: they are of sequences
_UNKNOWN_LENGTH = 0xFFFFFFFF
_CHARACTERS = {name.encode() for name in python_encoding}
_LONG = {kind.encode() for kind in EXPLICIT_VR_LENGTH_32}
_SHORT = {kind.encode() for kind in VR if len(kind) == 2} - _LONG
_WITH_TYPE, _WITHOUT_TYPE, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHL"), struct.Struct("<L")
# Larger than that, or of more elements, is no common slice.
_MOST_BYTES = 1 << 24
_MOST_ELEMENTS = 20_000


class Element(NamedTuple):
    """One element, by the names that pydicom has for its parts."""

    VR: str | None
    value: bytes
    is_little_endian: bool = True


class PlainDataset:
    """What `Header` asks of a data set.

    Attributes
    ----------
    file_meta : dict of str to UID
        The transfer syntax.
    """

    def __init__(self, elements: dict[int, Element], syntax: uid.UID):
        self._elements = elements
        self.file_meta = {"TransferSyntaxUID": syntax}

    def __len__(self) -> int:
        return len(self._elements)

    def __contains__(self, tag: int) -> bool:
        return tag in self._elements

    def get_item(self, tag: int) -> Element:
        """One element as it is stored."""
        return self._elements[tag]


def plain_dataset(data: bytes, tags: Collection[int]) -> PlainDataset | None:
    """Read elements of a whole file; None where pydicom has to.

    Parameters
    ----------
    data : bytes
    tags : collection of int
        The elements that are wanted.
    """
    start = _PREAMBLE_BYTES + len(_MAGIC)
    if data[_PREAMBLE_BYTES:start] != _MAGIC or len(data) > _MOST_BYTES:
        return None
    meta, start = _elements(data, start, _META, _META[0], _META.stop, True)
    name, length = meta.get(_TRANSFER_SYNTAX), meta.get(_META[0], Element("UL", bytes(4)))
    if name is None or name.VR != "UI" or (length.VR, len(length.value)) != ("UL", 4):
        return None
    syntax = _SYNTAXES.get(name.value.rstrip(b"\0 "))
    # pydicom makes sense of the first element at once, and may not.
    if syntax is None or next(iter(meta.values())).VR not in _KINDS_OF_META:
        return None
    has_types = syntax == uid.ExplicitVRLittleEndian
    # Files that say they have no types may have them, as pydicom sees by the first element.
    if not has_types and data[start + 4 : start + 6].isupper():
        return None
    found, end = _elements(data, start, {*tags, _CHARACTER_SET}, _FIRST, _ITEMS, has_types)
    characters = found.get(_CHARACTER_SET, Element("CS", b""))
    # And of this.
    if characters.VR not in ("CS", None) or characters.value.rstrip() not in _CHARACTERS:
        return None
    return PlainDataset(found, syntax) if end == len(data) else None


def _elements(
    data: bytes, place: int, tags: Collection[int], first: int, after: int, has_types: bool
) -> tuple[dict[int, Element], int]:
    """Elements from a place on, and where the first one begins that is not in order, whole and sound."""
    found: dict[int, Element] = {}
    kind = None
    for _ in range(_MOST_ELEMENTS):
        if place + 8 > len(data):
            break
        start = place + 8
        if has_types:
            group, number, kind, length = _WITH_TYPE.unpack_from(data, place)
            if kind in _LONG and start + 4 <= len(data):
                (length,) = _LENGTH.unpack_from(data, start)
                start += 4
            elif kind not in _SHORT:
                break
        else:
            group, number, length = _WITHOUT_TYPE.unpack_from(data, place)
        tag, end = group << 16 | number, start + length
        if not first <= tag < after or length == _UNKNOWN_LENGTH or end > len(data):
            break
        if tag in tags:
            found[tag] = Element(kind and kind.decode(), data[start:end])
        first, place = tag + 1, end
    return found, place
