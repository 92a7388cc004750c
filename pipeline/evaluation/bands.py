"""Values of an attribute as groups of slices: names as they are, numbers in bands, few and in order."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from haemo.pipeline.run.attributes import OF_BLEEDS

__all__ = ["OTHERS", "UNKNOWN", "groups_of"]

UNKNOWN = "unknown"
OTHERS = "others"

_MOST_NAMES = 12
_MOST_WHOLE = 6  # so many different numbers are names still, as of seven readers or doses

# Name -> first value of each band but the first, and the unit. Ages as in trials of adults; thickness by what
# is called thin, usual and thick for a head; areas in mm2, of a bleed on one slice.
_BANDS = {
    "age": ((18.0, 40.0, 65.0, 80.0), ""),
    "thickness": ((2.0, 4.0, 6.0), " mm"),
    "size": ((100.0, 500.0), " mm2"),
}


def groups_of(name: str, values: Sequence[str]) -> dict[str, np.ndarray]:
    """The groups of one attribute, in order, and which rows are in each.

    Parameters
    ----------
    name : str
    values : sequence of str
        One a row; empty where unknown. Types of bleed may be several, as ``epidural+subdural``.

    Returns
    -------
    dict of str to ndarray of shape (n,), bool
        Numbers of more than a few values come in bands: those of `_BANDS`, else thirds. Of many names the
        most frequent have groups of their own, and `OTHERS` the rest. `UNKNOWN` comes last, if there is any.
    """
    values = [str(value).strip() for value in values]
    if name == OF_BLEEDS[0]:
        return _types(values)
    numbers = _numbers(values)
    if numbers is not None and (name in _BANDS or len(set(numbers[~np.isnan(numbers)])) > _MOST_WHOLE):
        return _bands(name, numbers)
    counts = Counter(value for value in values if value)
    ranked = [value for value, _ in counts.most_common()]
    kept = ranked if len(ranked) <= _MOST_NAMES else ranked[: _MOST_NAMES - 1]
    column = np.array(values, dtype=object)
    groups = {value: column == value for value in sorted(kept)}
    rest = np.array([bool(value) and value not in kept for value in values], dtype=bool)
    return _with_unknown(groups | ({OTHERS: rest} if rest.any() else {}), column == "")


def _types(values: list[str]) -> dict[str, np.ndarray]:
    each = [{part.strip() for part in value.split("+") if part.strip()} for value in values]
    names = sorted(set().union(*each))
    groups = {name: np.array([name in own for own in each], dtype=bool) for name in names}
    return _with_unknown(groups, np.array([not own for own in each], dtype=bool))


def _numbers(values: list[str]) -> np.ndarray | None:
    """The values as numbers, NaN where unknown; None where one is none."""
    try:
        numbers = np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return None
    return numbers if not np.isinf(numbers).any() and not np.isnan(numbers).all() else None


def _bands(name: str, numbers: np.ndarray) -> dict[str, np.ndarray]:
    starts, unit = _BANDS.get(name, ((), ""))
    if not starts:
        known = numbers[~np.isnan(numbers)]
        starts = tuple(sorted({float(np.quantile(known, share)) for share in (1 / 3, 2 / 3)}))
    ends = [-np.inf, *starts, np.inf]
    groups = {}
    for low, high in pairwise(ends):
        inside = (numbers >= low) & (numbers < high)
        if inside.any():
            groups[_band_name(low, high, unit)] = inside
    return _with_unknown(groups, np.isnan(numbers))


def _band_name(low: float, high: float, unit: str) -> str:
    if np.isinf(low):
        return f"under {high:g}{unit}"
    return f"{low:g}{unit} and over" if np.isinf(high) else f"{low:g} to under {high:g}{unit}"


def _with_unknown(groups: dict[str, np.ndarray], unknown: np.ndarray) -> dict[str, np.ndarray]:
    # A group that calls itself so is that of the unknown ones.
    unknown = unknown | groups.pop(UNKNOWN, np.zeros_like(unknown))
    return groups | ({UNKNOWN: unknown} if unknown.any() else {})
