"""The 200-image head-CT set as published: NNN.png and a labels.csv with the columns ``id, hemorrhage``."""

from dataclasses import replace

from haemo.features.layouts import labels_csv
from haemo.features.layouts.claims import Claims, Headers, Request
from haemo.features.layouts.folder import Folder
from haemo.features.layouts.label_table import find_label_table
from haemo.features.layouts.table import bare

__all__ = ["claim", "recognise"]


def recognise(folder: Folder, request: Request) -> bool:
    """Whether the table has exactly the two published columns, and the pictures are called by number."""
    if request.labels or request.label or request.patient_column:
        return False
    if not folder.pictures or not all(path.stem.isdecimal() for path in folder.pictures):
        return False
    table = find_label_table(folder, request)
    return table is not None and [bare(name) for name in table.table.headings] == ["id", "hemorrhage"]


def claim(folder: Folder, request: Request, headers: Headers) -> Claims:
    """Describe the pictures by the published table, which has no patients."""
    claims = labels_csv.claim(folder, request, headers)
    warning = (
        "this set is not one slice a person, as its page says: neighbours in number are often of one scan. "
        "Give groups in a column 'patient' to keep them together"
    )
    return replace(claims, warnings=[*claims.warnings, warning])
