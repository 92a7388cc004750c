"""Segments of a JPEG (ITU-T T.81) or JPEG-LS stream (T.87) before its first scan: the picture it declares."""

import struct
from collections.abc import Iterator

from haemo.errors import UnreadableSlice
from haemo.features.reading.streams.described import Described, unsound

__all__ = ["check_jpeg", "check_jpeg_ls", "check_scans"]

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_FRAMES = {marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC)}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_FRAME_LS, _PARAMETERS_LS = 0xF7, 0xF8
_ALONE = (0x01, *range(0xD0, 0xD8), _START)
# Each scan of a progressive picture makes the decoder go through all of its pixels, though it takes some ten
# bytes of the file. Encoders write ten scans.
_MOST_SCANS = 100


def check_jpeg(stream: bytes, described: Described) -> None:
    """Refuse a JPEG stream, of whatever process, that does not declare the picture of the header.

    Parameters
    ----------
    stream : bytes
        From the start-of-image marker on.
    described : Described

    Raises
    ------
    UnreadableSlice
    """
    _hold("JPEG", stream, described, _FRAMES)
    check_scans(stream)


def check_jpeg_ls(stream: bytes, described: Described) -> None:
    """Refuse a JPEG-LS stream that does not declare the picture of the header.

    Raises
    ------
    UnreadableSlice
    """
    for marker, segment in _segments(stream):
        if marker == _PARAMETERS_LS and segment[:1] == b"\x04":
            raise unsound("JPEG-LS", "it declares another size beside that of its frame")
    _hold("JPEG-LS", stream, described, {_FRAME_LS})


def check_scans(stream: bytes) -> None:
    """Refuse a progressive JPEG stream with so many scans that decoding it would not end.

    Raises
    ------
    UnreadableSlice
    """
    # Where the head is not sound, the decoder will say so.
    if not any(marker in _PROGRESSIVE for marker, _ in _segments(stream)):
        return
    scans = stream.count(b"\xff\xda")
    if scans > _MOST_SCANS:
        raise UnreadableSlice(f"a progressive JPEG of {scans} scans (limit {_MOST_SCANS}); save it again")


def _hold(kind: str, stream: bytes, described: Described, frames: set[int]) -> None:
    found = [segment for marker, segment in _segments(stream) if marker in frames]
    if len(found) != 1 or len(found[0]) < 6:
        raise unsound(kind, f"{len(found)} frames")
    bits, rows, columns, samples = struct.unpack_from(">BHHB", found[0])
    if len(found[0]) != 6 + 3 * samples or not 2 <= bits <= 16:
        raise unsound(kind)
    described.hold(kind, rows, columns, samples, bits)


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment before the first scan; bytes between segments are passed over."""
    if stream[:2] != b"\xff\xd8":
        return
    place = 2
    while (place := stream.find(b"\xff", place)) >= 0 and place + 1 < len(stream):
        marker = stream[place + 1]
        if marker in (_SCAN, _END):
            return
        if marker in (0x00, 0xFF) or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(stream[place + 2 : place + 4], "big")
        if length < 2 or place + 2 + length > len(stream):
            return
        yield marker, stream[place + 4 : place + 2 + length]
        place += 2 + length
