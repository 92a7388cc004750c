"""The deflated data set of a DICOM file: how much it inflates to, counted before it is inflated in memory."""

import zlib
from typing import BinaryIO

from haemo.errors import UnreadableSlice

__all__ = ["BoundedInflation", "check_deflated"]

_CHUNK_BYTES = 1 << 20


class BoundedInflation:
    """A binary file for pydicom that refuses a deflated data set which inflates to more than a slice.

    pydicom reads element by element, and all that is left of a file at once only where it is deflated; it
    then inflates that, however much it becomes.

    Parameters
    ----------
    stream : binary file
    most_bytes : int
        That it may inflate to.
    """

    def __init__(self, stream: BinaryIO, most_bytes: int):
        self._read = stream.read
        self._most_bytes = most_bytes
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes; without one all that is left, once it is known to be no bomb."""
        data = self._read(size)
        if size < 0:
            check_deflated(data, self._most_bytes)
        return data


def check_deflated(data: bytes, most_bytes: int) -> None:
    """Refuse a raw deflate stream (RFC 1951) that inflates to more than `most_bytes`.

    Raises
    ------
    UnreadableSlice
    zlib.error
        If it is damaged before it is too long.
    """
    inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while data and not inflater.eof:
        inflated += len(inflater.decompress(data, _CHUNK_BYTES))
        data = inflater.unconsumed_tail
        if inflated > most_bytes:
            raise UnreadableSlice(
                f"its deflated data set inflates to more than {most_bytes} bytes, too many for one slice"
            )
