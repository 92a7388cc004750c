"""DICOM SEG: segments as pictures, a frame each segment and slice (PS3.3 A.51, C.8.20)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from pydicom import uid

from haemo.errors import UnreadableSlice
from haemo.features.outlines.drawing import AUTOMATIC, MANUFACTURER, Drawing, Piece, Segment, referenced
from haemo.features.outlines.plane import FRAME_OF_REFERENCE, PlacedSlice, Plane
from haemo.features.reading.address import SliceAddress
from haemo.features.reading.dicom import decompressed, native_values
from haemo.features.reading.dicom_header import PIXELS, Elements, Header, items, parsed_file
from haemo.features.reading.formats import stamp_of
from haemo.features.reading.reader import SliceReader
from haemo.features.reading.slice import Slice, check_size

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["ELEMENTS", "Segmentation"]

_KIND, _MOST_OF_FRACTION = 0x00620001, 0x0062000E
_SEGMENTS, _NUMBER, _NAME, _CODES, _MEANING = 0x00620002, 0x00620004, 0x00620005, 0x0062000F, 0x00080104
_ALGORITHM = 0x00620008
_SHARED, _FRAMES = 0x52009229, 0x52009230
_IDENTIFICATION, _OF_SEGMENT = 0x0062000A, 0x0062000B
_DERIVATION, _SOURCES = 0x00089124, 0x00082112
_REFERENCED_SERIES, _REFERENCED_INSTANCES = 0x00081115, 0x0008114A
# Position, orientation and measures of the pixels of a frame.
_GROUPS = (0x00209113, 0x00209116, 0x00289110)
ELEMENTS = (_KIND, _MOST_OF_FRACTION, _SEGMENTS, _SHARED, _FRAMES, _REFERENCED_SERIES)
_MOST_FRAMES = 65_536
_SYNTAXES = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian)


@dataclass(frozen=True, eq=False)
class _Frame(Piece):
    index: int
    plane: Plane | None


class Segmentation(Drawing):
    """Segments as pictures, of which each frame lies on one slice.

    Parameters
    ----------
    path : Path
    dataset : Dataset
        With the elements `ELEMENTS`.

    Raises
    ------
    UnreadableSlice
        If it is damaged, or of a kind that is not read.

    Attributes
    ----------
    is_fractional : bool
        Whether pixels are probabilities or shares, of which half and more is taken for the segment.
    """

    def __init__(self, path: Path, dataset: "Dataset"):
        self.path = path
        self._header = Header(dataset)
        self._kind = self._header.text(_KIND)
        if self._kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
            raise UnreadableSlice(f"a segmentation of unknown kind ({self._kind[:16] or 'not said'})")
        self.is_fractional = self._kind == "FRACTIONAL"
        self.frame_of_reference = self._header.text(FRAME_OF_REFERENCE)
        self.maker = self._header.text(MANUFACTURER)
        self.segments = {}
        for item in items(dataset, _SEGMENTS):
            codes = [Elements(code).text(_MEANING) for code in items(item, _CODES)]
            elements = Elements(item)
            number = elements.integer(_NUMBER, 0)
            if number == 0:
                continue  # what a label map calls the background
            self.segments[number] = Segment(
                elements.text(_NAME), codes[0] if codes else "", elements.text(_ALGORITHM) == AUTOMATIC
            )
        self._check()
        self._frames = list(self._read_frames(dataset))
        listed = referenced(items(dataset, _REFERENCED_SERIES, _REFERENCED_INSTANCES))
        of_frames = chain.from_iterable(frame.refers_to for frame in self._frames)
        self.instances = frozenset(name for name, _ in chain(listed, of_frames))

    def _check(self) -> None:
        header = self._header
        check_size(*header.size)
        bits = 1 if self._kind == "BINARY" else 8
        if header.bits_allocated != bits and not (self._kind == "LABELMAP" and header.bits_allocated == 16):
            raise UnreadableSlice(f"a {self._kind} segmentation with {header.bits_allocated} bits a pixel")
        if not 1 <= header.bits_stored <= header.bits_allocated:
            raise UnreadableSlice(f"{header.bits_stored} bits stored in {header.bits_allocated}")
        if not 1 <= header.frames <= _MOST_FRAMES:
            raise UnreadableSlice(f"{header.frames:,} frames; up to {_MOST_FRAMES:,} are read")
        if self._is_native:
            needed = (header.frames * header.size[0] * header.size[1] * header.bits_allocated + 7) // 8
            if len(self._pixels) < needed:
                raise UnreadableSlice(
                    f"the file is cut short: {len(self._pixels):,} of {needed:,} bytes of pixel data"
                )
        elif bits == 1:
            raise UnreadableSlice(
                f"single bits compressed as {header.syntax.name} are not read; save it uncompressed"
            )

    @property
    def _is_native(self) -> bool:
        return self._header.syntax in _SYNTAXES

    @cached_property
    def _pixels(self) -> bytes:
        return self._header.raw(PIXELS)

    def _read_frames(self, dataset: "Dataset") -> Iterator[_Frame]:
        described = items(dataset, _FRAMES)
        if len(described) != self._header.frames:
            raise UnreadableSlice(f"{self._header.frames} frames, of which {len(described)} are described")
        common = [group for tag in _GROUPS for group in items(dataset, _SHARED, tag)]
        for index, frame in enumerate(described):
            own = [group for tag in _GROUPS for group in items(frame, tag)]
            plane = Plane.of(Elements(*own, *common), self._header.size)
            # All frames of one segment may say so together.
            number = next(
                (
                    Elements(item).integer(_OF_SEGMENT, 0)
                    for item in [*items(frame, _IDENTIFICATION), *items(dataset, _SHARED, _IDENTIFICATION)]
                ),
                0,
            )
            sources = referenced(items(frame, _DERIVATION, _SOURCES))
            yield _Frame(number, sources, None if plane is None else plane.origin, index, plane)

    def pieces(self, wanted: Sequence[int]) -> Iterator[Piece]:
        """Frames of some segments; of a label map each segment that a frame holds."""
        for frame in self._frames:
            if self._kind != "LABELMAP":
                if frame.segment in wanted:
                    yield frame
                continue
            for number in sorted(set(np.unique(self._values(frame.index)).tolist()) & set(wanted)):
                yield _Frame(number, frame.refers_to, frame.point, frame.index, frame.plane)

    def draw(self, piece: Piece, on: PlacedSlice) -> np.ndarray:
        """Give the pixels of a slice whose centres lie in the segment."""
        frame = cast("_Frame", piece)
        mask = self._mask(frame)
        if frame.plane is not None and on.plane is not None:
            return frame.plane.seen_on(mask, on.plane)
        if mask.shape != on.size:
            raise UnreadableSlice(
                f"frame {frame.index + 1} has {mask.shape[0]} x {mask.shape[1]} pixels, its slice "
                f"{on.size[0]} x {on.size[1]}, and where they lie is not said"
            )
        return mask

    def join(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Either of them."""
        return first | second

    def _mask(self, frame: _Frame) -> np.ndarray:
        values = self._values(frame.index)
        if self._kind == "LABELMAP":
            return values == frame.segment
        if self.is_fractional:
            most = self._header.integer(_MOST_OF_FRACTION, 255) or 255
            return values.astype(np.int64) * 2 >= most
        return values != 0

    def _values(self, index: int) -> np.ndarray:
        rows, columns = self._header.size
        count = rows * columns
        if self._kind == "BINARY":
            # Frames follow each other bit by bit, and need not begin with a byte (PS3.5 section 8.1.1).
            first = index * count
            packed = np.frombuffer(self._pixels[first // 8 : (first + count + 7) // 8], np.uint8)
            bits = np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + count]
            return bits.reshape(rows, columns)
        if not self._is_native:
            pixels = _decoder()(SliceAddress(self.path, index + 1).path).pixels
            return pixels.astype(np.int64)  # whole numbers of 16 bits at most
        size = count * self._header.bits_allocated // 8
        return native_values(self._header, self._pixels[index * size : (index + 1) * size])

    def decompressed(self, index: int) -> np.ndarray:
        """Decompress the pixels of a frame, in this process."""
        return decompressed(self._header, index, self._header.frames)


def decode_frame(path: Path) -> Slice:
    """Decode one frame of a compressed file, ``seg.dcm#12`` the twelfth, to its stored values.

    Raises
    ------
    UnreadableSlice
        If it is damaged.
    """
    address = SliceAddress.of(path)
    opened = _opened(address.file, stamp_of(path))
    stored = opened.decompressed((address.number or 1) - 1)
    return Slice(stored.astype(np.float32), is_hu=False)


@lru_cache(maxsize=1)
def _opened(path: Path, stamp: tuple[int, int]) -> Segmentation:
    """Keep the file whose frames are asked for one after another; `stamp` tells it from a later one."""
    return Segmentation(path, parsed_file(path, stop_before_pixels=False, more=ELEMENTS, of_frames=True))


@cache
def _decoder() -> SliceReader:
    return SliceReader(1, decode_frame)
