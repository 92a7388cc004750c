"""Tables of labels: which column is which, and one row a slice or patient."""

import math
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from haemo.errors import BadDataset, BadSettings
from haemo.features.labels import NORMAL, meaning_of_flag, names_bleed_type, says_normal
from haemo.features.layouts.claims import Request
from haemo.features.layouts.folder import Folder
from haemo.features.layouts.table import Table, bare

__all__ = ["LabelRow", "LabelTable", "agreed", "find_label_table", "part_of"]

_HEADINGS = {
    "path": ("path", "file", "filename", "filepath", "image", "imagepath", "imagename", "imagefile", "img"),
    "uid": ("sopinstanceuid", "sopuid", "sop", "instanceuid"),
    "id": ("id", "sliceid", "imageid", "slice", "name"),
    "patient": (
        *("patient", "patientid", "patientnumber", "subject", "subjectid", "case", "caseid"),
        *("group", "heuristicgroup"),
    ),
    "study": ("study", "studyid", "studyinstanceuid", "studyuid", "scan", "scanid", "series", "seriesid"),
    "position": ("position", "positionmm", "z", "zmm", "slicelocation", "slicenumber", "instancenumber"),
    "part": ("part", "split", "subset", "partition", "fold"),
    "label": (
        *("label", "labels", "class", "classname", "target", "diagnosis"),
        *("hemorrhage", "haemorrhage", "bleed", "ich", "any"),
    ),
}
# Before any other label column that is there; of the others, one alone is taken.
_NAMED_FOR_LABELS = ("label", "labels")
# These may hold labels, or a batch, a kind of scan, a coordinate: the user is asked.
_PERHAPS_LABELS = ("category", "type", "status", "finding", "findings", "result", "outcome", "y")
_MOST_CLASSES, _SHOWN = 10, 8
_KEYS = ("path", "uid", "id", "study", "patient")
_NO_LABEL = ("", "nan", "na", "n/a", "#n/a", "null")
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One line of a table of labels; empty text where the column is not there or holds nothing."""

    line: int
    path: str = ""
    uid: str = ""
    id: str = ""
    patient: str = ""
    study: str = ""
    position: float | None = None
    part: str = ""
    label: str = ""


@dataclass(frozen=True)
class LabelTable:
    """A table with a label column and at least one column that says what is labelled.

    Attributes
    ----------
    table : Table
    columns : dict of str to str
        What a column means -> its heading.
    verdict : str, optional
        Heading of the column that says whether there is a bleed at all, where the labels are types of bleed:
        what has no type because it has no bleed is normal, not unlabelled.
    guesses : tuple of str
        Headings of columns that may be the labels, where none surely is.
    """

    table: Table
    columns: dict[str, str]
    verdict: str | None = None
    guesses: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """File name, for messages."""
        return self.table.path.name

    @property
    def is_usable(self) -> bool:
        """Whether it has a label column and a key column."""
        return "label" in self.columns and self.has_key

    @property
    def has_key(self) -> bool:
        """Whether it has a column that says what is labelled."""
        return any(key in self.columns for key in _KEYS)

    @classmethod
    def open(cls, path: Path, request: Request) -> "LabelTable":
        """Open a table and find out what its columns mean.

        Raises
        ------
        BadDataset
            If the file is no table.
        BadSettings
            If a column that the user named is not there.
        """
        table = Table.open(path)
        columns = {meaning: table.column(*names) for meaning, names in _HEADINGS.items()}
        for meaning, wanted in (("label", request.label), ("patient", request.patient_column)):
            if wanted is not None:
                columns[meaning] = table.column(wanted)
                if columns[meaning] is None:
                    raise BadSettings(
                        f"{path} has no column {wanted!r}; it has {', '.join(filter(None, table.headings))}"
                    )
        guesses = () if request.label else _guesses(table)
        if guesses:
            columns["label"] = None
        verdict = table.column(*_HEADINGS["label"])
        if verdict in (None, columns["label"]) or not _holds_bleed_types(table, columns["label"]):
            verdict = None
        return cls(
            table,
            {meaning: heading for meaning, heading in columns.items() if heading is not None},
            verdict,
            guesses,
        )

    def ask(self) -> BadDataset:
        """The error that asks which column holds the labels: those it may be, each with its values."""
        others = [name for name in self.table.headings if name and name not in self.columns.values()]
        order = [*self.guesses, *(name for name in others if name not in self.guesses)]
        values: dict[str, dict[str, None]] = {name: {} for name in order}
        for _, cells in self.table.rows():
            for name, seen in values.items():
                if cells[name] and len(seen) <= _MOST_CLASSES:
                    seen[cells[name]] = None
        found = [
            f"{name!r} ({', '.join(seen)})" for name, seen in values.items() if 1 < len(seen) <= _MOST_CLASSES
        ]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        listed = f": {', '.join(found[:_SHOWN])}{more}" if found else ""
        if not self.guesses:
            found = ", ".join(filter(None, self.table.headings))
            return BadDataset(
                f"{self.table.path} has no label column among {found}; name it with --label{listed}"
            )
        may = " or ".join(map(repr, self.guesses))
        return BadDataset(
            f"{self.table.path}: {may} may hold the labels, or something else; name the column with "
            f"--label{listed}. If none of them holds labels, take the table out of the folder"
        )

    def rows(self) -> Iterator[LabelRow]:
        """Yield every row; a label that says 0 or 1 under a telling heading gets its class name.

        Raises
        ------
        BadDataset
            If a line is malformed or a position is no number; the message names the line.
        """
        for line, values in self.table.rows():
            cells = {meaning: values[heading] for meaning, heading in self.columns.items()}
            label = cells.get("label", "")
            cells["label"] = "" if label.casefold() in _NO_LABEL else self._class_name(label)
            if not cells["label"] and self.verdict and says_normal(values[self.verdict]):
                cells["label"] = NORMAL
            cells["position"] = self._position(cells.get("position", ""), line)
            cells["part"] = _PARTS.get(bare(cells.get("part", "")), "")
            yield LabelRow(line, **cells)

    def _class_name(self, label: str) -> str:
        return meaning_of_flag(self.columns["label"], label)

    def _position(self, text: str, line: int) -> float | None:
        if not text:
            return None
        try:
            position = float(text)
        except ValueError:
            position = math.nan
        if not math.isfinite(position):
            raise BadDataset(f"{self.table.path}, line {line}: position {text!r} is not a number")
        return position


def _guesses(table: Table) -> tuple[str, ...]:
    """Headings that may be those of the labels, where it is not plain which one is."""
    if table.column(*_NAMED_FOR_LABELS):
        return ()
    for names, plain in ((_HEADINGS["label"], 1), (_PERHAPS_LABELS, 0)):
        found = tuple(heading for heading in map(table.column, names) if heading)
        if found:
            return found if len(found) > plain else ()
    return ()


def _holds_bleed_types(table: Table, heading: str | None) -> bool:
    return heading is not None and any(names_bleed_type(values[heading]) for _, values in table.rows())


def find_label_table(folder: Folder, request: Request) -> LabelTable | None:
    """Find the table of labels of a data folder: the one asked for, ``labels.csv``, or the only one there is.

    Raises
    ------
    BadDataset
        If the one asked for lacks a column, or several would do.
    BadSettings
        If a column that the user named is not there.
    """
    if request.labels is not None:
        return _usable(LabelTable.open(request.labels, request))
    named = [path for path in folder.tables if path.stem.casefold() == "labels"]
    if named:
        beside = [path for path in named if path.parent == named[0].parent]
        if len(beside) > 1:
            raise _several(folder, beside)
        return _usable(LabelTable.open(named[0], request))
    opened = list(_openable(folder.tables, request))
    usable = [table for table in opened if table.is_usable]
    if len(usable) > 1:
        raise _several(folder, [table.table.path for table in usable])
    asked = [table for table in opened if table.guesses and table.has_key]
    if asked and not usable:
        raise asked[0].ask()
    return usable[0] if usable else None


def agreed(rows: Iterable[LabelRow]) -> LabelRow | str:
    """The one statement that several rows about the same thing make, or in words how they differ."""
    rows = list(rows)
    for meaning in ("label", "patient", "study", "position", "part"):
        values: dict[Hashable, int] = {}
        for row in rows:
            values.setdefault(getattr(row, meaning), row.line)
        if len(values) > 1:
            said = ", ".join(f"{value or 'none'} (line {line})" for value, line in values.items())
            return f"the table contradicts itself: {meaning} {said}"
    return rows[0]


def part_of(name: str) -> str:
    """The part that a folder or value of this name stands for: train, val, test, or none."""
    return _PARTS.get(bare(name), "")


def _openable(paths: Iterable[Path], request: Request) -> Iterator[LabelTable]:
    """Tables with the columns asked for; any other CSV file that lies about is nobody's labels."""
    for path in paths:
        try:
            yield LabelTable.open(path, request)
        except (BadDataset, BadSettings):
            continue


def _several(folder: Folder, paths: list[Path]) -> BadDataset:
    names = ", ".join(folder.name_of(path) for path in paths)
    return BadDataset(f"several tables could hold the labels ({names}); choose one with --labels")


def _usable(table: LabelTable) -> LabelTable:
    """The table, once it is known to have labels and to say what they are of."""
    if table.has_key and "label" not in table.columns:
        raise table.ask()
    if not table.is_usable:
        found = ", ".join(filter(None, table.table.headings))
        keys = "no column path, id, SOPInstanceUID, study or patient"
        raise BadDataset(f"{table.table.path} has {keys} among {found}, so it names no slices")
    return table
