"""Models side by side on the same slices: their figures, and what can be said of the differences."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from haemo.atomic import write_text
from haemo.errors import BadDataset, BadSettings
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.baseline import always_the_same, shortfalls
from haemo.pipeline.evaluation.clinical import clinical_figures
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
from haemo.pipeline.evaluation.run_answers import (
    answers_of,
    attributes_of,
    chose_threshold_on_all,
    count_note,
    decided,
    held_out_of,
)
from haemo.pipeline.evaluation.set_tallies import tally_of
from haemo.pipeline.evaluation.subgroups import by_subgroup
from haemo.pipeline.evaluation.unit_rule import judged_units
from haemo.pipeline.evaluation.units import Answers
from haemo.pipeline.run.directory import RunDirectory, train_command
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.protocols import FACTS
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.splitting.splitfile import load_split
from haemo.progress import Progress, silent

__all__ = ["Comparison", "align", "beside", "compare", "compare_predictions"]

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
    clinical : mapping of str to dict
        Model name to what `pipeline.evaluation.clinical.clinical_figures` gives; empty where it was not asked
        for.
    subgroups : dict
        What `pipeline.evaluation.subgroups.by_subgroup` gives; empty where nothing is known of the slices.
    """

    part: str
    unit: str
    leaky: bool
    models: Mapping[str, dict[str, Any]]
    pairs: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    points: Mapping[str, dict[str, dict[str, Any]]]
    clinical: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    subgroups: dict[str, Any] = field(default_factory=dict)

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
            **({"clinical": dict(self.clinical)} if self.clinical else {}),
            **({"subgroups": self.subgroups} if self.subgroups else {}),
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
    clinical: bool = False,
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
    clinical : bool
        Also give `Comparison.clinical`, where there are two classes.
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
    answers, held_out, strangers = answers_of(run, part, split)
    aligned, notes = align(answers)
    notes += strangers
    joined: Mapping[str, Answers] = aligned
    unit = "copy" if split and split.unit == "copy" else "slice"
    if by != "slice":
        unit = f"{by} ({Aggregation(how).value})"
        joined = {
            name: judged_units(run, name, p, by, how, threshold, held_out[name])
            for name, p in aligned.items()
        }
        threshold = None
        notes += count_note(next(iter(aligned.values())), by, resampling)
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
        if part == "cv" and chose_threshold_on_all(run.settings(name))
    ]
    comparison = compare_predictions(
        joined,
        part=part,
        held_out={
            name: held_out_of(run, name, held_out[name], by, how) for name in aligned if part == "test"
        },
        chosen_on=chosen_on,
        unit=unit,
        leaky=leaky,
        notes=notes,
        threshold=threshold,
        prevalence=prevalence,
        resampling=resampling,
        progress=progress,
    )
    comparison = beside(
        comparison,
        joined,
        attributes_of(run, next(iter(aligned.values())), by),
        clinical=clinical,
        prevalence=prevalence,
        threshold=threshold,
        resampling=resampling,
        progress=progress,
    )
    comparison.write(run.path / "compare.json")
    return comparison


def beside(
    comparison: Comparison,
    answers: Mapping[str, Answers],
    attributes: Mapping[str, np.ndarray],
    *,
    clinical: bool = True,
    prevalence: float | None = None,
    threshold: float | None = None,
    resampling: Resampling | None = None,
    progress: Progress = silent,
) -> Comparison:
    """A comparison with figures of use and by subgroup beside it, where there are two classes.

    Parameters
    ----------
    comparison : Comparison
    answers : mapping of str to Predictions
        What was compared.
    attributes : mapping of str to ndarray of shape (n,), str
        Of the rows of the answers, by name; without any there are no subgroups.
    clinical : bool
        Whether `Comparison.clinical` is wanted.
    prevalence, threshold, resampling, progress
        As for `compare_predictions`.
    """
    two = {name: own for name, own in answers.items() if isinstance(own, Predictions) and own.positive}
    if not two:
        reason = "figures by subgroup are for two classes"
        return replace(comparison, notes=(*comparison.notes, reason)) if attributes else comparison
    in_use: dict[str, dict[str, Any]] = {}
    if clinical:
        for name, own in progress(two.items(), total=len(two), label="figures of use"):
            in_use[name] = clinical_figures(own, prevalence, threshold, resampling)
    groups: dict[str, Any] = {}
    if attributes:
        if threshold is not None:
            two = {name: decided(own, threshold) for name, own in two.items()}
        groups = by_subgroup(two, attributes, resampling, progress)
    return replace(comparison, clinical=in_use, subgroups=groups)


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
    held_out: Mapping[str, Answers | Mapping[str, float]] = MappingProxyType({}),
    chosen_on: Sequence[str] = (),
    threshold: float | None = None,
    prevalence: float | None = None,
    resampling: Resampling | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compare aligned answers (see `align`) by slice or unit, from wherever they come; nothing is written.

    Thresholds of other operating points are chosen on what was `held_out` of training, rows like those that
    are judged, or stand there by point (`pipeline.evaluation.operating`). Models that these slices have
    chosen (`chosen_on`) are tested against none, and nothing is said of them.
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
