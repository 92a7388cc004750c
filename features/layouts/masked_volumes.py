"""Scans with masks of the same name, as INSTANCE 2022 and BHSD have them: masks say which slices bleed.

INSTANCE 2022 (Li et al., "The state-of-the-art 3D anisotropic intracranial hemorrhage segmentation on
non-contrast head CT", 2023) has masks of 0 and 1, in ``data/001.nii.gz`` and ``label/001.nii.gz`` as a
participant's code in the organisers' repository (PerceptionComputingLab/INSTANCE2022) reads them. BHSD (Wu et
al., "BHSD: a 3D multi-class brain hemorrhage segmentation dataset", MLMI 2023) has ``images/NAME.nii.gz`` and
``ground truths/NAME.nii.gz``, with 1 to 5 for the types, in the order of the alphabet: so says the
``dataset.json`` of its repository (White65534/BHSD). Such a file of nnU-Net beside the masks says what
values mean in any other set.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from haemo.errors import BadDataset, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.labels import (
    BLEED_TYPES,
    HAEMORRHAGE,
    NORMAL,
    bleed_type_in,
    class_name,
    speaks_of_bleed,
)
from haemo.features.layouts.claims import Claim, Claims, Headers, Request
from haemo.features.layouts.folder import Folder
from haemo.features.layouts.labels_csv import names_slices
from haemo.features.pixels.masks import find_mask, mask_values
from haemo.features.reading.address import SliceAddress, file_of

__all__ = ["claim", "recognise"]

_BHSD_MASKS = "ground truths"
_SUBTYPE = "subtype"


def recognise(folder: Folder, request: Request) -> bool:
    """Whether half of the scans or more have a mask of their name, and no table names slices and labels."""
    if request.labels is not None:
        return False
    scans = dict.fromkeys(map(file_of, _slices(folder)))
    masked = [scan for scan in scans if find_mask(SliceAddress(scan, 1).path)]
    # The table last: it is read for that, and other layouts have their own.
    return bool(scans) and 2 * len(masked) >= len(scans) and not names_slices(folder, request)


def claim(folder: Folder, request: Request, headers: Headers) -> Claims:
    """Describe every slice of the scans by what its mask holds, which is read for that.

    Raises
    ------
    BadDataset
        If no scan has a mask.
    BadSettings
        If a type is asked for and the masks do not tell types.
    """
    request.refuse("where masks are the labels", "labels", "patient_column")
    types, said_by, warnings = _types(folder)
    kinds = ("any", *((_SUBTYPE, *BLEED_TYPES) if types else ()))
    kind = request.kind(kinds, "these masks tell")
    slices, failures, without = [], [], set()
    bad: set[Path] = set()
    found = _slices(folder)
    names = _names(folder, dict.fromkeys(map(file_of, found)))
    for path in headers.progress(found, total=len(found), label="reading masks"):
        scan = file_of(path)
        name = names[scan]
        mask = find_mask(path)
        label = ""
        if mask is None:
            without.add(scan)
        elif scan in bad:
            continue
        else:
            try:
                label = _label(kind, set(_values(mask, headers, path)), types)
            except UnreadableSlice as error:
                bad.add(scan)
                failures.append(Failure(str(scan), "index", str(error)))
                continue
        slices.append(Claim(path, folder.name_of(path), label, name, name))
    slices = [one for one in slices if file_of(one.path) not in bad]
    if len(without) == len({file_of(path) for path in found}):
        raise BadDataset(
            f"no scan below {folder.root} has a mask of its name in a folder of masks, or NAME_mask beside it"
        )
    if without:
        warnings.append(f"scans without a mask, whose slices have no label: {len(without):,}")
    return Claims(
        slices=slices,
        failures=failures,
        notes=[f"labels: {kind}, by masks{said_by}"],
        warnings=warnings,
        patients_from="names of scans",
        positive=HAEMORRHAGE if kind in ("any", _SUBTYPE) else kind,
    )


def _slices(folder: Folder) -> list[Path]:
    return [path for path in folder.slices if SliceAddress.of(path).number is not None]


def _names(folder: Folder, scans: Iterable[Path]) -> dict[Path, str]:
    """What scans are called: by their file, or where all are ``ct.nii.gz``, by their folder too."""
    names = {scan: scan.name.partition(".")[0] for scan in scans}
    if len(set(names.values())) == len(names):
        return names
    return {scan: "/".join((*folder.parts_of(scan), name)) for scan, name in names.items()}


def _values(mask: Path, headers: Headers, path: Path) -> Iterator[int]:
    """Values that a mask has beside 0."""
    headers.read([path])
    header = headers.get(path)
    values = mask_values(mask)
    if header and values.shape != header.size:
        raise UnreadableSlice(
            f"its mask has slices of {values.shape[0]} x {values.shape[1]} pixels, the scan of "
            f"{header.size[0]} x {header.size[1]}"
        )
    return (int(value) for value in np.unique(np.rint(values)) if value != 0)


def _types(folder: Folder) -> tuple[dict[int, str], str, list[str]]:
    """Types of bleed by value, if they are told, who says so, and what of it the user should know.

    Raises
    ------
    BadDataset
        If there is a dataset.json that cannot be read.
    """
    described = [path for path in folder.others if path.name == "dataset.json"]
    if not described:
        is_bhsd = any(_BHSD_MASKS in folder.parts_of(mask) for mask in folder.masks)
        if not is_bhsd:
            return {}, "", []
        return dict(enumerate(BLEED_TYPES, 1)), ", 1 to 5 for types as BHSD has them", []
    names = _named_values(described[0])
    if not names:
        return {}, "", []
    types = {value: type_ for value, name in names.items() if (type_ := bleed_type_in(name))}
    others = [name for value, name in names.items() if value not in types and not speaks_of_bleed(name)]
    warnings = []
    if others:
        warnings.append(
            f"{folder.name_of(described[0])} calls values of masks {', '.join(others)}; they count as blood"
        )
    return (types if len(types) == len(names) else {}), f", by {folder.name_of(described[0])}", warnings


def _named_values(path: Path) -> dict[int, str]:
    """Names of the values but 0 of masks, as nnU-Net describes them: by value, or in version 2 by name.

    None where the file tells none: it may be one of another program.
    """
    try:
        labels = json.loads(path.read_text(encoding="utf-8")).get("labels", {})
        pairs = [(key, name) if str(key).isdigit() else (name, key) for key, name in labels.items()]
        # Version 2 has lists of values besides, for regions that hold several classes.
        return {int(value): str(name) for value, name in pairs if not isinstance(value, list) and int(value)}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadDataset(
            f"{path} does not say in nnU-Net's way what the values of masks are (labels); mend or remove it"
        ) from error


def _label(kind: str, values: set[int], types: dict[int, str]) -> str:
    if kind == "any":
        return class_name(kind, bool(values))
    found = {types[value] for value in values if value in types}
    if not values <= types.keys():
        raise UnreadableSlice(
            f"its mask has values {sorted(values)}, of which only {', '.join(map(str, sorted(types)))} are "
            "types of bleed"
        )
    if kind == _SUBTYPE:
        return "+".join(sorted(found)) or NORMAL
    return class_name(kind, kind in found)
