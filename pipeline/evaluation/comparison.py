"""Models side by side on the same slices: their figures, and what can be said of the differences."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from haemo.atomic import write_text
from haemo.errors import BadDataset, BadSettings, MissingStep
from haemo.models.heads.thresholds import parse_threshold
from haemo.pipeline.evaluation.aggregation import Aggregation, aggregate
from haemo.pipeline.evaluation.baseline import always_the_same, shortfalls
from haemo.pipeline.evaluation.intervals import (
    LeftOut,
    Resampling,
    assess,
    fewest_of_a_class,
    figures_left_out,
)
from haemo.pipeline.evaluation.jackknife import LEAST_PATIENTS
from haemo.pipeline.evaluation.operating import operating_points
from haemo.pipeline.evaluation.pairs import correct, pair_of_models, sentence
from haemo.pipeline.evaluation.set_tallies import tally_of
from haemo.pipeline.evaluation.unit_rule import judged_units, told_by_count, unit_rule
from haemo.pipeline.evaluation.units import Answers
from haemo.pipeline.run.directory import RunDirectory, read_json, train_command
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.protocols import FACTS
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.splitting.splitfile import is_of_split, load_split
from haemo.progress import Progress, silent

__all__ = ["Comparison", "align", "compare", "compare_predictions"]

log = logging.getLogger("haemo")

_CHOSE = "was settled by these slices"
_PLURAL = {"slice": "slices", "copy": "slices and rotated copies", "study": "studies", "patient": "patients"}


@dataclass(frozen=True)
class Comparison:
    """Figures of several models on the same slices, and tests of every pair.

    Attributes
    ----------
    part : str
        ``test`` or ``cv``.
    unit : str
        What is counted: ``slice``, ``copy`` (a slice or a rotated copy of it), ``study (max)``, ``patient
        (noisy-or)`` ...
    leaky : bool
        Whether a patient stands on both sides of the run's split.
    models : mapping of str to dict
        Model name to what `pipeline.evaluation.intervals.assess` gives.
    pairs : tuple of dict
        One for every two models: ``first``, ``second``, ``agreement``, ``differences`` (metric ->
        ``difference``, ``low``, ``high``, ``rough`` as in `assess`), ``only_first_right``,
        ``only_second_right``, ``tests`` (test -> ``p``, and ``p_holm`` for the two that keep patients
        whole), ``untested`` (test -> reason), ``sentence``.
    notes : tuple of str
        What a reader has to know beside the figures.
    points : mapping of str to dict
        Model name to what `pipeline.evaluation.operating.operating_points` gives; empty where there are more
        than two classes.
    """

    part: str
    unit: str
    leaky: bool
    models: Mapping[str, dict[str, Any]]
    pairs: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    points: Mapping[str, dict[str, dict[str, Any]]]

    @property
    def baseline(self) -> dict[str, Any]:
        """Figures of always saying normal, from `pipeline.evaluation.baseline.always_the_same`."""
        return always_the_same(next(iter(self.models.values())))

    @property
    def shortfalls(self) -> dict[str, list[str]]:
        """What speaks against each model as it decides, in sentences; models without any are left out."""
        found = {name: shortfalls(own, self.things) for name, own in self.models.items()}
        return {name: sentences for name, sentences in found.items() if sentences}

    @property
    def things(self) -> str:
        """What is counted, in the plural: slices, slices and rotated copies, studies or patients."""
        return _PLURAL[self.unit.split(" ")[0]]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "schema": 1,
            "part": self.part,
            "unit": self.unit,
            "leaky": self.leaky,
            "notes": list(self.notes),
            "models": dict(self.models),
            "baseline": self.baseline,
            "shortfalls": self.shortfalls,
            "operating_points": dict(self.points),
            "pairs": list(self.pairs),
        }

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_text(path, json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n")


def compare(
    run: RunDirectory,
    *,
    part: str = "test",
    by: str = "slice",
    how: Aggregation | str = Aggregation.MAX,
    threshold: float | None = None,
    prevalence: float | None = None,
    resampling: Resampling | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compare every trained model of a run, and keep the result as compare.json.

    Parameters
    ----------
    run : RunDirectory
    part : {'test', 'cv'}
        Which predictions: of the test slices, or out of fold on the training slices.
    by : {'slice', 'study', 'patient'}
    how : Aggregation
        How slices are joined where `by` is not ``slice``.
    threshold, prevalence : float, optional
        As for `pipeline.evaluation.metrics.evaluate`.
    resampling : Resampling, optional
    progress : Progress

    Raises
    ------
    MissingStep
        If no model of the run has been trained.
    BadDataset
        If two models disagree about the label or patient of a slice, or share no slices; or the split was
        made for another manifest.
    BadSettings
        If an option is not one of its values.

    Notes
    -----
    Models that were trained on another split than the run has now are left out, with a note: their training
    patients may be test patients of the others.
    """
    if part not in ("test", "cv"):
        raise BadSettings(f"part is {part!r}; predictions have the parts 'test' and 'cv'")
    if by not in ("slice", "study", "patient"):
        raise BadSettings(f"figures are by 'slice', 'study' or 'patient', not by {by!r}")
    split = None
    if run.split_path.exists():
        split = load_split(run, run.manifest()) if run.manifest_path.exists() else Split.read(run.split_path)
    answers, strangers = _answers(run, part, split)
    aligned, notes = align(answers)
    notes += strangers
    joined: Mapping[str, Answers] = aligned
    unit = "copy" if split and split.unit == "copy" else "slice"
    if by != "slice":
        unit = f"{by} ({Aggregation(how).value})"
        joined = {name: judged_units(run, name, p, by, how, threshold) for name, p in aligned.items()}
        threshold = None
        notes += _told_by_count(next(iter(aligned.values())), by, resampling)
    leaky = split is not None and split.leaky
    if leaky:
        facts = FACTS[split.protocol]
        protocol = f" protocol {split.protocol.value} ({facts.meaning})" if facts.leaky else ""
        notes.append(f"LEAKY{protocol}: patients stand on both sides of the split; every figure is too good")
    chosen_on = [name for name in aligned if part == "cv" and run.chose_on_part_cv(name)]
    notes += [f"{name} {_CHOSE}: its figures here are too good" for name in chosen_on]
    notes += [
        f"{name} chose its threshold on these slices: what depends on it is too good here; train it again: "
        f"{train_command(run.model_path(name))}"
        for name in aligned
        if part == "cv" and _chose_threshold_on_all(run.settings(name))
    ]
    comparison = compare_predictions(
        joined,
        part=part,
        held_out={name: _held_out(run, name, by, how) for name in aligned if part == "test"},
        chosen_on=chosen_on,
        unit=unit,
        leaky=leaky,
        notes=notes,
        threshold=threshold,
        prevalence=prevalence,
        resampling=resampling,
        progress=progress,
    )
    comparison.write(run.path / "compare.json")
    return comparison


def _chose_threshold_on_all(settings: Mapping[str, Any]) -> bool:
    """Whether a head of before judges slices out of fold at a threshold that they had a say in."""
    rule = settings.get("threshold_rule", "0.5")
    return parse_threshold(rule).name != "fixed" and "fold_thresholds" not in settings


def _held_out(run: RunDirectory, name: str, by: str, how: Aggregation | str) -> Answers:
    """What a model says of what was held out of training; of units by the rule that judges those tested."""
    slices = run.predictions(name).of_part("cv")
    if by == "slice" or not len(slices):
        return slices
    rule = unit_rule(run, name, by, how)
    return rule.judge(slices) if rule else aggregate(slices, by, how)


def _told_by_count(slices: Predictions, by: str, resampling: Resampling | None) -> list[str]:
    """How well the number of slices alone tells units apart, as a note: a shortcut beside their figures."""
    found = told_by_count(slices, by, resampling)
    if found is None or "roc_auc" not in found:
        return []
    interval = found["intervals"].get("roc_auc")
    ends = f" ({interval['low']:.3f}-{interval['high']:.3f})" if interval else ""
    return [f"the number of slices of a {by} alone has a ROC AUC of {found['roc_auc']:.3f}{ends}"]


def _answers(run: RunDirectory, part: str, split: Split | None) -> tuple[dict[str, Predictions], list[str]]:
    """Predictions of one part by model, ours first, and a note on each model that is of another split."""
    names = run.models()
    if not names:
        raise MissingStep(f"{run} has no trained model; train one first: haemo svm --run {run}")
    answers: dict[str, Predictions] = {}
    strangers: list[str] = []
    for name in names:
        if split and not is_of_split(run.settings(name), split):
            strangers.append(
                f"{name} was trained on another split and is left out; train it again: "
                f"{train_command(run.model_path(name))}"
            )
            log.warning(strangers[-1])
            continue
        chosen = run.predictions(name).of_part(part)
        _refuse_cut(run, name, part, len(chosen))
        if len(chosen):
            answers[name] = chosen
        else:
            log.warning("%s has no predictions of part %s; it is left out", name, part)
    if not answers:
        raise MissingStep("; ".join(strangers) or f"no model of {run} has predictions of part {part!r}")
    return answers, strangers


def _refuse_cut(run: RunDirectory, name: str, part: str, found: int) -> None:
    """Insist on as many rows as the model's metrics.json counted; a cut file would be judged on fewer."""
    path = run.model_path(name) / "metrics.json"
    known = read_json(path).get(part, {}) if path.exists() else {}
    if known.get("slices", found) != found:
        raise BadDataset(
            f"{run.model_path(name) / 'predictions.csv'} has {found} of {known['slices']} rows of part "
            f"{part}; train it again: {train_command(run.model_path(name))}"
        )


def align(answers: Mapping[str, Predictions]) -> tuple[dict[str, Predictions], list[str]]:
    """The rows that all models have, in one order, and notes on what had to be left out.

    Raises
    ------
    BadDataset
        If two models disagree about classes, or the label or patient of a slice, or share no slices.
    """
    (first_name, first), *others = answers.items()
    shared = set(first.slice_id)
    for _, other in others:
        shared &= set(other.slice_id)
    if not shared:
        raise BadDataset(f"the models {', '.join(answers)} have no slice in common")
    notes = []
    aligned = {}
    for name, predictions in answers.items():
        if predictions.classes != first.classes:
            raise BadDataset(
                f"{name} has the classes {', '.join(predictions.classes)}, {first_name} has "
                f"{', '.join(first.classes)}; train both on one manifest"
            )
        rows = np.array([slice_id in shared for slice_id in predictions.slice_id])
        if not rows.all():
            notes.append(f"{int((~rows).sum())} slices that only {name} and not every model has are left out")
        chosen = predictions.select(rows)
        aligned[name] = chosen.select(np.argsort(chosen.slice_id, kind="stable"))
        for column in ("slice_id", "label", "patient"):
            same = getattr(aligned[name], column) == getattr(aligned[first_name], column)
            if not np.all(same):
                where = aligned[name].slice_id[np.argmin(same)]
                raise BadDataset(
                    f"{name} and {first_name} disagree about the {column} of slice {where}; "
                    "train both on one manifest"
                )
    return aligned, notes


def compare_predictions(
    answers: Mapping[str, Answers],
    *,
    part: str = "test",
    unit: str = "slice",
    leaky: bool = False,
    notes: list[str] | None = None,
    held_out: Mapping[str, Answers] = MappingProxyType({}),
    chosen_on: Sequence[str] = (),
    threshold: float | None = None,
    prevalence: float | None = None,
    resampling: Resampling | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compare aligned answers (see `align`) by slice or unit, from wherever they come; nothing is written.

    Thresholds of other operating points are chosen on what was `held_out` of training, rows like those that
    are judged. Models that these slices have chosen (`chosen_on`) are tested against none, and nothing is
    said of them.
    """
    resampling = resampling or Resampling()
    notes = list(notes or [])
    left_out: dict[str, LeftOut] = {}
    tallies = {name: tally_of(own, threshold) for name, own in answers.items()}
    models = {}
    for name, predictions in progress(answers.items(), total=len(answers), label="models"):
        left_out[name] = figures_left_out(tallies[name], resampling.groups(len(tallies[name].patients)))
        models[name] = assess(predictions, threshold, prevalence, resampling, left_out[name])
    any_model, any_tally = next(iter(answers.values())), next(iter(tallies.values()))
    if np.array_equal(np.sort(any_model.patient), np.unique(any_model.patient)) and unit == "slice":
        notes.append(
            "each slice is its own patient: if slices of one person are among them, intervals are too narrow"
        )
    if any_tally.meaning:
        notes.append(any_tally.meaning)
    fewest = fewest_of_a_class([any_tally], any_tally.patients)
    if fewest < LEAST_PATIENTS:
        count = {0: "no patients", 1: "one patient only"}.get(fewest, f"{fewest} patients only")
        notes.append(
            f"a class has {count}, and no method holds with fewer than {LEAST_PATIENTS}: intervals (~) "
            "and the p-value of ROC AUC are rough, rather too sure"
        )
    pairs = [
        pair_of_models(first, second, answers, tallies, models, left_out, resampling)
        for first, second in combinations(answers, 2)
    ]
    for pair in pairs:
        for name in {pair["first"], pair["second"]} & set(chosen_on):
            pair["untested"] |= dict.fromkeys(pair["tests"], f"{name} {_CHOSE}")
            pair["tests"] = {}
    correct(pairs)
    if fewest < LEAST_PATIENTS:
        for entry in (one for pair in pairs for one in pair["differences"].values() if "low" in one):
            entry["rough"] = True
    patients = len(any_tally.patients)
    things = _PLURAL[unit.split(" ")[0]]
    for pair in pairs:
        pair["sentence"] = sentence(pair, patients, things, resampling.level)
    points = {}
    if any_model.positive is not None:
        points = {
            name: operating_points(own, held_out.get(name), threshold, resampling)
            for name, own in answers.items()
        }
    return Comparison(part, unit, leaky, models, tuple(pairs), tuple(notes), points)
