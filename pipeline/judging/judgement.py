"""Models judged on slices of elsewhere: figures, shift, recalibration, and everything that was left out."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from haemo.atomic import write_text
from haemo.errors import BadDataset, BadSettings
from haemo.features.failures import Failure
from haemo.features.labels import names_bleed_type
from haemo.features.manifest import ManifestRow
from haemo.pipeline.evaluation.aggregation import Aggregation, units_of
from haemo.pipeline.evaluation.comparison import Comparison, align, beside, compare_predictions
from haemo.pipeline.evaluation.operating import OWN, POINTS
from haemo.pipeline.evaluation.subgroups import attributes_of_units
from haemo.pipeline.evaluation.units import Answers
from haemo.pipeline.judging.answers import STAGE, Answered, answer
from haemo.pipeline.judging.judged_model import JudgedModel, resolve_model, told_place, with_own_names
from haemo.pipeline.judging.labels import in_words_of
from haemo.pipeline.judging.recalibration import recalibration_offer
from haemo.pipeline.judging.scores_table import ScoresTable, read_scores
from haemo.pipeline.judging.shift import shift_from_training
from haemo.pipeline.judging.sides import (
    JudgingSettings,
    Side,
    held_out_of,
    joined,
    notes_on,
    rows_for,
    side_of_model,
    side_of_table,
    with_told_unit,
)
from haemo.pipeline.preparing.attributes import parse_keep
from haemo.pipeline.preparing.indexing import index_run
from haemo.pipeline.run.attributes import OF_BLEEDS, Attributes
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.progress import Progress, silent

__all__ = ["Judgement", "judge"]

log = logging.getLogger("haemo")

PART = "external"
"""What the part of predictions is called here."""

_SCORES_ONLY = "there are no probabilities, only scores"
_OF_PROBABILITIES = ("mse", "brier", "log_loss", "calibration_error")


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was found.

    Attributes
    ----------
    folder : Path
    data : str
        Name of the folder that was judged, or of files; where they lie is not told.
    comparison : Comparison
    answers : mapping of str to Answers
        What was judged, slices or units.
    models : mapping of str to dict
        Of each, where it is from, its classes and threshold.
    shift, recalibration : mapping of str to dict
        `shift_from_training` of each, and `recalibration_offer` where there are two classes.
    labels : mapping of str to str
        What labels here were taken for.
    failures : tuple of Failure
        What could not be judged, slices without a label among it.
    """

    folder: Path
    data: str
    comparison: Comparison
    answers: Mapping[str, Answers]
    models: Mapping[str, dict[str, Any]]
    shift: Mapping[str, dict[str, Any]]
    recalibration: Mapping[str, dict[str, Any]]
    labels: Mapping[str, str]
    failures: tuple[Failure, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            **self.comparison.as_dict(),
            "data": self.data,
            "judged": dict(self.models),
            "shift": dict(self.shift),
            "recalibration": dict(self.recalibration),
            "labels": dict(self.labels),
            "failures": [asdict(one) | {"path": told_place(one.path)} for one in self.failures],
        }


def judge(
    models: Sequence[str],
    data: Path | None,
    out: Path,
    settings: JudgingSettings | None = None,
    progress: Progress = silent,
) -> Judgement:
    """Judge models on labelled slices that they were not made for, and write all of it to a folder.

    Parameters
    ----------
    models : sequence of str
        As `resolve_model` takes them, or paths of CSV files with scores.
    data : Path or None
        A folder in any layout. None where all models are CSV files, which have the labels themselves.
    out : Path
        A new or empty folder, or one of an earlier call: what is finished there is not done again.
    settings : JudgingSettings, optional
    progress : Progress

    Raises
    ------
    BadSettings
        If a model or option is none, or `out` holds something else.
    BadDataset, TooFewData
        If data or scores cannot be judged.
    MissingStep, FingerprintMismatch
        As `resolve_model`.
    """
    settings = settings or JudgingSettings()
    started = time.monotonic()
    tables = [text for text in models if text.lower().endswith(".csv")]
    others = [text for text in models if text not in tables]
    if not models or (others and data is None):
        raise BadSettings("name the models to judge and, behind them, the folder of the slices")
    run = RunDirectory(out)
    _prepare(run)
    found = [resolve_model(text, settings.trusted, settings.device, progress) for text in others]
    scores = {text: _scores(text, settings, tables_only=data is None) for text in tables}
    run.create()
    if data is None:
        if settings.index.get("labels"):
            raise BadSettings("--labels is for a folder of slices; a CSV file of scores has them itself")
        gathered = _gather_tables(scores)
    else:
        gathered = _gather(run, data, found, scores, settings, progress)
    judgement = _judged(run, data, gathered, settings, progress)
    _write(run, judgement, gathered.aligned, time.monotonic() - started)
    return judgement


@dataclass(frozen=True, eq=False)
class _Gathered:
    """All answers, and what is known beside them."""

    sides: dict[str, Side]
    attributes: Mapping[str, Mapping[str, str]]
    labels: dict[str, str]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    aligned: dict[str, Predictions]


def _gather(
    run: RunDirectory,
    data: Path,
    models: Sequence[JudgedModel],
    scores: Mapping[str, ScoresTable],
    settings: JudgingSettings,
    progress: Progress,
) -> _Gathered:
    """Index the data, and have each model answer; tables of scores are of the same slices."""
    options = with_told_unit(settings.index, models)
    index = index_run(data, run, keep=settings.keep, to_train=False, **options, progress=progress)
    classes = models[0].classes if models else next(iter(scores.values())).answers.classes
    rows, labels, unlabelled = _labelled(index.manifest.rows, classes, settings.positive)
    failures = [*(replace(one, stage=STAGE) for one in index.failures), *unlabelled]
    sides: dict[str, Side] = {}
    notes: list[str] = []
    for model in with_own_names(models):
        own = rows_for(model, rows, classes)
        answered = answer(model, own, run.path, progress, beside=index.manifest.rows)
        failures += [one for one in answered.failures if one not in failures]
        sides[model.name] = side_of_model(model, answered, classes)
        notes += notes_on(model, answered)
    for text, table in scores.items():
        name = _free_name(text, sides)
        sides[name] = side_of_table(text, table, classes, rows)
        failures += table.failures
        notes += table.notes
    aligned, left_out = align({name: side.answers for name, side in sides.items()})
    attributes = _attributes(run, index.manifest.rows)
    return _Gathered(sides, attributes, labels, tuple(failures), (*notes, *left_out), aligned)


def _gather_tables(scores: Mapping[str, ScoresTable]) -> _Gathered:
    classes = next(iter(scores.values())).answers.classes
    sides: dict[str, Side] = {}
    attributes: dict[str, dict[str, str]] = {}
    for text, table in scores.items():
        sides[_free_name(text, sides)] = side_of_table(text, table, classes)
        for name, values in table.attributes.items():
            for slice_id, value in zip(table.answers.slice_id, values, strict=True):
                attributes.setdefault(str(slice_id), {})[name] = str(value)
    failures = tuple(failure for table in scores.values() for failure in table.failures)
    notes = [note for table in scores.values() for note in table.notes]
    aligned, left_out = align({name: side.answers for name, side in sides.items()})
    return _Gathered(sides, attributes, {}, failures, (*notes, *left_out), aligned)


def _judged(
    run: RunDirectory,
    data: Path | None,
    gathered: _Gathered,
    settings: JudgingSettings,
    progress: Progress,
) -> Judgement:
    sides, aligned = gathered.sides, gathered.aligned
    answers = {name: joined(sides[name], own, settings) for name, own in aligned.items()}
    held_out = {name: own for name, side in sides.items() if (own := held_out_of(side, settings)) is not None}
    unit = "slice" if settings.by == "slice" else f"{settings.by} ({Aggregation(settings.how).value})"
    # Rules of units, and tables of scores, have taken the threshold that was asked for already.
    threshold = settings.threshold if settings.by == "slice" else None
    scoreless = [name for name, own in aligned.items() if own.uncalibrated]
    if scoreless:
        threshold = None
    comparison = compare_predictions(
        answers,
        part=PART,
        unit=unit,
        notes=list(gathered.notes),
        held_out=held_out,
        threshold=threshold,
        prevalence=settings.prevalence,
        resampling=settings.resampling,
        progress=progress,
    )
    comparison = beside(
        comparison,
        answers,
        _columns(gathered.attributes, next(iter(aligned.values())), settings.by),
        prevalence=settings.prevalence,
        threshold=threshold,
        resampling=settings.resampling,
        progress=progress,
    )
    two = {name: own for name, own in aligned.items() if own.positive is not None}
    origins = ", ".join(side.facts["origin"] for side in sides.values())
    return Judgement(
        folder=run.path,
        data=Path(data).absolute().name if data else origins,
        comparison=_without_probabilities(comparison, scoreless),
        answers=answers,
        models={name: side.facts for name, side in sides.items()},
        shift=_shifts(sides, settings, progress),
        recalibration={name: recalibration_offer(own, settings.resampling) for name, own in two.items()},
        labels=gathered.labels,
        failures=gathered.failures,
    )


def _prepare(run: RunDirectory) -> None:
    """Refuse a folder that holds anything but an earlier judgement."""
    if run.path.exists() and not run.path.is_dir():
        raise BadSettings(f"{run} is a file; give a folder")
    if not run.path.exists() or not any(run.path.iterdir()):
        return
    steps = run.read_record().get("steps", {}) if run.record_path.exists() else {}
    if run.split_path.exists() or run.store_path.exists() or not steps.keys() & {"index", STAGE}:
        raise BadSettings(f"{run} holds something else already; give a new folder for what is found")


def _scores(text: str, settings: JudgingSettings, tables_only: bool) -> ScoresTable:
    wanted = parse_keep(settings.keep) if settings.keep and tables_only else ()
    keep = [(one.name, one.headings) for one in wanted]
    if not Path(text).is_file():
        raise BadSettings(f"{text} is not there; give a CSV file of scores, or the folder of a trained model")
    return read_scores(Path(text), positive=settings.positive, threshold=settings.threshold, keep=keep)


def _labelled(
    rows: Sequence[ManifestRow], classes: Sequence[str], positive: str | None
) -> tuple[list[ManifestRow], dict[str, str], list[Failure]]:
    """The rows with a label, in the words of the model; what each label was taken for; and the others."""
    meaning = in_words_of(classes, {row.label for row in rows if row.label}, positive)
    if not meaning:
        raise BadDataset(
            "no slice has a label, so nothing can be judged; haemo predict scores slices as they are"
        )
    unlabelled = [Failure(str(row.path), STAGE, "has no label: not judged") for row in rows if not row.label]
    for label, one in meaning.items():
        if label != one:
            log.info("the label %r is taken for %s", label, one)
    return [replace(row, label=meaning[row.label]) for row in rows if row.label], meaning, unlabelled


def _attributes(run: RunDirectory, rows: Sequence[ManifestRow]) -> dict[str, dict[str, str]]:
    """What is kept of the slices; where labels are types of bleed, these too."""
    kept = Attributes.read(run.attributes_path)
    found = {row.slice_id: dict(kept.of_slice.get(row.slice_id, {})) if kept else {} for row in rows}
    if any(names_bleed_type(row.label) for row in rows):
        for row in rows:
            found[row.slice_id].setdefault(OF_BLEEDS[0], row.label if names_bleed_type(row.label) else "")
    return found


def _columns(
    attributes: Mapping[str, Mapping[str, str]], slices: Predictions, by: str
) -> dict[str, np.ndarray]:
    names = tuple(dict.fromkeys(name for values in attributes.values() for name in values))
    columns = Attributes(names, attributes).columns(slices.slice_id.tolist())
    if by == "slice" or not names:
        return columns
    units, _, unit = units_of(slices, by)
    return attributes_of_units(columns, unit, len(units))


def _without_probabilities(comparison: Comparison, names: Sequence[str]) -> Comparison:
    """Leave out figures of probabilities of models that only gave scores: nothing is put in their place."""
    if not names or comparison.unit != "slice":
        return comparison
    models = dict(comparison.models)
    for name in names:
        own = {key: value for key, value in models[name].items() if key not in _OF_PROBABILITIES}
        reason = dict.fromkeys(_OF_PROBABILITIES, _SCORES_ONLY)
        models[name] = {**own, "undefined": {**own["undefined"], **reason}}
    pairs = tuple(
        {
            **pair,
            "differences": {
                key: value
                for key, value in pair["differences"].items()
                if key not in _OF_PROBABILITIES or not {pair["first"], pair["second"]} & set(names)
            },
        }
        for pair in comparison.pairs
    )
    absent = {point: {"why_not": _SCORES_ONLY} for point in POINTS}
    points = {
        name: {OWN: own[OWN], **absent} if name in names else own for name, own in comparison.points.items()
    }
    return replace(comparison, models=models, pairs=pairs, points=points)


def _shifts(
    sides: Mapping[str, Side], settings: JudgingSettings, progress: Progress
) -> dict[str, dict[str, Any]]:
    shifts = {}
    for name, side in progress(sides.items(), total=len(sides), label="shift"):
        held_out = side.held_out if isinstance(side.held_out, Predictions) else None
        # Of a table of scores nothing is known but these.
        answered = side.answered or Answered(side.answers, [], None, None, None)
        shifts[name] = shift_from_training(answered, held_out, settings.resampling)
    return shifts


def _free_name(name: str, taken: Mapping[str, Any]) -> str:
    path = Path(name)
    # One predictions.csv is called as another; its folder is the model's.
    name = path.resolve().parent.name if path.stem == "predictions" else path.stem
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _write(
    run: RunDirectory, judgement: Judgement, answers: Mapping[str, Predictions], seconds: float
) -> None:
    for name, own in answers.items():
        folder = run.model_path(name)
        folder.mkdir(exist_ok=True)
        own.write(folder / "predictions.csv")
    run.replace_failures(STAGE, list(judgement.failures))
    for name, value in (("judgement", judgement.as_dict()), ("recalibration", dict(judgement.recalibration))):
        write_text(run.path / f"{name}.json", json.dumps(value, indent=1, allow_nan=False) + "\n")
    first = next(iter(judgement.comparison.models.values()))
    run.record(
        STAGE,
        data=judgement.data,
        models=dict(judgement.models),
        slices=first["slices"],
        patients=first["patients"],
        failed=len(judgement.failures),
        seconds=round(seconds, 3),
    )
