"""What a head says of slices that it was not fitted on, in folds that are drawn again and again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from haemo.features.neighbours import neighbours_of_rows, smoothed
from haemo.models.heads.blending import blended_out_of_fold
from haemo.models.heads.calibration import cross_calibrated, cross_thresholds
from haemo.models.heads.spec import HeadSpec
from haemo.models.heads.thresholds import parse_threshold
from haemo.models.search.cells import usable_cores
from haemo.models.search.newton_svm import standardised_kernel
from haemo.piecework import done, has_workers
from haemo.pipeline.evaluation.inflation import Cohort
from haemo.pipeline.evaluation.refits import Features, fit_splits
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.dealing import draw_folds
from haemo.progress import Progress

__all__ = ["blended_answers", "fold_of_each", "held_out_answers", "spec_of"]


def fold_of_each(cohort: Cohort, folds: int, repeats: int, seed: int) -> np.ndarray:
    """Fold of each row in each repeat, shape (n, repeats)."""
    ordered = sorted(cohort.rows, key=lambda row: row.slice_id)
    columns = []
    for repeat in range(repeats):
        fold = draw_folds(ordered, cohort.classes, folds, seed + repeat)
        columns.append([fold[row.patient] for row in cohort.rows])
    return np.array(columns).T


def spec_of(settings: Mapping[str, Any]) -> HeadSpec:
    """The head that settings.json is of."""
    facts = {field.name: settings[field.name] for field in fields(HeadSpec) if field.name in settings}
    return HeadSpec(**facts | {"name": settings["head"]})


def held_out_answers(
    cohort: Cohort,
    features: Features,
    settings: Mapping[str, Any],
    held_out: np.ndarray,
    progress: Progress,
) -> list[Predictions]:
    """One head's out-of-fold answers in each repeat.

    Parameters
    ----------
    cohort : Cohort
    features : Features
        Of the slices; copies of them may come after.
    settings : mapping
        What settings.json of the head holds.
    held_out : ndarray of shape (n, repeats), int
        From `fold_of_each`.
    progress : Progress
    """
    spec = spec_of(settings)
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
    if settings.get("smooth"):
        # Folds are of whole patients: neighbours were scored by the same fit.
        scores = smoothed(scores, neighbours_of_rows(cohort.rows))
    return [
        _predicted(cohort, truth, scores[:, repeat, 0] if two else scores[:, repeat], fold, settings)
        for repeat, fold in enumerate(held_out.T)
    ]


def blended_answers(
    cohort: Cohort,
    members: Sequence[Sequence[Predictions]],
    methods: Sequence[str],
    settings: Mapping[str, Any],
    held_out: np.ndarray,
) -> list[Predictions]:
    """A blend's out-of-fold answers in each repeat, with weights from the other folds of the repeat.

    Parameters
    ----------
    cohort : Cohort
    members : sequence of sequence of Predictions
        Of each member those of each repeat, from `held_out_answers`.
    methods : sequence of str
        How each member is calibrated.
    settings : mapping
        What settings.json of the blend holds.
    held_out : ndarray of shape (n, repeats), int
    """
    truth = np.array([cohort.classes.index(row.label) for row in cohort.rows])
    found = []
    for repeat, fold in enumerate(held_out.T):
        scores = np.column_stack([own[repeat].scores for own in members])
        blended = blended_out_of_fold(scores, truth, fold, methods, settings["weights"])
        found.append(_predicted(cohort, truth, blended, fold, settings))
    return found


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

    copies = len(table) // len(truth)
    fitting = _Fitting(spec, parameters, table, np.tile(truth, copies), np.tile(patient, copies))
    held = [held_out[:, repeat] == fold for repeat, fold in plan]
    # One thread inside each fit: fits fill the cores, and sums are added up in the same order always.
    if has_workers():
        yield from done(_fit, fitting, [(own,) for own in held], threads=1)
        return
    with threadpool_limits(1):
        yield from Parallel(
            n_jobs=min(usable_cores(None), len(plan)),
            prefer="threads",
            pre_dispatch="n_jobs",
            return_as="generator",
        )(delayed(_fit)(fitting, own) for own in held)


@dataclass(frozen=True, eq=False)
class _Fitting:
    """What all fits of one head have in common; the table, classes and patients with all copies."""

    spec: HeadSpec
    parameters: Mapping[str, float | int]
    table: np.ndarray
    truth: np.ndarray
    patient: np.ndarray


def _fit(fitting: _Fitting, own: np.ndarray) -> np.ndarray:
    """Scores of the slices `own`, fitted on all others and their copies."""
    spec, table = fitting.spec, fitting.table
    turned = spec == HeadSpec("softmax", class_weight=spec.class_weight, seed=spec.seed)
    head, rows = spec.build(**fitting.parameters), table
    training = np.tile(~own, len(table) // len(own))
    if turned and len(table) < table.shape[1]:
        head, rows = head[-1], _rotated(table, training)
    # As in training: it stops on patients that it does not learn from.
    groups = {"head__groups": fitting.patient[training]} if spec.name == "mlp" else {}
    head.fit(rows[training], fitting.truth[training], **groups)
    return head.decision_function(rows[: len(own)][own])


def _rotated(features: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Standardised features, turned into the span of the training rows.

    A linear classifier with an L2 penalty has its weights in that span, and lengths and angles are as they
    were: it fits the same scores on some hundred columns in place of thousands.
    """
    kernel = standardised_kernel(features, training, 0.0)
    values, vectors = np.linalg.eigh(kernel[np.ix_(training, training)])
    kept = values > 1e-9 * values[-1]
    return kernel[:, training] @ (vectors[:, kept] / np.sqrt(values[kept]))
