"""Repeated cross-validation over whole patients, for data sets too small for one test set to tell much."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from haemo.atomic import write_text
from haemo.errors import BadSettings, MissingStep
from haemo.features.store.store import FeatureStore
from haemo.models.heads.calibration import cross_calibrated, cross_thresholds
from haemo.models.heads.spec import HeadSpec
from haemo.models.heads.thresholds import parse_threshold
from haemo.models.search.cells import usable_cores
from haemo.models.search.newton_svm import standardised_kernel
from haemo.pipeline.evaluation.baseline import beside_means
from haemo.pipeline.evaluation.drawn_figures import DrawnFigure, figures_of_draws
from haemo.pipeline.evaluation.inflation import Cohort, load_cohort
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.metrics import evaluate
from haemo.pipeline.evaluation.refits import Features, fit_splits, store_rows
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.dealing import draw_folds
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
    names = run.heads()
    if not names:
        raise MissingStep(f"{run} has no trained head; train one first: haemo svm --run {run}")
    manifest = run.manifest()
    classes = classes_of(run, manifest)
    trained = {name: _settings(run.model_path(name)) for name in names}
    for settings in trained.values():
        if settings.get("estimator"):
            run.refuse_untrusted(settings["estimator"])
    rotated = tuple(name for name in names if _learns_from_copies(trained[name]))
    with FeatureStore(run.store_path) as store:
        cohort = load_cohort(manifest, classes, store)
        if rotated and len(cohort.copies) == 1:
            raise MissingStep(
                f"{rotated[0]} was trained on rotated copies, and {store.path} does not have them of every "
                f"slice; run: haemo features --run {run} --rotations paper"
            )
        if rotated:
            log.info("learning from rotated copies too, as in the run: %s", ", ".join(rotated))
        held_out = _folds(cohort, folds, repeats, resampling.seed)
        patients = np.unique([row.patient for row in cohort.rows])
        values = {}
        for name in names:
            copies = cohort.copies if name in rotated else (0,)
            features = store_rows(store, cohort.slice_ids, copies)
            found = _out_of_fold(cohort, features, trained[name], held_out, progress)
            values[name] = figures_of_draws(found, patients, resampling, _FIGURES, progress)
    models = {
        name: {metric: own.summary(resampling.level) for metric, own in figures.items()}
        for name, figures in values.items()
    }
    pairs = _pairs(values, len(patients), resampling.level)
    baseline, spoken = beside_means(evaluate(found[0]), models)
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


def _settings(folder: Path) -> dict[str, Any]:
    """What settings.json of a trained head holds."""
    return json.loads((folder / "settings.json").read_text(encoding="utf-8"))


def _learns_from_copies(settings: Mapping[str, Any]) -> bool:
    """Whether a head was trained on rotated copies too: by its own option or the protocol of its split."""
    dealt = FACTS[Protocol(settings.get("protocol", Protocol.PATIENT))].unit == "copy"
    return bool(settings.get("rotations")) or dealt


def _folds(cohort: Cohort, folds: int, repeats: int, seed: int) -> np.ndarray:
    """Fold of each row in each repeat, shape (n, repeats)."""
    ordered = sorted(cohort.rows, key=lambda row: row.slice_id)
    columns = []
    for repeat in range(repeats):
        fold = draw_folds(ordered, cohort.classes, folds, seed + repeat)
        columns.append([fold[row.patient] for row in cohort.rows])
    return np.array(columns).T


def _out_of_fold(
    cohort: Cohort,
    features: Features,
    settings: Mapping[str, Any],
    held_out: np.ndarray,
    progress: Progress,
) -> list[Predictions]:
    """One head's out-of-fold answers in each repeat; features may have copies of the slices after them."""
    facts = {field.name: settings[field.name] for field in fields(HeadSpec) if field.name in settings}
    spec = HeadSpec(**facts | {"name": settings["head"]})
    plain = not (spec.normalise or spec.pca or spec.nystroem)
    classes, slices = cohort.classes, len(cohort.rows)
    copies = features.shape[0] // slices
    truth = np.array([classes.index(row.label) for row in cohort.rows])
    patient = np.array([row.patient for row in cohort.rows])
    plan = [(repeat, fold) for repeat in range(held_out.shape[1]) for fold in range(held_out.max() + 1)]
    two = len(classes) == 2
    scores = np.zeros((slices, held_out.shape[1], 1 if two else len(classes)))
    if plain and spec.name == "svm" and spec.kernel is None and spec.class_weight == "balanced":
        training = np.stack([held_out[:, repeat] != fold for repeat, fold in plan], axis=1)
        found = fit_splits(
            features,
            np.tile(truth, copies),
            np.tile(training, (copies, 1)),
            settings["parameters"]["C"],
            len(classes),
            progress,
        )
        for column, (repeat, fold) in enumerate(plan):
            own = np.flatnonzero(held_out[:, repeat] == fold)
            scores[own, repeat] = found[own, column].reshape(len(own), -1)
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
    settings = {**settings, "calibration": spec.calibration(settings["calibration"])}
    return [
        _predicted(cohort, truth, scores[:, repeat, 0] if two else scores[:, repeat], fold, settings)
        for repeat, fold in enumerate(held_out.T)
    ]


def _predicted(
    cohort: Cohort, truth: np.ndarray, scores: np.ndarray, fold: np.ndarray, settings: Mapping[str, Any]
) -> Predictions:
    """Out-of-fold scores of one repeat with probabilities and classes, as training a head gives them."""
    names = np.array(cohort.classes)
    chances = cross_calibrated(scores, truth, fold, settings["calibration"])
    if len(names) == 2:
        rule = parse_threshold(settings["threshold_rule"])
        thresholds = cross_thresholds(scores, truth, fold, settings["calibration"], rule)
        chosen = (chances[:, 1] >= thresholds).astype(int)
    else:
        chosen = chances.argmax(axis=1)
    return Predictions.of_rows(
        cohort.rows,
        part=np.full(len(truth), "cv"),
        fold=fold,
        scores=scores,
        probabilities=chances[:, 1] if len(names) == 2 else chances,
        predicted=names[chosen],
        classes=cohort.classes,
    )


def _fits(
    spec: HeadSpec,
    parameters: Mapping[str, float | int],
    table: np.ndarray,
    truth: np.ndarray,
    patient: np.ndarray,
    held_out: np.ndarray,
    plan: Sequence[tuple[int, int]],
) -> Iterator[np.ndarray]:
    """Scores of the slices that each repeat and fold of the plan holds out, in the order of the plan.

    The table has the slices first and, where there are copies, all slices again copy by copy: those are
    learned from, never scored.
    """
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_limits

    turned = spec == HeadSpec("softmax", class_weight=spec.class_weight, seed=spec.seed)
    copies = len(table) // len(truth)
    each_truth, each_patient = np.tile(truth, copies), np.tile(patient, copies)

    def fit(own: np.ndarray) -> np.ndarray:
        head, rows, training = spec.build(**parameters), table, np.tile(~own, copies)
        if turned and len(table) < table.shape[1]:
            head, rows = head[-1], _rotated(table, training)
        # As in training: it stops on patients that it does not learn from.
        groups = {"head__groups": each_patient[training]} if spec.name == "mlp" else {}
        head.fit(rows[training], each_truth[training], **groups)
        return head.decision_function(rows[: len(own)][own])

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
