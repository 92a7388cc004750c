"""Enhanced CT: a DICOM file with many frames, each a slice (PS3.3 A.38)."""

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import uid

from haemo.errors import UnreadableSlice
from haemo.features.reading.dicom import decoder_of, decompressed, native_values, picture_of
from haemo.features.reading.dicom_header import NATIVE, Elements, Header, items, parsed
from haemo.features.reading.dicom_stream import MOST_BYTES_OF_FRAMES
from haemo.features.reading.slice import DicomTags, Slice, Unitless
from haemo.features.reading.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["EnhancedVolume"]

_SHARED_GROUPS, _FRAME_GROUPS = 0x52009229, 0x52009230
# What says of a frame where it lies, how large its pixels are, and what they stand for.
_GROUPS = (0x00209113, 0x00209116, 0x00289110, 0x00289145)
_MOST_FRAMES = 8192


class EnhancedVolume(Volume):
    """Frames of an enhanced CT file, in the order in which they are stored.

    Of plain pixels only the frame that is wanted is read; packed ones are kept in memory, compressed ones as
    they are.

    Parameters
    ----------
    path : Path

    Raises
    ------
    UnreadableSlice
        If it is damaged, no gray CT, not axial, or does not tell of each of its frames.
    """

    def __init__(self, path: Path):
        self._path = path
        with path.open("rb") as stream:
            dataset = parsed(
                stream, stop_before_pixels=True, more=(_SHARED_GROUPS, _FRAME_GROUPS), of_frames=True
            )
            self._start = stream.tell()
        self._header = Header(dataset)
        self._header.check_kind()
        self._header.check_picture()
        self.count = self._header.frames
        self.mode = self._header.mode()
        if not 1 <= self.count <= _MOST_FRAMES:
            raise UnreadableSlice(f"the header says {self.count:,} frames; up to {_MOST_FRAMES:,} are read")
        shared, frames = (items(dataset, tag) for tag in (_SHARED_GROUPS, _FRAME_GROUPS))
        if len(frames) != self.count:
            raise UnreadableSlice(f"the header says {self.count} frames, and tells of {len(frames)}")
        common = [group for item in shared for group in _groups(item)]
        self._frames = [Elements(*_groups(frame), *common, dataset) for frame in frames]
        self._frames[0].view()
        self.unit_open = not self._header.is_hu or any(frame.rescale() is None for frame in self._frames)
        self._is_native = self._header.syntax in NATIVE
        if self._is_native:
            self._start += 8 if self._header.syntax.is_implicit_VR else 12
            self._check_length(self._path.stat().st_size - self._start)
        elif self._header.syntax == uid.DeflatedExplicitVRLittleEndian:
            self._check_length(len(self._packed.pixels()))
        else:
            self.is_compressed = True
            decoder_of(self._header)

    def _check_length(self, there: int) -> None:
        needed = self.count * self._frame_bytes
        if there < needed:
            raise UnreadableSlice(
                f"the file is cut short: {max(0, there):,} of {needed:,} bytes of pixel data"
            )

    @property
    def _frame_bytes(self) -> int:
        return math.prod(self._header.size) * self._header.bits_allocated // 8

    def size(self, number: int) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        return self._frames[number - 1].view().of_pair(self._header.size)

    def tags(self, number: int) -> DicomTags:
        """Whose the frame is and where it lies."""
        # All frames are one instance, and that is not what they are called by.
        return replace(self._frames[number - 1].tags(), sop_instance_uid="", instance_number=float(number))

    @property
    def stored_size(self) -> tuple[int, int]:
        """Rows and columns of a frame as it is stored."""
        return self._header.size

    def elements(self, number: int) -> Elements:
        """What the file says of one frame, counted from 1: its own, then what it says of all frames."""
        return self._frames[self.checked(number) - 1]

    def values(self, number: int) -> Unitless:
        """Numbers of one frame after its rescale.

        Raises
        ------
        UnreadableSlice
            If the file is damaged there.
        """
        made = self._picture(number)
        return Unitless(made.pixels, made.spacing_mm, made.mode)

    def _picture(self, number: int) -> Slice | Unitless:
        if self._is_native:
            try:
                with self._path.open("rb") as stream:
                    stream.seek(self._start + (number - 1) * self._frame_bytes)
                    data = stream.read(self._frame_bytes)
            except OSError as error:
                raise UnreadableSlice(f"cannot be read: {error.strerror or error}") from error
            if len(data) < self._frame_bytes:
                raise UnreadableSlice(f"the file is cut short: {len(data):,} bytes of frame {number}")
            stored = native_values(self._header, data)
        elif self._header.syntax == uid.DeflatedExplicitVRLittleEndian:
            start = (number - 1) * self._frame_bytes
            stored = native_values(self._header, self._packed.pixels()[start : start + self._frame_bytes])
        else:
            stored = decompressed(self._packed, number - 1, self.count)
        return picture_of(self._header, self._frames[number - 1], stored)

    @cached_property
    def _packed(self) -> Header:
        """The header with the compressed pixels of all frames."""
        if self._path.stat().st_size > MOST_BYTES_OF_FRAMES:
            raise UnreadableSlice(f"more than {MOST_BYTES_OF_FRAMES >> 30} GiB of compressed frames")
        with self._path.open("rb") as stream:
            return Header(parsed(stream, stop_before_pixels=False, of_frames=True))


def _groups(item: "Dataset") -> list["Dataset"]:
    """The groups of elements of a frame, or of all frames."""
    return [found for tag in _GROUPS for found in items(item, tag)[:1]]
