"""Masks of slices from files of outlines: which segments are blood, and on which slices they lie."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.labels import bleed_type_in, speaks_of_bleed
from haemo.features.outlines.contours import ELEMENTS as OF_CONTOURS
from haemo.features.outlines.contours import Contours
from haemo.features.outlines.drawing import MANUFACTURER, Drawing, Piece, Segment
from haemo.features.outlines.plane import FRAME_OF_REFERENCE, PlacedSlice, read_placed
from haemo.features.outlines.segmentation import ELEMENTS as OF_SEGMENTS
from haemo.features.outlines.segmentation import Segmentation
from haemo.features.pixels.packed import PackedMask
from haemo.features.reading.dicom_header import Header, parsed_file
from haemo.progress import Progress, silent

__all__ = ["Drawings", "Truth"]

_MODALITY = 0x00080060
_HAEMO = "haemo"
# How far a piece may lie off its slice: one that it names, and one that is found by its place.
_NAMED_MM, _FOUND_MM = 2.5, 0.5
# Names and codes that programs give by themselves say nothing of what was outlined.
_SAYS_NOTHING = re.compile(
    r"(?:(?:segment|segmentation|seg|mask|label|lesion|roi|region|outline|annotation|contour|finding|structure"
    r"|morphologically|abnormal|abnormality|tissue|unnamed|untitled|new|manual|auto|ai|reader|\d+)\s*)*"
)
_SHOWN = 3


@dataclass(frozen=True)
class Truth:
    """What outlines say of slices.

    Attributes
    ----------
    masks : dict of Path to PackedMask
        Blood on each slice of the series that were outlined, as the slice is seen; also where there is none.
    types : dict of Path to tuple of str
        Types of bleed on each of these slices; of those that segments tell.
    failures : list of Failure
        Files of outlines that could not be used.
    notes, warnings : list of str
        Sentences for the user.
    used : frozenset of Path
        Files of outlines that could be.
    """

    masks: dict[Path, PackedMask] = field(default_factory=dict)
    types: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    used: frozenset[Path] = frozenset()


@dataclass(frozen=True)
class _Known:
    """What is kept of a file of outlines until it is drawn; its pixels and polygons take more room."""

    path: Path
    segments: dict[int, Segment]
    instances: frozenset[str]
    is_fractional: bool


class Drawings:
    """Files of outlines that can be opened.

    Parameters
    ----------
    paths : iterable of Path
    progress : Progress

    Attributes
    ----------
    known : list
        Path, segments and slices of each file. Without those that haemo drew: what a model says is no truth
        to judge it by.
    failures : list of Failure
    """

    def __init__(self, paths: Iterable[Path], progress: Progress = silent):
        self.known: list[_Known] = []
        self.failures: list[Failure] = []
        self._own = 0
        self._progress = progress
        paths = sorted(paths)
        for path in progress(paths, total=len(paths), label="reading outlines"):
            try:
                drawing = _opened(path)
            except UnreadableSlice as error:
                self.failures.append(Failure(str(path), "index", str(error)))
                continue
            if drawing.maker == _HAEMO:
                self._own += 1
            else:
                fractional = isinstance(drawing, Segmentation) and drawing.is_fractional
                self.known.append(_Known(path, drawing.segments, drawing.instances, fractional))

    @property
    def segments(self) -> list[Segment]:
        """Segments of all files that are taken for blood."""
        return [one.segments[n] for one in self.known for n in _blood(one.segments)]

    @property
    def tell_types(self) -> bool:
        """Whether each segment of blood says of which type it is."""
        return bool(self.segments) and all(_type_of(segment) for segment in self.segments)

    def truth(self, slices: Iterable[Path], name: str | None = None, remedy: str = "") -> Truth:
        """Draw the segments of blood on slices.

        Parameters
        ----------
        slices : iterable of Path
        name : str, optional
            What the segments are called that are to be taken, where these are not those of blood.
        remedy : str
            What the user can do about segments that are not taken.

        Returns
        -------
        Truth
        """
        failures = list(self.failures)
        placed = _Places(slices, failures, self._progress)
        left, unclear, missing = Counter(), Counter(), Counter()
        used, refused = set(), set()
        found: dict[Path, dict[str, PackedMask]] = {}
        for one in self._progress(self.known, total=len(self.known), label="drawing outlines"):
            wanted = _blood(one.segments) if name is None else _called(one.segments, name)
            left.update(own.shown for n, own in one.segments.items() if n not in wanted)
            if name is None:
                unclear.update(one.segments[n].shown for n in wanted if not _is_blood(one.segments[n]))
            if not wanted:
                continue
            try:
                missing[one.path.name] += _draw(_opened(one.path), wanted, placed, found)
                used.add(one.path)
            except UnreadableSlice as error:
                failures.append(Failure(str(one.path), "index", str(error)))
                # What else is known of these slices is not all that was outlined on them.
                refused |= placed.series_of(one.instances)
        found = {path: own for path, own in found.items() if placed.by_path[path].series not in refused}
        bleeding = sum(map(bool, found.values()))
        notes = [f"outlines: {len(used):,} files, on {len(found):,} slices, {bleeding:,} of them with blood"]
        if self._own:
            notes.append(f"outlines that haemo itself drew, which are no truth: {self._own:,} files")
        warnings = []
        if left:
            warnings.append(f"segments that are not taken, by their names: {_listed(left)}{remedy}")
        if missing := +missing:
            warnings.append(f"outlines of slices that are not here: {_listed(missing)}")
        warnings.extend(_said([one for one in self.known if one.path in used], unclear))
        return Truth(
            masks={path: _seen(placed.by_path[path], own) for path, own in found.items()},
            types={path: tuple(sorted(filter(None, own))) for path, own in found.items()},
            failures=failures,
            notes=notes,
            warnings=warnings,
            used=frozenset(used),
        )


class _Places:
    """Slices, found by what outlines say of which they are, or by where they lie."""

    def __init__(self, slices: Iterable[Path], failures: list[Failure], progress: Progress):
        self.by_path: dict[Path, PlacedSlice] = {}
        self.by_instance: dict[str, list[PlacedSlice]] = defaultdict(list)
        self.by_series: dict[str, list[PlacedSlice]] = defaultdict(list)
        slices = list(slices)
        for path in progress(slices, total=len(slices), label="placing slices"):
            try:
                one = read_placed(path)
            except UnreadableSlice as error:
                failures.append(Failure(str(path), "index", str(error)))
                continue
            if one is not None:
                self.by_path[path] = one
                self.by_instance[one.instance].append(one)
                self.by_series[one.series].append(one)

    def series_of(self, instances: Iterable[str]) -> set[str]:
        """Series that some of these slices are of."""
        return {one.series for name in instances for one in self.by_instance.get(name, ())}

    def of(self, drawing: Drawing) -> list[PlacedSlice]:
        """Slices of the series that a drawing is of; where it names none, those of its frame of reference.

        Raises
        ------
        UnreadableSlice
            If there are none.
        """
        if drawing.instances:
            found = [
                one for name in sorted(self.series_of(drawing.instances)) for one in self.by_series[name]
            ]
            if not found:
                raise UnreadableSlice(
                    f"outlines of {len(drawing.instances):,} slices of which none is here "
                    f"(first: {min(drawing.instances)})"
                )
            return found
        frame = drawing.frame_of_reference
        found = [one for one in self.by_path.values() if frame and one.frame_of_reference == frame]
        if not found:
            raise UnreadableSlice(
                "outlines that name no slice, and no slice here has their frame of reference"
            )
        return found


def _opened(path: Path) -> Drawing:
    more = (*OF_SEGMENTS, *OF_CONTOURS, FRAME_OF_REFERENCE, MANUFACTURER)
    dataset = parsed_file(path, stop_before_pixels=False, more=more, of_frames=True)
    kind = Segmentation if Header(dataset).text(_MODALITY) == "SEG" else Contours
    return kind(path, dataset)


def _draw(
    drawing: Drawing, wanted: Sequence[int], placed: _Places, found: dict[Path, dict[str, PackedMask]]
) -> int:
    """Add to `found`, by slice and type, what a drawing shows; returns how many pieces name other slices.

    Masks are as the slice is stored; empty ones are left out.
    """
    candidates = placed.of(drawing)
    parts: dict[tuple[Path, int], np.ndarray] = {}
    missing = 0
    for piece in drawing.pieces(wanted):
        on = _slice_of(piece, candidates)
        if on is None:
            missing += 1
            continue
        mask, key = drawing.draw(piece, on), (on.path, piece.segment)
        parts[key] = drawing.join(parts[key], mask) if key in parts else mask
    for one in candidates:
        found.setdefault(one.path, {})
    for (path, number), mask in parts.items():
        own, kind = found[path], _type_of(drawing.segments[number]) or ""
        if mask.any():
            own[kind] = PackedMask.of(own[kind].unpack() | mask if kind in own else mask)
    return missing


def _seen(slice_: PlacedSlice, own: Mapping[str, PackedMask]) -> PackedMask:
    """All blood on a slice, as it is seen."""
    blood = np.zeros(slice_.size, bool)
    for mask in own.values():
        blood |= mask.unpack()
    return PackedMask.of(slice_.view.turn(blood))


def _slice_of(piece: Piece, candidates: Sequence[PlacedSlice]) -> PlacedSlice | None:
    """The slice that a piece lies on; None where it names others.

    Raises
    ------
    UnreadableSlice
        If it lies on none of those that it may be of: to leave it out would call the slice there normal.
    """
    named = [one for one in candidates if piece.refers_to & {(one.instance, one.frame), (one.instance, None)}]
    if piece.refers_to and not named:
        return None
    reach = [
        (abs(float((piece.point - one.plane.origin) @ one.plane.normal)), one)
        for one in named or candidates
        if one.plane is not None and piece.point is not None
    ]
    if reach:
        away, nearest = min(reach, key=lambda pair: pair[0])
        if away <= (_NAMED_MM if named else _FOUND_MM):
            return nearest
        raise UnreadableSlice(f"an outline lies {away:.1f} mm off the nearest slice that it may be of")
    if len(named) != 1:
        raise UnreadableSlice("an outline does not say on which slice it lies")
    return named[0]


def _blood(segments: Mapping[int, Segment]) -> list[int]:
    """Numbers of the segments that are blood by their names; where none is, those whose names say nothing."""
    numbers = [n for n, one in segments.items() if _is_blood(one)]
    return numbers or [n for n, one in segments.items() if _says_nothing(one)]


def _called(segments: Mapping[int, Segment], name: str) -> list[int]:
    return [n for n, one in segments.items() if one.shown.casefold() == name.casefold()]


def _is_blood(segment: Segment) -> bool:
    return speaks_of_bleed(segment.name) or speaks_of_bleed(segment.meaning)


def _says_nothing(segment: Segment) -> bool:
    words = re.sub(r"[\W_]+", " ", f"{segment.name} {segment.meaning}".casefold()).strip()
    return _SAYS_NOTHING.fullmatch(words) is not None


def _type_of(segment: Segment) -> str | None:
    return bleed_type_in(segment.name) or bleed_type_in(segment.meaning)


def _said(used: Sequence[_Known], unclear: Mapping[str, int]) -> Iterator[str]:
    """What the user should know of how outlines were understood."""
    if unclear:
        yield f"segments whose names say nothing, taken for blood: {_listed(unclear)}"
    automatic = sum(any(one.segments[n].is_automatic for n in _blood(one.segments)) for one in used)
    if automatic:
        yield f"outlines that a program drew by itself, taken for the truth all the same: {automatic:,} files"
    fractional = sum(one.is_fractional for one in used)
    if fractional:
        yield f"outlines in fractions, of which half and more counts as blood: {fractional:,} files"


def _listed(names: Mapping[str, int]) -> str:
    shown = [f"{name!r} ({count:,})" for name, count in Counter(names).most_common(_SHOWN)]
    return ", ".join(shown) + (" ..." if len(names) > _SHOWN else "")
