"""The directories of a TIFF file (revision 6.0, and BigTIFF): how many pictures it holds."""

import struct
from typing import BinaryIO

__all__ = ["MOST_COUNTED", "count_pictures"]

# A file of some megabytes can have a directory without a picture for every ten bytes of it.
MOST_COUNTED = 1000


def count_pictures(stream: BinaryIO) -> int:
    """Follow the chain of directories to its end, to one that was there before, or to `MOST_COUNTED`.

    Parameters
    ----------
    stream : binary file
        A TIFF file from its start on.

    Returns
    -------
    int

    Raises
    ------
    struct.error, ValueError
        If the chain leads out of the file.
    """
    head = stream.read(16)
    order = "<" if head.startswith(b"II") else ">"
    is_big = 43 in head[2:4]
    number, offset, entry_bytes = (f"{order}Q", f"{order}Q", 20) if is_big else (f"{order}H", f"{order}I", 12)
    (place,) = struct.unpack_from(offset, head, 8 if is_big else 4)
    seen: set[int] = set()
    while place and place not in seen and len(seen) < MOST_COUNTED:
        seen.add(place)
        _go_to(stream, place)
        (entries,) = struct.unpack(number, stream.read(struct.calcsize(number)))
        _go_to(stream, stream.tell() + entries * entry_bytes)
        # Some writers leave out where the next one is, if there is none.
        next_ = stream.read(struct.calcsize(offset)).ljust(struct.calcsize(offset), b"\0")
        (place,) = struct.unpack(offset, next_)
    return len(seen)


def _go_to(stream: BinaryIO, place: int) -> None:
    try:
        stream.seek(place)
    except OverflowError as error:  # BigTIFF has places of 64 bits
        raise ValueError("the chain leads out of the file") from error
