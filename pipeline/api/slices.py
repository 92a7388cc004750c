"""Slices as a notebook has them: paths, rows of a manifest, arrays of pixels."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import BadSettings, UnreadableSlice
from haemo.features.manifest import ManifestRow
from haemo.features.reading.reader import read_guarded
from haemo.features.reading.slice import Slice, check_size

__all__ = ["UNITS", "as_slices", "read_slice"]

UNITS = ("hu", "gray")


def read_slice(path: str | os.PathLike[str]) -> Slice:
    """Decode one file: PNG, JPEG, TIFF, BMP or CT DICOM, told apart by content and not by name.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Slice
        ``pixels`` of shape (height, width), float32: HU where ``is_hu``, else gray levels in 0..255.

    Raises
    ------
    UnreadableSlice
        If the file cannot be used; the message names it and the reason.
    """
    path = Path(path)
    try:
        return replace(read_guarded(path))  # without its integers: whoever has it may change its pixels
    except UnreadableSlice as error:
        raise UnreadableSlice(f"{path}: {error}") from error


def as_slices(items: Any, units: str | None = None) -> list[Path | Slice]:
    """What was given as slices, as paths and slices that are checked.

    Parameters
    ----------
    items : sequence of path, Slice, ManifestRow or ndarray (height, width); or ndarray (n, height, width)
    units : {'hu', 'gray'}, optional
        What the numbers of arrays are; None takes uint8 for gray levels, and refuses any other type.

    Raises
    ------
    BadSettings
        If it is one slice and not a sequence, or an item is none of these.
    UnreadableSlice
        If pixels are not those of a slice; the message has the place of the item.
    """
    if units is not None and units not in UNITS:
        raise BadSettings(f"units {units!r} are none of {', '.join(UNITS)}")
    _refuse_single(items)
    slices: list[Path | Slice] = []
    for place, item in enumerate(items):
        if isinstance(item, ManifestRow):
            slices.append(item.path)
        elif isinstance(item, str | os.PathLike):
            slices.append(Path(item))
        elif isinstance(item, Slice):
            slices.append(_checked(item, place))
        elif isinstance(item, np.ndarray):
            slices.append(_of_array(item, units, place))
        else:
            raise BadSettings(
                f"item {place} is a {type(item).__name__}; a slice is a path, an array of shape (height, "
                "width), what haemo.read_slice gives, or a row of a manifest"
            )
    return slices


def _refuse_single(items: Any) -> None:
    if isinstance(items, str | os.PathLike | Slice | ManifestRow):
        raise BadSettings(f"one {type(items).__name__} is not a sequence of slices; put it in a list: [...]")
    if isinstance(items, np.ndarray) and items.dtype.kind in "biufc":
        if items.ndim != 3:
            raise BadSettings(
                f"an array of shape {items.shape} is no sequence of slices; give shape (n, height, width), "
                "one slice as pixels[None]"
            )
        if items.shape[-1] in (3, 4):
            raise BadSettings(
                f"an array of shape {items.shape} looks like one colour picture; slices are gray, of shape "
                "(n, height, width)"
            )
    if not isinstance(items, Iterable):
        raise BadSettings(
            f"a {type(items).__name__} is no sequence of slices; give a list of paths or arrays"
        )


def _of_array(pixels: np.ndarray, units: str | None, place: int) -> Slice:
    if units is None and pixels.dtype != np.uint8:
        raise BadSettings(
            f"item {place} is an array of {pixels.dtype}: say units='hu' or units='gray' (0..255); only "
            "uint8 is taken for gray levels unasked"
        )
    if pixels.dtype.kind not in "iuf":
        raise UnreadableSlice(f"item {place}: pixels are numbers, not {pixels.dtype}")
    return _checked(Slice(pixels, is_hu=units == "hu", mode=f"array {pixels.dtype}"), place)


def _checked(image: Slice, place: int) -> Slice:
    """The slice with its pixels as float32, once they are known to be those of a slice."""
    pixels = np.asarray(image.pixels)
    if pixels.ndim != 2:
        raise UnreadableSlice(f"item {place} has the shape {pixels.shape}; a slice is (height, width)")
    try:
        check_size(*pixels.shape)
    except UnreadableSlice as error:
        raise UnreadableSlice(f"item {place}: {error}") from error
    if not np.isfinite(pixels).all():
        raise UnreadableSlice(f"item {place} has pixels that are not finite (NaN or infinite)")
    if not image.is_hu and (pixels.min() < 0 or pixels.max() > 255):
        raise UnreadableSlice(
            f"item {place} has gray levels from {pixels.min():g} to {pixels.max():g}; they lie in 0..255. "
            "Hounsfield units are said by units='hu', or Slice(pixels, is_hu=True)"
        )
    pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    return Slice(pixels, image.is_hu, image.spacing_mm, image.mode, image.is_colour)
