"""A labels.csv beside the slices: path or id, label, and what else it knows."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from haemo.errors import BadDataset
from haemo.features.failures import Failure
from haemo.features.layouts.claims import Claim, Claims, Headers, Request
from haemo.features.layouts.folder import Folder
from haemo.features.layouts.label_table import LabelRow, LabelTable, agreed, find_label_table
from haemo.features.reading.address import file_of

__all__ = ["Finder", "claim", "names_slices", "patients_from", "recognise"]


def recognise(folder: Folder, request: Request) -> bool:
    """Whether there is a table with labels and a path or id column, for pictures rather than DICOM."""
    return names_slices(folder, request) and len(folder.pictures) >= len(folder.dicom)


def names_slices(folder: Folder, request: Request) -> bool:
    """Whether there is a table with labels and a path or id column."""
    table = find_label_table(folder, request)
    return table is not None and ("path" in table.columns or "id" in table.columns)


def claim(folder: Folder, request: Request, headers: Headers) -> Claims:
    """Describe the slices that the table lists; it says which slices belong to the data set.

    Raises
    ------
    BadDataset
        If there is no table, it has no path or id column, or none of its rows names a file that is there.
    """
    del headers
    table = find_label_table(folder, request)
    if table is None or not ("path" in table.columns or "id" in table.columns):
        raise BadDataset(f"{folder.root} holds no table with a label and a path or id column")
    finder, rows_of, failures = Finder(folder, table.table.path.parent), defaultdict(list), []
    whole: set[Path] = set()  # slices of volumes that the table names as a whole
    for row in table.rows():
        path = finder.find(row.path or row.id)
        if isinstance(path, str):
            failures.append(Failure(row.path or row.id, "index", f"{table.name}, line {row.line}: {path}"))
        else:
            for each in finder.slices_of(path):
                rows_of[each].append(row)
                whole |= {each} if each != path else set()
    if not rows_of:
        first = failures[0] if failures else None
        detail = f" (first: {first.path}, {first.reason})" if first else ""
        raise BadDataset(f"no row of {table.table.path} names a file that is there{detail}")
    claims, repeated = [], 0
    for path, rows in rows_of.items():
        repeated += len(rows) - 1
        row = agreed(rows)
        if isinstance(row, str):
            failures.append(Failure(str(path), "index", row))
        else:
            one = _claim_of(folder, path, row)
            claims.append(replace(one, label="", of_study=row.label) if path in whole else one)
    left = [path for path in folder.slices if path not in rows_of]
    return Claims(
        slices=claims,
        failures=failures,
        notes=[f"labels: column {table.columns['label']!r} of {folder.name_of(table.table.path)}"],
        warnings=_warnings(folder, table, repeated, left),
        patients_from=patients_from(table),
        are_listed=True,
    )


class Finder:
    """Finds the file that a table means by a path, a name, a name without suffix, or a number.

    Parameters
    ----------
    folder : Folder
    beside : Path
        Folder of the table, which relative paths start from in the first place.
    """

    def __init__(self, folder: Folder, beside: Path):
        self._starts = (beside, folder.root)
        self._slices = set(folder.slices)
        self._by_name: dict[str, set[Path]] = defaultdict(set)
        self._volumes: dict[Path, list[Path]] = defaultdict(list)
        for path in folder.slices:
            if (file := file_of(path)) != path:
                self._volumes[file].append(path)
        for path in [*folder.slices, *self._volumes]:
            stem = path.name.removesuffix(path.suffix).removesuffix(".nii")
            # 7 and 007 are one number, however a spreadsheet has printed it.
            names = {path.name, stem, path.name.casefold(), stem.casefold()}
            if stem.isdecimal():
                names.add(f"number {int(stem)}")
            for name in names:
                self._by_name[name].add(path)

    def find(self, key: str) -> Path | str:
        """The file meant by `key`, or in words why there is none."""
        if not key:
            return "names no slice"
        relative = key.replace("\\", "/")
        for start in self._starts:
            try:
                if (found := (start / relative).absolute()) in self._slices or found.is_file():
                    return found
            except (OSError, ValueError):
                break
        name = relative.rsplit("/", 1)[-1]
        number = f"number {int(name)}" if name.isdecimal() else name
        for known in (name, name.casefold(), number):
            found = self._by_name.get(known, set())
            if len(found) > 1:
                return f"{key!r} fits {len(found)} files; give the path"
            if found:
                return next(iter(found))
        return f"{key!r} is not there"

    def slices_of(self, path: Path) -> list[Path]:
        """Give the slices of a volume that was found as a whole; of any other file itself."""
        return [path] if path in self._slices else self._volumes.get(path, [path])


def patients_from(table: LabelTable) -> str:
    """Where a table has patient ids from, in words; empty where it has none."""
    for meaning in ("patient", "study"):
        if meaning in table.columns:
            return f"column {table.columns[meaning]!r} of {table.name}"
    return ""


def _claim_of(folder: Folder, path: Path, row: LabelRow) -> Claim:
    # A study is of one patient, so where only studies are known they are what must be kept whole.
    patient = row.patient or row.study
    return Claim(path, folder.name_of(path), row.label, patient, row.study, row.position, row.part)


def _warnings(folder: Folder, table: LabelTable, repeated: int, left: list[Path]) -> list[str]:
    warnings = []
    if repeated:
        warnings.append(f"rows of {table.name} that repeat another: {repeated:,}")
    if left:
        names, more = ", ".join(folder.name_of(path) for path in left[:3]), " ..." if len(left) > 3 else ""
        warnings.append(f"files without a row in {table.name}, left out: {len(left):,} ({names}{more})")
    return warnings
