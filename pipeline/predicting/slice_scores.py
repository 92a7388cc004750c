"""What a model said about new slices, a row a slice and a row a study."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from haemo.features.failures import Failure
from haemo.pipeline.evaluation.aggregation import Aggregation, aggregate, aggregate_sets
from haemo.pipeline.evaluation.unit_rule import UnitRule
from haemo.pipeline.evaluation.units import UnitAnswers
from haemo.pipeline.run.predictions import Predictions
from haemo.tables import write_table

__all__ = ["SliceScores"]


@dataclass(frozen=True, eq=False)
class SliceScores:
    """Scores of new slices: studies in the order they were given, the slices of each by position.

    Attributes
    ----------
    paths : tuple of Path
    studies : tuple of str
        Study of each slice: the series of a DICOM file, else as much of the end of its folder's path as
        tells it from the other studies, as ``049/brain``.
    positions : tuple of float or None
        Place along the scan axis, in mm, where the file says.
    outside : tuple of str
        Why a slice is outside what the model knows; empty where it is not.
    classes : tuple of str
        Of two classes the second is the positive one.
    threshold : float
        Probability from which the positive class is predicted; with more classes the most probable one is.
    scores : ndarray of shape (n,) or (n, n_classes), float64
        Decision scores; one column, of the positive class, where there are two classes.
    probabilities : ndarray of the same shape, float64
        Calibrated, in 0..1.
    predicted : ndarray of shape (n,), str
    failures : tuple of Failure
        Files that could not be scored.
    distance_checked : bool
        Whether the distance from the training slices was a reason to be outside. If not, only what cannot be
        a slice through a head is.
    study_rule : callable, optional
        Gives the rule by which studies are judged for a way of joining slices, or None: where too few were
        held out of training they are judged at the threshold of slices.
    asked_threshold : float, optional
        Probability from which slices and studies are positive, where it was asked for.
    of_studies : bool
        Whether each row is a whole study, of which no slice was scored.
    points : mapping of str to float
        Thresholds of the model's other operating points by name, as chosen on what was held out of training.
    """

    paths: tuple[Path, ...]
    studies: tuple[str, ...]
    positions: tuple[float | None, ...]
    outside: tuple[str, ...]
    classes: tuple[str, ...]
    threshold: float
    scores: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    failures: tuple[Failure, ...]
    distance_checked: bool = True
    study_rule: Callable[[Aggregation], UnitRule | None] | None = None
    asked_threshold: float | None = None
    of_studies: bool = False
    points: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {(self.predicted == name).sum()}" for name in self.classes)
        outside = sum(bool(why) for why in self.outside)
        return (
            f"SliceScores(slices: {len(self)}, studies: {len(set(self.studies))}; predicted {counts}; "
            f"outside what the model knows: {outside}, unusable: {len(self.failures)})"
        )

    @property
    def positive(self) -> str | None:
        """The positive class of two, None where there are more."""
        return self.classes[1] if len(self.classes) == 2 else None

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary a slice, see `row`."""
        return [self.row(number) for number in range(len(self))]

    def row(self, number: int) -> dict[str, Any]:
        """One slice: path, study, position, predicted, score, probability, threshold, outside.

        With more than two classes there are a score and a probability a class, and no threshold.
        """
        row: dict[str, Any] = {
            "path": str(self.paths[number]),
            "study": self.studies[number],
            "position": self.positions[number],
            "predicted": str(self.predicted[number]),
        }
        if self.positive is not None:
            row["score"] = float(self.scores[number])
            row["probability"] = float(self.probabilities[number])
            row["threshold"] = self.threshold
        else:
            for kind, values in (("score", self.scores), ("probability", self.probabilities)):
                for column, name in enumerate(self.classes):
                    row[f"{kind}_{name}"] = float(values[number, column])
        row["outside"] = self.outside[number]
        return row

    def study_rows(self, how: Aggregation | str = Aggregation.MAX) -> list[dict[str, Any]]:
        """A dictionary a study: its slices joined by `evaluation.aggregation`, judged by the `study_rule`.

        Slices outside what the model knows count like the others, so that nothing is hidden; how many they
        are is said. With more than two classes ``predicted`` holds all classes that are named, joined by
        ``+`` (empty if there are none), and there are a number of slices predicted as a class and a
        probability a class, and no threshold.
        """
        if not len(self):
            return []
        studies = np.array(self.studies)
        slices = self._as_predictions(studies)
        if self.positive is None:
            sets = aggregate_sets(slices, "study", how)
            names, answers = sets.unit, self._set_answers(sets)
        else:
            rule = self.study_rule(Aggregation(how)) if self.study_rule else None
            if rule:
                joined = rule.judge(slices, self.asked_threshold)
            else:
                joined = aggregate(slices, "study", how, self.threshold)
            names, answers = joined.slice_id, self._answers(joined)
        own_answer = dict(zip(names.tolist(), answers, strict=True))
        rows = []
        for study in dict.fromkeys(self.studies):
            inside = studies == study
            outside = sum(1 for own, why in zip(inside, self.outside, strict=True) if own and why)
            counts = self._slice_counts(inside)
            head = {"study": study, "slices": int(inside.sum()), **counts, "slices_outside": outside}
            rows.append({**head, **own_answer[study], "aggregation": str(how)})
        return rows

    def _slice_counts(self, inside: np.ndarray) -> dict[str, int]:
        """How many slices of a study are predicted positive, or as each of more than two classes."""
        if self.positive is not None:
            return {"slices_positive": int((self.predicted[inside] == self.positive).sum())}
        return {
            f"slices_predicted_{name}": int((self.predicted[inside] == name).sum()) for name in self.classes
        }

    def _answers(self, joined: Predictions) -> list[dict[str, Any]]:
        at = np.full(len(joined), self.threshold) if joined.thresholds is None else joined.thresholds
        columns = (joined.predicted, joined.scores, joined.probabilities, at)
        return [
            {
                "predicted": str(predicted),
                "score": float(score),
                "probability": float(probability),
                "threshold": float(threshold),
            }
            for predicted, score, probability, threshold in zip(*columns, strict=True)
        ]

    def _set_answers(self, sets: UnitAnswers) -> list[dict[str, Any]]:
        return [
            {
                "predicted": "+".join(np.array(self.classes)[named]),
                **{f"probability_{name}": float(p) for name, p in zip(self.classes, own, strict=True)},
            }
            for named, own in zip(sets.named, sets.probabilities, strict=True)
        ]

    def write_csv(self, path: Path) -> None:
        """Write `rows` as CSV, atomically; numbers read back exactly."""
        write_table(path, self.rows())

    def as_json(self, how: Aggregation | str = Aggregation.MAX) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {
            "classes": list(self.classes),
            "positive": self.positive,
            "studies": self.study_rows(how),
            "slices": self.rows(),
            "operating_points": dict(self.points),
            "distance_checked": self.distance_checked,
            "failures": [{"path": one.path, "reason": one.reason} for one in self.failures],
        }

    def _as_predictions(self, studies: np.ndarray) -> Predictions:
        count = len(self)
        names = np.array([str(path) for path in self.paths])
        unknown = np.full(count, self.classes[0])
        return Predictions(
            slice_id=names,
            patient=studies,
            study=studies,
            label=unknown,
            part=np.full(count, "test"),
            fold=np.full(count, -1),
            scores=self.scores,
            probabilities=self.probabilities,
            predicted=self.predicted,
            classes=self.classes,
        )
