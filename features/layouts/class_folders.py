"""Class folders: one folder a class, under train/ and test/ where there is a published split."""

from collections import defaultdict

from haemo.errors import BadDataset
from haemo.features.failures import Failure
from haemo.features.labels import is_class_word
from haemo.features.layouts.claims import Claim, Claims, Headers, Request
from haemo.features.layouts.folder import Folder
from haemo.features.layouts.label_table import find_label_table, part_of
from haemo.features.reading.address import SliceAddress

__all__ = ["claim", "recognise"]

# More folders than this are patients or studies, not classes.
_MOST_CLASSES = 10


def recognise(folder: Folder, request: Request) -> bool:
    """Whether folder names can be class names.

    Pictures in two folders or more are taken for classes; DICOM files only if a folder says bleed, normal or
    the like, since folders of DICOM files are patients and studies as a rule.
    """
    if len(folder.dicom) > len(folder.pictures) and find_label_table(folder, request) is not None:
        return False
    classes = {name for _, name, _ in _placed(folder) if name}
    if any(is_class_word(name) for name in classes):
        return True
    return len(classes) > 1 and len(folder.pictures) > len(folder.dicom)


def claim(folder: Folder, request: Request, headers: Headers) -> Claims:
    """Describe every slice by the folders it lies in.

    The folder below the class, where there is one, is the patient: grouping too much is safe, too little not.

    Raises
    ------
    BadDataset
        If there are more folders than classes can be.
    """
    del headers
    request.refuse("with class folders: the folders are the labels", "labels", "label", "patient_column")
    placed = _placed(folder)
    classes = sorted({name for _, name, _ in placed if name})
    if len(classes) > _MOST_CLASSES and not any(is_class_word(name) for name in classes):
        raise BadDataset(
            f"{len(classes)} folders ({', '.join(classes[:3])} ...) are too many to be classes. If they are "
            "patients, put the labels into a labels.csv with the columns path, label, patient"
        )
    within = defaultdict(set)
    for _, name, below in placed:
        within[name] |= {below[0]} if below else {""}
    has_patients = any(len(names - {""}) > 1 for names in within.values())
    claims, failures, of_volumes = [], [], 0
    for path, (part, name, below) in zip(folder.slices, placed, strict=True):
        if not name:
            failures.append(Failure(str(path), "index", "lies in no class folder, so it has no label"))
            continue
        # Which slices of a scan show what its folder says, nobody has said.
        is_of_volume = SliceAddress.of(path).number is not None
        of_volumes += is_of_volume
        label, of_study = ("", name) if is_of_volume else (name, "")
        patient = below[0] if has_patients and below else ""
        study = "/".join(below) if patient else ""
        claims.append(Claim(path, folder.name_of(path), label, patient, study, part=part, of_study=of_study))
    return Claims(
        slices=claims,
        failures=failures,
        notes=[f"classes by folder: {', '.join(classes)}"],
        warnings=[
            f"slices of volumes in class folders: {of_volumes:,} stay without a label, as their folder says "
            "what the whole study is"
        ]
        if of_volumes
        else [],
        patients_from="folders below the class folders" if has_patients else "",
    )


def _placed(folder: Folder) -> list[tuple[str, str, tuple[str, ...]]]:
    """Part, class and the folders below it, for every slice; the class is empty where there is none."""
    places = [folder.parts_of(path) for path in folder.slices]
    # A lone folder around everything else (the name of the download, as a rule) says nothing.
    while len({place[:1] for place in places}) == 1 and all(len(place) > 1 for place in places):
        if is_class_word(places[0][0]) or part_of(places[0][0]):
            break
        places = [place[1:] for place in places]
    is_split = all(place and part_of(place[0]) for place in places)
    placed = []
    for place in places:
        part, below = (part_of(place[0]), place[1:]) if is_split else ("", place)
        placed.append((part, below[0] if below else "", below[1:]))
    return placed
