"""The head of a JPEG 2000 stream (ITU-T T.800, also high-throughput, T.814): its picture, tiles and blocks.

Names of markers and their fields are those of the standard. Decoders make a record of some kilobytes for each
tile, of half a kilobyte for each code block and precinct, and a flag for each packet, before they read what
the file holds of them; so these are counted, in the main header and in those of the parts of tiles.
"""

import struct
from collections.abc import Iterator

from haemo.features.reading.streams.described import Described, unsound

__all__ = ["check_jpeg2000"]

_KIND = "JPEG 2000"
_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_SOC_SIZ = b"\xff\x4f\xff\x51"
_COD, _COC, _SOT, _SOD = 0xFF52, 0xFF53, 0xFF90, 0xFF93
# All segments of the standard. In others decoders look for the next marker, wherever it may begin.
_CAP, _PRF, _CPF = 0xFF50, 0xFF56, 0xFF59
_SEGMENTS = {_COD, _COC, _CAP, _PRF, _CPF, 0xFF55, 0xFF57, 0xFF58, *range(0xFF5C, 0xFF62), 0xFF63, 0xFF64}
_MOST_LEVELS = 32
# A slice of 8192 x 8192 pixels in tiles of 128 x 128, in code blocks of 32 x 32 (87,000) or 64 x 64, in 50
# layers with precincts of 128 x 128. Past these a decoder takes hundreds of megabytes for what is not there.
_MOST_TILES = 1 << 12
_MOST_BLOCKS = 1 << 17
_MOST_PACKETS = 1 << 22


def check_jpeg2000(stream: bytes, described: Described) -> None:
    """Refuse a stream that does not declare the picture of the header, or declares parts without number.

    Parameters
    ----------
    stream : bytes
        A codestream, or a JP2 file around one.
    described : Described

    Raises
    ------
    UnreadableSlice
    """
    place = _codestream(stream)
    if stream[place : place + 4] != _SOC_SIZ or len(stream) < place + 45:
        raise unsound(_KIND)
    length, _, x1, y1, x0, y0, tile_width, tile_height, tile_x0, tile_y0, samples = struct.unpack_from(
        ">HH8IH", stream, place + 4
    )
    precision, step_x, step_y = struct.unpack_from("BBB", stream, place + 42)
    if length != 38 + 3 * samples or len(stream) < place + 4 + length or x1 <= x0 or y1 <= y0:
        raise unsound(_KIND)
    described.hold(_KIND, y1 - y0, x1 - x0, samples, (precision & 0x7F) + 1)
    # Where it begins elsewhere, openjpeg's wrapper makes room for all from the origin on.
    if (x0, y0) != (0, 0):
        raise unsound(_KIND, f"it begins at row {y0} and column {x0}")
    if (step_x, step_y) != (1, 1):
        raise unsound(_KIND, f"samples {step_x} columns and {step_y} rows apart")
    if (tile_x0, tile_y0) != (0, 0) or not (tile_width and tile_height):
        raise unsound(_KIND, f"tiles of {tile_height} x {tile_width} from ({tile_y0}, {tile_x0}) on")
    tiles = -(-x1 // tile_width) * -(-y1 // tile_height)
    if tiles > _MOST_TILES:
        raise unsound(_KIND, f"{tiles} tiles, limit {_MOST_TILES}")
    size = min(tile_width, x1), min(tile_height, y1)
    layers = 1
    for marker, segment in _segments(stream, place + 4 + length):
        if marker == _COD and len(segment) >= 10:
            layers = int.from_bytes(segment[2:4], "big")
            _check_coding(segment[0], segment[5:], size, tiles, layers)
        elif marker == _COC and len(segment) >= 7:
            _check_coding(segment[1], segment[2:], size, tiles, layers)
        elif marker in (_COD, _COC):
            raise unsound(_KIND)


def _codestream(stream: bytes) -> int:
    """Where the codestream begins: at once, or in a box of a JP2 file (T.800 annex I)."""
    if not stream.startswith(_SIGNATURE):
        return 0
    place = 0
    while place + 8 <= len(stream):
        length, kind = struct.unpack_from(">I4s", stream, place)
        head = 16 if length == 1 else 8
        if length == 1:
            length = int.from_bytes(stream[place + 8 : place + 16], "big")
        if kind == b"jp2c":
            return place + head
        if kind == b"pclr":
            raise unsound(_KIND, "gray with a palette")
        if length < head:
            break
        # The boxes of a header are met one by one.
        place += head if kind == b"jp2h" else length
    raise unsound(_KIND, "a JP2 file without a picture")


def _segments(stream: bytes, place: int) -> Iterator[tuple[int, bytes]]:
    """Marker and content of the segments of the main header and of the heads of all parts of tiles."""
    part_end = -1
    while place + 4 <= len(stream):
        marker, length = struct.unpack_from(">HH", stream, place)
        if marker == _SOD:
            # Data follow, to the end of the part; a part without a length is the last one.
            if part_end < place + 2:
                return
            place, part_end = part_end, -1
            if stream[place : place + 2] != b"\xff\x90":
                return
        elif marker == _SOT:
            if length != 10 or len(stream) < place + 12:
                raise unsound(_KIND)
            of_part = int.from_bytes(stream[place + 6 : place + 10], "big")
            part_end = place + of_part if of_part else -1
            place += 12
        elif marker not in _SEGMENTS or length < 2 or place + 2 + length > len(stream):
            raise unsound(_KIND, f"marker {marker:04x}")
        else:
            yield marker, stream[place + 4 : place + 2 + length]
            place += 2 + length


def _check_coding(style: int, coding: bytes, size: tuple[int, int], tiles: int, layers: int) -> None:
    """Count code blocks and packets of what a COD or COC segment declares (T.800 B.6 and B.7)."""
    levels, block_x, block_y = coding[0], coding[1] + 2, coding[2] + 2
    exponents = coding[5:] if style & 1 else bytes([0xFF]) * (levels + 1)
    if levels > _MOST_LEVELS or len(exponents) != levels + 1 or max(block_x, block_y) > 10:
        raise unsound(_KIND)
    blocks = precincts = 0
    for level, exponent in enumerate(exponents):
        width, height = (-(-side >> (levels - level)) for side in size)
        precinct_x, precinct_y = exponent & 15, exponent >> 4
        precincts += _parts(width, precinct_x) * _parts(height, precinct_y)
        # Above the lowest resolution there are three bands of half the width and height.
        halved, bands = (1, 3) if level else (0, 1)
        across = _parts(width, min(block_x + halved, precinct_x))
        down = _parts(height, min(block_y + halved, precinct_y))
        blocks += bands * across * down
    if tiles * blocks > _MOST_BLOCKS:
        raise unsound(_KIND, f"{tiles * blocks} code blocks, limit {_MOST_BLOCKS}")
    if tiles * precincts * layers > _MOST_PACKETS:
        raise unsound(_KIND, f"{tiles * precincts * layers} packets, limit {_MOST_PACKETS}")


def _parts(side: int, exponent: int) -> int:
    return -(-side >> exponent)
