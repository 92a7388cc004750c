"""split.json: the split that a run keeps, and whether what was made with a split may be used with it."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from haemo.errors import BadDataset, BadSettings, FingerprintMismatch
from haemo.features.manifest import Manifest, ManifestRow
from haemo.pipeline.run.directory import RunDirectory, train_command
from haemo.pipeline.splitting.split import Protocol, Split, manifest_hash

__all__ = [
    "is_of_split",
    "keep_split",
    "load_split",
    "made_for",
    "refuse_features_of_other_patients",
    "refuse_model_of_other_split",
    "warn_of",
]

log = logging.getLogger("haemo")


def load_split(
    run: RunDirectory,
    manifest: Manifest,
    *,
    seed: int | None = None,
    train_fraction: float | None = None,
    folds: int | None = None,
) -> Split:
    """The split that a run keeps, if it is of this manifest and has what is asked for.

    Parameters
    ----------
    run : RunDirectory
        With a split.
    manifest : Manifest
        The run's manifest.
    seed, train_fraction, folds : optional
        None takes what the split has.

    Raises
    ------
    BadDataset
        If the split was made for other slices, labels or patients, or cannot be read.
    BadSettings
        If it was made with another seed, share or number of folds than is asked for.
    """
    split = Split.read(run.split_path)
    _refuse_other_manifest(split, run, manifest)
    _refuse_other_settings(split, run, seed=seed, train_fraction=train_fraction, folds=folds)
    return split


def keep_split(run: RunDirectory, split: Split, manifest: Manifest) -> None:
    """Write a split that was drawn as the run's own, and say how many slices it deals to each side."""
    split.write(run.split_path)
    rows = split.dealt(manifest.labelled)
    trains = split.parts(rows) == "train"
    origin = "published with the data set" if split.published else f"drawn with seed {split.seed}"
    log.info(
        "split %s: %d %s of %d patients to train, %d of %d to test, %d folds",
        origin,
        trains.sum(),
        split.things,
        len({row.patient for row, is_train in zip(rows, trains, strict=True) if is_train}),
        (~trains).sum(),
        len({row.patient for row, is_train in zip(rows, trains, strict=True) if not is_train}),
        split.n_folds,
    )


def made_for(run: RunDirectory) -> dict[str, str]:
    """What a measurement of a run holds for: sha256 of ``manifest`` and, where there is one, ``split``."""
    found = {"manifest": manifest_hash(run.manifest())}
    if run.split_path.exists():
        found["split"] = Split.read(run.split_path).hash
    return found


def is_of_split(facts: Mapping[str, Any], split: Split) -> bool:
    """Whether a model was trained on this split, by what its settings.json holds.

    Predictions that another program made have no settings; they are taken to be.
    """
    return facts.get("split") in (None, split.hash)


def refuse_model_of_other_split(facts: Mapping[str, Any], run: RunDirectory, name: str) -> None:
    """Insist that a model was trained on the split that its run has now.

    Elsewhere some of its training patients may be test patients, and what is said of it too good.

    Raises
    ------
    FingerprintMismatch
    """
    if run.split_path.exists() and not is_of_split(facts, Split.read(run.split_path)):
        raise FingerprintMismatch(
            f"{run.model_path(name)} was trained on another split than {run.split_path}; train it again: "
            f"{train_command(run.model_path(name))}"
        )


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


def warn_of(split: Split, manifest: Manifest) -> None:
    """Log what makes figures on this split too good: patients on both sides, or unknown."""
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


def _refuse_other_manifest(split: Split, run: RunDirectory, manifest: Manifest) -> None:
    if split.manifest == manifest_hash(manifest):
        return
    known = {split.key(row) for row in split.dealt(manifest.labelled)}
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
