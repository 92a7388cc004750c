"""predictions.csv: what a model said about each slice, and the only input of evaluation."""

import math
from collections.abc import Sequence
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
            **{name: getattr(self, name)[mask] for name in (*_FIXED, "scores", "probabilities", "predicted")},
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
        names = records.headings
        entries = list(records)
        if not entries:
            raise BadDataset(f"{path} has no rows")
        if "score" in names:
            records.require(("negative", "positive", "probability"))
            classes = (entries[0]["negative"], entries[0]["positive"])
            score_names, probability_names = ["score"], ["probability"]
        else:
            classes = tuple(name.removeprefix("score_") for name in names if name.startswith("score_"))
            score_names = [f"score_{name}" for name in classes]
            probability_names = [f"probability_{name}" for name in classes]

        def numbers(columns: list[str]) -> np.ndarray:
            try:
                values = np.array([[float(entry[name]) for name in columns] for entry in entries])
            except (KeyError, ValueError, TypeError) as error:
                raise BadDataset(f"{path}: columns {columns} must hold numbers ({error})") from error
            if not all(math.isfinite(value) for value in values.ravel()):
                raise BadDataset(f"{path}: columns {columns} hold values that are not finite")
            return values[:, 0] if len(columns) == 1 else values

        def fold(entry: dict[str, str]) -> int:
            try:
                return int(entry["fold"]) if entry["fold"] else -1
            except ValueError as error:
                raise BadDataset(f"{path}: column 'fold' must hold whole numbers ({error})") from error

        def text(name: str) -> np.ndarray:
            return np.array([entry[name] for entry in entries], dtype=object).astype(str)

        probabilities = numbers(probability_names)
        _refuse_no_probabilities(path, text("slice_id"), probabilities)
        return cls(
            slice_id=text("slice_id"),
            patient=text("patient"),
            study=text("study"),
            label=text("label"),
            part=text("part"),
            fold=np.array([fold(entry) for entry in entries]),
            scores=numbers(score_names),
            probabilities=probabilities,
            predicted=text("predicted"),
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
