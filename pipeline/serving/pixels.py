"""Slices as the browser takes them: raw 16-bit numbers, so that windows change without asking again."""

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from haemo.features.reading.formats import read_header
from haemo.features.reading.reader import SliceReader
from haemo.features.reading.slice import Slice

__all__ = ["PixelCache", "SlicePixels"]

_MOST_BYTES = 384 << 20
_LONGEST_SIDE = 2048
_WORKERS = 2


@dataclass(frozen=True, eq=False)
class SlicePixels:
    """One slice for the screen.

    Attributes
    ----------
    data : bytes
        int16, little endian, row by row: whole HU, or gray levels in 0..255.
    facts : dict
        ``height`` and ``width`` of `data`; ``step``, every how many pixels of the slice are in it; ``unit``,
        ``HU`` or ``gray``; ``spacing``, of rows and columns of the slice in mm, or None; ``sides``, whether
        the patient's left is known to be on the right.
    """

    data: bytes
    facts: dict[str, object]

    @classmethod
    def of(cls, image: Slice, sides: bool = False) -> "SlicePixels":
        """Round a slice to whole numbers; a slice of more pixels than a screen has is thinned."""
        step = -(-max(image.pixels.shape) // _LONGEST_SIDE)
        thinned = image.pixels[::step, ::step]
        whole = np.clip(np.rint(thinned), -32768, 32767).astype("<i2")
        height, width = whole.shape
        facts = {
            "height": height,
            "width": width,
            "step": step,
            "unit": "HU" if image.is_hu else "gray",
            "spacing": image.spacing_mm,
            "sides": sides,
        }
        return cls(whole.tobytes(), facts)

    @property
    def header(self) -> str:
        """The facts as one line of JSON."""
        return json.dumps(self.facts)


class PixelCache:
    """Reads slices, and keeps those that were asked for last; may be called from several threads."""

    def __init__(self, most_bytes: int = _MOST_BYTES):
        self._most_bytes = most_bytes
        self._reader = SliceReader(_WORKERS)
        self._kept: OrderedDict[Path, SlicePixels] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "PixelCache":
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.__exit__(None, None, None)

    def __call__(self, path: Path) -> SlicePixels:
        """The pixels of a slice; errors as `SliceReader`."""
        with self._lock:
            if path in self._kept:
                self._kept.move_to_end(path)
                return self._kept[path]
        image, tags = self._reader(path), read_header(path).tags
        found = SlicePixels.of(image, bool(tags and tags.sides_known))
        with self._lock:
            if path not in self._kept:
                self._kept[path] = found
                self._bytes += len(found.data)
            while self._bytes > self._most_bytes and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest.data)
        return found

    def forget(self, folder: Path) -> None:
        """Drop what was read from a folder: its session has ended."""
        with self._lock:
            for path in [path for path in self._kept if path.is_relative_to(folder)]:
                self._bytes -= len(self._kept.pop(path).data)
