"""Which study each new slice is of, what the studies are called, and the order of their slices."""

import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from haemo.errors import UnreadableSlice
from haemo.features.layouts.claims import Headers
from haemo.features.reading.address import SliceAddress
from haemo.features.reading.reader import read_header_guarded
from haemo.features.reading.slice import SliceHeader

__all__ = ["Place", "StudyKey", "by_study", "folder_of", "place_of", "placed", "places_said", "study_names"]

_LOG = logging.getLogger("haemo")

StudyKey = str | Path
"""What tells one study from another: the name that DICOM files give, a volume, or the folder of pictures."""


class Place(NamedTuple):
    """Where a slice is: its study, its position there, and the place along the scan axis in mm, if known."""

    study: StudyKey
    position: float | None = None
    z_mm: float | None = None


def place_of(path: Path, header: SliceHeader | None = None) -> Place:
    """The series of a DICOM file, or the volume, and where the slice lies in it; the folder of a picture.

    Its header is read where it is not given.
    """
    tags = (header or read_header_guarded(path)).tags
    if tags is None:
        return Place(folder_of(path))
    address = SliceAddress.of(path)
    of_volume = _whole(address.file) if address.number is not None else None
    study = tags.series or tags.study or tags.patient or of_volume or folder_of(path)
    z_mm = tags.slice_location_mm if tags.z_mm is None else tags.z_mm
    return Place(study, tags.instance_number if z_mm is None else z_mm, z_mm)


def places_said(paths: Iterable[Path], headers: Headers) -> dict[Path, Place]:
    """Where those of some slices lie whose headers have been read already."""
    places = {}
    for path in paths:
        # Where the user told a unit, it came into the path when the header had been read.
        header = headers.get(path) or headers.get(SliceAddress.of(path).with_unit(None).path)
        if header:
            places[path] = place_of(path, header)
    return places


def placed(
    paths: Sequence[Path], known: Mapping[Path, Place], said: Mapping[Path, Place]
) -> tuple[dict[Path, Place], dict[Path, UnreadableSlice]]:
    """Where each file lies, for a model that looks at neighbours; study by study, each by position.

    A picture has its place by `known`. Else the pictures of a folder lie in the order of the numbers at the
    end of their names, if all of them have one of their own; this is said. Other pictures have no position.
    Headers are read of files whose place is not `said`.

    Returns
    -------
    places : dict
    unreadable : dict
        Files that cannot be read, with the reason.
    """
    found: dict[Path, Place] = {}
    unreadable: dict[Path, UnreadableSlice] = {}
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        try:
            place = said.get(path) or place_of(path)
        except UnreadableSlice as error:
            unreadable[path] = error
            continue
        if place.position is None and path in known and known[path].position is not None:
            place = known[path]
        elif place.position is None and isinstance(place.study, Path):
            folders.setdefault(place.study, []).append(path)
        found[path] = place
    numbered = 0
    for own in folders.values():
        numbers = [re.search(r"(\d+)$", path.stem) for path in own]
        ordered = {int(number[1]) for number in numbers if number}
        if len(ordered) == len(own):
            numbered += len(own)
            for path, number in zip(own, numbers, strict=True):
                found[path] = found[path]._replace(position=float(number[1]) if number else None)
    if numbered:
        _LOG.info("%d pictures are put in order by the numbers in their names", numbered)
    readable = list(found)
    order = by_study(list(found.values()))
    return {readable[number]: found[readable[number]] for number in order}, unreadable


def folder_of(path: Path) -> Path:
    """The whole path of a file's folder, without ``..``; a link keeps its own name."""
    return _whole(path.parent)


def _whole(path: Path) -> Path:
    """The whole path, without ``..``; a link keeps its own name."""
    path = path.absolute()
    return path.resolve() if ".." in path.parts else path


def study_names(studies: Iterable[StudyKey]) -> dict[StudyKey, str]:
    """What each study is called: as DICOM calls it, or as little of its folder's path as no other study has.

    Folders ``a/049/brain``, ``a/050/brain`` and ``a/051`` are called ``049/brain``, ``050/brain`` and
    ``051``, in whatever order they come.
    """
    studies = set(studies)
    ends = {study: _ends(study) for study in studies}
    shared = Counter(end for own in ends.values() for end in own)
    return {study: next((end for end in own if shared[end] == 1), own[-1]) for study, own in ends.items()}


def _ends(study: StudyKey) -> list[str]:
    """All trailing parts of a folder's path, the shortest first; of a DICOM name itself alone."""
    if isinstance(study, str):
        return [study]
    return [Path(*study.parts[-count:]).as_posix() for count in range(1, len(study.parts) + 1)]


def by_study(places: Sequence[Place]) -> list[int]:
    """Order of slices: studies as they come first; in each by position, as given where these are equal."""
    first = {place.study: number for number, place in reversed(list(enumerate(places)))}

    def key(number: int) -> tuple[int, float]:
        study, position, _ = places[number]
        return first[study], math.inf if position is None else position

    return sorted(range(len(places)), key=key)
