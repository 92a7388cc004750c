"""Blood drawn on many slices: in this process where they are few, else in one a core."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.extraction.decoding import in_order
from haemo.features.pixels.region import Region, joined
from haemo.features.reading.freed_memory import keep_freed_memory
from haemo.features.reading.reader import SliceReader
from haemo.features.reading.slice import Slice
from haemo.features.views.head_box import Box
from haemo.pipeline.segmenting.segmenter import Segmenter
from haemo.processors import usable_processors

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = ["Drawn", "Maps", "drawn_files", "outlined"]

_READERS = 2
_AHEAD = 8
_BLOCK = 32  # slices that are begun together; of two such blocks at most, which bounds the memory
_FEW = 24  # starting processes takes as long as drawing so many

Part = TypeVar("Part")
Maps = Literal["none", "outlined", "all"]
"""Of which slices the map of probability is wanted."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was found on one slice, in no more than need go from one process to another.

    Attributes
    ----------
    score : float
        As of `BloodMap`.
    has_head : bool
        Whether anything was found inside a skull.
    regions : list of Region
        What is outlined.
    left_share : float or None
        Share of the outlined pixels that lies left of the picture's midline; None where none is outlined.
    shape : tuple of int
        Of the slice.
    box : Box
    part : ndarray of the box's shape, float32
        The map of probability, where it is not 0; empty where it was not wanted.
    """

    score: float
    has_head: bool
    regions: list[Region]
    left_share: float | None
    shape: tuple[int, int]
    box: Box
    part: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        """The map of probability, if it was wanted: ndarray of the slice's shape, float32."""
        return self.box.paste(self.part, self.shape)

    @property
    def mask(self) -> np.ndarray:
        """All that is outlined: ndarray of the slice's shape, bool."""
        return joined(self.regions, self.shape)

    @classmethod
    def of(cls, segmenter: Segmenter, image: Slice, maps: Maps) -> "Drawn":
        """Draw one slice.

        Raises
        ------
        UnreadableSlice
            If it is too small for a head.
        """
        blood = segmenter.draw(image)
        regions = segmenter.regions(blood)
        shape = blood.grid.shape
        share = float(blood.left_share[joined(regions, shape)].mean()) if regions else None
        box = Box(0, 0, 0, 0)
        if maps == "all" or (maps == "outlined" and regions):
            box = Box.around(blood.probability != 0)
        part = np.ascontiguousarray(box.cut(blood.probability))
        return cls(blood.score, blood.has_head, regions, share, shape, box, part)


def drawn_files(
    segmenter: Segmenter, files: Sequence[Path], maps: Maps
) -> Iterator[tuple[Path, tuple[Slice, Drawn] | UnreadableSlice]]:
    """Read files and draw the blood on them, in their order; of what cannot be used there is the error."""
    with SliceReader(_READERS) as reader:

        def slice_of(path: Path) -> Slice | UnreadableSlice:
            try:
                return reader(path)
            except UnreadableSlice as error:
                return error

        def begun(block: Sequence[Path]) -> tuple[deque[Slice | UnreadableSlice], Iterator[Any]]:
            read: deque[Slice | UnreadableSlice] = deque()

            def images() -> Iterator[tuple[Slice | UnreadableSlice, Maps]]:
                for _, image in in_order(block, slice_of, _READERS, _AHEAD):
                    read.append(image)
                    yield image, maps

            return read, zip(block, _each(_draw, segmenter, images(), len(files)), strict=True)

        blocks = (files[start : start + _BLOCK] for start in range(0, len(files), _BLOCK))
        for read, results in _one_ahead(map(begun, blocks)):
            for path, found in results:
                image = read.popleft()
                yield path, found if isinstance(found, UnreadableSlice) else (image, found)


def _one_ahead(parts: Iterable[Part]) -> Iterator[Part]:
    """Give parts one by one, each once the next has begun, so that no process waits at the end of one."""
    waiting: deque[Part] = deque()
    for part in parts:
        waiting.append(part)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def outlined(segmenter: Segmenter, images: Sequence[Slice], of: int) -> Iterator[list[Region]]:
    """What is outlined on each of some slices, which are part of `of` that are drawn one after another.

    Where these are many, processes begin with it at once.
    """
    return _each(_regions, segmenter, ((image,) for image in images), of)


def _each(
    work: Callable[..., Any], segmenter: Segmenter, items: Iterable[tuple[Any, ...]], of: int
) -> Iterator[Any]:
    if of < _FEW:
        return (_alone(work, segmenter, *item) for item in items)
    from joblib import Parallel, delayed

    # Through pipes: files in memory, as large slices have them, would be removed with the block before.
    return Parallel(n_jobs=usable_processors(), return_as="generator", max_nbytes=None)(
        delayed(work)(segmenter, *item) for item in items
    )


def _alone(work: Callable[..., Any], *what: Any) -> Any:
    """Do it by one thread, as processes do: where cores are busy, others are waited for, busily."""
    with _libraries().limit(limits=1, user_api="blas"):
        return work(*what)


@cache
def _libraries() -> "ThreadpoolController":
    """Those that multiply; to look for them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _draw(segmenter: Segmenter, image: Slice | UnreadableSlice, maps: Maps) -> Drawn | UnreadableSlice:
    keep_freed_memory()
    if isinstance(image, UnreadableSlice):
        return image
    try:
        return Drawn.of(segmenter, image, maps)
    except UnreadableSlice as error:
        return error


def _regions(segmenter: Segmenter, image: Slice) -> list[Region]:
    keep_freed_memory()
    return segmenter.regions(segmenter.draw(image))
