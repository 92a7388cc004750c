"""Which patients train and which test, and the folds that training patients are in."""

import hashlib
import json
import logging
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from haemo.atomic import json_of, write_text
from haemo.errors import BadDataset, BadSettings, MissingStep, TooFewData
from haemo.features.labels import order_classes
from haemo.features.manifest import Manifest, ManifestRow
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.splitting.copies import copies_of
from haemo.pipeline.splitting.dealing import draw_folds, draw_sides

__all__ = [
    "DEFAULT_FOLDS",
    "DEFAULT_TRAIN_FRACTION",
    "Protocol",
    "Split",
    "classes_of",
    "make_split",
    "manifest_hash",
]

log = logging.getLogger("haemo")

DEFAULT_TRAIN_FRACTION = 0.7
DEFAULT_FOLDS = 5
_SCHEMA = 1


class Protocol(StrEnum):
    """How slices are put on the two sides; every protocol but ``patient`` lets a patient stand on both."""

    PATIENT = "patient"
    SLICE = "slice"
    PAPER = "paper"
    LENET = "lenet"
    THESIS = "thesis"


@dataclass(frozen=True)
class Split:
    """The training and test sides of a data set, and the folds of the training side.

    Attributes
    ----------
    protocol : Protocol
    seed : int
    train_fraction : float
        Share of the slices that was asked for on the training side.
    folds : int
        Number of folds that was asked for; `n_folds` is what there is.
    manifest : str
        sha256 of what the split depends on, from `manifest_hash`.
    unit : str
        What the keys of `part` and `fold` are: ``patient``, ``slice`` where one patient may stand on both
        sides, or ``copy`` where one slice may, in different rotations.
    part : mapping of str to str
        Patient (or slice_id, or id of a copy) to ``train`` or ``test``.
    fold : mapping of str to int
        Training patient (or slice_id, or id of a copy) to its fold, 0 to ``folds - 1``.
    published : bool
        Whether the data set came with its sides; only the folds were drawn then.
    leaky : bool
        Whether a patient stands on both sides, so that test scores are too good.
    """

    protocol: Protocol
    seed: int
    train_fraction: float
    folds: int
    manifest: str
    unit: str
    part: Mapping[str, str]
    fold: Mapping[str, int]
    published: bool = False
    leaky: bool = False

    def dealt(self, rows: Iterable[ManifestRow]) -> list[ManifestRow]:
        """What the split deals to its sides: the slices, or these and their rotated copies (`copies_of`)."""
        return copies_of(rows) if self.unit == "copy" else list(rows)

    @property
    def things(self) -> str:
        """What it deals, in words."""
        return "slices and rotated copies" if self.unit == "copy" else "slices"

    def key(self, row: ManifestRow) -> str:
        """What `part` and `fold` know a row by."""
        return row.patient if self.unit == "patient" else row.slice_id

    def parts(self, rows: Iterable[ManifestRow]) -> np.ndarray:
        """``train`` or ``test`` for each row; empty for rows that the split does not know."""
        return np.array([self.part.get(self.key(row), "") for row in rows], dtype="U5")

    def fold_numbers(self, rows: Iterable[ManifestRow]) -> np.ndarray:
        """The fold of each row, as int; -1 for rows that are not on the training side."""
        return np.array([self.fold.get(self.key(row), -1) for row in rows], dtype=int)

    @property
    def n_folds(self) -> int:
        """Number of folds of the training side."""
        return max(self.fold.values()) + 1

    @property
    def hash(self) -> str:
        """sha256 of the split: two models can be compared when they have the same."""
        return hashlib.sha256(self._text().encode()).hexdigest()

    def _text(self) -> str:
        return json.dumps({"schema": _SCHEMA, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_text(path, self._text())

    @classmethod
    def read(cls, path: Path) -> "Split":
        """Read a split.json.

        Raises
        ------
        MissingStep
            If there is no such file.
        BadDataset
            If the file is damaged or of another schema.
        """
        path = Path(path)
        if not path.exists():
            raise MissingStep(
                f"{path} is not there, so nobody knows which patients were trained on; train a head again: "
                f"haemo svm --run {shlex.quote(str(path.parent))}"
            )
        try:
            values = json_of(path)
            if values.pop("schema") != _SCHEMA:
                raise ValueError("written by another version of haemo")
            return cls(**{**values, "protocol": Protocol(values["protocol"])})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadDataset(f"{path} is no split ({error}); draw it anew with --new-split") from error


def manifest_hash(manifest: Manifest) -> str:
    """sha256 of what a split depends on: id, label, patient and published part of each labelled slice.

    Neither the order of the rows nor where the files lie changes it.
    """
    rows = sorted((row.slice_id, row.label, row.patient, row.part) for row in manifest.labelled)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def classes_of(run: RunDirectory, manifest: Manifest) -> tuple[str, ...]:
    """Class names of a run in the order that models use: of two classes the second is the positive one.

    Raises
    ------
    TooFewData
        If fewer than two classes have slices.
    """
    found = manifest.classes
    if len(found) < 2:
        only = f"only the class {found[0]!r}" if found else "no labels"
        raise TooFewData(f"{run.manifest_path} has {only}; a model needs slices of two classes or more")
    positive = run.read_record().get("steps", {}).get("index", {}).get("positive")
    return order_classes(found, positive)


def make_split(
    manifest: Manifest,
    classes: tuple[str, ...],
    *,
    seed: int = 0,
    train_fraction: float = DEFAULT_TRAIN_FRACTION,
    folds: int = DEFAULT_FOLDS,
) -> Split:
    """Draw the two sides by whole patients, and the folds of the training patients.

    Both are stratified: with two classes by whether a patient has a positive slice, with more by the
    rarest class that the patient has. A data set that publishes its sides keeps them. The order of the
    manifest's rows does not matter.

    Parameters
    ----------
    manifest : Manifest
        Rows without a label are left out.
    classes : tuple of str
        As from `classes_of`.
    seed : int
    train_fraction : float
        Share of the slices for training, between 0 and 1.
    folds : int
        At least 2; fewer are made, with a warning, where a class has fewer training patients.

    Raises
    ------
    TooFewData
        If a class has fewer than three patients: two to train and validate on, one to test.
    BadSettings
        If a setting is out of range.
    BadDataset
        If some labelled slices have a published part and others have none.
    """
    if not 0 < train_fraction < 1:
        raise BadSettings(f"the share for training is {train_fraction}; it must lie between 0 and 1")
    if folds < 2:
        raise BadSettings(f"{folds} folds were asked for; cross-validation needs 2 or more")
    rows = sorted(manifest.labelled, key=lambda row: row.slice_id)
    published = _published(rows)
    if published:
        side = {row.slice_id: row.part for row in rows}
        shared = sorted(
            {row.patient for row in rows if row.part == "train"}
            & {row.patient for row in rows if row.part == "test"}
        )
    else:
        side, shared = draw_sides(rows, classes, train_fraction, seed), []
    unit = "slice" if shared else "patient"
    training = [row for row in rows if side[row.slice_id] == "train"]
    patient_fold = draw_folds(training, classes, folds, seed)

    def key(row: ManifestRow) -> str:
        return row.slice_id if shared else row.patient

    return Split(
        protocol=Protocol.PATIENT,
        seed=seed,
        train_fraction=train_fraction,
        folds=folds,
        manifest=manifest_hash(manifest),
        unit=unit,
        part={key(row): side[row.slice_id] for row in rows},
        fold={key(row): patient_fold[row.patient] for row in training},
        published=published,
        leaky=bool(shared),
    )


def _published(rows: list[ManifestRow]) -> bool:
    parts = {row.part for row in rows}
    if {"train", "test"} <= parts and "" in parts:
        without = [row.slice_id for row in rows if not row.part]
        raise BadDataset(
            f"{len(without)} labelled slices ({without[0]} ...) have no part while others are published as "
            "train or test; give all of them a part in the manifest, or none"
        )
    return {"train", "test"} <= parts
