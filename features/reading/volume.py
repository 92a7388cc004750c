"""Several slices that lie in one file: what every kind of volume gives, and the volumes that are open."""

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.slice import DicomTags, Slice, SliceHeader, Unitless
from haemo.features.reading.unit import Unit, mode_in_unit, recognised, settled, unknown_unit

__all__ = ["OpenVolumes", "Volume"]

# Planes of a scan, and every so many pixels of each, that tell its unit: 200,000 numbers at most.
_SAMPLED_PLANES = 12
_SAMPLED_SIDE = 128


class Volume(ABC):
    """A scan in one file, slice by slice, each as it is seen: nose up, the patient's left on the right.

    May be used by several threads at once.

    Attributes
    ----------
    count : int
        Slices are numbered from 1 to this, in the order in which they are stored.
    mode : str
        What the file holds: ``NIfTI int16``.
    unit_open : bool
        Whether the file does not say what its numbers are.
    is_compressed : bool
        Whether native code decodes its slices.
    """

    count: int
    mode: str
    unit_open: bool = True
    is_compressed: bool = False

    @abstractmethod
    def values(self, number: int) -> Unitless:
        """Numbers of one slice, with its spacing and `mode`.

        Raises
        ------
        UnreadableSlice
            If the file is damaged there, or has no such slice.
        """

    @abstractmethod
    def size(self, number: int) -> tuple[int, int]:
        """Height and width of one slice in pixels."""

    @abstractmethod
    def tags(self, number: int) -> DicomTags:
        """Whose one slice is and where it lies, as far as the file says."""

    @cached_property
    def looks_like(self) -> Unit | None:
        """The unit that the numbers of the whole scan look like; some slices alone hold nothing but air."""
        return recognised(self.sample)

    @cached_property
    def sample(self) -> np.ndarray:
        """Numbers from all over the scan, (n,) float32."""
        numbers = np.unique(np.linspace(1, self.count, min(self.count, _SAMPLED_PLANES)).round().astype(int))
        sample = []
        for number in numbers:
            pixels = self.values(int(number)).pixels
            steps = [max(1, side // _SAMPLED_SIDE) for side in pixels.shape]
            sample.append(pixels[:: steps[0], :: steps[1]].ravel())
        return np.concatenate(sample)

    def slice(self, number: int, unit: Unit | None = None) -> Slice:
        """Read one slice, in the unit that the user told or the whole scan looks like.

        Raises
        ------
        UnreadableSlice
            If the file is damaged there, has no such slice, or is of no unit that can be told.
        """
        return settled(self.values(self.checked(number)), self._unit(unit))

    def header(self, number: int, unit: Unit | None = None) -> SliceHeader:
        """Size, mode and place of one slice, whose pixels may still be damaged. Errors as `slice`."""
        number = self.checked(number)
        mode = mode_in_unit(self.mode, self._unit(unit))
        return SliceHeader(self.size(number), mode, self.tags(number), self.unit_open)

    def _unit(self, told: Unit | None) -> Unit:
        if not self.unit_open:
            return "hu"
        unit = told or self.looks_like
        if unit is None:
            raise unknown_unit(self.sample)
        return unit

    def checked(self, number: int) -> int:
        """Give the number back where there is such a slice; raise UnreadableSlice where there is none."""
        if not 1 <= number <= self.count:
            raise UnreadableSlice(f"there is no slice {number}: the volume has {self.count}")
        return number


class OpenVolumes:
    """The volumes that were used last stay open, so that a compressed one is unpacked once, not once a slice.

    Parameters
    ----------
    most : int
        How many stay open; what each holds in memory is no more than its header.
    """

    def __init__(self, most: int = 4):
        self._most = most
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, int, int], tuple[threading.Lock, list[Volume]]] = OrderedDict()

    def get(self, path: Path, stamp: tuple[int, int], open_: Callable[[Path], Volume]) -> Volume:
        """Give the volume in a file, opened by `open_` where it is not open, or its stamp has changed."""
        key = (str(path), *stamp)
        with self._lock:
            lock, held = self._open.setdefault(key, (threading.Lock(), []))
            self._open.move_to_end(key)
            while len(self._open) > self._most:
                self._open.popitem(last=False)
        with lock:
            if not held:
                held.append(open_(path))
        return held[0]
