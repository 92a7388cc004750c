"""Of several series of a study one is taken: a soft, complete, plain one, near 5 mm; the others are named."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from haemo.errors import BadSettings
from haemo.features.reading.slice import DicomTags, SliceHeader
from haemo.features.series.kinds import Kind, Sharpness
from haemo.features.series.places import LOSSES
from haemo.features.series.series import Series

__all__ = ["ALL", "Choice", "ChosenSeries", "choose_series", "pattern_of"]

ALL = "all"
# Most labels of head CT were given on slices of about this thickness.
_THICKNESS_MM = 5.0
# What covers less of the head than this share of the largest one is a test shot or a part.
_COMPLETE = 0.6
_SHOWN = 3


@dataclass(frozen=True)
class ChosenSeries:
    """A series, and whether and why it was taken or not.

    Attributes
    ----------
    series : Series
    taken : bool
    reason : str
        Why it was not taken; empty where it was, or where that needs no reason.
    """

    series: Series
    taken: bool
    reason: str = ""

    def row(self) -> dict[str, object]:
        """A line of series.csv."""
        one = self.series
        return {
            "study": one.study,
            "series": one.uid,
            "number": one.number,
            "description": one.description,
            "kind": one.kind.words,
            "kernel": one.kernel,
            "thickness_mm": "" if one.thickness_mm is None else f"{one.thickness_mm:g}",
            "slices": len(one.slices),
            "extent_mm": f"{one.extent_mm:.0f}",
            "taken": "yes" if self.taken else "no",
            "reason": self.reason,
            "findings": "; ".join(one.findings),
        }


@dataclass(frozen=True)
class Choice:
    """Which series are taken of every study.

    Attributes
    ----------
    series : tuple of ChosenSeries
        All that there are, studies as they come first.
    """

    series: tuple[ChosenSeries, ...] = ()

    @property
    def left_out(self) -> set[Path]:
        """Slices of the series that are not taken."""
        return {path for one in self.series if not one.taken for path in one.series.paths}

    def sentences(self) -> list[str]:
        """What was not taken, with why, and how the slices of what was taken lie."""
        left = [one for one in self.series if not one.taken]
        said = []
        if left:
            slices = sum(len(one.series.slices) for one in left)
            examples = [f"{one.series.name}: {one.reason}" for one in left[:_SHOWN]]
            more = "; ..." if len(left) > _SHOWN else ""
            said.append(
                f"series not taken: {len(left):,} with {slices:,} slices ({'; '.join(examples)}{more}); "
                "--series all|REGEX takes others"
            )
        return said + self._found(lambda finding: not finding.startswith(LOSSES))

    def warnings(self) -> list[str]:
        """What of the series that were taken may be a fault."""
        said = []
        others = [one.series for one in self.series if one.taken and one.series.kind is not Kind.PLAIN]
        if others:
            first = f"{others[0].name}, {others[0].kind.words}"
            said.append(f"series taken that are no plain CT: {len(others):,} (first: {first})")
        said += self._found(lambda finding: finding.startswith(LOSSES))
        taken = {one.series.study for one in self.series if one.taken}
        without = {one.series.study for one in self.series} - taken
        if without:
            said.append(f"studies of which no series was taken: {len(without):,} (first: {min(without)})")
        return said

    def _found(self, is_meant: Callable[[str], bool]) -> list[str]:
        """Findings of taken series: of each kind the first, and how many more there are."""
        lines: dict[str, list[str]] = defaultdict(list)
        for one in self.series:
            for finding in filter(is_meant, one.series.findings if one.taken else []):
                lines[re.split(r":| by ", finding)[0]].append(f"{one.series.name}: {finding}")
        return [
            first + (f"; {len(more):,} more such series" if more else "") for first, *more in lines.values()
        ]


def pattern_of(wanted: str | None) -> re.Pattern[str] | None:
    """What the user wants, as a pattern; None where the choice is ours.

    Raises
    ------
    BadSettings
        If it is no regular expression.
    """
    if wanted is None:
        return None
    try:
        return re.compile("" if wanted.casefold() == ALL else wanted, re.IGNORECASE)
    except re.error as error:
        raise BadSettings(
            f"--series {wanted!r} is neither 'all' nor a regular expression ({error}); it is looked for in "
            "number, description, kernel and UID of each series"
        ) from error


def choose_series(
    headers: Mapping[Path, SliceHeader],
    wanted: str | None = None,
    labels: Mapping[Path, str] | None = None,
    are_listed: bool = False,
) -> Choice:
    """Choose among the series of each study.

    Parameters
    ----------
    headers : mapping of Path to SliceHeader
        Slices; those without tags of a study belong to none and are always taken.
    wanted : str, optional
        ``all``, or a regular expression for number, description, kernel or UID of a series.
    labels : mapping of Path to str, optional
        Class of each slice, empty where it has none.
    are_listed : bool
        Whether the labels were given slice by slice: the series that have them are then those to take.

    Returns
    -------
    Choice

    Raises
    ------
    BadSettings
        If `wanted` is no regular expression.
    """
    pattern = pattern_of(wanted)
    labels = labels or {}
    chosen: list[ChosenSeries] = []
    for group in _studies(headers):
        if pattern is not None:
            chosen += [
                ChosenSeries(one, True)
                if pattern.search(one.searched)
                else ChosenSeries(one, False, "does not match --series")
                for one in group
            ]
        else:
            chosen += _of_study(group, labels, are_listed)
    return Choice(tuple(chosen))


def _studies(headers: Mapping[Path, SliceHeader]) -> list[list[Series]]:
    slices: dict[str, dict[str, list[tuple[Path, DicomTags]]]] = defaultdict(lambda: defaultdict(list))
    for path, header in headers.items():
        if header.tags and header.tags.study:
            slices[header.tags.study][header.tags.series].append((path, header.tags))
    return [
        [
            Series(study, uid, tuple(path for path, _ in members), tuple(tags for _, tags in members))
            for uid, members in group.items()
        ]
        for study, group in slices.items()
    ]


def _of_study(group: Sequence[Series], labels: Mapping[Path, str], are_listed: bool) -> list[ChosenSeries]:
    if len(group) == 1:
        return [ChosenSeries(group[0], True)]
    classes = [Counter(labels[path] for path in one.paths if labels.get(path)) for one in group]
    labelled = [bool(counts) for counts in classes]
    # Classes that differ within a study were given by someone who looked at its slices.
    if (are_listed and any(labelled)) or len(set().union(*classes)) > 1:
        reason = "the labels are of another series"
        return [
            ChosenSeries(one, has, "" if has else reason) for one, has in zip(group, labelled, strict=True)
        ]
    ranked = sorted(group, key=lambda one: _rank(one, group))
    best = ranked[0]
    if best.kind > Kind.CONTRAST:
        return [ChosenSeries(one, False, one.kind.words) for one in group]
    return [
        ChosenSeries(one, one is best, "" if one is best else _why_not(one, best, group)) for one in group
    ]


def _rank(one: Series, group: Iterable[Series]) -> tuple[float | str, ...]:
    return (
        one.kind,
        bool(one.elsewhere),
        _is_part(one, group),
        one.sharpness,
        one.is_derived,
        _off(one),
        -round(one.extent_mm),
        -len(one.slices),
        one.number.zfill(8),
        one.uid,
    )


def _why_not(one: Series, best: Series, group: Iterable[Series]) -> str:
    """The first respect in which another one was better."""
    if one.kind != best.kind:
        return one.kind.words
    if one.elsewhere and not best.elsewhere:
        return f"not of the head by its tag: {one.elsewhere}"
    if _is_part(one, group) and not _is_part(best, group):
        return f"covers {one.extent_mm:.0f} mm, another {best.extent_mm:.0f}"
    if one.sharpness != best.sharpness:
        kernel = f"kernel {one.kernel}" if one.kernel else "kernel not known"
        return f"a sharp {kernel}" if one.sharpness is Sharpness.SHARP else f"{kernel}, not known to be soft"
    if one.is_derived != best.is_derived:
        return "derived from another series"
    if _off(one) != _off(best):
        if one.thickness_mm is None:
            return "its thickness is not known"
        return f"{one.thickness_mm:g} mm thick, another {best.thickness_mm:g}"
    return "another is more complete" if one.extent_mm < best.extent_mm else "as good as another"


def _is_part(one: Series, group: Iterable[Series]) -> bool:
    largest = max(
        other.extent_mm
        for other in group
        if (other.kind, bool(other.elsewhere)) == (one.kind, bool(one.elsewhere))
    )
    return one.extent_mm < _COMPLETE * largest


def _off(one: Series) -> float:
    """How far its thickness is from that of most labels, in steps of half a mm."""
    return 99.0 if one.thickness_mm is None else round(2 * abs(one.thickness_mm - _THICKNESS_MM)) / 2
