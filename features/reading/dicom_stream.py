"""The bytes of a DICOM file as pydicom gets them: inflated, and no more of them than a slice has."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

import pydicom
from pydicom import uid

from haemo.errors import UnreadableSlice
from haemo.features.reading.plain import START_BYTES, transfer_syntax
from haemo.features.reading.slice import MAX_PIXELS, damaged
from haemo.features.reading.streams.deflate import inflated

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["MOST_BYTES_OF_FRAMES", "read_elements"]

# The pixels of the largest slice, and as much beside them as any header has.
_MOST_BYTES = 2 * MAX_PIXELS + (1 << 24)
MOST_BYTES_OF_FRAMES = 1 << 30
_MOST_HEADER_BYTES = 1 << 26
# Two or three for each element. A frame of enhanced CT has some thirty, a slice of the wordiest scanner
# thousands.
_MOST_READS = 1 << 20
_MOST_READS_OF_FRAMES = 1 << 22
_PREAMBLE_BYTES = 132
_TRANSFER_SYNTAX = b"\x02\x00\x10\x00UI\x14\x00" + uid.ExplicitVRLittleEndian.encode() + b"\0"


def read_elements(
    stream: BinaryIO,
    tags: Sequence[int],
    stop_before_pixels: bool,
    of_frames: bool = False,
) -> "Dataset":
    """Read some elements of a file, from its beginning.

    Parameters
    ----------
    stream : binary file
        Left at its pixels, if it is to stop before them and they are not deflated.
    tags : sequence of int
    stop_before_pixels : bool
    of_frames : bool
        Whether it may hold many frames.

    Raises
    ------
    UnreadableSlice
        If pydicom cannot make sense of the file, or would read more of it than a slice, or its frames, have.
    """
    most_bytes = MOST_BYTES_OF_FRAMES if of_frames else _MOST_BYTES
    try:
        plain, was_deflated = _plain_stream(stream, most_bytes)
        most = min(most_bytes, _MOST_HEADER_BYTES) if stop_before_pixels else most_bytes
        dataset = pydicom.dcmread(
            _BoundedReading(plain, most, _MOST_READS_OF_FRAMES if of_frames else _MOST_READS),
            force=True,
            stop_before_pixels=stop_before_pixels,
            specific_tags=list(tags),
        )
        if was_deflated:
            dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        return dataset
    except UnreadableSlice:
        raise
    # Like every parser of hostile bytes, pydicom raises whatever they lead to; each means the same here.
    except Exception as error:
        raise damaged(error) from error


class _BoundedReading:
    """A binary file for pydicom, which believes what a header says of its lengths and goes on to its end.

    Parameters
    ----------
    stream : binary file
    most_bytes : int
        That may be read of it altogether; what is passed over does not count.
    most_reads : int
        How often; two or three times for each element.
    """

    def __init__(self, stream: BinaryIO, most_bytes: int, most_reads: int):
        self._read = stream.read
        self._bytes, self._reads = most_bytes, most_reads
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes.

        Raises
        ------
        UnreadableSlice
            If that is more than is to be read of the file.
        """
        if size < 0:  # of a data set that pydicom is to inflate
            raise UnreadableSlice("a deflated file without the head of one; it is damaged")
        data = self._read(min(size, self._bytes + 1))
        self._bytes -= len(data)
        self._reads -= 1
        if self._bytes < 0 or self._reads < 0:
            what = "elements" if self._reads < 0 else "bytes in its elements"
            raise UnreadableSlice(f"more {what} than a CT slice has; the file is damaged")
        return data


def _plain_stream(stream: BinaryIO, most_bytes: int) -> tuple[BinaryIO, bool]:
    """Give a file from its beginning, inflated if it is deflated, and whether it was.

    Raises
    ------
    UnreadableSlice, zlib.error
        As `inflated`.
    """
    start = stream.read(START_BYTES)
    found, end = transfer_syntax(start)
    stream.seek(0)
    if found != uid.DeflatedExplicitVRLittleEndian.encode():
        return stream, False
    stream.seek(end)
    return inflated(stream.read(most_bytes), most_bytes, start[:_PREAMBLE_BYTES] + _TRANSFER_SYNTAX), True
