"""A tree of DICOM files: patient, study and position from the tags, labels from a table or from outlines."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from haemo.errors import BadDataset
from haemo.features.failures import Failure
from haemo.features.layouts.claims import Claim, Claims, Headers, Request
from haemo.features.layouts.folder import Folder
from haemo.features.layouts.label_table import LabelRow, LabelTable, agreed, find_label_table
from haemo.features.layouts.labels_csv import Finder, patients_from
from haemo.features.layouts.outlined import labelled_by_outlines
from haemo.features.reading.slice import DicomTags

__all__ = ["claim", "recognise"]


Key = Path | str


def recognise(folder: Folder, request: Request) -> bool:
    """Whether most slices are DICOM."""
    del request
    return len(folder.dicom) > len(folder.pictures)


def claim(folder: Folder, request: Request, headers: Headers) -> Claims:
    """Describe every DICOM file, with the label that the table has for its instance, file, study or patient.

    Files without a label stay in: they can be embedded and predicted, though not trained on. A label of a
    study or patient is that of its studies, and of no slice. Without a table, outlines (SEG, RTSTRUCT) say
    which slices bleed, of the series that they are of.

    Raises
    ------
    BadDataset
        If there is a table and none of its rows fits a file.
    """
    headers.read(folder.dicom)
    headers.find_outlines(folder.dicom_masks)
    tags = {path: headers.get(path).tags for path in folder.dicom if headers.get(path)}
    tags = {path: found for path, found in tags.items() if found}
    table = find_label_table(folder, request)
    warnings = []
    if len(folder.pictures) > 0:
        warnings.append(f"pictures among the DICOM files, left out: {len(folder.pictures):,}")
    if table is None:
        if not headers.outlines:
            request.refuse("without a table of labels", "label")
        request.refuse("without a table of labels", "patient_column")
        if folder.tables:
            names = ", ".join(folder.name_of(path) for path in folder.tables[:3])
            warnings.append(
                f"tables without a column of labels, left aside: {len(folder.tables):,} ({names})"
            )
        slices = [Claim(path, _slice_id(folder, path, found)) for path, found in tags.items()]
        claims = Claims(slices, warnings=warnings)
        return labelled_by_outlines(claims, request, headers) if headers.outlines else claims
    key, rows_of, failures = _keyed(folder, table, tags)
    key_of = {path: _KEYS[key](path, found) for path, found in tags.items()}
    by_slice = key in ("SOPInstanceUID", "file")
    slices, without = [], 0
    for path, found in tags.items():
        row = agreed(rows_of[key_of[path]]) if key_of[path] in rows_of else LabelRow(0)
        if isinstance(row, str):
            failures.append(Failure(str(path), "index", row))
            continue
        without += not row.label
        one = _claim_of(path, _slice_id(folder, path, found), row)
        slices.append(one if by_slice else replace(one, label="", of_study=row.label))
    if without:
        warnings.append(f"DICOM files without a label in {table.name}: {without:,} of {len(slices):,}")
    used = set(key_of.values())
    unused = [name for name in rows_of if name not in used]
    if unused:
        warnings.append(
            f"entries of {table.name} that fit no file here: {len(unused):,} of {len(rows_of):,} "
            f"(first: {unused[0]})"
        )
    heading = table.columns["label"]
    return Claims(
        slices=slices,
        failures=failures,
        notes=[f"labels: column {heading!r} of {folder.name_of(table.table.path)}, by {key}"],
        warnings=warnings,
        patients_from=patients_from(table) if by_slice else "",
        are_listed=by_slice,
    )


_KEYS: dict[str, Callable[[Path, DicomTags], Key]] = {
    "SOPInstanceUID": lambda path, tags: tags.sop_instance_uid,
    "file": lambda path, tags: path,
    "study": lambda path, tags: tags.study,
    "patient": lambda path, tags: tags.patient,
}
# Column of the table -> what its values may be, in the order in which they are tried.
_COLUMNS = {
    "uid": ("SOPInstanceUID",),
    "path": ("file",),
    "id": ("SOPInstanceUID", "file", "study", "patient"),
    "study": ("study",),
    "patient": ("patient",),
}


def _keyed(
    folder: Folder, table: LabelTable, tags: dict[Path, DicomTags]
) -> tuple[str, dict[Key, list[LabelRow]], list[Failure]]:
    """Find out by what the table names slices: the first column and kind of key with a hit.

    Returns
    -------
    tuple
        Kind of key, rows by key, and failures for files that the table names and that are not there.
    """
    rows = list(table.rows())
    finder = Finder(folder, table.table.path.parent)
    for column in _COLUMNS:
        if column not in table.columns:
            continue
        for kind in _COLUMNS[column]:
            rows_of, failures = defaultdict(list), []
            for row in rows:
                key: Key = getattr(row, column)
                if kind == "file":
                    key = finder.find(key)
                    if isinstance(key, str):
                        reason = f"{table.name}, line {row.line}: {key}"
                        failures.append(Failure(getattr(row, column), "index", reason))
                        continue
                rows_of[key].append(row)
            if any(_KEYS[kind](path, found) in rows_of for path, found in tags.items()):
                return kind, dict(rows_of), failures
    raise BadDataset(
        f"no row of {table.table.path} fits a DICOM file here, neither by SOPInstanceUID nor by file, study "
        "or patient"
    )


def _slice_id(folder: Folder, path: Path, tags: DicomTags) -> str:
    return tags.sop_instance_uid or folder.name_of(path)


def _claim_of(path: Path, slice_id: str, row: LabelRow) -> Claim:
    return Claim(path, slice_id, row.label, row.patient, row.study, row.position, row.part)
