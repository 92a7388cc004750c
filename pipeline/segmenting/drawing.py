"""Blood drawn on many slices: in this process where they are few, else in one a core."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from haemo.errors import UnreadableSlice
from haemo.features.extraction.decoding import in_order
from haemo.features.pixels.blood_map import BloodMap
from haemo.features.pixels.region import Region
from haemo.features.reading.reader import SliceReader
from haemo.features.reading.slice import Slice
from haemo.pipeline.segmenting.segmenter import Segmenter
from haemo.processors import usable_processors

__all__ = ["drawn_files", "outlined"]

_READERS = 2
_AHEAD = 8
_BLOCK = 32  # slices at a time, which bounds the memory
_FEW = 24  # starting processes takes as long as drawing so many

Drawn = tuple[Slice, BloodMap] | UnreadableSlice


def drawn_files(segmenter: Segmenter, files: Sequence[Path]) -> Iterator[tuple[Path, Drawn]]:
    """Read files and draw the blood on them, in their order; of what cannot be used there is the error."""
    with SliceReader(_READERS) as reader:

        def read(path: Path) -> Slice | UnreadableSlice:
            try:
                return reader(path)
            except UnreadableSlice as error:
                return error

        for start in range(0, len(files), _BLOCK):
            block = files[start : start + _BLOCK]
            images = (image for _, image in in_order(block, read, _READERS, _AHEAD))
            yield from zip(block, _each(_draw, segmenter, images, len(files)), strict=True)


def outlined(segmenter: Segmenter, images: Sequence[Slice], of: int) -> Iterator[list[Region]]:
    """What is outlined on each of some slices, which are part of `of` that are drawn one after another."""
    return _each(_regions, segmenter, images, of)


def _each(
    work: Callable[[Segmenter, Any], Any], segmenter: Segmenter, items: Iterable[Any], of: int
) -> Iterator[Any]:
    if of < _FEW:
        return (work(segmenter, item) for item in items)
    from joblib import Parallel, delayed

    return Parallel(n_jobs=usable_processors(), return_as="generator")(
        delayed(work)(segmenter, item) for item in items
    )


def _draw(segmenter: Segmenter, image: Slice | UnreadableSlice) -> Drawn:
    if isinstance(image, UnreadableSlice):
        return image
    try:
        return image, segmenter.draw(image)
    except UnreadableSlice as error:
        return error


def _regions(segmenter: Segmenter, image: Slice) -> list[Region]:
    return segmenter.regions(segmenter.draw(image))
