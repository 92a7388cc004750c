"""Scans with masks of the same name, as INSTANCE 2022 and BHSD have them: masks say which slices bleed.

INSTANCE 2022 (Li et al., "The state-of-the-art 3D anisotropic intracranial hemorrhage segmentation on
non-contrast head CT", 2023) has masks of 0 and 1. BHSD (Wu et al., "BHSD: a 3D multi-class brain hemorrhage
segmentation dataset", MLMI 2023) has ``images/NAME.nii.gz`` and ``ground truths/NAME.nii.gz``, with 1 to 5
for the types, in the order of the alphabet.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from haemo.errors import BadDataset, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.labels import BLEED_TYPES, HAEMORRHAGE, NORMAL
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
    tells_types = any(_BHSD_MASKS in folder.parts_of(mask) for mask in folder.masks)
    kinds = ("any", *((_SUBTYPE, *BLEED_TYPES) if tells_types else ()))
    kind = request.kind(kinds, "these masks tell")
    slices, failures, without = [], [], set()
    bad: set[Path] = set()
    found = _slices(folder)
    for path in headers.progress(found, total=len(found), label="reading masks"):
        scan = file_of(path)
        name = scan.name.partition(".")[0]
        mask = find_mask(path)
        label = ""
        if mask is None:
            without.add(scan)
        elif scan in bad:
            continue
        else:
            try:
                label = _label(kind, set(_values(mask, headers, path)))
            except UnreadableSlice as error:
                bad.add(scan)
                failures.append(Failure(str(scan), "index", str(error)))
                continue
        slices.append(Claim(path, folder.name_of(path), label, name, name))
    slices = [one for one in slices if file_of(one.path) not in bad]
    if len(without) == len({file_of(path) for path in found}):
        raise BadDataset(f"no scan below {folder.root} has a mask of its name in a folder of masks")
    return Claims(
        slices=slices,
        failures=failures,
        notes=[f"labels: {kind}, by masks" + (", 1 to 5 for types as BHSD has them" if tells_types else "")],
        warnings=[f"scans without a mask, whose slices have no label: {len(without):,}"] if without else [],
        patients_from="names of scans",
        positive=HAEMORRHAGE if kind in ("any", _SUBTYPE) else kind,
    )


def _slices(folder: Folder) -> list[Path]:
    return [path for path in folder.slices if SliceAddress.of(path).number is not None]


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


def _label(kind: str, values: set[int]) -> str:
    if kind == "any":
        return HAEMORRHAGE if values else NORMAL
    types = [BLEED_TYPES[value - 1] for value in sorted(values) if 1 <= value <= len(BLEED_TYPES)]
    if len(types) < len(values):
        raise UnreadableSlice(
            f"its mask has values {sorted(values)}, of which only 1 to 5 are types of bleed"
        )
    if kind == _SUBTYPE:
        return "+".join(types) or NORMAL
    return kind if kind in types else f"no {kind}"
