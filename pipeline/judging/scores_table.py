"""Scores of any model in a CSV file, made by anyone: one row a slice, with its true class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from haemo.errors import BadDataset, BadSettings, TooFewData
from haemo.features.failures import Failure
from haemo.features.labels import order_classes
from haemo.features.layouts.table import Table
from haemo.pipeline.judging.answers import STAGE
from haemo.pipeline.run.predictions import Predictions

__all__ = ["ScoresTable", "read_scores"]

_HEADINGS = {
    "label": ("label", "truth", "true", "y", "y_true", "target", "class", "gold", "reference", "hemorrhage"),
    "score": ("score", "decision_score", "decision", "logit", "log_odds"),
    "probability": ("probability", "prob", "p", "y_prob", "y_score", "risk", "confidence"),
    "predicted": ("predicted", "prediction", "y_pred", "predicted_class"),
    "patient": ("patient", "patient_id", "subject", "case", "group"),
    "study": ("study", "study_id", "scan", "series"),
    "slice_id": ("slice_id", "path", "file", "filename", "image", "id"),
}
_OWN = ("slice_id", "patient", "study", "label", "part", "fold", "predicted")
_NO_LABEL = ("", "nan", "na", "n/a", "null")
NO_PROBABILITY = "the file has scores and no column of probabilities"


@dataclass(frozen=True, eq=False)
class ScoresTable:
    """What a CSV file says.

    Attributes
    ----------
    answers : Predictions
        The rows that are judged.
    held_out : Predictions or None
        Rows of part ``cv`` in a predictions.csv that also has a part ``test``.
    attributes : dict of str to ndarray of shape (n,), str
        Columns that were asked for, of the rows of `answers`.
    failures : tuple of Failure
        Rows that cannot be used: without a label or number.
    notes : tuple of str
    """

    answers: Predictions
    held_out: Predictions | None
    attributes: dict[str, np.ndarray]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]


def read_scores(
    path: Path,
    *,
    positive: str | None = None,
    threshold: float | None = None,
    keep: Iterable[tuple[str, Sequence[str]]] = (),
) -> ScoresTable:
    """Read scores: a predictions.csv of haemo, or a table with a label and a score or probability.

    Parameters
    ----------
    path : Path
    positive : str, optional
        Name of the positive class, where words do not say it.
    threshold : float, optional
        From which probability on a row is positive, or from which score where there are no probabilities;
        by default what the column of predicted classes says, else 0.5.
    keep : iterable of (str, sequence of str)
        Attributes for figures by subgroup, and the headings under which each may stand.

    Raises
    ------
    BadDataset
        If it is no table, lacks a column, or a probability lies outside 0..1.
    BadSettings
        If nothing says which rows are called positive, or a column asked for is not there.
    TooFewData
        If no row can be used, or they have one class and nothing names the other.
    """
    table = Table.open(path)
    attributes = {}
    for name, headings in keep:
        attributes[name] = table.column(*headings)
        if attributes[name] is None:
            listed = ", ".join(filter(None, table.headings))
            raise BadSettings(f"--keep {name}: {path} has no such column; it has {listed}")
    if set(_OWN) <= set(table.headings) and positive is None and not attributes:
        return _own(path, threshold)
    columns = {meaning: table.column(*names) for meaning, names in _HEADINGS.items()}
    if columns["label"] is None or not (columns["score"] or columns["probability"]):
        lacking = "label" if columns["label"] is None else "score or probability"
        raise BadDataset(f"{path} has no column {lacking}; it has {', '.join(filter(None, table.headings))}")
    if not (columns["probability"] or columns["predicted"]) and threshold is None:
        raise BadSettings(
            f"{path} has neither a column probability nor predicted, so that nothing says which rows are "
            "called positive; give the score from which they are: --threshold"
        )
    rows, failures = _rows(path, table, columns)
    if not rows:
        raise TooFewData(f"no row of {path} can be used; the first: {failures[0].reason}")
    labels = np.array([row["label"] for row in rows])
    called = {row["predicted"] for row in rows if columns["predicted"]} - {""}
    classes = _classes(path, {*labels.tolist(), *called}, positive)
    scores = np.array([float(row["score" if columns["score"] else "probability"]) for row in rows])
    chances = np.array([float(row["probability"]) for row in rows]) if columns["probability"] else None
    notes = []
    patients = np.array([row["patient"] or row["study"] for row in rows])
    if not columns["patient"] and not columns["study"]:
        patients = np.array([row["slice_id"] for row in rows])
    if threshold is None and columns["predicted"]:
        predicted = np.array([row["predicted"] for row in rows])
        limits = None
    else:
        at = 0.5 if threshold is None else threshold
        decisive = scores if chances is None else chances
        predicted = np.array(classes)[(decisive >= at).astype(int)]
        limits = None if chances is None else np.full(len(rows), at)
        notes.append(
            f"{path.name}: positive from a {'score' if chances is None else 'probability'} of {at:g}"
        )
    answers = Predictions(
        slice_id=np.array([row["slice_id"] for row in rows]),
        patient=patients,
        study=np.array([row["study"] or patient for row, patient in zip(rows, patients, strict=True)]),
        label=labels,
        part=np.full(len(rows), "test"),
        fold=np.full(len(rows), -1),
        scores=scores,
        probabilities=np.full(len(rows), 0.5) if chances is None else chances,
        predicted=predicted,
        classes=classes,
        thresholds=limits,
        uncalibrated=NO_PROBABILITY if chances is None else "",
    )
    kept = {
        name: np.array([row["cells"][heading] for row in rows], dtype=object)
        for name, heading in attributes.items()
    }
    return ScoresTable(answers, None, kept, tuple(failures), tuple(notes))


def _own(path: Path, threshold: float | None) -> ScoresTable:
    """A predictions.csv: its tested rows are judged, those out of fold choose other operating points."""
    everything = Predictions.read(path)
    tested = everything.of_part("test")
    held_out = everything.of_part("cv") if len(tested) else None
    answers = tested if len(tested) else everything
    notes = [] if len(tested) in (0, len(everything)) else [f"{path.name}: the rows of part test are judged"]
    if threshold is not None:
        if answers.positive is None:
            raise BadSettings(f"a threshold needs two classes; {path} has {len(answers.classes)}")
        called = (answers.probabilities >= threshold).astype(int)
        limits = np.full(len(answers), threshold)
        answers = replace(answers, predicted=np.array(answers.classes)[called], thresholds=limits)
    unlabelled = np.array([str(label).casefold() in _NO_LABEL for label in answers.label])
    failures = [_no_label(path, name) for name in answers.slice_id[unlabelled]]
    answers = answers.select(~unlabelled)
    if not len(answers):
        raise TooFewData(f"no row of {path} has a label")
    return ScoresTable(answers, held_out, {}, tuple(failures), tuple(notes))


def _rows(
    path: Path, table: Table, columns: dict[str, str | None]
) -> tuple[list[dict[str, str]], list[Failure]]:
    rows: list[dict] = []
    failures, seen = [], set()
    for line, cells in table.rows():
        row: dict = {meaning: cells[heading] if heading else "" for meaning, heading in columns.items()}
        row["slice_id"] = row["slice_id"] or f"line {line}"
        row["cells"] = cells
        reason = _unusable(row, columns)
        if reason is None and row["slice_id"] in seen:
            reason = "stands there before, in another line"
        if reason is not None:
            failures.append(Failure(f"{path}:{line}", STAGE, f"{row['slice_id']}: {reason}"))
            continue
        seen.add(row["slice_id"])
        rows.append(row)
    return rows, failures


def _unusable(row: dict[str, str], columns: dict[str, str | None]) -> str | None:
    if row["label"].casefold() in _NO_LABEL:
        return "has no label: not judged"
    for name in ("score", "probability"):
        if columns[name] is None:
            continue
        try:
            value = float(row[name])
        except ValueError:
            return f"{name} {row[name]!r} is not a number"
        if not np.isfinite(value):
            return f"{name} {row[name]!r} is not finite"
        if name == "probability" and not 0 <= value <= 1:
            return f"probability {value:g} lies outside 0..1; call such a column score"
    if columns["patient"] and not (row["patient"] or row["study"]):
        return "has no patient"
    return None


def _no_label(path: Path, name: str) -> Failure:
    return Failure(f"{path}:{name}", STAGE, "has no label: not judged")


def _classes(path: Path, names: set[str], positive: str | None) -> tuple[str, str]:
    if len(names) == 1:
        raise TooFewData(
            f"all rows of {path} are {next(iter(names))!r}, and nothing names the other class; two are needed"
        )
    if len(names) > 2:
        raise BadSettings(
            f"{path} has {len(names)} classes ({', '.join(sorted(names)[:5])}); judge two, or write the "
            "columns of a predictions.csv (docs/evaluation.md)"
        )
    negative, bleed = order_classes(names, positive)
    return negative, bleed
