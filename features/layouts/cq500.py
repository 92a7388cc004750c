"""CQ500 as published: folders ``CQ500CT12 CQ500CT12``, and reads.csv with what three readers said of each.

491 scans (Chilamkurthy et al., "Deep learning algorithms for detection of critical findings in head CT
scans", Lancet 2018, 392(10162), 2388-2396). A row of the table is a scan, ``CQ500-CT-12``; ``R1:ICH`` to
``R3:SAH`` are 0 or 1. ``Category`` is the batch (B1, B2) and no label. What two of three readers said is
taken, and is said of the scan, not of its slices.
"""

import re
from dataclasses import replace
from pathlib import Path

from haemo.errors import BadDataset
from haemo.features.failures import Failure
from haemo.features.labels import BLEED_TYPES, class_name
from haemo.features.layouts.claims import Claim, Claims, Headers, Request
from haemo.features.layouts.folder import Folder
from haemo.features.layouts.table import Table

__all__ = ["claim", "recognise"]

_READERS = ("R1", "R2", "R3")
_FINDINGS = {
    "any": "ICH",
    "epidural": "EDH",
    "intraparenchymal": "IPH",
    "intraventricular": "IVH",
    "subarachnoid": "SAH",
    "subdural": "SDH",
}
_NAME = re.compile(r"CQ500[\s_-]*CT[\s_-]*(\d+)", re.IGNORECASE)


def recognise(folder: Folder, request: Request) -> bool:
    """Whether there is a table of three readers, and a folder or file called as a scan of the set."""
    return _table(folder, request) is not None and any(_number_in(folder.name_of(p)) for p in folder.slices)


def claim(folder: Folder, request: Request, headers: Headers) -> Claims:
    """Describe every slice; what the readers said is the label of its study.

    Raises
    ------
    BadDataset
        If the table is missing or malformed, or fits no scan.
    BadSettings
        If the label asked for is neither ``any`` nor a type of bleed.
    """
    request.refuse("in CQ500", "patient_column")
    kind = request.kind(("any", *BLEED_TYPES), "CQ500 has")
    table = _table(folder, request)
    if table is None:
        raise BadDataset(f"{folder.root} holds no reads.csv with the columns name and R1:ICH to R3:SAH")
    said, failures = _majority(table, _FINDINGS[kind])
    headers.read(folder.dicom)
    slices, without, scans = [], 0, set()
    for path in folder.slices:
        header = headers.get(path)
        if path in headers.failures or path in headers.aside:
            continue
        tags = header.tags if header else None
        number = _number_in(folder.name_of(path))
        if number is None and tags:
            number = _number_in(tags.patient)
        if number is None:
            failures.append(
                Failure(str(path), "index", "neither its folder nor PatientID names a scan of CQ500")
            )
            continue
        name = f"CQ500-CT-{number}"
        slice_id = (tags.sop_instance_uid if tags else "") or folder.name_of(path)
        # With all series, each of them stands as a study of its own.
        study = name if request.series is None else ""
        one = Claim(path, slice_id, patient=name, study=study)
        scans.add(number)
        without += number not in said
        slices.append(replace(one, of_study=class_name(kind, said[number])) if number in said else one)
    if not scans & said.keys():
        raise BadDataset(f"no scan below {folder.root} has a row in {table.path}")
    notes = [f"labels: {kind}, by two of three readers, by {table.path.name}; they are of scans"]
    if len(said) > len(scans & said.keys()):
        notes.append(f"scans with a row that are not here: {len(said) - len(scans & said.keys()):,}")
    return Claims(
        slices=slices,
        failures=failures,
        notes=notes,
        warnings=[f"slices of scans without a row in {table.path.name}: {without:,}"] if without else [],
        patients_from="names of scans",
        positive=class_name(kind, True),
    )


def _table(folder: Folder, request: Request) -> Table | None:
    for path in folder.tables if request.labels is None else [request.labels]:
        try:
            table = Table.open(path)
        except BadDataset:
            if request.labels is not None:
                raise
            continue
        if table.column("name") and all(table.column(f"{reader}:ICH") for reader in _READERS):
            return table
    return None


def _majority(table: Table, finding: str) -> tuple[dict[int, bool], list[Failure]]:
    """What two of three readers said of each scan, by its number."""
    columns = [table.column(f"{reader}:{finding}") for reader in _READERS]
    if None in columns:
        raise BadDataset(f"{table.path} has no column {_READERS[columns.index(None)]}:{finding}")
    said: dict[int, bool] = {}
    failures = []
    name_heading = table.column("name") or ""
    for line, values in table.rows():
        name, cells = values[name_heading], [values[str(heading)] for heading in columns]
        number = _number_in(name)
        if number is None or any(cell not in ("0", "1") for cell in cells):
            reason = (
                f"{table.path.name}, line {line}: expected a name as CQ500-CT-12, and 0 or 1 of each reader"
            )
            failures.append(Failure(name or f"line {line}", "index", reason))
        else:
            said[number] = cells.count("1") >= 2
    return said, failures


def _number_in(text: str | Path) -> int | None:
    match = _NAME.search(str(text))
    return int(match[1]) if match else None
