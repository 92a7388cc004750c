"""Where the slices of a series lie, and what is amiss: gaps, doubled positions, changing spacing, tilt."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from haemo.features.reading.slice import DicomTags

__all__ = ["LOSSES", "extent_mm", "findings", "most_at_one_place", "usual"]

MISSING, DOUBLED = "missing slices", "slices at a position that another has"
# Findings that speak of slices lost or copied; the others say how a scan was made.
LOSSES = (MISSING, DOUBLED)

# Positions are rounded by scanners to 0.01 mm or so.
_SAME_MM = 0.02
_LEAST_TILT_DEG = 1.0
# A gap of so many usual ones, between usual ones, is one where slices are missing.
_GAP_FROM = 1.7
_ALIKE = 0.1


def findings(slices: Iterable[DicomTags]) -> list[str]:
    """What is amiss with the slices of one series, in words; empty where nothing is.

    A gap is called missing slices where it is about a multiple of the usual distance and stands between usual
    ones, or where instance numbers leap over it as well. Any other distance is a change of spacing.
    """
    slices = list(slices)
    found = []
    tilts = [tags.tilt_deg for tags in slices if tags.tilt_deg is not None]
    if tilts and max(tilts) >= _LEAST_TILT_DEG:
        found.append(f"tilted by {usual(tilts):g} degrees")
    thicknesses = Counter(tags.thickness_mm for tags in slices if tags.thickness_mm is not None)
    if len(thicknesses) > 1:
        listed = ", ".join(f"{value:g} mm ({count})" for value, count in sorted(thicknesses.items()))
        found.append(f"mixed thickness: {listed}")
    placed = sorted((tags for tags in slices if tags.z_mm is not None), key=_place)
    if len(placed) != len(slices):
        return found
    doubled, distinct = 0, placed[:1]
    for before, after in pairwise(placed):
        if _place(after) - _place(before) <= _SAME_MM:
            doubled += 1
        else:
            distinct.append(after)
    if doubled:
        found.append(f"{DOUBLED}: {doubled:,}")
    return [*found, *_spacing(distinct)]


def extent_mm(slices: Sequence[DicomTags], thickness_mm: float | None) -> float:
    """How much of the head a series covers; where positions are not known, slices times their thickness."""
    places = [tags.z_mm for tags in slices if tags.z_mm is not None]
    if len(places) == len(slices) > 1 and max(places) > min(places):
        return max(places) - min(places)
    return len(slices) * (thickness_mm or 1.0)


def most_at_one_place(slices: Iterable[DicomTags]) -> float:
    """How many slices lie at each position, on average; 1 where positions are not known."""
    places = [tags.z_mm for tags in slices]
    known = [round(place, 1) for place in places if place is not None]
    return len(known) / len(set(known)) if len(known) == len(places) > 0 else 1.0


def usual(values: Iterable[float]) -> float:
    """The value that most have, of those the smallest."""
    counts = Counter(round(value, 2) for value in values)
    most = max(counts.values())
    return min(value for value, count in counts.items() if count == most)


def _spacing(distinct: Sequence[DicomTags]) -> list[str]:
    gaps = [_place(after) - _place(before) for before, after in pairwise(distinct)]
    if len(gaps) < 2:
        return []
    leaps = [_leap(before, after) for before, after in pairwise(distinct)]
    often = usual(round(gap, 1) for gap in gaps)
    missing, others = 0, Counter()
    for number, gap in enumerate(gaps):
        beside = gaps[max(0, number - 1) : number] + gaps[number + 1 : number + 2]
        near = min(beside)
        times = gap / near
        stands_alone = times >= _GAP_FROM and all(_alike(one, near) for one in beside) and _is_whole(times)
        if stands_alone or (times >= _GAP_FROM and leaps[number] > 1):
            missing += round(times) - 1
        elif not _alike(gap, often):
            others[round(gap, 1)] += 1
    said = []
    if missing:
        said.append(f"{MISSING}: {missing:,}")
    if others:
        others[often] = sum(_alike(gap, often) for gap in gaps)
        listed = ", ".join(f"{value:g} mm ({count})" for value, count in sorted(others.items()))
        said.append(f"spacing changes: {listed}")
    return said


def _place(tags: DicomTags) -> float:
    return math.nan if tags.z_mm is None else tags.z_mm


def _leap(before: DicomTags, after: DicomTags) -> float:
    if before.instance_number is None or after.instance_number is None:
        return 1
    return abs(after.instance_number - before.instance_number)


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= _ALIKE * max(one, other)


def _is_whole(times: float) -> bool:
    return abs(times - round(times)) <= 2 * _ALIKE
