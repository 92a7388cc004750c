"""What `index` keeps of labels beside the manifest: those of whole studies, and types of bleed of slices."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from haemo.features.manifest import ManifestRow
from haemo.pipeline.run.directory import RunDirectory
from haemo.tables import Records, write_csv

__all__ = ["StudyLabel", "read_study_labels", "read_types", "write_study_labels", "write_types"]

_STUDIES, _TYPES = "studies.csv", "types.csv"


@dataclass(frozen=True, slots=True)
class StudyLabel:
    """What is said of one study."""

    study: str
    patient: str
    label: str


def write_study_labels(run: RunDirectory, rows: Iterable[ManifestRow], labels: Mapping[str, str]) -> None:
    """Write studies.csv, a row a study with a label; without any, the file of an earlier index goes."""
    patients = {row.study: row.patient for row in rows}
    lines = [(study, patients[study], label) for study, label in sorted(labels.items())]
    _write(run.path / _STUDIES, ("study", "patient", "label"), lines)


def read_study_labels(run: RunDirectory) -> dict[str, StudyLabel]:
    """Read studies.csv; empty where there is none.

    Raises
    ------
    BadDataset
        If it is malformed; the message names the line.
    """
    path = run.path / _STUDIES
    if not path.exists():
        return {}
    records = Records(path).require(("study", "patient", "label"), "rebuild it with 'haemo index'")
    return {one["study"]: StudyLabel(one["study"], one["patient"], one["label"]) for one in records}


def write_types(run: RunDirectory, types: Mapping[str, tuple[str, ...]]) -> None:
    """Write types.csv, a row a labelled slice; without any, the file of an earlier index goes."""
    lines = [(slice_id, "+".join(names)) for slice_id, names in types.items()]
    _write(run.path / _TYPES, ("slice_id", "types"), lines)


def read_types(run: RunDirectory) -> dict[str, tuple[str, ...]]:
    """Types of bleed of each labelled slice by its id; empty where no slice has several. Errors as above."""
    path = run.path / _TYPES
    if not path.exists():
        return {}
    records = Records(path).require(("slice_id", "types"), "rebuild it with 'haemo index'")
    return {one["slice_id"]: tuple(filter(None, one["types"].split("+"))) for one in records}


def _write(path: Path, headings: tuple[str, ...], lines: list[tuple[str, ...]]) -> None:
    if lines:
        write_csv(path, [headings, *lines])
    else:
        path.unlink(missing_ok=True)
