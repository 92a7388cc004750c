"""What the numbers of a slice are where its file does not say it: told by how air, brain and bone look."""

from typing import Literal, get_args

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.reading.slice import Slice, Unitless

__all__ = ["AIR_HU", "SHIFT_HU", "UNITS", "Unit", "mode_in_unit", "recognised", "settled", "unknown_unit"]

Unit = Literal["hu", "hu+1024", "gray"]
UNITS: tuple[Unit, ...] = get_args(Unit)

# What pixels outside the scanned field become: air, whatever number was filled in.
AIR_HU = -1000.0
SHIFT_HU = 1024.0

_AIR = -1150.0, -850.0
_LEAST_AIR = 0.02
_TISSUE = 5.0, 90.0  # brain and blood
_LEAST_TISSUE = 0.05
# In HU, the numbers that brain has when it is shifted by 1024 are dense bone: hardly 1 in 100 pixels.
_MOST_BONE = 0.02
_BONE_FROM = 250.0
# Brain stands out: far fewer pixels have the numbers this much below it, which nothing in a head has.
_BELOW = 300.0
_STANDS_OUT = 3.0
# A picture is gray if its brightest pixel has at least this share of the range.
_LEAST_BRIGHT = {255.0: 0.5, 65535.0: 0.25}


def recognised(values: np.ndarray, gray_full: float = 255.0) -> Unit | None:
    """Tell the unit of values by where air, brain and bone lie.

    Parameters
    ----------
    values : ndarray of any shape
        Pixels of one slice or of a whole scan; what is not finite does not count.
    gray_full : float
        What white would be if they were gray levels.

    Returns
    -------
    {'hu', 'hu+1024', 'gray'} or None
        ``hu`` where there is air near -1000, or brain near 30 with bone above and nothing that would be brain
        shifted; ``hu+1024`` where there is brain near 1054; ``gray`` where all lies within 0 and `gray_full`,
        and is not nearly black. None where none of these holds.
    """
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    shifted = _share(values, _TISSUE[0] + SHIFT_HU, _TISSUE[1] + SHIFT_HU)
    below = _share(values, _TISSUE[0] + SHIFT_HU - _BELOW, _TISSUE[1] + SHIFT_HU - _BELOW)
    shifted = shifted if shifted >= _STANDS_OUT * below else 0.0
    is_hu = _share(values, *_AIR) >= _LEAST_AIR
    if shifted >= (_LEAST_TISSUE if is_hu else _MOST_BONE):
        return "hu+1024"
    if is_hu:
        return "hu"
    if low >= 0 and _LEAST_BRIGHT[gray_full] * gray_full <= high <= gray_full:
        return "gray"
    # Air was cut off at 0, or stands as what is no number: brain and bone are left.
    is_hu = high > _BONE_FROM and _share(values, *_TISSUE) >= _LEAST_TISSUE
    return "hu" if is_hu and gray_full == 255 else None


def settled(values: Unitless, unit: Unit | None = None) -> Slice:
    """Make a slice of values, in the unit that the user told, or else in the one that they look like.

    Raises
    ------
    UnreadableSlice
        If they look like none, or cannot be of the unit that was told.
    """
    known = unit or recognised(values.pixels, values.gray_full)
    if known is None:
        raise unknown_unit(values.pixels)
    pixels = _in_unit(values.pixels, known, values.gray_full)
    mode = mode_in_unit(values.mode, known)
    return Slice(pixels, known != "gray", values.spacing_mm, mode, values.is_colour)


def mode_in_unit(mode: str, unit: Unit) -> str:
    """What a file holds, with the unit that its numbers are taken for where that is not HU."""
    return f"{mode}{_WORDS[unit]}"


_WORDS: dict[Unit, str] = {"hu": "", "hu+1024": ", HU + 1024", "gray": ", gray"}


def unknown_unit(values: np.ndarray) -> UnreadableSlice:
    """The refusal of values that look like no unit, with their range and the remedy."""
    finite = values[np.isfinite(values)]
    span = f"from {finite.min():g} to {finite.max():g}" if finite.size else "none of which is a number"
    return UnreadableSlice(
        f"nothing says what its values are, {span}: they look neither like Hounsfield units, nor like these "
        "with 1024 added, nor like gray levels. Say it: --unit hu, --unit hu+1024 or --unit gray"
    )


def _in_unit(values: np.ndarray, unit: Unit, gray_full: float) -> np.ndarray:
    outside = ~np.isfinite(values)
    if unit == "gray":
        pixels = np.where(outside, np.float32(0), values).astype(np.float32, copy=False)
        if pixels.min() < 0 or pixels.max() > gray_full:
            raise UnreadableSlice(
                f"values from {pixels.min():g} to {pixels.max():g} are no gray levels of 0 to {gray_full:g}; "
                "give another --unit"
            )
        return pixels if gray_full == 255 else pixels / np.float32(gray_full / 255)
    pixels = values.astype(np.float32, copy=False)
    if unit == "hu+1024":
        pixels = pixels - np.float32(SHIFT_HU)
    if outside.any():
        pixels = np.where(outside, np.float32(AIR_HU), pixels)
    return pixels


def _share(values: np.ndarray, low: float, high: float) -> float:
    return float(((values >= low) & (values <= high)).mean())
