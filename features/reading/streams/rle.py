"""The head of an RLE frame (DICOM PS3.5 annex G): its segments, and how much they unpack to."""

import struct
from itertools import pairwise

from haemo.errors import UnreadableSlice
from haemo.features.reading.streams.described import Described, unsound

__all__ = ["check_rle"]

_HEAD_BYTES = 64
_MOST_SEGMENTS = 15
# Two bytes may become 128. Segments that cannot unpack to more than this are not counted, as counting takes
# a third of the time of unpacking; a usual slice of 512 x 512 pixels never is.
_UNCOUNTED_BYTES = 1 << 26
_BYTES_A_BYTE = 64


def check_rle(frame: bytes, described: Described) -> None:
    """Refuse a frame whose segments are not those of the header's picture, or unpack to more than it.

    Parameters
    ----------
    frame : bytes
    described : Described

    Raises
    ------
    UnreadableSlice
    """
    if len(frame) < _HEAD_BYTES:
        raise unsound("RLE", "cut short")
    count, *offsets = struct.unpack_from("<16I", frame)
    if not 1 <= count <= _MOST_SEGMENTS:
        raise unsound("RLE", f"{count} segments")
    if 8 * count != described.bits_allocated:
        raise UnreadableSlice(
            f"its RLE stream declares {count} segments, but {described.bits_allocated} bits allocated make "
            f"{described.bits_allocated // 8}"
        )
    bounds = [*offsets[:count], len(frame)]
    if bounds[0] < _HEAD_BYTES or any(start > end for start, end in pairwise(bounds)):
        raise unsound("RLE", f"segments at {', '.join(map(str, offsets[:count]))} of {len(frame)} bytes")
    pixels = described.rows * described.columns
    for start, end in pairwise(bounds):
        could = _BYTES_A_BYTE * (end - start) > max(_UNCOUNTED_BYTES, 2 * pixels)
        if could and _unpacks_past(2 * pixels, frame, start, end):  # some encoders pad what they pack
            raise UnreadableSlice(
                f"a segment of its RLE stream unpacks to more than {2 * pixels} bytes, but the DICOM "
                f"header says {described.rows} x {described.columns} pixels"
            )


def _unpacks_past(most: int, frame: bytes, place: int, end: int) -> bool:
    unpacked = 0
    while place < end and unpacked <= most:
        head = frame[place]
        if head < 128:
            unpacked += head + 1
            place += head + 2
        elif head > 128:
            unpacked += 257 - head
            place += 2
        else:
            place += 1
    return unpacked > most
