"""Which patients train and which test, and the folds that training patients are in; kept in split.json."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from features.atomic import write_text
from features.labels import order_classes
from features.manifest import Manifest, ManifestRow
from models.errors import BadDataset, BadSettings, FingerprintMismatch, TooFewData
from pipeline.copies import copies_of
from pipeline.dealing import draw_folds, draw_sides
from pipeline.run import RunDirectory

__all__ = [
    "DEFAULT_FOLDS",
    "DEFAULT_TRAIN_FRACTION",
    "Protocol",
    "Split",
    "classes_of",
    "load_or_make_split",
    "make_split",
    "manifest_hash",
    "refuse_features_of_other_patients",
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

    def _key(self, row: ManifestRow) -> str:
        return row.patient if self.unit == "patient" else row.slice_id

    def parts(self, rows: Iterable[ManifestRow]) -> np.ndarray:
        """``train`` or ``test`` for each row; empty for rows that the split does not know."""
        return np.array([self.part.get(self._key(row), "") for row in rows], dtype="U5")

    def fold_numbers(self, rows: Iterable[ManifestRow]) -> np.ndarray:
        """The fold of each row, as int; -1 for rows that are not on the training side."""
        return np.array([self.fold.get(self._key(row), -1) for row in rows], dtype=int)

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
        BadDataset
            If the file is damaged or of another schema.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
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


def load_or_make_split(
    run: RunDirectory,
    manifest: Manifest,
    *,
    seed: int | None = None,
    train_fraction: float | None = None,
    folds: int | None = None,
    new: bool = False,
) -> Split:
    """Give the run's split; draw and keep it where there is none yet.

    Parameters
    ----------
    run : RunDirectory
    manifest : Manifest
        The run's manifest.
    seed, train_fraction, folds : optional
        None takes what the kept split has, or the defaults 0, 0.7 and 5 for a new one.
    new : bool
        Draw it anew, in place of the one that is kept.

    Raises
    ------
    BadDataset
        If the kept split was made for other slices, labels or patients.
    BadSettings
        If the kept split was made with another seed, share or number of folds than is asked for.
    TooFewData
        As `make_split`.
    """
    classes = classes_of(run, manifest)
    if run.split_path.exists() and not new:
        split = Split.read(run.split_path)
        _refuse_other_manifest(split, run, manifest)
        _refuse_other_settings(split, run, seed=seed, train_fraction=train_fraction, folds=folds)
    else:
        split = make_split(
            manifest,
            classes,
            seed=0 if seed is None else seed,
            train_fraction=DEFAULT_TRAIN_FRACTION if train_fraction is None else train_fraction,
            folds=DEFAULT_FOLDS if folds is None else folds,
        )
        split.write(run.split_path)
        rows = manifest.labelled.rows
        trains = split.parts(rows) == "train"
        origin = "published with the data set" if split.published else f"drawn with seed {split.seed}"
        log.info(
            "split %s: %d slices of %d patients to train, %d of %d to test, %d folds",
            origin,
            trains.sum(),
            len({row.patient for row, is_train in zip(rows, trains, strict=True) if is_train}),
            (~trains).sum(),
            len({row.patient for row, is_train in zip(rows, trains, strict=True) if not is_train}),
            split.n_folds,
        )
    _warn(split, manifest)
    return split


def refuse_features_of_other_patients(facts: Mapping[str, Any], split: Split | None, where: str) -> None:
    """Insist that features made by a trained network are used with the split it was trained on.

    Such a network has seen the training patients of its split. With another one, some of them would be
    test patients, and the scores too good.

    Parameters
    ----------
    facts : mapping
        The facts of the features' fingerprint; without a ``split`` among them any split will do.
    split : Split or None
        The split they shall be used with; None for several, drawn anew.
    where : str
        What the features are, for the message.

    Raises
    ------
    FingerprintMismatch
    """
    seen = facts.get("split")
    if seen is None or (split is not None and split.hash == seen):
        return
    asked = "splits drawn anew" if split is None else "another split"
    raise FingerprintMismatch(
        f"{where}: these features come from a network that has seen the training patients of one split "
        f"(sha256 {seen[:12]}...), and cannot be used with {asked}. Train the network on the split there is "
        "now and make its features again with --new, or take AlexNet's: haemo features --new"
    )


def _warn(split: Split, manifest: Manifest) -> None:
    if split.protocol is not Protocol.PATIENT:
        log.warning(
            "LEAKY protocol %s: slices of one patient stand on both sides; figures show what a published "
            "protocol gives, not what the model is worth",
            split.protocol.value,
        )
    elif split.leaky:
        both = _on_both_sides(split, manifest.labelled.rows)
        log.warning(
            "LEAKY split: %d patients (%s ...) stand on both sides; test scores will be too good. "
            "Remove the published parts (train/ and test/ folders) to split by patient",
            len(both),
            ", ".join(both[:3]),
        )
    if not manifest.patients_known:
        log.warning(
            "no patient ids: each slice stands as its own patient, so slices of one person may be on both "
            "sides and scores too good; give a labels.csv with a patient column to 'haemo index'"
        )


def _on_both_sides(split: Split, rows: Iterable[ManifestRow]) -> list[str]:
    rows = list(rows)
    sides = split.parts(rows)
    trained = {row.patient for row, side in zip(rows, sides, strict=True) if side == "train"}
    return sorted(trained & {row.patient for row, side in zip(rows, sides, strict=True) if side == "test"})


def _published(rows: list[ManifestRow]) -> bool:
    parts = {row.part for row in rows}
    if {"train", "test"} <= parts and "" in parts:
        without = [row.slice_id for row in rows if not row.part]
        raise BadDataset(
            f"{len(without)} labelled slices ({without[0]} ...) have no part while others are published as "
            "train or test; give all of them a part in the manifest, or none"
        )
    return {"train", "test"} <= parts


def _refuse_other_manifest(split: Split, run: RunDirectory, manifest: Manifest) -> None:
    if split.manifest == manifest_hash(manifest):
        return
    known = {split._key(row) for row in split.dealt(manifest.labelled)}
    added, gone = known - set(split.part), set(split.part) - known
    what = (
        f"{len(added)} {split.unit} ids are new and {len(gone)} are gone"
        if added or gone
        else "slices, labels or patients have changed"
    )
    raise BadDataset(
        f"{run.split_path} was made for another manifest: {what}. Draw it anew with --new-split, then train "
        "every head again"
    )


def _refuse_other_settings(split: Split, run: RunDirectory, **asked: float | None) -> None:
    for name, value in asked.items():
        kept = getattr(split, name)
        if value is not None and value != kept:
            raise BadSettings(
                f"{run.split_path} has {name.replace('_', ' ')} {kept}, not {value}; leave the option out to "
                "use it, or draw another split with --new-split, then train every head again"
            )
