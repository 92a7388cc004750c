"""Repeated cross-validation over whole patients, for data sets too small for one test set to tell much."""

import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from haemo.atomic import write_text
from haemo.errors import BadSettings, MissingStep
from haemo.features.manifest import Manifest
from haemo.pipeline.evaluation.baseline import beside_means
from haemo.pipeline.evaluation.drawn_figures import DrawnFigure, figures_of_draws
from haemo.pipeline.evaluation.held_out import blended_answers, fold_of_each, held_out_answers, spec_of
from haemo.pipeline.evaluation.inflation import Cohort, load_cohort
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.metrics import evaluate
from haemo.pipeline.evaluation.refits import store_rows
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.splitting.protocols import FACTS
from haemo.pipeline.splitting.split import Protocol, classes_of
from haemo.progress import Progress, silent

__all__ = ["RepeatedCV", "parse_plan", "repeat_cv"]

log = logging.getLogger("haemo")

_FIGURES = (
    "roc_auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "mcc",
    "mse",
)


@dataclass(frozen=True)
class RepeatedCV:
    """What repeated cross-validation gives.

    Attributes
    ----------
    folds, repeats : int
    patients, slices : int
    resampling : Resampling
        Where the intervals come from.
    models : mapping of str to dict
        Head to its figures (metric -> ``mean``, ``low``, ``high`` or ``no_interval``).
    rotated : tuple of str
        The heads that learned from rotated copies too.
    pairs : tuple of dict
        ``first``, ``second``, ``differences`` (as figures), ``corrected`` and ``sentence``. ``corrected``
        is the difference in ROC AUC with an interval at ``level``, so that those of all pairs together hold
        as often as one interval of the level asked for (Bonferroni).
    baseline : dict
        Always saying normal: ``name``, and metric -> ``mean`` where it can be computed.
    shortfalls : mapping of str to list of str
        What speaks against a head as it decides, in sentences; heads without any are left out.
    """

    folds: int
    repeats: int
    patients: int
    slices: int
    resampling: Resampling
    models: Mapping[str, dict[str, Any]]
    rotated: tuple[str, ...]
    pairs: tuple[dict[str, Any], ...]
    baseline: dict[str, Any]
    shortfalls: Mapping[str, list[str]]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "schema": 1,
            "folds": self.folds,
            "repeats": self.repeats,
            "patients": self.patients,
            "slices": self.slices,
            "resampling": self.resampling.as_dict(),
            "models": dict(self.models),
            "rotated": list(self.rotated),
            "pairs": list(self.pairs),
            "baseline": self.baseline,
            "shortfalls": dict(self.shortfalls),
        }


def parse_plan(text: str) -> tuple[int, int]:
    """Read folds and repeats as they are typed: ``5x10``.

    Raises
    ------
    BadSettings
        If it is not two whole numbers of at least 2 and 1.
    """
    folds, _, repeats = text.lower().partition("x")
    if not (folds.isdigit() and repeats.isdigit() and int(folds) >= 2 and int(repeats) >= 1):
        raise BadSettings(f"{text!r} is not folds x repeats, such as 5x10")
    return int(folds), int(repeats)


def repeat_cv(
    run: RunDirectory,
    folds: int,
    repeats: int,
    *,
    resampling: Resampling | None = None,
    progress: Progress = silent,
) -> RepeatedCV:
    """Cross-validate every trained head again and again on all labelled slices, and keep compare_cv.json.

    Each repeat draws its own folds of whole patients, the same for all heads, and gives every slice one
    out-of-fold score. Its probability is fitted, and its threshold chosen, on the out-of-fold scores of the
    other folds of the same repeat, by the calibration and the rule of the run.
    Figures are means over repeats; their intervals come from patients left out, the same for all repeats and
    heads, and allow for the patients that were learned from (`DrawnFigure.estimate`). Heads keep the
    settings that the run chose for them, which the training patients of the run's split have had a say in. A
    head that was trained on rotated copies learns from those of the training slices here too; slices that
    are held out are taken as they are.

    One head is said to be better than another only where the interval of their difference, corrected for
    the number of pairs, leaves out 0.

    Parameters
    ----------
    run : RunDirectory
        With features and trained heads.
    folds, repeats : int
    resampling : Resampling, optional
        Its seed also draws the folds.
    progress : Progress

    Raises
    ------
    MissingStep
        If no head has been trained, or one was trained on rotated copies that the store lacks.
    TooFewData
        If a class has too few patients for two folds.
    """
    resampling = resampling or Resampling()
    blends = {name: own for name in run.heads() if "blend" in (own := run.settings(name))}
    names = [name for name in run.heads() if name not in blends]
    if not names:
        raise MissingStep(f"{run} has no trained head; train one first: haemo svm --run {run}")
    manifest = run.manifest()
    classes = classes_of(run, manifest)
    trained = {name: _settings(run.model_path(name)) for name in names}
    for settings in trained.values():
        if settings.get("estimator"):
            run.refuse_untrusted(settings["estimator"])
    rotated = tuple(name for name in names if _learns_from_copies(trained[name]))
    with ExitStack() as opened:
        cohorts = _cohorts(run, manifest, classes, trained, opened)
        for name in rotated:
            table = cohorts[name].store
            if len(cohorts[name].copies) == 1:
                raise MissingStep(
                    f"{name} was trained on rotated copies, and {table.where} does not have them of every "
                    f"slice; run: {table.command} --rotations paper"
                )
        if rotated:
            log.info("learning from rotated copies too, as in the run: %s", ", ".join(rotated))
        cohort = cohorts[names[0]]
        held_out = fold_of_each(cohort, folds, repeats, resampling.seed)
        patients = np.unique([row.patient for row in cohort.rows])
        answers = {}
        for name, own in cohorts.items():
            copies = own.copies if name in rotated else (0,)
            features = store_rows(own.store, own.slice_ids, copies)
            answers[name] = held_out_answers(own, features, trained[name], held_out, progress)
    for name, settings in blends.items():
        members = settings["blend"]
        if not set(members) <= answers.keys():
            log.warning("%s is left out: of its heads not all are there any more", name)
            continue
        methods = [spec_of(trained[one]).calibration(trained[one]["calibration"]) for one in members]
        said = [answers[one] for one in members]
        answers[name] = blended_answers(cohort, said, methods, settings, held_out)
    values = {
        name: figures_of_draws(found, patients, resampling, _FIGURES, progress)
        for name, found in answers.items()
    }
    models = {
        name: {metric: own.summary(resampling.level) for metric, own in figures.items()}
        for name, figures in values.items()
    }
    pairs = _pairs(values, len(patients), resampling.level)
    baseline, spoken = beside_means(evaluate(answers[names[0]][0]), models)
    result = RepeatedCV(
        folds=int(held_out.max()) + 1,
        repeats=repeats,
        patients=len(patients),
        slices=len(cohort.rows),
        resampling=resampling,
        models=models,
        rotated=rotated,
        pairs=pairs,
        baseline=baseline,
        shortfalls=spoken,
    )
    write_text(run.path / "compare_cv.json", json.dumps(result.as_dict(), indent=1, allow_nan=False) + "\n")
    return result


def _cohorts(
    run: RunDirectory,
    manifest: Manifest,
    classes: tuple[str, ...],
    trained: Mapping[str, Mapping[str, Any]],
    opened: ExitStack,
) -> dict[str, Cohort]:
    """For each head the slices on its own features: those that the features of all heads have."""
    cohorts = {
        name: load_cohort(
            manifest,
            classes,
            opened.enter_context(
                open_features(run, settings.get("features", ()), settings.get("context", 0))
            ),
        )
        for name, settings in trained.items()
    }
    shared = set.intersection(*({row.slice_id for row in own.rows} for own in cohorts.values()))
    left_out = max(len(own.rows) for own in cohorts.values()) - len(shared)
    if left_out:
        log.warning("%d slices that some of the heads have no features of are left out", left_out)
    return {
        name: replace(own, rows=tuple(row for row in own.rows if row.slice_id in shared))
        for name, own in cohorts.items()
    }


def _settings(folder: Path) -> dict[str, Any]:
    """What settings.json of a trained head holds."""
    return json.loads((folder / "settings.json").read_text(encoding="utf-8"))


def _learns_from_copies(settings: Mapping[str, Any]) -> bool:
    """Whether a head was trained on rotated copies too: by its own option or the protocol of its split."""
    dealt = FACTS[Protocol(settings.get("protocol", Protocol.PATIENT))].unit == "copy"
    return bool(settings.get("rotations")) or dealt


def _pairs(
    values: Mapping[str, Mapping[str, DrawnFigure]], patients: int, level: float
) -> tuple[dict[str, Any], ...]:
    """Every two heads, with a claim only where it holds for all pairs at once (Bonferroni)."""
    chosen = list(combinations(values, 2))
    return tuple(_pair(first, second, values, patients, level, len(chosen)) for first, second in chosen)


def _pair(
    first: str,
    second: str,
    values: Mapping[str, Mapping[str, DrawnFigure]],
    patients: int,
    level: float,
    pairs: int,
) -> dict[str, Any]:
    """The difference of two heads, and what may be said of them where so many pairs are looked at."""
    strict = 1 - (1 - level) / pairs
    differences = {metric: own.less(values[second][metric], level) for metric, own in values[first].items()}
    corrected = values[first]["roc_auc"].less(values[second]["roc_auc"], strict)
    entry = differences["roc_auc"]
    where = f"on these {patients} patients"
    if "low" not in entry:
        sentence = f"{first} and {second} cannot be compared {where}."
    else:
        kind = "rough " if entry.get("rough") else ""
        interval = f"ROC AUC differs by {entry['mean']:+.3f}, {kind}{level:.0%} interval {_ends(entry)}"
        if not _leaves_out_0(corrected):
            why = " once corrected for the number of pairs" if _leaves_out_0(entry) else ""
            sentence = f"{first} and {second} cannot be told apart {where}{why}: {interval}."
        else:
            better, worse = (first, second) if entry["mean"] > 0 else (second, first)
            if pairs > 1:
                interval += f", corrected for {pairs} pairs {_ends(corrected)}"
            sentence = f"{better} ranks slices better than {worse} {where}: {interval}."
    return {
        "first": first,
        "second": second,
        "differences": differences,
        "corrected": {"level": strict, **corrected},
        "sentence": sentence,
    }


def _leaves_out_0(entry: Mapping[str, float]) -> bool:
    return entry["low"] > 0 or entry["high"] < 0


def _ends(entry: Mapping[str, float]) -> str:
    return f"{entry['low']:+.3f} to {entry['high']:+.3f}"
