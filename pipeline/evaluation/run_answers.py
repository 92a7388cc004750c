"""What the models of a run answered: predictions of one part, what was held out, attributes of the rows."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from haemo.errors import BadDataset, MissingStep
from haemo.models.heads.thresholds import parse_threshold
from haemo.pipeline.evaluation.aggregation import Aggregation, aggregate, units_of
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.subgroups import attributes_of_units
from haemo.pipeline.evaluation.unit_rule import told_by_count, unit_rule
from haemo.pipeline.evaluation.units import Answers
from haemo.pipeline.run.attributes import Attributes
from haemo.pipeline.run.directory import RunDirectory, read_json, train_command
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.splitting.splitfile import is_of_split

__all__ = ["answers_of", "attributes_of", "chose_threshold_on_all", "count_note", "decided", "held_out_of"]

log = logging.getLogger("haemo")


def answers_of(
    run: RunDirectory, part: str, split: Split | None
) -> tuple[dict[str, Predictions], dict[str, Predictions], list[str]]:
    """What the models of a run said, each file read once.

    Returns
    -------
    answers : dict of str to Predictions
        Of one part by model, ours first.
    held_out : dict of str to Predictions
        Of the same models what was held out of training, part ``cv``; it may have no rows.
    strangers : list of str
        A note on each model that is of another split.
    """
    names = run.models()
    if not names:
        raise MissingStep(f"{run} has no trained model; train one first: haemo svm --run {run}")
    answers: dict[str, Predictions] = {}
    held_out: dict[str, Predictions] = {}
    strangers: list[str] = []
    for name in names:
        if split and not is_of_split(run.settings(name), split):
            strangers.append(
                f"{name} was trained on another split and is left out; train it again: "
                f"{train_command(run.model_path(name))}"
            )
            log.warning(strangers[-1])
            continue
        everything = run.predictions(name)
        chosen = everything.of_part(part)
        _refuse_cut(run, name, part, len(chosen))
        if len(chosen):
            answers[name] = chosen
            held_out[name] = chosen if part == "cv" else everything.of_part("cv")
        else:
            log.warning("%s has no predictions of part %s; it is left out", name, part)
    if not answers:
        raise MissingStep("; ".join(strangers) or f"no model of {run} has predictions of part {part!r}")
    return answers, held_out, strangers


def _refuse_cut(run: RunDirectory, name: str, part: str, found: int) -> None:
    """Insist on as many rows as the model's metrics.json counted; a cut file would be judged on fewer."""
    path = run.model_path(name) / "metrics.json"
    known = read_json(path).get(part, {}) if path.exists() else {}
    if known.get("slices", found) != found:
        raise BadDataset(
            f"{run.model_path(name) / 'predictions.csv'} has {found} of {known['slices']} rows of part "
            f"{part}; train it again: {train_command(run.model_path(name))}"
        )


def held_out_of(
    run: RunDirectory, name: str, slices: Predictions, by: str, how: Aggregation | str
) -> Answers:
    """What a model says of the slices held out of training; of units by the rule that judges those tested."""
    if by == "slice" or not len(slices):
        return slices
    rule = unit_rule(run, name, by, how, slices)
    return rule.judge(slices) if rule else aggregate(slices, by, how)


def chose_threshold_on_all(settings: Mapping[str, Any]) -> bool:
    """Whether a head of before judges slices out of fold at a threshold that they had a say in."""
    rule = settings.get("threshold_rule", "0.5")
    return parse_threshold(rule).name != "fixed" and "fold_thresholds" not in settings


def count_note(slices: Predictions, by: str, resampling: Resampling | None) -> list[str]:
    """How well the number of slices alone tells units apart, as a note: a shortcut beside their figures."""
    found = told_by_count(slices, by, resampling)
    if found is None or "roc_auc" not in found:
        return []
    interval = found["intervals"].get("roc_auc")
    ends = f" ({interval['low']:.3f}-{interval['high']:.3f})" if interval else ""
    return [f"the number of slices of a {by} alone has a ROC AUC of {found['roc_auc']:.3f}{ends}"]


def attributes_of(run: RunDirectory, slices: Predictions, by: str) -> dict[str, np.ndarray]:
    """What is known of the slices, or of the units that they make, by name."""
    known = Attributes.read(run.attributes_path)
    if known is None:
        return {}
    columns = known.columns(slices.slice_id.tolist())
    if by == "slice":
        return columns
    units, _, unit = units_of(slices, by)
    return attributes_of_units(columns, unit, len(units))


def decided(answers: Predictions, threshold: float) -> Predictions:
    """The answers with classes by another threshold on the probability, of two classes."""
    called = (answers.probabilities >= threshold).astype(int)
    return replace(answers, predicted=np.array(answers.classes)[called])
