"""How the time of a step grows with its size: the exponent beyond start-up, and the line to a larger size."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Growth", "Measured", "at_size", "growth_of"]


@dataclass(frozen=True)
class Measured:
    """What one step took.

    Attributes
    ----------
    seconds : float
        On the clock.
    cpu : float
        Seconds of processor time, the least of the repeats.
    peak_mb : float
        Memory of the largest process.
    said : str
        Its last line.
    refused : bool
        Whether it ended with an error, as where memory does not suffice.
    spread : float
        Seconds of processor time by which the repeats differ.
    start_up : float or None
        Seconds of processor time that the same step took at the least size, in the same minutes.
    """

    seconds: float
    cpu: float
    peak_mb: float
    said: str
    refused: bool
    spread: float = 0.0
    start_up: float | None = None


@dataclass(frozen=True)
class Growth:
    """An exponent, and its ends where start-up takes as much less or more as its repeats differ."""

    exponent: float
    least: float
    most: float

    def __str__(self) -> str:
        if math.isnan(self.exponent):
            return "start-up decides"
        return f"{self.exponent:.2f} ({self.least:.2f} to {self.most:.2f})"


def growth_of(found: Mapping[int, Measured]) -> Growth | None:
    """How processor time grows from the last but one size to the last.

    With a start-up of a seconds, t = a + b n^k. Nearly all of the time at the least size is start-up, so that
    time and that size are taken off the other two, and k is the slope of the logarithms of what is left.
    A processor is slower in some minutes than in others: start-up is that of the same minutes where it is
    known.

    Returns
    -------
    Growth
        NaN where start-up hides the work; None with fewer than three sizes.
    """
    sizes = sorted(size for size, one in found.items() if not one.refused)
    if len(sizes) < 3:
        return None
    start, low, high = sizes[0], sizes[-2], sizes[-1]
    spread = found[start].spread

    def start_up(one: Measured) -> float:
        return found[start].cpu if one.start_up is None else one.start_up

    def power(moved: float) -> float:
        work = [one.cpu - start_up(one) - moved for one in (found[low], found[high])]
        if min(work) <= 0:
            return math.nan
        return math.log(work[1] / work[0]) / math.log((high - start) / (low - start))

    less, middle, more = power(-spread), power(0.0), power(spread)
    if math.isnan(middle):
        return Growth(middle, middle, middle)
    return Growth(middle, less, math.inf if math.isnan(more) else more)


def at_size(found: Mapping[int, Measured], size: int) -> float | None:
    """Seconds of processor time at a larger size, by the line through the last two; None with fewer."""
    sizes = sorted(size for size, one in found.items() if not one.refused)
    if len(sizes) < 2:
        return None
    low, high = sizes[-2:]
    slope = (found[high].cpu - found[low].cpu) / (high - low)
    return found[high].cpu + slope * (size - high)
