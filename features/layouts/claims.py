"""What a layout says of its slices, before any of them has been opened."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from haemo.errors import BadSettings, NotASlice, Outlines, UnreadableSlice
from haemo.features.failures import Failure, by_volume
from haemo.features.layouts.folder import Folder
from haemo.features.outlines.truth import Truth
from haemo.features.reading.address import SliceAddress
from haemo.features.reading.reader import read_header_guarded
from haemo.features.reading.slice import SliceHeader
from haemo.features.reading.unit import Unit
from haemo.features.series.kinds import holds_head
from haemo.progress import Progress, silent

__all__ = ["Claim", "Claims", "Headers", "Layout", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked of `index`, beyond the folder.

    Attributes
    ----------
    labels : Path or None
        The labels file, where it is not to be searched for.
    label : str or None
        Heading of the label column, or the type of bleed in data sets that label several.
    patient_column : str or None
        Heading of the column that says which patient a slice is of.
    series : str or None
        Which series of a study to take: ``all``, or a regular expression; None chooses.
    unit : {'hu', 'hu+1024', 'gray'} or None
        What the numbers are in files that do not say it; None tells by their looks.
    """

    labels: Path | None = None
    label: str | None = None
    patient_column: str | None = None
    series: str | None = None
    unit: Unit | None = None

    def refuse(self, where: str, *options: str) -> None:
        """Say that an option has no meaning here, rather than pass it over.

        Raises
        ------
        BadSettings
            If one of `options` was given.
        """
        for option in options:
            if getattr(self, option) is not None:
                raise BadSettings(f"--{option.replace('_', '-')} has no meaning {where}")

    def kind(self, kinds: Collection[str], holder: str) -> str:
        """Which of the kinds of label that a data set has was asked for; ``any`` where none was.

        `holder` begins the rest of the message, as ``CQ500 has``.

        Raises
        ------
        BadSettings
            If it is none of `kinds`.
        """
        kind = (self.label or "any").casefold()
        if kind not in kinds:
            raise BadSettings(f"--label {self.label}: {holder} {', '.join(kinds)}")
        return kind


@dataclass(frozen=True, slots=True)
class Claim:
    """One slice as its layout describes it; empty text where the layout does not say.

    `of_study` is what is said of its whole study, and so of no slice.
    """

    path: Path
    slice_id: str
    label: str = ""
    patient: str = ""
    study: str = ""
    position: float | None = None
    part: str = ""
    of_study: str = ""


@dataclass(frozen=True)
class Claims:
    """All slices of a data set as its layout describes them.

    Attributes
    ----------
    slices : list of Claim
    failures : list of Failure
        What the layout names and cannot be used.
    notes, warnings : list of str
        Sentences for the user.
    patients_from : str
        Where patient ids come from; empty where the layout has none.
    positive : str or None
        The positive class, where the layout knows it.
    are_listed : bool
        Whether labels were given slice by slice, so that they say which series is meant.
    truth : Truth or None
        What DICOM outlines say, where the layout has read them.
    """

    slices: list[Claim] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    patients_from: str = ""
    positive: str | None = None
    are_listed: bool = False
    truth: Truth | None = None


class Headers:
    """Headers of slice files, each file opened once, and the failures of those that could not be read.

    Attributes
    ----------
    failures : dict of Path to Failure
    aside : dict of Path to str
        Sound files that are no axial slices, such as localizers, and what they are.
    outlines : list of Path
        Those of them that are DICOM outlines.
    progress : Progress
        For whatever else takes long while a layout is read.
    unit : {'hu', 'hu+1024', 'gray'} or None
        As in `Request`.
    """

    def __init__(self, progress: Progress = silent, unit: Unit | None = None):
        self.unit: Unit | None = unit
        self.failures: dict[Path, Failure] = {}
        self.aside: dict[Path, str] = {}
        self.outlines: list[Path] = []
        self._headers: dict[Path, SliceHeader] = {}
        self._looked_at: set[Path] = set()
        self.progress = progress

    def read(self, paths: Iterable[Path]) -> None:
        """Read the headers of `paths` that have not been read yet."""
        done = (self._headers, self.failures, self.aside)
        missing = [path for path in paths if not any(path in known for known in done)]
        for path in self.progress(missing, total=len(missing), label="reading headers"):
            try:
                self._headers[path] = read_header_guarded(SliceAddress.of(path).with_unit(self.unit).path)
            except NotASlice as error:
                self.aside[path] = str(error)
                self.outlines += [path] if isinstance(error, Outlines) else []
            except UnreadableSlice as error:
                self.failures[path] = Failure(str(path), "index", str(error))

    def find_outlines(self, paths: Iterable[Path]) -> None:
        """Look for outlines among files that are no slices, as in folders called ``masks``; once in each."""
        known = self._looked_at.union(self.outlines)
        new = [path for path in paths if path not in known]
        self._looked_at.update(new)
        others = Headers(self.progress)
        others.read(new)
        self.outlines += others.outlines

    def each_failure(self) -> list[Failure]:
        """Give the failures; slices of a volume that failed for one reason are one failure."""
        return by_volume(self.failures.values())

    def of_other_parts(self, paths: Iterable[Path]) -> list[str]:
        """Say how many of the slices are, by their tag, of another part of the body than the head."""
        found = [self._headers[path].tags for path in paths if path in self._headers]
        parts = [tags.body_part for tags in found if tags and tags.body_part]
        others = Counter(part for part in parts if not holds_head(part))
        listed = ", ".join(f"{part} ({count:,})" for part, count in others.most_common())
        return [f"slices that are not of the head by their tag BodyPartExamined: {listed}"] if listed else []

    def with_unit(self, path: Path) -> Path:
        """Give the path with the unit that the user told, where its file does not say one itself."""
        header = self._headers.get(path)
        is_told = self.unit is not None and header is not None and header.unit_open
        return SliceAddress.of(path).with_unit(self.unit).path if is_told else path

    def get(self, path: Path) -> SliceHeader | None:
        """Header of one file; None where it could not be read."""
        return self._headers.get(path)


@runtime_checkable
class Layout(Protocol):
    """How a data set lies in a folder: a module with these two functions, or an object with such methods."""

    def recognise(self, folder: Folder, request: Request) -> bool:
        """Whether the folder holds such a data set; asked where the user named no layout."""
        ...

    def claim(self, folder: Folder, request: Request, headers: Headers) -> Claims:
        """Describe every slice, also one that the user sent here and `recognise` would not have.

        Raises
        ------
        BadDataset
            If the folder is not what the layout needs.
        BadSettings
            If an option of `request` does not fit.
        """
        ...
