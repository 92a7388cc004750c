"""Slices with masks: the pixels of them that a classifier learns from, and how well it draws them."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import TooFewData, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow
from haemo.features.pixels.descriptors import describe
from haemo.features.pixels.masks import TrueMasks, read_mask
from haemo.features.pixels.region import joined
from haemo.features.pixels.variation import vary
from haemo.features.reading.reader import read_guarded
from haemo.features.reading.slice import Slice
from haemo.features.views.head_grid import HeadGrid
from haemo.pipeline.segmenting.pixel_features import PixelFeatures
from haemo.pipeline.segmenting.segmenter import Segmenter
from haemo.processors import usable_processors
from haemo.progress import Progress, silent

__all__ = [
    "STAGE",
    "DrawnRow",
    "MaskedRow",
    "Pixels",
    "drawn_slices",
    "in_processes",
    "look_at",
    "masked_rows",
    "sample",
]

STAGE = "segment"

MaskedRow = tuple[ManifestRow, Path]
"""A slice and its mask."""

_BLOOD, _OTHER, _LOOKALIKE = 200, 150, 150
"""Most pixels a slice: of blood; of the rest; of the rest that is as bright as blood."""
_LOOKALIKE_HU = 8.0  # above the brain's median, blurred by 1 mm
_PART_OF_WIDE = 5  # of these with hypercolumns, which are 1152 numbers a pixel
_SURE = 0.1, 0.5  # share of blood in a pixel of 1 mm up to which it is none, and from which it is blood


@dataclass(frozen=True, eq=False)
class Pixels:
    """Described pixels of many slices.

    Attributes
    ----------
    X : ndarray of shape (pixels, descriptors), float32
    y : ndarray of shape (pixels,), bool
    weights : ndarray of shape (pixels,), float32
        How many pixels of its slice each stands for.
    patients : ndarray of shape (pixels,), str
    failures : tuple of Failure
    """

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    patients: np.ndarray
    failures: tuple[Failure, ...]

    def of(self, chosen: np.ndarray) -> "Pixels":
        """The pixels that a mask of shape (pixels,) chooses."""
        kept = (values[chosen] for values in (self.X, self.y, self.weights, self.patients))
        return Pixels(*kept, self.failures)


def in_processes(
    task: Callable[..., Any],
    work: Sequence[tuple[Any, ...]],
    jobs: int | None,
    progress: Progress,
    label: str,
) -> Iterator[Any]:
    """Do a task of a module for each tuple of arguments: results in their order; None is a process a core."""
    from joblib import Parallel, delayed

    results = Parallel(n_jobs=jobs or usable_processors(), return_as="generator")(
        delayed(task)(*own) for own in work
    )
    return progress(results, total=len(work), label=f"{STAGE}: {label}")


def masked_rows(rows: Iterable[ManifestRow], masks: TrueMasks, side: str) -> list[MaskedRow]:
    """Slices of one side of a split that have a mask, which may be empty, and where it is.

    Raises
    ------
    TooFewData
        If none of them has a mask.
    """
    found = [(row, mask) for row in rows if (mask := masks.of(row.slice_id, row.path))]
    if not found:
        where = masks.folder or "a folder called masks beside the slices"
        raise TooFewData(
            f"no {side} slice has a mask in {where}; masks are PNG files named like the slices, volumes "
            "named like the scans, or DICOM outlines (SEG, RTSTRUCT) that 'haemo index' found"
        )
    return found


@dataclass(frozen=True, eq=False)
class DrawnRow:
    """What a segmenter says of one slice of a run.

    Attributes
    ----------
    row : ManifestRow
    is_hu : bool
    score : float
        Of the map.
    dice : ndarray of shape (thresholds,), float64, or None
        Of the outlines at some thresholds; None where there is no mask with a bleed.
    """

    row: ManifestRow
    is_hu: bool
    score: float
    dice: np.ndarray | None


def drawn_slices(
    segmenter: Segmenter,
    rows: Sequence[tuple[ManifestRow, Path | None]],
    thresholds: Sequence[float],
    jobs: int | None = None,
    progress: Progress = silent,
) -> tuple[list[DrawnRow], list[Failure]]:
    """Draw slices of a run, in their order, and measure outlines at some thresholds where masks are given."""
    work = [(segmenter, row, mask, tuple(thresholds)) for row, mask in rows]
    found, failures = [], []
    for (row, _), one in zip(rows, in_processes(_drawn, work, jobs, progress, "drawing"), strict=True):
        if isinstance(one, str):
            failures.append(Failure(str(row.path), STAGE, one))
        else:
            found.append(DrawnRow(row, *one))
    return found, failures


def _drawn(
    segmenter: Segmenter, row: ManifestRow, mask_path: Path | None, thresholds: tuple[float, ...]
) -> "tuple[bool, float, np.ndarray | None] | str":
    try:
        image = read_guarded(row.path)
        found = segmenter.draw(image)
        mask = None if mask_path is None else read_mask(mask_path, image.pixels.shape)
    except UnreadableSlice as error:
        return str(error)
    if mask is None or not mask.any():
        return image.is_hu, found.score, None
    outlines = [joined(found.regions(threshold), mask.shape) for threshold in thresholds]
    dice = [2 * (outline & mask).sum() / (outline.sum() + mask.sum()) for outline in outlines]
    return image.is_hu, found.score, np.array(dice)


def sample(
    rows: Sequence[MaskedRow],
    *,
    seed: int,
    varied: bool,
    looks: int = 1,
    palest_hu: float | None = None,
    features: PixelFeatures | None = None,
    jobs: int | None = None,
    progress: Progress = silent,
) -> Pixels:
    """Describe some pixels of each slice: blood, what is as bright, and less of the rest.

    What is drawn of a slice follows from `seed`, the number of the look and its id alone.

    Parameters
    ----------
    rows : sequence of (ManifestRow, Path)
        From `masked_rows`.
    seed : int
    varied : bool
        Whether slices in HU are given another look first, see `features.pixels.variation.vary`.
    looks : int
        How often each slice is taken.
    palest_hu : float, optional
        See `vary`.
    features : PixelFeatures, optional
        What pixels are described by; anatomy without.
    jobs : int, optional
        Processes; None is one a core.
    progress : Progress
    """
    parts, patients, failures = [], [], []
    features = features or PixelFeatures()
    work = [
        (row, mask, (seed, look), varied, features, palest_hu) for look in range(looks) for row, mask in rows
    ]
    results = in_processes(_pixels_of, work, jobs, progress, "reading")
    for (row, _, (_, look), *_), found in zip(work, results, strict=True):
        if isinstance(found, str):
            failures += [Failure(str(row.path), STAGE, found)] if look == 0 else []
        else:
            parts.append(found)
            patients.append(np.full(len(found[1]), row.patient))
    if not parts:
        raise TooFewData(
            f"none of {len(rows)} slices with masks can be used; {failures[0].path}: {failures[0].reason}"
        )
    X, y, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Pixels(X, y, weights, np.concatenate(patients), tuple(failures))


def look_at(
    row: ManifestRow,
    mask_path: Path,
    seed: tuple[int, int],
    varied: bool,
    palest_hu: float | None = None,
) -> tuple[Slice, np.ndarray, np.random.Generator]:
    """A slice, in another look where it is varied, its mask, and what its pixels are drawn with.

    Raises
    ------
    UnreadableSlice
        If either cannot be read.
    """
    rng = np.random.default_rng([*seed, zlib.crc32(row.slice_id.encode("utf-8", "surrogateescape"))])
    image = read_guarded(row.path)
    mask = read_mask(mask_path, image.pixels.shape)
    return (vary(image, mask, rng, palest_hu) if varied and image.is_hu else image), mask, rng


def _pixels_of(
    row: ManifestRow,
    mask_path: Path,
    seed: tuple[int, int],
    varied: bool,
    features: PixelFeatures,
    palest_hu: float | None,
) -> "tuple[np.ndarray, np.ndarray, np.ndarray] | str":
    try:
        image, mask, rng = look_at(row, mask_path, seed, varied, palest_hu)
        grid = HeadGrid.of(image)
    except UnreadableSlice as error:
        return str(error)
    anatomy = describe(grid)
    blood = grid.from_slice(mask)[grid.inside]
    least, most = _SURE
    bright = anatomy[:, 2] > _LOOKALIKE_HU
    groups = (
        (np.flatnonzero(blood > most), _BLOOD),
        (np.flatnonzero((blood < least) & ~bright), _OTHER),
        (np.flatnonzero((blood < least) & bright), _LOOKALIKE),
    )
    part = _PART_OF_WIDE if features.trunk else 1
    chosen = [rng.choice(group, min(len(group), limit // part), replace=False) for group, limit in groups]
    weights = [
        np.full(len(some), len(group) / max(len(some), 1))
        for some, (group, _) in zip(chosen, groups, strict=True)
    ]
    places = np.concatenate(chosen)
    X = features.of(grid, anatomy).rows(places)
    return X, blood[places] > most, np.concatenate(weights).astype(np.float32)
