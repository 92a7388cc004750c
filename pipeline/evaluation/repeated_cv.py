"""Repeated cross-validation over whole patients, for data sets too small for one test set to tell much."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from features.atomic import write_text
from features.store import FeatureStore
from models.cells import usable_cores
from models.errors import BadSettings, MissingStep
from models.heads import HeadSpec
from models.newton_svm import standardised_kernel
from models.progress import Progress, silent
from pipeline.dealing import draw_folds
from pipeline.evaluation.inflation import Cohort, figures_of_draws, load_cohort, summarise
from pipeline.evaluation.intervals import Resampling
from pipeline.evaluation.refits import Features, answers, fit_splits, store_rows
from pipeline.predictions import Predictions
from pipeline.run import HEADS, RunDirectory
from pipeline.splits import classes_of

__all__ = ["RepeatedCV", "parse_plan", "repeat_cv"]


@dataclass(frozen=True)
class RepeatedCV:
    """What repeated cross-validation gives.

    Attributes
    ----------
    folds, repeats : int
    patients, slices : int
    models : mapping of str to dict
        Head to its figures (metric -> ``mean``, ``low``, ``high`` or ``no_interval``).
    pairs : tuple of dict
        ``first``, ``second``, ``differences`` (as figures) and ``sentence``.
    """

    folds: int
    repeats: int
    patients: int
    slices: int
    models: Mapping[str, dict[str, Any]]
    pairs: tuple[dict[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "schema": 1,
            "folds": self.folds,
            "repeats": self.repeats,
            "patients": self.patients,
            "slices": self.slices,
            "models": dict(self.models),
            "pairs": list(self.pairs),
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
    out-of-fold score. Figures are means over repeats; their intervals are by bootstrap over patients, the
    same resample for all repeats and heads. Heads keep the settings that the run chose for them, which the
    training patients of the run's split have had a say in.

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
        If no head has been trained.
    TooFewData
        If a class has too few patients for two folds.
    """
    resampling = resampling or Resampling()
    names = [name for name in HEADS if (run.model_path(name) / "settings.json").exists()]
    if not names:
        raise MissingStep(f"{run} has no trained head; train one first: haemo svm --run {run}")
    manifest = run.manifest()
    classes = classes_of(run, manifest)
    with FeatureStore(run.store_path) as store:
        cohort = load_cohort(manifest, classes, store)
        features = store_rows(store, cohort.slice_ids)
    held_out = _folds(cohort, folds, repeats, resampling.seed)
    patients = np.unique([row.patient for row in cohort.rows])
    values = {}
    for name in names:
        found = _out_of_fold(cohort, features, run.model_path(name), held_out, progress)
        values[name] = figures_of_draws(found, patients, resampling, progress)
    models = {
        name: {metric: summarise(*own, resampling.level) for metric, own in figures.items()}
        for name, figures in values.items()
    }
    pairs = tuple(
        _pair(first, second, values, len(patients), resampling.level)
        for first, second in combinations(names, 2)
    )
    result = RepeatedCV(int(held_out.max()) + 1, repeats, len(patients), len(cohort.rows), models, pairs)
    write_text(run.path / "compare_cv.json", json.dumps(result.as_dict(), indent=1, allow_nan=False) + "\n")
    return result


def _folds(cohort: Cohort, folds: int, repeats: int, seed: int) -> np.ndarray:
    """Fold of each row in each repeat, shape (n, repeats)."""
    ordered = sorted(cohort.rows, key=lambda row: row.slice_id)
    columns = []
    for repeat in range(repeats):
        fold = draw_folds(ordered, cohort.classes, folds, seed + repeat)
        columns.append([fold[row.patient] for row in cohort.rows])
    return np.array(columns).T


def _out_of_fold(
    cohort: Cohort, features: Features, folder: Path, held_out: np.ndarray, progress: Progress
) -> list[Predictions]:
    """One head's out-of-fold answers in each repeat."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    facts = {field.name: settings[field.name] for field in fields(HeadSpec) if field.name in settings}
    spec = HeadSpec(**facts | {"name": settings["head"]})
    plain = not (spec.normalise or spec.pca or spec.nystroem)
    classes = cohort.classes
    truth = np.array([classes.index(row.label) for row in cohort.rows])
    patient = np.array([row.patient for row in cohort.rows])
    plan = [(repeat, fold) for repeat in range(held_out.shape[1]) for fold in range(held_out.max() + 1)]
    two = len(classes) == 2
    scores = np.zeros((len(truth), held_out.shape[1], 1 if two else len(classes)))
    if plain and spec.name == "svm" and spec.kernel is None and spec.class_weight == "balanced":
        training = np.stack([held_out[:, repeat] != fold for repeat, fold in plan], axis=1)
        found = fit_splits(features, truth, training, settings["parameters"]["C"], len(classes), progress)
        for column, (repeat, fold) in enumerate(plan):
            own = held_out[:, repeat] == fold
            scores[own, repeat] = found[own, column].reshape(own.sum(), -1)
    else:
        table = (
            features
            if isinstance(features, np.ndarray)
            else np.concatenate([b for _, b in features.blocks()])
        )
        fits = _fits(spec, settings["parameters"], table, truth, patient, held_out, plan)
        for (repeat, fold), found in zip(
            plan, progress(fits, total=len(plan), label=f"fits of {spec.name}"), strict=True
        ):
            own = held_out[:, repeat] == fold
            scores[own, repeat] = found.reshape(own.sum(), -1)
    ids = np.array(cohort.slice_ids)
    return [
        answers(ids, patient, truth, scores[:, repeat, 0] if two else scores[:, repeat], classes)
        for repeat in range(held_out.shape[1])
    ]


def _fits(
    spec: HeadSpec,
    parameters: Mapping[str, float | int],
    table: np.ndarray,
    truth: np.ndarray,
    patient: np.ndarray,
    held_out: np.ndarray,
    plan: Sequence[tuple[int, int]],
) -> Iterator[np.ndarray]:
    """Scores of the rows that each repeat and fold of the plan holds out, in the order of the plan."""
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    turned = spec == HeadSpec("softmax", class_weight=spec.class_weight, seed=spec.seed)

    def fit(own: np.ndarray) -> np.ndarray:
        head, rows = spec.build(**parameters), table
        if turned and len(table) < table.shape[1]:
            head, rows = head[-1], _rotated(table, ~own)
        # As in training: it stops on patients that it does not learn from.
        groups = {"head__groups": patient[~own]} if spec.name == "mlp" else {}
        head.fit(rows[~own], truth[~own], **groups)
        return head.decision_function(rows[own])

    # One thread inside each fit: fits fill the cores, and sums are added up in the same order always.
    with threadpool_limits(1):
        yield from Parallel(
            n_jobs=min(usable_cores(None), len(plan)),
            prefer="threads",
            pre_dispatch="n_jobs",
            return_as="generator",
        )(delayed(fit)(held_out[:, repeat] == fold) for repeat, fold in plan)


def _rotated(features: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Standardised features, turned into the span of the training rows.

    A linear classifier with an L2 penalty has its weights in that span, and lengths and angles are as they
    were: it fits the same scores on some hundred columns in place of thousands.
    """
    kernel = standardised_kernel(features, training, 0.0)
    values, vectors = np.linalg.eigh(kernel[np.ix_(training, training)])
    kept = values > 1e-9 * values[-1]
    return kernel[:, training] @ (vectors[:, kept] / np.sqrt(values[kept]))


def _pair(
    first: str,
    second: str,
    values: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    patients: int,
    level: float,
) -> dict[str, Any]:
    differences = {
        metric: summarise(*(a - b for a, b in zip(own, values[second][metric], strict=True)), level)
        for metric, own in values[first].items()
    }
    entry = differences["roc_auc"]
    if "low" not in entry:
        sentence = f"{first} and {second} cannot be compared on these {patients} patients."
    else:
        ends = f"{entry['low']:+.3f} to {entry['high']:+.3f}"
        interval = f"ROC AUC differs by {entry['mean']:+.3f}, {level:.0%} interval {ends}"
        if entry["low"] <= 0 <= entry["high"]:
            sentence = f"{first} and {second} cannot be told apart on these {patients} patients: {interval}."
        else:
            better, worse = (first, second) if entry["mean"] > 0 else (second, first)
            sentence = f"{better} ranks slices better than {worse} on these {patients} patients: {interval}."
    return {"first": first, "second": second, "differences": differences, "sentence": sentence}
