"""What tells patients and scans apart, gathered for `pipeline.run.attributes` from tables, tags and masks."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from haemo.errors import BadSettings, UnreadableSlice
from haemo.extensions import did_you_mean
from haemo.features.layouts import ct_ich, rsna
from haemo.features.layouts.claims import Request
from haemo.features.layouts.folder import Folder
from haemo.features.layouts.label_table import find_label_table
from haemo.features.layouts.labels_csv import Finder
from haemo.features.layouts.table import Table, bare
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.pixels.masks import find_mask, read_mask
from haemo.features.pixels.packed import PackedMask
from haemo.features.reading.dicom_attributes import TAGS, dicom_attributes
from haemo.features.reading.reader import read_guarded
from haemo.pipeline.run.attributes import KNOWN, Attributes
from haemo.progress import Progress, silent

__all__ = ["Wanted", "gather_attributes", "parse_keep"]

log = logging.getLogger("haemo")

_HEADINGS = {
    "sex": ("sex", "gender", "patientsex"),
    "age": ("age", "ageyears", "patientage", "ageinyears"),
    "scanner": ("scanner", "scannermodel", "manufacturermodelname", "manufacturer", "model"),
    "kernel": ("kernel", "convolutionkernel"),
    "thickness": ("thickness", "thicknessmm", "slicethickness", "slicethicknessmm"),
    "site": ("site", "hospital", "centre", "center", "institution", "institutionname"),
    "bleed": ("subtype", "bleed_type", "bleedtype", "typeofbleed", "hemorrhagetype", "haemorrhagetype"),
    "size": ("area_mm2", "bleed_area_mm2", "size_mm2"),
}
# Headings by which a row says what it is of, the narrowest first.
_KEYS = {
    "slice": ("path", "file", "filename", "image", "sliceid", "slice_id", "id", "sopinstanceuid"),
    "study": ("study", "studyid", "studyinstanceuid", "scan", "scanid"),
    "patient": ("patient", "patientid", "patientnumber", "subject", "subjectid", "case", "caseid"),
}
_NOTHING = ("", "nan", "na", "n/a", "null", "none")


@dataclass(frozen=True)
class Wanted:
    """One attribute that is to be kept.

    Attributes
    ----------
    name : str
        One of `pipeline.run.attributes.KNOWN`, or any other for a column.
    heading : str, optional
        Column that holds it; None looks for the usual headings.
    """

    name: str
    heading: str | None = None

    @property
    def headings(self) -> tuple[str, ...]:
        """Headings under which it may stand."""
        return (self.heading,) if self.heading else _HEADINGS.get(self.name, (self.name,))


def parse_keep(text: str) -> tuple[Wanted, ...]:
    """Read what is to be kept as it is typed: ``sex,age,scanner`` or ``sex=Geschlecht,ward``.

    Raises
    ------
    BadSettings
        If a name is empty, stands twice, or is the name of the slice itself.
    """
    found: dict[str, Wanted] = {}
    for part in text.split(","):
        name, equals, heading = (piece.strip() for piece in part.partition("="))
        if not name or (equals and not heading):
            raise BadSettings(f"--keep {text!r}: write names as sex,age,scanner, or NAME=COLUMN")
        if name in found or bare(name) in ("sliceid", "path", "label", "patient", "study"):
            raise BadSettings(f"--keep {text!r}: {name!r} stands twice, or is no attribute of its own")
        found[name] = Wanted(name, heading or None)
    return tuple(found.values())


def gather_attributes(
    data: Path,
    manifest: Manifest,
    wanted: Sequence[Wanted],
    *,
    masks: Mapping[str, PackedMask] | None = None,
    labels: Path | None = None,
    table: Path | None = None,
    unpack_to: Path | None = None,
    progress: Progress = silent,
) -> Attributes:
    """Gather attributes of the slices of a manifest.

    Each comes from the first of these that has it: `table`, the table of labels, the DICOM tags of
    `features.reading.dicom_attributes.TAGS`; the ``size`` of a bleed also from its mask, where the file knows
    its spacing. What a table says of a patient or study holds for all its slices.

    Parameters
    ----------
    data : Path
        The folder that was indexed.
    manifest : Manifest
    wanted : sequence of Wanted
    masks : mapping of str to PackedMask
        True masks by slice id, where they are not files of their own.
    labels : Path, optional
        The table of labels, where it was named.
    table : Path, optional
        Another table, with a column that names slice, study or patient.
    unpack_to : Path, optional
        Where archives are unpacked, as `index_dataset` takes it.
    progress : Progress

    Raises
    ------
    BadSettings
        If a column that was named, or a name without a meaning of its own, is in no table.
    BadDataset
        If `table` is no table, or has no column that says what its rows are of.
    """
    folder = Folder.scan(data, unpack_to)
    tables = [Table.open(table)] if table else []
    if table and not _key_of(tables[0]):
        raise BadSettings(
            f"{table} has no column path, slice_id, study or patient, so that nobody can tell what its rows "
            f"are of; it has {', '.join(filter(None, tables[0].headings))}"
        )
    own = _label_table(folder, labels)
    tables += [own] if own is not None and _key_of(own) else []
    found: dict[str, dict[str, str]] = {row.slice_id: {} for row in manifest}
    for one in wanted:
        source = next((t for t in tables if t.column(*one.headings)), None)
        if source is not None:
            _take_column(folder, manifest, source, one, found)
        elif one.heading or one.name not in KNOWN:
            _refuse(one, tables)
    names = [one.name for one in wanted]
    if "bleed" in names:
        _take_types(folder, manifest, Request(labels), found)
    _take_tags(manifest, [one for one in names if one in TAGS], found, progress)
    if "size" in names:
        _take_sizes(manifest, found, masks or {}, progress)
    for name in names:
        known = sum(bool(values.get(name)) for values in found.values())
        if not known:
            log.warning("nothing to keep of %s: no column says it%s", name, _and_no_tag(name))
        elif name not in ("bleed", "size") and known < len(found):
            log.info("%s is known of %d of %d slices", name, known, len(found))
    return Attributes(tuple(names), found)


def _and_no_tag(name: str) -> str:
    if name == "size":
        return ", and there are no masks of slices whose spacing is known"
    return ", and no DICOM tag" if name in TAGS else ""


def _refuse(one: Wanted, tables: Iterable[Table]) -> None:
    headings = [heading for table in tables for heading in table.headings if heading]
    names = ", ".join(headings) or "there is no table"
    wanted = one.heading or one.name
    raise BadSettings(f"--keep {wanted}: no such column ({names}){did_you_mean(wanted, [*KNOWN, *headings])}")


def _label_table(folder: Folder, labels: Path | None) -> Table | None:
    if labels is not None:
        return Table.open(labels)
    try:
        found = find_label_table(folder, Request())
    except ValueError:  # of several tables none is chosen
        return None
    return None if found is None else found.table


def _key_of(table: Table) -> tuple[str, str] | None:
    """What the rows of a table are of, and under which heading it stands."""
    for kind, names in _KEYS.items():
        heading = table.column(*names)
        if heading is not None:
            return kind, heading
    return None


def _take_column(
    folder: Folder,
    manifest: Manifest,
    table: Table,
    one: Wanted,
    found: dict[str, dict[str, str]],
) -> None:
    """Take one column of a table over to the slices that its rows are of."""
    heading = table.column(*one.headings)
    values: dict[str, str] = {}
    disputed: set[str] = set()
    for kind, names in _KEYS.items():
        key = table.column(*names)
        if key is None or key == heading:
            continue
        slices = _slices_by(kind, folder, manifest, table)
        hits = 0
        for _, cells in table.rows():
            value = cells[heading]
            if value.casefold() in _NOTHING:
                continue
            for slice_id in slices(cells[key]):
                hits += 1
                if values.setdefault(slice_id, value) != value:
                    disputed.add(slice_id)
        if hits:
            break
    for slice_id in disputed:
        values.pop(slice_id)
    if disputed:
        log.warning(
            "%s says different things under %r of %d slices, which count as unknown (first: %s)",
            table.path.name,
            heading,
            len(disputed),
            min(disputed),
        )
    for slice_id, value in values.items():
        found[slice_id][one.name] = value
    log.info("%s: column %r of %s", one.name, heading, table.path.name)


def _slices_by(kind: str, folder: Folder, manifest: Manifest, table: Table):
    """A function from what a table calls a slice, study or patient to the ids of its slices."""
    groups: dict[str, list[str]] = {}
    if kind != "slice":
        for row in manifest:
            groups.setdefault(_number(getattr(row, kind)), []).append(row.slice_id)
        return lambda name: groups.get(_number(name), [])
    by_path = {str(row.path): row.slice_id for row in manifest}
    known = {row.slice_id for row in manifest}
    finder = Finder(folder, table.path.parent)

    def slices(name: str) -> list[str]:
        if name in known:
            return [name]
        path = finder.find(name)
        return [by_path[str(path)]] if isinstance(path, Path) and str(path) in by_path else []

    return slices


def _number(name: str) -> str:
    """Patients 49 and 049 are one, however a spreadsheet has printed the number."""
    return str(int(name)) if name.isdecimal() else name


def _take_tags(
    manifest: Manifest, names: Sequence[str], found: Mapping[str, dict[str, str]], progress: Progress
) -> None:
    rows = [row for row in manifest if any(name not in found[row.slice_id] for name in names)]
    rows = [row for row in rows if _has_tags(row)]
    for row in progress(rows, total=len(rows), label="reading tags"):
        own = found[row.slice_id]
        try:
            values = dicom_attributes(row.path, [name for name in names if name not in own])
        except UnreadableSlice as error:
            log.warning("%s: its tags cannot be read (%s); what they say is unknown", row.path, error)
            continue
        own.update({name: value for name, value in values.items() if value})


def _has_tags(row: ManifestRow) -> bool:
    try:
        with row.path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _take_types(
    folder: Folder, manifest: Manifest, request: Request, found: Mapping[str, dict[str, str]]
) -> None:
    """Types of bleed as the published data sets have them."""
    for layout in (rsna, ct_ich):
        if layout.recognise(folder, request):
            types = layout.bleed_types(folder, request)
            for row in manifest:
                if row.path in types:
                    found[row.slice_id].setdefault("bleed", types[row.path])


def _take_sizes(
    manifest: Manifest,
    found: Mapping[str, dict[str, str]],
    own: Mapping[str, PackedMask],
    progress: Progress,
) -> None:
    """Areas of bleeds from their masks, in mm2, for slices whose table does not give them."""
    rows = [row for row in manifest if "size" not in found[row.slice_id]]
    masks = [(row, own.get(row.slice_id) or find_mask(row.path)) for row in rows]
    masks = [(row, mask) for row, mask in masks if mask is not None]
    for row, mask in progress(masks, total=len(masks), label="measuring masks"):
        try:
            image = read_guarded(row.path)
            if image.spacing_mm is None:
                continue
            drawn = mask.unpack() if isinstance(mask, PackedMask) else read_mask(mask, image.pixels.shape)
            area = float(drawn.sum() * np.prod(image.spacing_mm))
        except UnreadableSlice as error:
            log.warning("%s: no size, %s", row.path, error)
            continue
        if area:
            found[row.slice_id]["size"] = f"{area:.1f}"
