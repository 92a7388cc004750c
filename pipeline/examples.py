"""What a head learns from and is tested on: embeddings, classes and folds of the slices that have them."""

import hashlib
import logging
from dataclasses import dataclass

import numpy as np

from features.manifest import Manifest, ManifestRow
from features.store import FeatureStore
from models.errors import MissingStep, TooFewData
from pipeline.splits import Split, refuse_features_of_other_patients

__all__ = ["Examples", "load_examples"]

log = logging.getLogger("haemo")


@dataclass(frozen=True, eq=False)
class Examples:
    """Embeddings of labelled slices, divided as the split says.

    Attributes
    ----------
    classes : tuple of str
        Of two classes the second is the positive one.
    train_rows, test_rows : tuple of ManifestRow
        The slices of each side.
    X : ndarray of shape (n_train * n_variants, dimension), float32
        Embeddings of the training slices; with rotations first all slices as they are, then all in the
        first rotation, and so on.
    y : ndarray of shape (n_train * n_variants,), int
        Class number of each row of `X`.
    fold : ndarray of shape (n_train * n_variants,), int
    X_test : ndarray of shape (n_test, dimension), float32
        Embeddings of the test slices as they are.
    missing : tuple of str
        Ids of labelled slices without features, which are left out.
    """

    classes: tuple[str, ...]
    train_rows: tuple[ManifestRow, ...]
    test_rows: tuple[ManifestRow, ...]
    X: np.ndarray
    y: np.ndarray
    fold: np.ndarray
    X_test: np.ndarray
    missing: tuple[str, ...]

    @property
    def n_train(self) -> int:
        """Number of training slices, without their rotations."""
        return len(self.train_rows)

    @property
    def patient(self) -> np.ndarray:
        """Patient of each row of `X`, str."""
        each = np.array([row.patient for row in self.train_rows], dtype=object)
        return np.tile(each, len(self.y) // max(1, self.n_train))

    @property
    def fold_pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each fold the rows of `X` to fit on (rotations too) and to validate on (as they are)."""
        original = np.arange(len(self.y)) < self.n_train
        return [
            (np.flatnonzero(self.fold != one), np.flatnonzero((self.fold == one) & original))
            for one in np.unique(self.fold)
        ]

    def hash(self) -> str:
        """sha256 of everything that a head can learn from or is tested on."""
        digest = hashlib.sha256()
        for array in (self.X, self.y, self.fold, self.X_test):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        for row in (*self.train_rows, *self.test_rows):
            digest.update(f"{row.slice_id}\0{row.label}\0{row.patient}\0{row.study}\n".encode())
        return digest.hexdigest()


def load_examples(
    store: FeatureStore,
    manifest: Manifest,
    split: Split,
    classes: tuple[str, ...],
    *,
    rotations: bool = False,
) -> Examples:
    """Read what a head needs from the feature store.

    Parameters
    ----------
    store : FeatureStore
    manifest : Manifest
    split : Split
    classes : tuple of str
    rotations : bool
        Also take the rotated variants of the training slices. Test slices and slices that validate are
        always taken as they are.

    Raises
    ------
    MissingStep
        If no labelled slice has features, or rotations are asked for and the store has none.
    TooFewData
        If what has features is too little to train, validate and test on.
    FingerprintMismatch
        If the features come from a network that was trained on another split.
    """
    refuse_features_of_other_patients(store.fingerprint.facts, split, str(store.path))
    rows = sorted(manifest.labelled, key=lambda row: row.slice_id)
    has = store.covers(rows)
    missing = tuple(row.slice_id for row, there in zip(rows, has, strict=True) if not there)
    rows = [row for row, there in zip(rows, has, strict=True) if there]
    if not rows:
        raise MissingStep(
            f"{store.path} has no features of the labelled slices; "
            f"run: haemo features --run {store.path.parent}"
        )
    if missing:
        log.warning(
            "%d of %d labelled slices have no features (%s ...) and are left out; see failures.csv, or run "
            "haemo features again",
            len(missing),
            len(missing) + len(rows),
            ", ".join(missing[:3]),
        )
    parts = split.parts(rows)
    train = [row for row, part in zip(rows, parts, strict=True) if part == "train"]
    test = [row for row, part in zip(rows, parts, strict=True) if part == "test"]
    y = np.array([classes.index(row.label) for row in train], dtype=int)
    fold = split.fold_numbers(train)
    _refuse_too_few(y, fold, test, classes)
    variants = _variants(store, rotations)
    ids = [row.slice_id for row in train]
    X = np.concatenate([store.embeddings(ids, variant) for variant in variants])
    if (X[: len(train)] == X[0]).all():
        raise TooFewData(
            f"all {len(train)} training slices have the same features; there is nothing to learn"
        )
    return Examples(
        classes=classes,
        train_rows=tuple(train),
        test_rows=tuple(test),
        X=X,
        y=np.tile(y, len(variants)),
        fold=np.tile(fold, len(variants)),
        X_test=store.embeddings([row.slice_id for row in test]),
        missing=missing,
    )


def _variants(store: FeatureStore, rotations: bool) -> tuple[int, ...]:
    if not rotations:
        return (0,)
    if store.variants == (0,):
        raise MissingStep(
            f"{store.path} has no rotated variants to train on; "
            f"run: haemo features --run {store.path.parent} --rotations paper"
        )
    return store.variants


def _refuse_too_few(
    y: np.ndarray, fold: np.ndarray, test: list[ManifestRow], classes: tuple[str, ...]
) -> None:
    for one, name in enumerate(classes):
        if len(np.unique(fold[y == one])) < 2:
            raise TooFewData(
                f"class {name!r} has training slices with features in fewer than two folds; "
                "cross-validation needs them in two or more. Add patients, or see failures.csv"
            )
    if not test:
        raise TooFewData("no test slice has features; there is nothing to test on, see failures.csv")
