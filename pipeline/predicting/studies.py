"""Which study each new slice is of, what the studies are called, and the order of their slices."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from haemo.features.reading.address import SliceAddress
from haemo.features.reading.formats import read_header

__all__ = ["Place", "StudyKey", "by_study", "folder_of", "place_of", "study_names"]

StudyKey = str | Path
"""What tells one study from another: the name that DICOM files give, a volume, or the folder of pictures."""


class Place(NamedTuple):
    """Where a slice is: its study, its position there, and the place along the scan axis in mm, if known."""

    study: StudyKey
    position: float | None = None
    z_mm: float | None = None


def place_of(path: Path) -> Place:
    """The series of a DICOM file, or the volume, and where the slice lies in it; the folder of a picture."""
    tags = read_header(path).tags
    if tags is None:
        return Place(folder_of(path))
    address = SliceAddress.of(path)
    of_volume = _whole(address.file) if address.number is not None else None
    study = tags.series or tags.study or tags.patient or of_volume or folder_of(path)
    z_mm = tags.slice_location_mm if tags.z_mm is None else tags.z_mm
    return Place(study, tags.instance_number if z_mm is None else z_mm, z_mm)


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
