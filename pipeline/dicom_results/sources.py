"""Headers of the images that DICOM results refer to: what is copied from them, and what they must say."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.errors import UnreadableSlice

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Source", "SourceSeries", "read_source"]

log = logging.getLogger("haemo")

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# What results say of the patient and the study, as the images say it; a PACS files results by it.
_COPIED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("AccessionNumber", "StudyID", "ReferringPhysicianName"),
)
_OPTIONAL = ("IssuerOfPatientID", "StudyDescription", "PatientAge", "SeriesNumber", "InstanceNumber")
_GEOMETRY = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_SIZE = ("Rows", "Columns")
_SEX = ("M", "F", "O", "")
_SAME_DIRECTION = 1e-3


@dataclass(frozen=True, eq=False)
class Source:
    """One image: its file, and a clean copy of what results need of its header.

    Attributes
    ----------
    path : Path
    header : pydicom Dataset
        Every element in it is proper; those that DICOM demands of results are there, empty where unknown.
    left_out : tuple of str
        Keywords of elements that were improper.
    no_place : str
        Why the image has no place in space, and no element about it; empty where it has.
    """

    path: Path
    header: "Dataset"
    left_out: tuple[str, ...] = ()
    no_place: str = ""


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The images of a series that were scored, in the order of their places.

    Attributes
    ----------
    sources : tuple of Source
    no_outline : str
        Why no outline can be laid in space; empty where one can.
    """

    sources: tuple[Source, ...]
    no_outline: str = field(init=False)

    def __post_init__(self) -> None:
        without = next((one.no_place for one in self.sources if one.no_place), "")
        object.__setattr__(self, "no_outline", without or _disagreement(self.headers))

    @classmethod
    def read(cls, paths: Sequence[Path]) -> "SourceSeries":
        """Read the headers.

        Raises
        ------
        UnreadableSlice
            If a file cannot be referred to; the message names it where it is not the first.
        """
        sources = []
        for path in paths:
            try:
                sources.append(read_source(path))
            except UnreadableSlice as error:
                where = "" if path == paths[0] else f"{path.name}: "
                raise UnreadableSlice(f"{where}{error}") from error
        first = sources[0].header
        for one in sources[1:]:
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "PatientID"):
                if one.header.get(keyword) != first.get(keyword):
                    raise UnreadableSlice(f"{one.path.name}: its {keyword} is not that of {paths[0].name}")
        left_out = sorted({keyword for one in sources for keyword in one.left_out})
        if left_out:
            # Not the values: they are of the patient.
            log.warning("left empty in results, as the images have no proper value: %s", ", ".join(left_out))
        return cls(tuple(sources))

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return str(self.sources[0].header.StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return str(self.sources[0].header.SeriesInstanceUID)

    @property
    def number(self) -> int | None:
        """Series Number, where there is one."""
        value = self.sources[0].header.get("SeriesNumber")
        return None if value is None else int(value)

    @property
    def headers(self) -> list["Dataset"]:
        """The header of every image."""
        return [one.header for one in self.sources]


def read_source(path: Path) -> Source:
    """Read what results need of one image; pixels are not read.

    Raises
    ------
    UnreadableSlice
        If it is not DICOM, or has no proper identifiers.
    """
    import pydicom
    from pydicom.dataset import Dataset

    wanted = [*_UIDS, *_COPIED, *_OPTIONAL, *_GEOMETRY, *_SIZE, "SpecificCharacterSet", "SliceThickness"]
    header, left_out = Dataset(), []
    # pydicom's warnings quote values, which are of the patient. What is improper is left out and named.
    with warnings.catch_warnings(action="ignore"), pydicom.config.disable_value_validation():
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=wanted)
        # Like every parser of hostile bytes, pydicom raises whatever they lead to.
        except Exception as error:
            raise UnreadableSlice("no DICOM result can refer to it: it is no DICOM file") from error
        for keyword in ("SpecificCharacterSet", *wanted):
            value, is_proper = _value(data, keyword)
            if is_proper:
                setattr(header, keyword, value)
            elif keyword in data:
                left_out.append(keyword)
    for keyword in _UIDS:
        if keyword not in header:
            raise UnreadableSlice(
                f"no DICOM result can refer to it: its {keyword} is missing or no proper one"
            )
    for keyword in _SIZE:
        if keyword not in header:
            raise UnreadableSlice(f"no DICOM result can refer to it: it has no {keyword}")
    for keyword in _COPIED:
        if keyword not in header:
            setattr(header, keyword, "")
    header.Modality = "CT"
    no_place = next((f"an image has no proper {name}" for name in _GEOMETRY if name not in header), "")
    if no_place:
        # A part of it says nothing, and misleads what takes it for the whole.
        for keyword in _GEOMETRY:
            header.pop(keyword, None)
    return Source(path, header, tuple(left_out), no_place)


def _value(data: "Dataset", keyword: str) -> tuple[Any, bool]:
    """The value of an element, and whether it is a proper one."""
    from pydicom import config
    from pydicom.valuerep import PersonName, validate_value

    try:
        value = data.get(keyword)
        if value is None or (value == "" and keyword not in _COPIED):
            return None, False
        if keyword == "SpecificCharacterSet":
            return value, _is_known_character_set(value)
        if keyword in _GEOMETRY[1:]:
            numbers = [float(part) for part in value]
            sizes = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
            proper = len(numbers) == sizes[keyword] and bool(np.isfinite(numbers).all())
            return list(value), proper and (keyword != "PixelSpacing" or min(numbers) > 0)
        if keyword in _SIZE:
            return int(value), int(value) > 0
        if keyword == "SliceThickness":
            return value, float(value) > 0
        if keyword in ("SeriesNumber", "InstanceNumber"):
            return int(value), -(2**31) <= int(value) < 2**31
        text = value if isinstance(value, PersonName) else str(value)
        if keyword in (*_UIDS, "FrameOfReferenceUID"):
            return text, value.is_valid
        validate_value(data[keyword].VR, str(text), config.RAISE)
        return text, keyword != "PatientSex" or text in _SEX
    # A value that cannot even be taken from its bytes is as improper as one that breaks a rule.
    except Exception:
        return None, False


def _is_known_character_set(value: Any) -> bool:
    from pydicom.charset import python_encoding

    return all(name in python_encoding for name in ([value] if isinstance(value, str) else value))


def _disagreement(headers: Sequence["Dataset"]) -> str:
    """Why images that all have a place do not make one stack; empty where they do."""
    first = headers[0]
    for header in headers[1:]:
        if header.FrameOfReferenceUID != first.FrameOfReferenceUID:
            return "the images lie in different frames of reference"
        if (header.Rows, header.Columns) != (first.Rows, first.Columns):
            return "the images have different sizes"
        for keyword in ("ImageOrientationPatient", "PixelSpacing"):
            one, other = (np.array(each[keyword].value, dtype=float) for each in (header, first))
            if np.abs(one - other).max() > _SAME_DIRECTION:
                return f"the images differ in {keyword}"
    places = {tuple(map(float, header.ImagePositionPatient)) for header in headers}
    return "" if len(places) == len(headers) else "several images lie at the same place"
