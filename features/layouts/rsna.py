"""RSNA 2019 intracranial haemorrhage as published: ID_xxx.dcm files and stage_2_train.csv, any part of them.

The table has six lines a slice, ``ID_0123abcd_any,0`` and one for each type of bleed (Flanders et al.,
"Construction of a Machine Learning Dataset through Collaboration: The RSNA 2019 Brain CT Hemorrhage
Challenge", Radiology: Artificial Intelligence 2020, 2(3), e190211). Patient, study and position come from the
tags.
"""

import re
from itertools import islice
from pathlib import Path

from haemo.errors import BadDataset
from haemo.features.failures import Failure
from haemo.features.labels import BLEED_TYPES, class_name
from haemo.features.layouts.claims import Claim, Claims, Headers, Request
from haemo.features.layouts.folder import Folder
from haemo.features.layouts.table import Table, bare
from haemo.progress import Progress

__all__ = ["bleed_types", "claim", "recognise"]

_KINDS = ("any", *BLEED_TYPES)
_ID = re.compile(rf"(ID_[0-9a-zA-Z]+)_({'|'.join(_KINDS)})")


def recognise(folder: Folder, request: Request) -> bool:
    """Whether there are DICOM files called ID_..., and a table whose first line is about such an id."""
    has_slices = any(path.stem.startswith("ID_") for path in folder.dicom)
    return has_slices and _table(folder, request) is not None


def claim(folder: Folder, request: Request, headers: Headers) -> Claims:
    """Describe those DICOM files that have a label.

    Raises
    ------
    BadDataset
        If the table is missing or malformed, or fits no file.
    BadSettings
        If the label asked for is neither ``any`` nor a type of bleed.
    """
    request.refuse("in RSNA 2019", "patient_column")
    kind = request.kind(_KINDS, "RSNA 2019 has")
    table = _table(folder, request)
    if table is None:
        raise BadDataset(
            f"{folder.root} holds no table like stage_2_train.csv, with lines like ID_0123abcd_any,0"
        )
    labels, disputed = _labels(table, kind, headers.progress)
    claims, failures, without = [], [], 0
    for path in folder.dicom:
        name = path.stem
        if name not in labels:
            without += 1
        elif name in disputed:
            failures.append(Failure(str(path), "index", f"{table.path.name} says both 0 and 1 about {name}"))
        else:
            claims.append(Claim(path, name, class_name(kind, labels[name])))
    if not claims:
        raise BadDataset(f"no id of {table.path} fits a file below {folder.root}")
    notes = [f"labels: {kind} by {table.path.name}"]
    if len(labels) > len(claims) + len(failures):
        notes.append(f"labelled slices that are not here: {len(labels) - len(claims) - len(failures):,}")
    return Claims(
        slices=claims,
        failures=failures,
        notes=notes,
        warnings=[f"files without a label in {table.path.name}, left out: {without:,}"] if without else [],
        positive=class_name(kind, True),
        are_listed=True,
    )


def bleed_types(folder: Folder, request: Request) -> dict[Path, str]:
    """Types of bleed of each file with one, joined by ``+``, by the published table."""
    table = _table(folder, request)
    if table is None:
        return {}
    id_heading, label_heading = table.headings
    kinds: dict[str, set[str]] = {}
    for _, values in table.rows():
        match = _ID.fullmatch(values[id_heading])
        if match and match[2] in BLEED_TYPES and values[label_heading] == "1":
            kinds.setdefault(match[1], set()).add(match[2])
    return {path: "+".join(sorted(kinds[path.stem])) for path in folder.dicom if path.stem in kinds}


def _table(folder: Folder, request: Request) -> Table | None:
    for path in folder.tables if request.labels is None else [request.labels]:
        if request.labels is None and "train" not in path.stem:
            continue
        table = Table.open(path)
        if [bare(heading) for heading in table.headings] != ["id", "label"]:
            continue
        if all(_ID.fullmatch(values[table.headings[0]]) for _, values in islice(table.rows(), 1)):
            return table
    return None


def _labels(table: Table, kind: str, progress: Progress) -> tuple[dict[str, bool], set[str]]:
    """What the table says of each slice, by its id, and the ids that stand there twice with both values."""
    id_heading, label_heading = table.headings
    labels, disputed = {}, set()
    for line, values in progress(table.rows(), label="reading labels"):
        match = _ID.fullmatch(values[id_heading])
        if match is None or values[label_heading] not in ("0", "1"):
            raise BadDataset(f"{table.path}, line {line}: expected ID_..._TYPE and 0 or 1")
        name, label = match[1], values[label_heading] == "1"
        if match[2] == kind and labels.setdefault(name, label) != label:
            disputed.add(name)
    return labels, disputed
