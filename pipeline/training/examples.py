"""What a head learns from and is tested on: embeddings, classes and folds of the slices that have them."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from haemo.errors import BadSettings, MissingStep, TooFewData
from haemo.features.manifest import ManifestRow, rows_as_bytes
from haemo.features.store.table import FeatureTable
from haemo.models.search.rows import Rows
from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.splitting.copies import VARIANTS, SliceCopy
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.splitting.splitfile import refuse_features_of_other_patients

__all__ = ["Examples", "load_examples"]

log = logging.getLogger("haemo")

# A block, its copy in float64 and its squares are what a stream holds at a time.
_BLOCK_BYTES = 2**24


@dataclass(frozen=True, eq=False)
class Examples:
    """Embeddings of labelled slices, divided as the split says.

    Attributes
    ----------
    classes : tuple of str
        Of two classes the second is the positive one.
    train_rows, test_rows : tuple of ManifestRow
        The slices of each side, or the slices and rotated copies where the split deals these.
    X : ndarray of shape (n_train * n_variants, dimension), float32, or Rows
        Embeddings of the training slices; with rotations first all slices as they are, then all in the
        first rotation, and so on. As Rows they are read from the store in blocks, at each pass over them.
    y : ndarray of shape (n_train * n_variants,), int
        Class number of each row of `X`.
    fold : ndarray of shape (n_train * n_variants,), int
    X_test : ndarray of shape (n_test, dimension), float32, or Rows
        Embeddings of the test slices as they are; Rows where `X` is.
    missing : tuple of str
        Ids of labelled slices (or copies) without features, which are left out.
    blocks : tuple of int
        Widths of the blocks of columns that `X` is made of: sets of features, and those of neighbours.
    on_test : bool
        Whether settings are judged on the test slices, which then stand behind the training slices in `X`.
    """

    classes: tuple[str, ...]
    train_rows: tuple[ManifestRow, ...]
    test_rows: tuple[ManifestRow, ...]
    X: np.ndarray | Rows
    y: np.ndarray
    fold: np.ndarray
    X_test: np.ndarray | Rows
    missing: tuple[str, ...]
    blocks: tuple[int, ...] = ()
    on_test: bool = False

    @property
    def n_train(self) -> int:
        """Number of training slices, without their rotations."""
        return len(self.train_rows)

    @property
    def streamed(self) -> bool:
        """Whether the features are read from the store in blocks."""
        return isinstance(self.X, Rows)

    @property
    def size(self) -> str:
        """What the features take in memory, in words."""
        count, dimension = self.X.shape[0] + self.X_test.shape[0], self.X.shape[1]
        return f"features of {count:,} rows take {4 * count * dimension / 2**30:.3g} GiB"

    @property
    def patient(self) -> np.ndarray:
        """Patient of each row of `X`, str."""
        trained = [row.patient for row in self.train_rows]
        tested = [row.patient for row in self.test_rows] if self.on_test else []
        variants = (len(self.y) - len(tested)) // max(1, len(trained))
        return np.array(trained * variants + tested, dtype=object)

    @property
    def fold_pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each fold the rows of `X` to fit on (rotations too) and to validate on (as they are)."""
        if self.on_test:
            return [(np.flatnonzero(self.fold >= 0), np.flatnonzero(self.fold < 0))]
        original = np.arange(len(self.y)) < self.n_train
        return [
            (np.flatnonzero(self.fold != one), np.flatnonzero((self.fold == one) & original))
            for one in np.unique(self.fold)
        ]

    def judged_on_test(self) -> "Examples":
        """The same for a protocol that chooses settings on the very slices it reports; in memory only."""
        y_test = np.array([self.classes.index(row.label) for row in self.test_rows])
        return replace(
            self,
            X=np.concatenate([self.X, self.X_test]),
            y=np.concatenate([self.y, y_test]),
            fold=np.concatenate([self.fold, np.full(len(y_test), -1)]),
            on_test=True,
        )

    @cached_property
    def hash(self) -> str:
        """sha256 of everything that a head can learn from or is tested on, in memory or not."""
        digest = hashlib.sha256()
        for features in (self.X, self.X_test):
            digest.update(_row_hashes(features))
        for array in (self.y, self.fold):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update(rows_as_bytes((*self.train_rows, *self.test_rows)))
        return digest.hexdigest()


def load_examples(
    store: FeatureTable, cohort: Cohort, *, rotations: bool = False, memory: int | None = None
) -> Examples:
    """Read what a head needs from its features.

    Parameters
    ----------
    store : FeatureTable
    cohort : Cohort
    rotations : bool
        Also take the rotated variants of the training slices. Test slices and slices that validate are
        taken as they are. Not with a split that deals rotated copies: there they are slices like others.
    memory : int, optional
        Bytes. Features that take more are left in the store, which must stay open then, and are read in
        blocks; None reads them whatever they take.

    Raises
    ------
    MissingStep
        If no labelled slice has features, or rotations are asked for and the store has none.
    TooFewData
        If what has features is too little to train, validate and test on.
    FingerprintMismatch
        If the features come from a network that was trained on another split.
    BadSettings
        If rotations are asked for with a split that deals them.
    """
    split = cohort.split
    _refuse_or_warn_of_learned_features(store, split)
    by_copy = split.unit == "copy"
    if by_copy and rotations:
        raise BadSettings(
            f"protocol {split.protocol.value} has dealt the rotated copies to both sides already; leave "
            "--augment out"
        )
    variants = _variants(store) if by_copy or rotations else (0,)
    learned = (0,) if by_copy else variants
    rows, missing = _rows_with_features(store, cohort)
    parts = split.parts(rows)
    train = [row for row, part in zip(rows, parts, strict=True) if part == "train"]
    test = [row for row, part in zip(rows, parts, strict=True) if part == "test"]
    y, fold = cohort.targets(train), split.fold_numbers(train)
    _refuse_too_few(y, fold, test, cohort.classes)
    places = np.concatenate([_places(store, train, variant) for variant in learned])
    places_test = _places(store, test)
    if not _differ(_stream(store, places[: len(train)])):
        raise TooFewData(
            f"all {len(train)} training slices have the same features; there is nothing to learn"
        )
    size = 4 * (len(places) + len(places_test)) * store.dimension
    read = FeatureTable.read_rows if memory is None or size <= memory else _stream
    return Examples(
        classes=cohort.classes,
        train_rows=tuple(train),
        test_rows=tuple(test),
        X=read(store, places),
        y=np.tile(y, len(learned)),
        fold=np.tile(fold, len(learned)),
        X_test=read(store, places_test),
        missing=missing,
        blocks=tuple(store.blocks_of_columns),
    )


def _refuse_or_warn_of_learned_features(store: FeatureTable, split: Split) -> None:
    for path, facts in store.facts_of_each.items():
        refuse_features_of_other_patients(facts, split, path)
    if any("split" in facts for facts in store.facts_of_each.values()):
        log.warning(
            "these features come from a network that has learned from the training patients: out-of-fold "
            "figures, and the probabilities and thresholds that are fitted on them, are too good; judge by "
            "the test slices"
        )


def _rows_with_features(store: FeatureTable, cohort: Cohort) -> tuple[list[ManifestRow], tuple[str, ...]]:
    """What the split deals and the store has, in the order of the ids, and the ids of what it has not."""
    split = cohort.split
    originals = sorted(cohort.manifest.labelled, key=lambda row: row.slice_id)
    rows = split.dealt(originals)
    dealt = VARIANTS if split.unit == "copy" else (0,)
    has = np.concatenate([store.covers(originals, variant) for variant in dealt])
    missing = tuple(row.slice_id for row, there in zip(rows, has, strict=True) if not there)
    rows = [row for row, there in zip(rows, has, strict=True) if there]
    if not rows:
        raise MissingStep(f"{store.where} has no features of the labelled slices; run: {store.command}")
    if missing:
        log.warning(
            "%d of %d labelled %s have no features (%s ...) and are left out; see failures.csv, or run "
            "haemo features again",
            len(missing),
            len(missing) + len(rows),
            split.things,
            ", ".join(missing[:3]),
        )
    return rows, missing


def _stream(store: FeatureTable, places: np.ndarray) -> Rows:
    """Rows of the store in blocks, in the order in which they lie there, so that a pass reads each once."""
    order = np.argsort(places, kind="stable")
    step = max(1, _BLOCK_BYTES // (4 * store.dimension))

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(order), step):
            yield store.read_rows(places[order[start : start + step]])

    return Rows(blocks, (len(places), store.dimension), order=order)


def _differ(rows: Rows) -> bool:
    """Whether not all rows are equal."""
    first = None
    for _, block in rows.blocks():
        first = block[0] if first is None else first
        if (block != first).any():
            return True
    return False


def _row_hashes(features: np.ndarray | Rows) -> bytes:
    """sha256 of each row, in the order of the rows, whichever the order in which they are read."""
    rows = features if isinstance(features, Rows) else Rows(features)
    hashes = np.empty((rows.shape[0], 32), dtype=np.uint8)
    for where, block in rows.blocks():
        each = [hashlib.sha256(np.ascontiguousarray(row)).digest() for row in block]
        hashes[where] = np.frombuffer(b"".join(each), dtype=np.uint8).reshape(-1, 32)
    return hashes.tobytes()


def _variants(store: FeatureTable) -> tuple[int, ...]:
    if store.variants == (0,):
        raise MissingStep(
            f"{store.where} has no rotated variants to train on; run: {store.command} --rotations paper"
        )
    return store.variants


def _places(store: FeatureTable, rows: Sequence[ManifestRow], variant: int = 0) -> np.ndarray:
    """Rows of the store that hold some slices in a variant, or copies each in its own."""
    if not any(isinstance(row, SliceCopy) for row in rows):
        return store.find([row.slice_id for row in rows], variant)
    places = np.empty(len(rows), dtype=np.intp)
    variants = np.array([row.variant for row in rows])
    for one in np.unique(variants):
        own = np.flatnonzero(variants == one)
        places[own] = store.find([rows[place].original for place in own], one)
    return places


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
