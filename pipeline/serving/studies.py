"""A study to be read: its slices in order, under names that can be shown."""

import secrets
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from haemo.errors import UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.reading.address import SliceAddress
from haemo.features.reading.formats import slices_in
from haemo.features.reading.reader import read_header_guarded
from haemo.pipeline.predicting.studies import Place, StudyKey, by_study, place_of, study_names

__all__ = ["Study", "StudySlice", "shown", "sorted_into_studies"]

_STAGE = "serve"
_LONGEST = 120


@dataclass(frozen=True)
class StudySlice:
    """One slice.

    Attributes
    ----------
    path : Path
    name : str
        As the reader sees it: the file as it was dropped, or its name in the run.
    z_mm : float or None
        Place along the scan axis.
    slice_id : str
        In a run; else empty.
    label : str
        Class that the run's data give it; else empty.
    part : str
        ``train`` or ``test`` of a run's split; else empty.
    """

    path: Path
    name: str
    z_mm: float | None = None
    slice_id: str = ""
    label: str = ""
    part: str = ""


@dataclass(frozen=True, eq=False)
class Study:
    """Slices that are read together.

    Attributes
    ----------
    key : str
        Its name in addresses; says nothing of it, and cannot be guessed.
    name : str
        As the reader sees it.
    slices : tuple of StudySlice
        In the order of the scan.
    failures : tuple of Failure
        Files of it that cannot be used, by the names that the reader knows.
    run : int or None
        Number of the run it is of; None where it was dropped, or named on the command line.
    """

    name: str
    slices: tuple[StudySlice, ...]
    failures: tuple[Failure, ...] = ()
    run: int | None = None
    key: str = field(default_factory=lambda: secrets.token_urlsafe(9))

    @property
    def paths(self) -> list[Path]:
        """Files of the slices, each once."""
        return list(dict.fromkeys(one.path for one in self.slices))


def sorted_into_studies(
    files: Iterable[tuple[Path, str]], folders: Mapping[Path, str] | None = None
) -> tuple[list[Study], list[Failure]]:
    """Sort files into studies, as `haemo predict` does, each in the order of the scan.

    Parameters
    ----------
    files : iterable of (Path, str)
        Each with the name that is shown.
    folders : mapping of Path to str, optional
        How folders of pictures, and volumes, are called, where not by the end of their path.

    Returns
    -------
    studies : list of Study
        In the order in which they come.
    failures : list of Failure
        Files whose head cannot be read.
    """
    kept: list[tuple[Path, str]] = []
    places: list[Place] = []
    failures = []
    for file, name in files:
        try:
            for path in slices_in(file):
                number = SliceAddress.of(path).number
                places.append(place_of(path))
                kept.append((path, name if number is None else f"{name}, slice {number}"))
        except UnreadableSlice as error:
            failures.append(Failure(name, _STAGE, str(error)))
    called = study_names({place.study for place in places})
    together: dict[StudyKey, list[StudySlice]] = {}
    for number in by_study(places):
        (path, name), place = kept[number], places[number]
        together.setdefault(place.study, []).append(StudySlice(path, name, place.z_mm))
    studies = []
    for study, slices in together.items():
        if isinstance(study, str):
            name = _name_of_series(slices, study)
        else:
            name = shown((folders or {}).get(study) or called[study])
        studies.append(Study(name, tuple(slices)))
    return studies, failures


def _name_of_series(slices: Sequence[StudySlice], series: str) -> str:
    """Patient and the end of the series' number, which is all that tells it from others of the patient."""
    tags = read_header_guarded(slices[0].path).tags
    patient = shown(tags.patient) if tags else ""
    tail = shown(series if len(series) <= 12 else f"…{series[-10:]}")
    return f"{patient}, series {tail}" if patient else f"series {tail}"


def shown(name: str) -> str:
    """A name from outside as it may stand on a page: no control or direction marks, not endless.

    That nothing in it becomes markup is for the templates, which escape everything.
    """
    whole = name.encode("utf-8", "replace").decode("utf-8")
    clean = "".join(one if unicodedata.category(one) not in ("Cc", "Cf", "Cs") else "�" for one in whole)
    clean = " ".join(clean.split())
    return clean if len(clean) <= _LONGEST else f"{clean[: _LONGEST - 1]}…"
