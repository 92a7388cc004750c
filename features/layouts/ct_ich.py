"""PhysioNet CT-ICH as published: in pictures (1.0.0, Patients_CT/NNN/brain/N.jpg), or in NIfTI (1.3.1).

82 patients, 2,501 slices (Hssayeni et al., "Intracranial Hemorrhage Segmentation Using a Deep
Convolutional Model", Data 2020, 5(1), 14). Of each slice there is a picture in the brain window, one in the
bone window, and N_HGE_Seg.jpg with the outline where there is a bleed. The brain window is what is indexed.
Version 1.3.1 has 75 scans as ct_scans/NNN.nii, outlines as masks/NNN.nii, and
hemorrhage_diagnosis_raw_ct.csv, whose SliceNumber counts the slices of a scan from 1 as they are stored.
"""

from collections import defaultdict
from pathlib import Path

from haemo.errors import BadDataset
from haemo.features.failures import Failure
from haemo.features.labels import BLEED_TYPES, class_name
from haemo.features.layouts.claims import Claim, Claims, Headers, Request
from haemo.features.layouts.folder import Folder
from haemo.features.layouts.table import Table
from haemo.features.reading.address import SliceAddress, file_of

__all__ = ["bleed_types", "claim", "recognise"]

_NO_HAEMORRHAGE = "No_Hemorrhage"
_SCANS = "ct_scans"


def recognise(folder: Folder, request: Request) -> bool:
    """Whether the published table is there, and a folder ``brain`` or ``ct_scans``."""
    return (_table_path(folder, request) is not None) and bool(_brain_slices(folder))


def claim(folder: Folder, request: Request, headers: Headers) -> Claims:
    """Describe the brain-window pictures, or the slices of the scans, that the published table lists.

    Raises
    ------
    BadDataset
        If the table is missing or malformed.
    BadSettings
        If the label asked for is neither ``any`` nor a type of bleed.
    """
    del headers
    request.refuse("in CT-ICH", "patient_column")
    kind = request.kind(("any", *BLEED_TYPES), "CT-ICH has")
    path = _table_path(folder, request)
    if path is None:
        raise BadDataset(f"{folder.root} holds no hemorrhage_diagnosis.csv")
    pictures, claims, failures = _brain_slices(folder), [], []
    for number, values in _rows(Table.open(path)).items():
        name = f"patient {number[0]:03}, slice {number[1]}"
        if number not in pictures:
            failures.append(Failure(name, "index", f"named in {path.name}, but it is not there"))
        elif len(values) > 1:
            failures.append(
                Failure(str(pictures[number]), "index", f"{path.name} contradicts itself about {name}")
            )
        else:
            claims.append(_claim_of(folder, pictures[number], number, kind, next(iter(values))))
    claimed = {claim.path for claim in claims} | {Path(failure.path) for failure in failures}
    unlabelled = [picture for picture in pictures.values() if picture not in claimed]
    aside = sum(path not in set(pictures.values()) for path in folder.pictures)
    notes = [f"bone-window pictures and outlines left aside: {aside:,}"] if folder.pictures else []
    return Claims(
        slices=claims,
        failures=failures,
        notes=[f"labels: {kind} by {path.name}", *notes],
        warnings=[f"slices without a row in {path.name}, left out: {len(unlabelled):,}"]
        if unlabelled
        else [],
        patients_from=f"column 'PatientNumber' of {path.name}",
        positive=class_name(kind, True),
        are_listed=True,
    )


def bleed_types(folder: Folder, request: Request) -> dict[Path, str]:
    """Types of bleed of each picture with one, joined by ``+``, by the published table."""
    path, pictures = _table_path(folder, request), _brain_slices(folder)
    if path is None:
        return {}
    found = {}
    for number, values in _rows(Table.open(path)).items():
        if number in pictures and len(values) == 1:
            kinds = [name for name, flag in next(iter(values)) if flag and name in BLEED_TYPES]
            if kinds:
                found[pictures[number]] = "+".join(sorted(kinds))
    return found


def _table_path(folder: Folder, request: Request) -> Path | None:
    if request.labels is not None:
        return request.labels if request.labels.stem.startswith("hemorrhage_diagnosis") else None
    return next((path for path in folder.tables if path.stem.startswith("hemorrhage_diagnosis")), None)


def _brain_slices(folder: Folder) -> dict[tuple[int, int], Path]:
    """Brain-window pictures, or slices of scans, by patient and slice number."""
    addresses = {path: SliceAddress.of(path) for path in folder.slices if file_of(path).parent.name == _SCANS}
    scans = {
        (int(patient), one.number): path
        for path, one in addresses.items()
        if one.number is not None and (patient := one.file.name.partition(".")[0]).isdecimal()
    }
    return scans | {
        (int(path.parent.parent.name), int(path.stem)): path
        for path in folder.pictures
        if path.parent.name == "brain" and path.stem.isdecimal() and path.parent.parent.name.isdecimal()
    }


def _rows(table: Table) -> dict[tuple[int, int], set[tuple[tuple[str, bool], ...]]]:
    """What the table says of each slice: flags by type of bleed, and by no haemorrhage at all."""
    wanted = ("PatientNumber", "SliceNumber", _NO_HAEMORRHAGE, *BLEED_TYPES)
    columns = {name: table.column(name) for name in wanted}
    missing = [name for name, heading in columns.items() if heading is None]
    if missing:
        raise BadDataset(f"{table.path} has no column {missing[0]}")
    said = defaultdict(set)
    for line, values in table.rows():
        cells = {name: values[heading] for name, heading in columns.items()}
        try:
            number = int(cells["PatientNumber"]), int(cells["SliceNumber"])
            flags = {name: {"0": False, "1": True}[cells[name]] for name in (_NO_HAEMORRHAGE, *BLEED_TYPES)}
        except (KeyError, ValueError) as error:
            raise BadDataset(f"{table.path}, line {line}: {error} is not a number or flag") from error
        said[number].add(tuple(flags.items()))
        # A row that says both bleed and no bleed is no statement; count it as two.
        if flags[_NO_HAEMORRHAGE] == any(flags[name] for name in BLEED_TYPES):
            said[number].add(())
    return dict(said)


def _claim_of(
    folder: Folder, path: Path, number: tuple[int, int], kind: str, flags: tuple[tuple[str, bool], ...]
) -> Claim:
    is_set = dict(flags)
    label = class_name(kind, not is_set[_NO_HAEMORRHAGE] if kind == "any" else is_set[kind])
    patient = f"{number[0]:03}"
    # Slices of scans say their place in mm themselves.
    position = float(number[1]) if SliceAddress.of(path).number is None else None
    return Claim(path, folder.name_of(path), label, patient, patient, position)
