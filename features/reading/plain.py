"""Plain files, told by their first bytes: those that are decoded in this process, as they do no harm there.

Another process takes 0.7 ms of CPU more a slice, a sixth of stage one in bfloat16. So the commonest
kinds stay here: DICOM whose pixels are not compressed, which Python reads, and PNG and baseline JPEG of up to
2048 x 2048 pixels, whose sizes and checksums are looked at before a decoder is. All else is decoded apart
(`decoders`): TIFF and BMP, compressed and deflated DICOM, progressive JPEG, interlaced or giant PNG, and the
formats of plug-ins.
"""

import struct

__all__ = ["START_BYTES", "is_plain", "transfer_syntax"]

START_BYTES = 4096
_MOST_PIXELS = 2048 * 2048
_PNG_HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_UNCOMPRESSED = (b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2")
_TRANSFER_SYNTAX = b"\x02\x00\x10\x00"
_LONG = (b"OB", b"UN", b"OW", b"SQ", b"UT", b"UC", b"UR")  # whose length has four bytes
_FRAMES = {marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC)}
_BASELINE = (0xC0, 0xC1)


def is_plain(start: bytes) -> bool:
    """Whether a file that begins so is decoded in this process.

    Parameters
    ----------
    start : bytes
        The first `START_BYTES` of the file, or all of it.
    """
    if start[128:132] == b"DICM":
        return transfer_syntax(start)[0] in _UNCOMPRESSED
    if start.startswith(_PNG_HEAD):
        return _is_plain_png(start)
    return start.startswith(b"\xff\xd8\xff") and _is_plain_jpeg(start)


def transfer_syntax(start: bytes) -> tuple[bytes | None, int]:
    """Transfer Syntax UID (0002,0010) of a file that begins so, and where the data set begins.

    As pydicom finds it, it is the last of group 2; None where this goes on.
    """
    place, found = 132, None
    while start[place : place + 2] == b"\x02\x00":
        head = 12 if start[place + 4 : place + 6] in _LONG else 8
        length = int.from_bytes(start[place + head - (4 if head == 12 else 2) : place + head], "little")
        if start[place : place + 4] == _TRANSFER_SYNTAX:
            found = start[place + head : place + head + length].rstrip(b"\0 ")
        place += head + length
    return (found if place + 2 <= len(start) else None), place


def _is_plain_png(start: bytes) -> bool:
    if len(start) < 29:
        return False
    width, height, interlaced = *struct.unpack_from(">II", start, 16), start[28]
    return width * height <= _MOST_PIXELS and not interlaced


def _is_plain_jpeg(start: bytes) -> bool:
    place = 2
    while place + 9 <= len(start) and start[place] == 0xFF:
        marker, length = start[place + 1], int.from_bytes(start[place + 2 : place + 4], "big")
        if marker in _FRAMES:
            bits, height, width = struct.unpack_from(">BHH", start, place + 4)
            return marker in _BASELINE and bits == 8 and height * width <= _MOST_PIXELS
        place += 2 + length
    return False
