"""The features of a run, a side of its split at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from haemo.errors import BadSettings
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.training.examples import Examples, load_examples

__all__ = ["Features", "features_of", "load_sides"]


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """Embeddings of one side of a run's split; unpacks as ``X, y, groups``.

    Attributes
    ----------
    X : ndarray of shape (n, d), float32
        An embedding a labelled slice.
    y : ndarray of shape (n,), int
        Place of its class in `classes`: of two classes 1 is the positive one.
    groups : ndarray of shape (n,), str
        Its patient.
    slice_ids : ndarray of shape (n,), str
    folds : ndarray of shape (n,), int
        Fold that a training slice is held out in; -1 for test slices.
    classes : tuple of str
    part : {'train', 'test'}
    """

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    slice_ids: np.ndarray
    folds: np.ndarray
    classes: tuple[str, ...]
    part: str

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.X, self.y, self.groups))

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        counts = np.bincount(self.y, minlength=len(self.classes))
        labels = ", ".join(f"{name} {count}" for name, count in zip(self.classes, counts, strict=True))
        return (
            f"Features({self.part}: {len(self)} slices of {len(set(self.groups))} patients, "
            f"{self.X.shape[1]} numbers each; {labels})"
        )


def load_sides(cohort: Cohort) -> Examples:
    """Both sides of a run's split, in memory; a split that was drawn is kept, since it is now used."""
    with open_features(cohort.run) as store:
        examples = load_examples(store, cohort)
    cohort.keep()
    return examples


def features_of(run: RunDirectory, part: str) -> Features:
    """One side; parameters and errors as `haemo.Run.features`."""
    if part not in ("train", "test"):
        raise BadSettings(f"part is {part!r}; a run has the parts 'train' and 'test'")
    cohort = Cohort.of(run)
    sides = load_sides(cohort)
    train = part == "train"
    rows = sides.train_rows if train else sides.test_rows
    X = sides.X if train else sides.X_test
    assert isinstance(X, np.ndarray), "both sides are in memory"  # noqa: S101 - for type checkers
    return Features(
        X=X,
        y=cohort.targets(rows),
        groups=np.array([row.patient for row in rows]),
        slice_ids=np.array([row.slice_id for row in rows]),
        folds=sides.fold if train else np.full(len(rows), -1),
        classes=sides.classes,
        part=part,
    )
