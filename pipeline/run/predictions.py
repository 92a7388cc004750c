"""predictions.csv: what a model said about each slice, and the only input of evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import BadDataset, MissingStep
from haemo.features.manifest import ManifestRow
from haemo.tables import Records, write_csv

__all__ = ["Predictions"]

_SUM_TOLERANCE = 0.02  # another program may have rounded them to two digits
_FIXED = ("slice_id", "patient", "study", "label", "part", "fold")
_BY_ROW = (*_FIXED, "scores", "probabilities", "predicted")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores and probabilities of one model, a row a slice and part.

    A model trained with grouped cross-validation predicts each training slice once, out of fold
    (part ``cv``), and each test slice once, after the refit (part ``test``).

    Attributes
    ----------
    slice_id, patient, study, label : ndarray of shape (n,), str
    part : ndarray of shape (n,), str
        ``cv`` or ``test``.
    fold : ndarray of shape (n,), int
        Fold that predicted a ``cv`` row; -1 for ``test``.
    scores : ndarray of shape (n,) or (n, n_classes), float64
        Decision scores; one column, of the positive class, where there are two classes.
    probabilities : ndarray of the same shape, float64
        In 0..1; for two classes, of the positive class.
    predicted : ndarray of shape (n,), str
        Class that was predicted.
    classes : tuple of str
        Class names in the order of the columns; for two classes the second is the positive one.
    thresholds : ndarray of shape (n,), float64, or None
        Probability from which the model calls each row positive, which is not in the file; None means 0.5.
    uncalibrated : str
        Why the probabilities do not mean to say how often rows are positive; empty where they do.
    """

    slice_id: np.ndarray
    patient: np.ndarray
    study: np.ndarray
    label: np.ndarray
    part: np.ndarray
    fold: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    classes: tuple[str, ...]
    thresholds: np.ndarray | None = None
    uncalibrated: str = ""

    @classmethod
    def of_rows(cls, rows: Sequence[ManifestRow], **columns: Any) -> "Predictions":
        """What a model said about some slices: their ids, patients, studies and labels, and other columns."""
        return cls(
            slice_id=np.array([row.slice_id for row in rows]),
            patient=np.array([row.patient for row in rows]),
            study=np.array([row.study for row in rows]),
            label=np.array([row.label for row in rows]),
            **columns,
        )

    def __len__(self) -> int:
        return len(self.slice_id)

    @property
    def positive(self) -> str | None:
        """The positive class of a two-class problem, None where there are more classes."""
        return self.classes[1] if len(self.classes) == 2 else None

    def select(self, mask: np.ndarray) -> "Predictions":
        """The rows where `mask` is true (or the rows at the given positions)."""
        return replace(
            self,
            **{name: getattr(self, name)[mask] for name in _BY_ROW},
            thresholds=None if self.thresholds is None else self.thresholds[mask],
        )

    def of_part(self, part: str) -> "Predictions":
        """The rows of one part, ``cv`` or ``test``."""
        return self.select(self.part == part)

    def write(self, path: Path) -> None:
        """Write as CSV, atomically; numbers are written so that they read back exactly.

        Two classes give the columns ``score`` and ``probability`` of the positive class, whose name
        stands in the column ``positive``; more give ``score_CLASS`` and ``probability_CLASS`` for each.
        """
        if self.positive is None:
            value_columns = [f"{kind}_{name}" for kind in ("score", "probability") for name in self.classes]
            values = np.hstack([self.scores, self.probabilities])
            extra, extra_values = [], []
        else:
            value_columns = ["score", "probability"]
            values = np.column_stack([self.scores, self.probabilities])
            extra, extra_values = ["negative", "positive"], list(self.classes)
        rows = [[*_FIXED, *value_columns, "predicted", *extra]]
        for row in range(len(self)):
            fixed = [getattr(self, name)[row] for name in _FIXED[:-1]]
            fold = "" if self.fold[row] < 0 else int(self.fold[row])
            numbers = [repr(float(value)) for value in values[row]]
            rows.append([*fixed, fold, *numbers, self.predicted[row], *extra_values])
        write_csv(path, rows)

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """Read a predictions.csv, from this project or any other program that writes its columns.

        Raises
        ------
        MissingStep
            If there is no such file.
        BadDataset
            If a column is missing, a number is not finite, the file has no rows, or a probability is none:
            outside 0..1, or of several classes that do not add up to 1.
        """
        path = Path(path)
        if not path.exists():
            raise MissingStep(f"{path} is not there; train that model first")
        records = Records(path).require((*_FIXED, "predicted"))
        blocks: list[Predictions] = []
        classes: tuple[str, ...] = ()
        for block in records.blocks():
            classes = classes or _classes_of(records, block)
            blocks.append(_of_block(path, block, classes))
        if not blocks:
            raise BadDataset(f"{path} has no rows")
        found = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in _BY_ROW}
        _refuse_no_probabilities(path, found["slice_id"], found["probabilities"])
        return cls(**found, classes=classes)


def _classes_of(records: Records, block: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    if "score" in records.headings:
        records.require(("negative", "positive", "probability"))
        return block["negative"][0], block["positive"][0]
    return tuple(name.removeprefix("score_") for name in records.headings if name.startswith("score_"))


def _of_block(path: Path, block: Mapping[str, Sequence[str]], classes: tuple[str, ...]) -> Predictions:
    """Some rows of the file."""

    def numbers(kind: str) -> np.ndarray:
        columns = [kind] if "score" in block else [f"{kind}_{name}" for name in classes]
        try:
            values = np.column_stack([[float(value) for value in block[name]] for name in columns])
        except (KeyError, ValueError) as error:
            raise BadDataset(f"{path}: columns {columns} must hold numbers ({error})") from error
        if not np.isfinite(values).all():
            raise BadDataset(f"{path}: columns {columns} hold values that are not finite")
        return values[:, 0] if len(columns) == 1 else values

    try:
        fold = [int(value) if value else -1 for value in block["fold"]]
    except ValueError as error:
        raise BadDataset(f"{path}: column 'fold' must hold whole numbers ({error})") from error
    text = (*_FIXED[:-1], "predicted")
    return Predictions(
        **{name: np.array(block[name], dtype=object).astype(str) for name in text},
        fold=np.array(fold),
        scores=numbers("score"),
        probabilities=numbers("probability"),
        classes=classes,
    )


def _refuse_no_probabilities(path: Path, slice_id: np.ndarray, values: np.ndarray) -> None:
    """Refuse percents, log odds and the like: squared errors and calibration of them would mean nothing."""
    rows = values.reshape(len(values), -1)
    outside = ((rows < 0) | (rows > 1)).any(axis=1)
    if outside.any():
        first = int(np.argmax(outside))
        worst = rows[first][np.argmax(np.abs(rows[first] - 0.5))]
        raise BadDataset(
            f"{path}: slice {slice_id[first]} has the probability {worst:g}; "
            "probabilities lie between 0 and 1 (divide percents by 100, and put log odds into the score)"
        )
    total = rows.sum(axis=1)
    unequal = np.abs(total - 1) > _SUM_TOLERANCE if values.ndim == 2 else np.zeros(len(rows), dtype=bool)
    if unequal.any():
        first = int(np.argmax(unequal))
        raise BadDataset(
            f"{path}: the probabilities of slice {slice_id[first]} add up to {total[first]:g}; those of all "
            "classes of a slice must add up to 1"
        )
