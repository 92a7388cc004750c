"""Labels that one class a slice cannot hold: several types of bleed at once, and labels of whole studies."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from haemo.features.labels import HAEMORRHAGE, names_bleed_type
from haemo.features.manifest import ManifestRow

__all__ = ["labels_of_studies", "types_apart", "types_of"]

_JOINED_BY = "+"


def types_of(label: str) -> tuple[str, ...]:
    """Types of bleed that a label names, as ``epidural+subdural``; empty where it is no such set."""
    parts = tuple(part.strip() for part in label.split(_JOINED_BY))
    return parts if all(parts) and all(names_bleed_type(part) for part in parts) else ()


def types_apart(
    rows: Iterable[ManifestRow],
) -> tuple[list[ManifestRow], dict[str, tuple[str, ...]]]:
    """Set types of bleed apart where a slice has several: together they are no class of their own.

    Returns
    -------
    rows : list of ManifestRow
        With a type for a label they are `HAEMORRHAGE`, where any slice has several types; else as they were.
    types : dict of str to tuple of str
        Types of each labelled slice by its id, none where it has no bleed; empty where no slice has several.
    """
    rows = list(rows)
    types = {row.slice_id: types_of(row.label) for row in rows if row.label}
    if not any(len(each) > 1 for each in types.values()):
        return rows, {}
    return [replace(row, label=HAEMORRHAGE) if types.get(row.slice_id) else row for row in rows], types


def labels_of_studies(
    rows: Iterable[ManifestRow], said: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """What is said of whole studies, by study.

    Parameters
    ----------
    rows : iterable of ManifestRow
    said : mapping of str to str
        What is said of the study of a slice, by the slice's id.

    Returns
    -------
    labels : dict of str to str
    disputed : list of str
        Studies of which two things are said; they have no label.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if said.get(row.slice_id):
            found[row.study].add(said[row.slice_id])
    labels = {study: next(iter(names)) for study, names in found.items() if len(names) == 1}
    return labels, sorted(found.keys() - labels.keys())
