"""Files to planes, several at once, beside the network that takes them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.formats import stamp_of
from haemo.features.reading.slice import Slice, content_hash

if TYPE_CHECKING:
    from haemo.features.views.preprocess import Preprocessing

__all__ = ["Decoded", "Decoder", "in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one file gave.

    Attributes
    ----------
    size : int
        Of the file, in bytes; -1 where there is no file.
    mtime_ns : int
        When it was last changed; -1 where there is no file.
    content : str
        sha256 of the decoded pixels.
    variants : tuple of int
        Variants whose planes were made: those that no store holds.
    planes : ndarray of shape (len(variants), size, size), or with a channel a window before size, uint8
    is_colour : bool
        Whether the file held a colour picture, converted to gray.
    is_askew : bool
        Whether the slice was to be turned upright and, without a clear midline, stayed as it is.
    """

    size: int
    mtime_ns: int
    content: str
    variants: tuple[int, ...]
    planes: np.ndarray
    is_colour: bool
    is_askew: bool = False


class Decoder:
    """Decodes one file for all its variants; may be called from several threads.

    Parameters
    ----------
    preprocessing : Preprocessing
    missing : callable
        Takes a content hash and gives the variants that are wanted of it and not there yet.
    read : callable
        Takes a path and gives a slice.
    """

    def __init__(
        self,
        preprocessing: "Preprocessing",
        missing: Callable[[str], tuple[int, ...]],
        read: Callable[[Path], Slice],
    ):
        self._preprocessing = preprocessing
        self._missing = missing
        self._read = read

    def __call__(self, path: Path) -> Decoded | UnreadableSlice:
        """Decode `path`; a file that cannot be used is given back as the error that says why."""
        try:
            return self._decode(path)
        except UnreadableSlice as error:
            return error

    def _decode(self, path: Path) -> Decoded:
        before = stamp_of(path)
        slice_ = self._read(path)
        if stamp_of(path) != before:
            raise UnreadableSlice("changed while it was being read")
        return self.of_slice(slice_, *before)

    def of_slice(self, slice_: Slice, size: int = -1, mtime_ns: int = -1) -> Decoded:
        """Make the planes of a slice that is decoded; size and time are those of its file, if it has one."""
        content = content_hash(slice_)
        variants = self._missing(content)
        planes, is_askew = np.empty((0, 0, 0), np.uint8), False
        if variants:
            view = self._preprocessing.view(slice_)
            planes = self._preprocessing.level(view)[np.newaxis]
            is_askew = self._preprocessing.upright and view.turn is None
        if any(variants):
            from haemo.features.views.augment import rotate_planes

            planes = rotate_planes(planes)[0, list(variants)]
        return Decoded(size, mtime_ns, content, variants, planes, slice_.is_colour, is_askew)


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], workers: int, ahead: int
) -> Iterator[tuple[Item, Result]]:
    """Do `work` on items in threads, giving items and results in their order.

    Threads serve: reading, inflating, hashing and resizing happen outside Python's lock. For the formats
    where that is not so there is `features.reading.reader`.

    Parameters
    ----------
    items : iterable
    work : callable
    workers : int
        Number of threads.
    ahead : int
        Results that may wait for their reader; what bounds the memory.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="haemo-decode")
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
