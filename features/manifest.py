"""The manifest: which slices there are, with label, patient, study and position."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from haemo.errors import BadDataset
from haemo.tables import Records, write_csv

__all__ = ["COLUMNS", "Manifest", "ManifestRow", "rows_as_bytes"]

COLUMNS = ("slice_id", "path", "label", "patient", "study", "position", "part")
_REMEDY = "rebuild it with 'haemo index'"


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One slice of the data set.

    Attributes
    ----------
    slice_id : str
        Stable and unique: the path below the data folder, or the SOPInstanceUID in a DICOM tree.
    path : Path
        Absolute path of the file.
    label : str
        Class name; empty where the slice has no label (it can be embedded and predicted, not trained on).
    patient : str
        Never empty. Without patient ids each slice is its own patient, named by its slice_id.
    study : str
        Study or series the slice belongs to; the patient where nothing is known.
    position : float or None
        Place along the scan axis, in mm from DICOM or a plain order number; None where unknown.
    part : str
        ``train`` or ``test`` where the data set publishes a split, else empty.
    """

    slice_id: str
    path: Path
    label: str
    patient: str
    study: str
    position: float | None = None
    part: str = ""


class Manifest:
    """An ordered, immutable collection of manifest rows with unique slice ids.

    Parameters
    ----------
    rows : iterable of ManifestRow

    Raises
    ------
    BadDataset
        If two rows share a slice_id, a patient is empty, or `part` is none of '', 'train', 'test'.
    """

    def __init__(self, rows: Iterable[ManifestRow]):
        self.rows = tuple(rows)
        counts = Counter(row.slice_id for row in self.rows)
        if len(counts) < len(self.rows):
            twice = next(name for name, count in counts.items() if count > 1)
            raise BadDataset(f"slice_id {twice!r} stands more than once in the manifest; ids must be unique")
        for row in self.rows:
            if not row.slice_id or not row.patient:
                raise BadDataset(f"{row.path}: slice_id and patient must not be empty")
            if row.part not in ("", "train", "test"):
                raise BadDataset(f"{row.slice_id}: part is {row.part!r}; it must be empty, 'train' or 'test'")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ManifestRow]:
        return iter(self.rows)

    def __repr__(self) -> str:
        counts = Counter(row.label or "no label" for row in self.rows)
        labels = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        patients = len({row.patient for row in self.rows})
        return f"Manifest({len(self)} slices of {patients} patients: {labels})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.rows == other.rows

    __hash__ = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names that occur, sorted; slices without a label are left out."""
        return tuple(sorted({row.label for row in self.rows if row.label}))

    @property
    def labelled(self) -> "Manifest":
        """The rows that have a label."""
        return Manifest(row for row in self.rows if row.label)

    @property
    def patients_known(self) -> bool:
        """Whether patient ids were given: False when every slice stands as its own patient."""
        return any(row.patient != row.slice_id for row in self.rows)

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest.csv.

        Raises
        ------
        BadDataset
            If a column is missing or a row is malformed; the message names the line.
        """
        rows = []
        known: dict[str, str] = {}  # what many rows say is kept once
        records = Records(path).require(COLUMNS[:-1], _REMEDY)
        for entry in records:
            try:
                position = float(entry["position"]) if entry["position"] else None
            except ValueError:
                position = math.nan
            if position is not None and not math.isfinite(position):
                raise BadDataset(
                    f"{path}, line {records.line}: position {entry['position']!r} is not a number"
                )
            rows.append(
                ManifestRow(
                    slice_id=entry["slice_id"],
                    path=Path(entry["path"]),
                    label=known.setdefault(entry["label"], entry["label"]),
                    patient=known.setdefault(entry["patient"], entry["patient"]),
                    study=known.setdefault(entry["study"], entry["study"]),
                    position=position,
                    part=entry.get("part") or "",
                )
            )
        return cls(rows)

    def write(self, path: Path) -> None:
        """Write the manifest as CSV, atomically."""
        lines = [COLUMNS]
        for row in self.rows:
            position = "" if row.position is None else repr(row.position)
            lines.append((row.slice_id, str(row.path), row.label, row.patient, row.study, position, row.part))
        write_csv(path, lines)


def rows_as_bytes(rows: Iterable[ManifestRow]) -> bytes:
    """What models know of slices by name, to be hashed: id, label, patient and study of each, in order.

    Bytes of a file name that are not UTF-8 stand there as they are on the disk.
    """
    text = "".join(f"{row.slice_id}\0{row.label}\0{row.patient}\0{row.study}\n" for row in rows)
    return text.encode(errors="surrogateescape")
