"""What a careful reader would ask of a data set and its split, with what it means and what to do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from haemo.features.manifest import Manifest, ManifestRow
from haemo.pipeline.run.codes import both_names
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.split import Split

__all__ = [
    "Finding",
    "Verdict",
    "both_sides",
    "contradicted_labels",
    "copies_on_both_sides",
    "mixed_patients",
    "unknown_patients",
]

_CONTRADICTED = 0.9  # probability of another class than the label, out of fold
_MOST_SHOWN = 50


class Verdict(StrEnum):
    """How a finding bears on the figures."""

    FINE = "fine"
    LOOK = "look"
    LEAK = "LEAK"


@dataclass(frozen=True)
class Finding:
    """One answer.

    Attributes
    ----------
    name : str
    verdict : Verdict
    found : str
        What there is, with numbers.
    meaning : str
    action : str
        What to do; empty where nothing is to be done.
    items : tuple of dict
        The cases, the worst first; at most 50.
    """

    name: str
    verdict: Verdict
    found: str
    meaning: str
    action: str = ""
    items: tuple[dict[str, Any], ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "found": self.found,
            "meaning": self.meaning,
            "action": self.action,
            "items": list(self.items),
        }


def unknown_patients(manifest: Manifest) -> Finding:
    """Whether patients are known at all."""
    if manifest.patients_known:
        count = len({row.patient for row in manifest.labelled})
        return Finding("patients", Verdict.FINE, f"{count} patients are known", "They can be kept whole.")
    return Finding(
        "patients",
        Verdict.LEAK,
        "no patient is known: each slice stands as its own patient",
        "Slices of one person may be on both sides of every split, and figures too good without a sign.",
        "Give a labels.csv with a patient column, or DICOM files, to haemo index.",
    )


def both_sides(
    rows: Sequence[ManifestRow], sides: np.ndarray, contents: Sequence[str | None]
) -> list[Finding]:
    """Patients, studies and identical pixels on both sides of the split.

    Parameters
    ----------
    rows : sequence of ManifestRow
    sides : ndarray of shape (n,), str
        ``train`` or ``test``.
    contents : sequence of str or None
        sha256 of the decoded pixels.
    """
    trains = sides == "train"
    patients = _shared([row.patient for row in rows], trains)
    studies = _shared([both_names(row.patient, row.study) for row in rows], trains)
    pixels = _shared(contents, trains)
    return [
        Finding(
            "patients on both sides",
            Verdict.LEAK if patients else Verdict.FINE,
            f"{len(patients)} patients train and test",
            "The model is tested on people it has seen: figures are too good."
            if patients
            else "None is shared.",
            "Split by patient: haemo svm --new-split, on a data set without published parts."
            if patients
            else "",
            tuple({"patient": name} for name in patients[:_MOST_SHOWN]),
        ),
        Finding(
            "studies on both sides",
            Verdict.LEAK if studies else Verdict.FINE,
            f"{len(studies)} studies train and test",
            "Neighbouring slices of one scan are on both sides." if studies else "None is shared.",
            "Split by patient: haemo svm --new-split." if studies else "",
            tuple({"study": name} for name in studies[:_MOST_SHOWN]),
        ),
        Finding(
            "identical pixels on both sides",
            Verdict.LEAK if pixels else Verdict.FINE,
            f"{len(pixels)} pictures train and test under different names",
            "The same picture is learned and asked." if pixels else "None is shared.",
            "Give both slices one patient in labels.csv, or remove one, and index again." if pixels else "",
            tuple(
                {
                    "content": content,
                    "slices": [r.slice_id for r, c in zip(rows, contents, strict=True) if c == content],
                }
                for content in pixels[:_MOST_SHOWN]
            ),
        ),
    ]


def copies_on_both_sides(rows: Sequence[ManifestRow], split: Split) -> Finding:
    """Slices that are learned in one rotation and asked in another, where the split deals rotated copies."""
    copies = split.dealt(rows)
    shared = _shared([copy.original for copy in copies], split.parts(copies) == "train")
    return Finding(
        "rotated copies on both sides",
        Verdict.LEAK if shared else Verdict.FINE,
        f"{len(shared)} of {len(rows)} slices train in one rotation and are tested in another",
        "A turned slice is the same slice: the model is asked what it was told." if shared else "None is.",
        "Split first, then rotate the training slices: haemo svm --new-split --augment." if shared else "",
        tuple({"slice": name} for name in shared[:_MOST_SHOWN]),
    )


def mixed_patients(rows: Sequence[ManifestRow]) -> Finding:
    """Patients with slices of several classes."""
    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(row.patient, set()).add(row.label)
    mixed = sorted(name for name, own in labels.items() if len(own) > 1)
    return Finding(
        "patients with slices of several classes",
        Verdict.FINE,
        f"{len(mixed)} of {len(labels)} patients",
        "Usual where slices are labelled one by one. Where a label is meant for a whole scan it is a mistake."
        if mixed
        else "Every patient has one class: what tells patients apart tells classes apart.",
        "",
        tuple({"patient": name, "labels": sorted(labels[name])} for name in mixed[:_MOST_SHOWN]),
    )


def contradicted_labels(predictions: Predictions, model: str) -> Finding:
    """Slices whose label a model contradicts with confidence: candidates for a second look at the label.

    Parameters
    ----------
    predictions : Predictions
        Out of fold and of the test slices: never of slices the model was fitted on.
    model : str
        Its name.
    """
    p = predictions
    columns = (
        p.probabilities if p.positive is None else np.column_stack([1 - p.probabilities, p.probabilities])
    )
    truth = np.array([p.classes.index(label) for label in p.label])
    others = columns.copy()
    others[np.arange(len(p)), truth] = -1
    against, named = others.max(axis=1), others.argmax(axis=1)
    order = [int(i) for i in np.argsort(-against, kind="stable") if against[i] >= _CONTRADICTED]
    share = len(order) / len(p)
    return Finding(
        "labels that the model contradicts",
        Verdict.LOOK if order else Verdict.FINE,
        f"{len(order)} of {len(p)} slices ({share:.1%}): {model} gives {_CONTRADICTED:.0%} to another class",
        "Either the model errs with confidence or the label is wrong; both deserve a look."
        if order
        else "No label is contradicted with confidence.",
        "Look at them; correct labels.csv where it is wrong, and index and train again." if order else "",
        tuple(
            {
                "slice": str(p.slice_id[i]),
                "patient": str(p.patient[i]),
                "label": str(p.label[i]),
                "model_says": p.classes[named[i]],
                "probability": float(against[i]),
            }
            for i in order[:_MOST_SHOWN]
        ),
    )


def _shared(keys: Iterable[Any], trains: np.ndarray) -> list[Any]:
    keys = list(keys)
    trained = {key for key, side in zip(keys, trains, strict=True) if side and key is not None}
    tested = {key for key, side in zip(keys, trains, strict=True) if not side and key is not None}
    return sorted(trained & tested)
