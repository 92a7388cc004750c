"""One model's answers beside those of others: in the same classes, of the same units, with what it knew."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import BadDataset, BadSettings
from haemo.features.manifest import ManifestRow
from haemo.pipeline.evaluation.aggregation import Aggregation, aggregate
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.units import Answers
from haemo.pipeline.judging.answers import Answered
from haemo.pipeline.judging.judged_model import JudgedModel, told_place
from haemo.pipeline.judging.labels import in_words_of
from haemo.pipeline.judging.scores_table import ScoresTable
from haemo.pipeline.run.predictions import Predictions

__all__ = [
    "JudgingSettings",
    "Side",
    "held_out_of",
    "joined",
    "notes_on",
    "rows_for",
    "side_of_model",
    "side_of_table",
    "with_told_unit",
]

_log = logging.getLogger("haemo")


@dataclass(frozen=True, kw_only=True)
class JudgingSettings:
    """How models are judged.

    Attributes
    ----------
    by : {'slice', 'study', 'patient'}
    how : Aggregation
        How slices are joined where `by` is not ``slice``.
    threshold, prevalence : float, optional
        As for `pipeline.evaluation.comparison.compare`.
    positive : str, optional
        The label that means the models' positive class, where words do not say so.
    keep : str, optional
        Attributes for figures by subgroup, as `parse_keep` reads them.
    index : mapping
        Other options of `pipeline.preparing.indexing.index_run`: layout, labels, label, patient_column ...
    trusted : sequence of str
    device : str
    resampling : Resampling
    """

    by: str = "slice"
    how: Aggregation | str = Aggregation.MAX
    threshold: float | None = None
    prevalence: float | None = None
    positive: str | None = None
    keep: str | None = None
    index: Mapping[str, Any] = field(default_factory=dict)
    trusted: Sequence[str] = ()
    device: str = "auto"
    resampling: Resampling = field(default_factory=Resampling)


@dataclass(frozen=True, eq=False)
class Side:
    """One model's answers by slice, in the common classes, with what is known of its training."""

    answers: Predictions
    held_out: Predictions | Mapping[str, float] | None
    facts: dict[str, Any]
    model: JudgedModel | None = None
    answered: Answered | None = None


def side_of_model(model: JudgedModel, answered: Answered, classes: Sequence[str]) -> Side:
    """What a model said of the slices, in the common names of classes; errors as `in_words_of`."""
    held_out: Predictions | Mapping[str, float] | None = model.points or None
    if model.held_out is not None:
        held_out = _in_classes(model.held_out, classes, model.name)
    answers = _in_classes(answered.predictions, classes, model.name)
    return Side(answers, held_out, model.facts(), model, replace(answered, predictions=answers))


def side_of_table(
    text: str, table: ScoresTable, classes: Sequence[str], rows: Sequence[ManifestRow] = ()
) -> Side:
    """What a table of scores says; of slices in `rows` label, patient and study are those of the row.

    Raises
    ------
    BadDataset
        If there are rows, and the table has none of them.
    """
    answers, found = table.answers, {row.slice_id: row for row in rows}
    if rows:
        answers = answers.select(np.array([str(name) in found for name in answers.slice_id]))
        if not len(answers):
            raise BadDataset(f"{text} names none of the slices (the first is called {rows[0].slice_id})")
        own = [found[str(name)] for name in answers.slice_id]
        answers = replace(
            _in_classes(replace(answers, label=answers.predicted), classes, text),
            label=np.array([row.label for row in own]),
            patient=np.array([row.patient for row in own]),
            study=np.array([row.study for row in own]),
        )
    answers = _in_classes(answers, classes, text)
    held_out = None if table.held_out is None else _in_classes(table.held_out, classes, text)
    facts = {"origin": told_place(str(Path(text).absolute())), "classes": list(answers.classes)}
    return Side(answers, held_out, facts)


def rows_for(model: JudgedModel, rows: Sequence[ManifestRow], classes: Sequence[str]) -> list[ManifestRow]:
    """The rows with the names that this very model has for its classes."""
    if model.classes == tuple(classes):
        return list(rows)
    meaning = in_words_of(model.classes, {row.label for row in rows})
    return [replace(row, label=meaning[row.label]) for row in rows]


def _in_classes(answers: Predictions, classes: Sequence[str], name: str) -> Predictions:
    """The answers with the common names of classes.

    Raises
    ------
    BadDataset
        If the classes are others, or the positive one is the other one.
    """
    if answers.classes == tuple(classes):
        return answers
    meaning = in_words_of(classes, answers.classes)
    renamed = tuple(meaning[one] for one in answers.classes)
    if renamed != tuple(classes):
        raise BadDataset(
            f"{name} has the classes {', '.join(answers.classes)}, the positive one last, and does not go "
            f"with {', '.join(classes)}; judge it by itself"
        )
    return replace(
        answers,
        label=np.array([meaning[str(one)] for one in answers.label]),
        predicted=np.array([meaning[str(one)] for one in answers.predicted]),
        classes=renamed,
    )


def notes_on(model: JudgedModel, answered: Answered) -> list[str]:
    """What a reader has to know of a model beside its figures: its caveat, and slices it has seen."""
    notes = [f"{model.name}: {model.caveat}"] if model.caveat else []
    if answered.seen:
        count = len(answered.seen)
        notes.append(
            f"SEEN IN TRAINING: {count} of the slices here {'has' if count == 1 else 'have'} pixels that "
            f"{model.name} was trained on (first: {answered.seen[0]}); its figures are too good"
        )
    return notes


def joined(side: Side, answers: Predictions, settings: JudgingSettings) -> Answers:
    """Answers by slice, or joined to the units that are judged, by the model's own rule for them."""
    if settings.by == "slice":
        return answers
    rule = side.model.rule(settings.by, Aggregation(settings.how)) if side.model else None
    if rule is None or answers.positive is None:
        return aggregate(answers, settings.by, settings.how, settings.threshold)
    return rule.judge(answers, settings.threshold)


def held_out_of(side: Side, settings: JudgingSettings) -> Answers | Mapping[str, float] | None:
    """What other operating points are chosen by: answers of the same units, or thresholds by point."""
    if not isinstance(side.held_out, Predictions):
        return side.held_out if settings.by == "slice" else None
    return joined(side, side.held_out, replace(settings, threshold=None))


def with_told_unit(index: Mapping[str, Any], models: Sequence[JudgedModel]) -> dict[str, Any]:
    """The options of `index_run`: what files do not say of their numbers is as the models were told.

    Raises
    ------
    BadSettings
        If they were told otherwise than one another.
    """
    told = {model.name: unit for model in models if (unit := model.model.told_unit)}
    if index.get("unit") or not told:
        return dict(index)
    if len(set(told.values())) > 1:
        listed = ", ".join(f"{name}: {unit}" for name, unit in told.items())
        raise BadSettings(
            f"the models were told different units of numbers ({listed}); say what those here are: --unit"
        )
    name, unit = next(iter(told.items()))
    _log.info("numbers of files that do not say what they are: %s, as %s was trained on", unit, name)
    return {**index, "unit": unit}
