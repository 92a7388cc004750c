"""The head of a lossless JPEG stream (ITU-T T.81, process 14), checked before a decoder sees it.

GDCM is the only free decoder of it for 16 bits, and ends the whole process where tables are damaged. With a
head that is sound, damage further on ends in an error or in pixels, as with any decoder.
"""

import struct

from haemo.errors import UnreadableSlice

__all__ = ["check_lossless_head"]

_TABLES, _FRAME, _SCAN = 0xC4, 0xC3, 0xDA
_PASSED_OVER = (0xDD, 0xFE, *range(0xE0, 0xF0))
_MOST_BITS = 16


def check_lossless_head(stream: bytes, size: tuple[int, int]) -> None:
    """Refuse a stream whose head is damaged or does not describe one gray picture of `size`.

    Parameters
    ----------
    stream : bytes
        From the start-of-image marker on.
    size : tuple of int
        Height and width that the picture must have.

    Raises
    ------
    UnreadableSlice
        If a segment is malformed, missing, or of another process.
    """
    component, tables = None, set()
    place = 2
    while stream[:2] == b"\xff\xd8" and stream[place : place + 1] == b"\xff" and place + 4 <= len(stream):
        marker, length = struct.unpack_from(">BH", stream, place + 1)
        segment = stream[place + 4 : place + 2 + length]
        if marker == _TABLES:
            tables |= _huffman_tables(segment)
        elif marker == _FRAME:
            component = _component(segment, size)
        elif marker == _SCAN:
            _check_scan(segment, component, tables)
            return
        elif marker not in _PASSED_OVER or length < 2:
            break
        place += 2 + length
    raise _damaged()


def _huffman_tables(segment: bytes) -> set[int]:
    """Selectors of the Huffman tables that a segment defines, each a code that can be built."""
    tables = set()
    while segment:
        counts = segment[1:17]
        values = segment[17 : 17 + sum(counts)]
        used = sum(count << (_MOST_BITS - bits) for bits, count in enumerate(counts, 1))
        sound = len(counts) == _MOST_BITS and 0 < len(values) == sum(counts)
        if not sound or segment[0] > 3 or used > 1 << _MOST_BITS or max(values) > _MOST_BITS:
            raise _damaged()
        tables.add(segment[0])
        segment = segment[17 + len(values) :]
    return tables


def _component(segment: bytes, size: tuple[int, int]) -> int:
    """Identifier of the only component."""
    if len(segment) != 9:
        raise _damaged()
    precision, rows, columns, components, identifier, sampling, _ = struct.unpack(">BHHBBBB", segment)
    if (rows, columns) != size or components != 1 or sampling != 0x11 or not 2 <= precision <= _MOST_BITS:
        raise _damaged()
    return identifier


def _check_scan(segment: bytes, component: int | None, tables: set[int]) -> None:
    if len(segment) != 6:
        raise _damaged()
    components, identifier, selector, predictor, last, transform = segment
    known = identifier == component and selector >> 4 in tables
    if components != 1 or not known or not 1 <= predictor <= 7 or last != 0 or transform >= _MOST_BITS:
        raise _damaged()


def _damaged() -> UnreadableSlice:
    return UnreadableSlice("the file is damaged: the head of its JPEG stream is not sound")
