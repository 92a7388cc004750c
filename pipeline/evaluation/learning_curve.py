"""How the score grows with the number of training patients, and what that promises for more of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from haemo.atomic import write_text
from haemo.errors import BadSettings, TooFewData
from haemo.pipeline.evaluation.drawn_figures import DrawnFigure, figures_of_draws
from haemo.pipeline.evaluation.inflation import Cohort, choose_head, load_cohort
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.jackknife import LEAST_PATIENTS
from haemo.pipeline.evaluation.power_law import PowerLaw, fit_power_law
from haemo.pipeline.evaluation.refits import answers, fit_splits, store_rows
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.splitting.protocols import draw_training, load_or_make_split
from haemo.pipeline.splitting.split import Protocol, classes_of
from haemo.pipeline.splitting.splitfile import made_for
from haemo.progress import Progress, silent

__all__ = ["LearningCurve", "measure_learning_curve"]

_FIGURES = ("accuracy", "balanced_accuracy", "roc_auc")


@dataclass(frozen=True)
class LearningCurve:
    """Scores at several numbers of training patients.

    Attributes
    ----------
    points : tuple of dict
        ``patients``, ``slices`` (mean over repeats), and for accuracy, balanced accuracy and ROC AUC
        ``mean``, ``low`` and ``high`` or ``no_interval`` (reason), from patients left out in turn.
    repeats : int
    resampling : Resampling
        Where the intervals come from.
    c : float
        C of the linear SVM.
    fits : dict of str to PowerLaw
        For accuracy and balanced accuracy and ROC AUC, each as a percentage.
    """

    points: tuple[dict[str, Any], ...]
    repeats: int
    resampling: Resampling
    c: float
    fits: dict[str, PowerLaw]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "schema": 1,
            "head": {"name": "svm", "C": self.c},
            "repeats": self.repeats,
            "level": self.resampling.level,
            "resampling": self.resampling.as_dict(),
            "points": list(self.points),
            "fits": {name: fit.as_dict() for name, fit in self.fits.items()},
        }


def measure_learning_curve(
    run: RunDirectory,
    *,
    repeats: int = 20,
    sizes: Sequence[int] | None = None,
    wanted: float = 0.95,
    seed: int = 0,
    level: float = 0.95,
    progress: Progress = silent,
) -> LearningCurve:
    """Measure it with a linear SVM on cached features, and keep the result as learning_curve.json.

    Each repeat draws its own 70 / 30 split by patient and its own order of the training patients; smaller
    training sets are the beginnings of that order, so they are nested, and all are tested on the same
    patients.

    Parameters
    ----------
    run : RunDirectory
    repeats : int
        At least 3.
    sizes : sequence of int, optional
        Numbers of training patients; by default up to eight, evenly spaced on a logarithmic scale.
    wanted : float in 0..1
        Score for which the number of patients is predicted.
    seed : int
    level : float
    progress : Progress

    Raises
    ------
    BadSettings
        If a setting is out of range.
    TooFewData
        If there are too few training patients for three sizes.
    MissingStep
        If the run has no manifest or no features.
    """
    if repeats < 3:
        raise BadSettings(f"{repeats} repeats are too few for an interval; take 3 or more")
    if not 0 < wanted < 1:
        raise BadSettings(f"the wanted score is {wanted}; it must lie between 0 and 1")
    manifest = run.manifest()
    classes = classes_of(run, manifest)
    split = load_or_make_split(run, manifest)
    with open_features(run) as store:
        cohort = load_cohort(manifest, classes, store)
        c = choose_head(cohort, split)
        features = store_rows(store, cohort.slice_ids)
    training, tested, counts = _nested(cohort, repeats, sizes, seed)
    truth = np.array([classes.index(row.label) for row in cohort.rows])
    flat = training.reshape(len(truth), -1)
    scores = fit_splits(features, truth, flat, c, len(classes), progress)
    ids = np.array(cohort.slice_ids)
    patients = np.array([row.patient for row in cohort.rows])
    resampling = Resampling(seed=seed, level=level)
    points, drawn = [], []
    for place, count in enumerate(counts):
        found = [
            answers(ids[own], patients[own], truth[own], scores[own, repeat * len(counts) + place], classes)
            for repeat, own in enumerate(tested.T)
        ]
        drawn.append(figures_of_draws(found, np.unique(patients), resampling, _FIGURES, progress))
        points.append(
            {
                "patients": int(count),
                "slices": float(training[:, :, place].sum(axis=0).mean()),
                **{name: own.summary(level) for name, own in drawn[-1].items()},
            }
        )
    fits = {
        name: _fit(np.array(counts), [own[name] for own in drawn], wanted, seed, level) for name in _FIGURES
    }
    curve = LearningCurve(tuple(points), repeats, resampling, c, fits)
    content = {**curve.as_dict(), "made_for": made_for(run)}
    write_text(run.path / "learning_curve.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    run.record("learning-curve", repeats=repeats, seed=seed, c=c)
    return curve


def _fit(
    counts: np.ndarray, points: Sequence[DrawnFigure], wanted: float, seed: int, level: float
) -> PowerLaw:
    """The power law through the means of one figure, which move with the patients that are left out.

    Raises
    ------
    TooFewData
        If a figure is undefined without one of the patients.
    """
    moves = []
    for point in points:
        if isinstance(point.estimate, str):
            raise TooFewData(f"{point.name}: {point.estimate}")
        moves.append(100 * point.estimate.moves.ravel())
    percent = np.array([100 * point.draws.mean() for point in points])
    fit = fit_power_law(counts, percent, np.array(moves), 100 * wanted, seed, level)
    if not points[0].rough:
        return fit
    few = f"a class has fewer than {LEAST_PATIENTS} patients: the interval is rough, rather too narrow"
    return replace(fit, warnings=(*fit.warnings, few))


def _nested(
    cohort: Cohort, repeats: int, sizes: Sequence[int] | None, seed: int
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Training rows (n, repeats, sizes), test rows (n, repeats) and numbers of training patients."""
    rows, classes = cohort.rows, cohort.classes
    patient = np.array([row.patient for row in rows])
    orders, tested = [], []
    for repeat in range(repeats):
        trains = draw_training(rows, classes, Protocol.PATIENT, seed + repeat)
        tested.append(~trains)
        orders.append(_order(cohort, np.unique(patient[trains]), seed + repeat))
    most = min(len(order) for order, _ in orders)
    least = max(first for _, first in orders)
    if sizes is None:
        steps = np.geomspace(least, most, 8) if most > least else [most]
        counts = sorted({round(float(step)) for step in steps})
    else:
        counts = sorted(set(sizes))
        if counts and not least <= counts[0] <= counts[-1] <= most:
            raise BadSettings(
                f"training patients must be {least} to {most}; {counts[0]} to {counts[-1]} are asked for"
            )
    if len(counts) < 3:
        raise TooFewData(
            f"a learning curve needs three numbers of training patients; there are {least} to {most}"
        )
    training = np.stack(
        [np.stack([np.isin(patient, order[:count]) for count in counts], axis=1) for order, _ in orders],
        axis=1,
    )
    return training, np.stack(tested, axis=1), counts


def _order(cohort: Cohort, patients: np.ndarray, seed: int) -> tuple[np.ndarray, int]:
    """A random order of patients, and how many of its first ones are needed to have every class.

    Patients with the last class (the positive one of two) are spread evenly among the others, so that small
    training sets have about the share of the whole.
    """
    rng = np.random.default_rng([seed, 2])
    labels: dict[str, set[str]] = {name: set() for name in patients}
    for row in cohort.rows:
        if row.patient in labels:
            labels[row.patient].add(row.label)
    stratum = np.array([max(cohort.classes.index(label) for label in labels[name]) for name in patients])
    key = np.empty(len(patients))
    for value in np.unique(stratum):
        own = np.flatnonzero(stratum == value)
        key[rng.permutation(own)] = (np.arange(len(own)) + rng.random()) / len(own)
    order = patients[np.argsort(key, kind="stable")]
    seen: set[str] = set()
    for first, name in enumerate(order, start=1):
        seen |= labels[name]
        if len(seen) == len(cohort.classes):
            return order, max(first, 2)
    raise TooFewData("the training patients do not have every class")
