"""How sure a figure is: intervals from patients left out in turn, and Wilson's for plain proportions.

Slices of one patient resemble one another, so the patient is what is left out. An interval that cannot be
had is absent, with the reason, like an undefined figure; one of too few patients is marked as rough.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.errors import BadSettings
from haemo.pipeline.evaluation.jackknife import AT_ONCE, LEAST_PATIENTS, METHOD, SAME, Estimate, Groups
from haemo.pipeline.evaluation.metrics import at_prevalence, evaluate, evaluate_decisions
from haemo.pipeline.evaluation.set_tallies import AnyTally, tally_of
from haemo.pipeline.evaluation.tallies import Tally
from haemo.pipeline.evaluation.units import Answers
from haemo.pipeline.run.predictions import Predictions
from haemo.progress import Progress, silent

__all__ = [
    "BY_CHANCE",
    "LeftOut",
    "Resampling",
    "assess",
    "assess_decisions",
    "bounds_of",
    "few_of_a_class",
    "fewest_of_a_class",
    "figures_left_out",
    "wilson",
]

LeftOut = tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]

BY_CHANCE = "calibration_error_by_chance"
"""Where results hold the calibration error that a model whose probabilities are right has on average."""

_PROPORTIONS = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
_RANKED = ("roc_auc", "average_precision")
_BLOCK_ELEMENTS = 2_000_000  # of one block of weights: 16 MB


@dataclass(frozen=True)
class Resampling:
    """How patients are left out for intervals, or drawn again for bands of curves.

    Attributes
    ----------
    resamples : int
        How often patients are left out at most: one at a time up to so many, in so many groups if there are
        more. For bands the number of bootstrap samples.
    seed : int
        Deals the groups and draws the samples.
    level : float in 0..1, exclusive
        Coverage that the intervals aim at.

    Raises
    ------
    BadSettings
        If there are fewer than 100 resamples or the level is not between 0 and 1.
    """

    resamples: int = 2000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise BadSettings(f"{self.resamples} resamples are too few for an interval; take 100 or more")
        if not 0 < self.level < 1:
            raise BadSettings(f"the level of an interval is {self.level}; it must lie between 0 and 1")

    def as_dict(self) -> dict[str, Any]:
        """As files hold it, with the name of the method that intervals come from."""
        return {"method": METHOD, "resamples": self.resamples, "seed": self.seed, "level": self.level}

    def groups(self, patients: int) -> Groups:
        """The groups that so many patients are left out in; the same for all models."""
        return Groups.deal(patients, self.resamples, self.seed)

    def weights(self, patients: int) -> Iterator[np.ndarray]:
        """How often each patient is in a bootstrap sample: blocks of shape (some samples, patients), float64.

        The same patients and seed give the same weights, so models are compared on the same draws.
        """
        rng = np.random.default_rng(self.seed)
        block = max(1, _BLOCK_ELEMENTS // patients)
        for first in range(0, self.resamples, block):
            rows = min(block, self.resamples - first)
            drawn = rng.integers(patients, size=(rows, patients))
            drawn += np.arange(rows)[:, None] * patients
            counts = np.bincount(drawn.ravel(), minlength=rows * patients)
            yield counts.reshape(rows, patients).astype(float)


def figures_left_out(tally: AnyTally, groups: Groups, progress: Progress = silent) -> LeftOut:
    """Every figure without each group of patients.

    Returns
    -------
    figures : dict of str to ndarray of shape (n_groups,)
        NaN where the figure is undefined without a group.
    per_class : dict of str to the same
        Figures of each class against all others.
    """
    # From some size on all groups at once: the same areas, and average precision up to rounding.
    at_once = len(groups.sizes) * len(tally.patient) > AT_ONCE
    blocks = [
        tally.all_figures(weights, ranked=not at_once)
        for weights in progress(groups.weights(), label="patients left out")
    ]
    overall = {name: np.concatenate([block[0][name] for block in blocks]) for name in blocks[0][0]}
    per_class = {
        one: {name: np.concatenate([block[1][one][name] for block in blocks]) for name in figures}
        for one, figures in blocks[0][1].items()
    }
    if at_once:
        for one, ranked in tally.ranked_without(groups).items():
            per_class[one] |= dict(zip(_RANKED, ranked, strict=True))
        for name in _RANKED:
            overall[name] = np.mean([per_class[one][name] for one in tally.averaged], axis=0)
    return overall, per_class


def fewest_of_a_class(tallies: Sequence[AnyTally], patients: np.ndarray) -> int:
    """How many of some sorted patients have slices of a class in any of the tallies; of the rarest class."""
    counts = []
    for name in tallies[0].classes:
        having = np.zeros(len(patients), dtype=bool)
        for tally in tallies:
            having[np.searchsorted(patients, tally.patients)] |= tally.class_tables(name)[:, 1].any(axis=1)
        counts.append(int(having.sum()))
    return min(counts)


def few_of_a_class(predictions: Predictions) -> bool:
    """Whether a class has slices of too few patients for intervals that hold what they say."""
    patients = [len(np.unique(predictions.patient[predictions.label == one])) for one in predictions.classes]
    return min(patients) < LEAST_PATIENTS


def bounds_of(metric: str, classes: int) -> tuple[float, float]:
    """What a figure can be at least and at most, infinite where it is judged as it is.

    Parameters
    ----------
    metric : str
        One of `pipeline.evaluation.tallies.METRICS`.
    classes : int
    """
    special = {
        "mcc": (-1.0, 1.0),
        "brier": (0.0, 1.0 if classes == 2 else float(classes)),
        "log_loss": (0.0, np.inf),
    }
    return special.get(metric, (0.0, 1.0))


def wilson(successes: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (J. Am. Stat. Assoc. 22, 1927).

    Parameters
    ----------
    successes, trials : float
        `trials` above 0; `successes` in 0..trials, not necessarily whole.
    level : float
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # At 0 and 1 an end is that number exactly; rounding must not push it past the figure.
    return float(min(max(centre - half, 0.0), share)), float(max(min(centre + half, 1.0), share))


def assess(
    predictions: Answers,
    threshold: float | None = None,
    prevalence: float | None = None,
    resampling: Resampling | None = None,
    left_out: LeftOut | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """What `pipeline.evaluation.metrics.evaluate` gives, and an interval for every figure.

    Parameters
    ----------
    predictions, threshold, prevalence
        As for `evaluate`.
    resampling : Resampling, optional
    left_out : tuple, optional
        What `figures_left_out` gave for the same arguments, where it is at hand.
    progress : Progress

    Returns
    -------
    dict
        Of `evaluate`, with ``resampling`` (method, resamples, seed, level) and, there and in each class,
        ``intervals`` (metric -> ``low``, ``high``, ``method``) and ``no_interval`` (metric -> reason).
        The method is ``jackknife`` (see `pipeline.evaluation.jackknife`), ``wilson`` (each patient has one
        slice) or ``wilson, patients`` (nobody left out changes it, as with no errors at all: Wilson's
        interval with the number of patients as the number of trials, which is on the safe side).
        ``rough`` is True in an interval by jackknife where a class has fewer than `LEAST_PATIENTS`
        patients: it may hold less often than it says.
        Chance makes a calibration error of its own, which the figure keeps. `BY_CHANCE` is what a model
        whose probabilities are right would have, and the interval (``chance``) is the figure give or take
        what chance exceeds in 1 - level of cases: it holds 0 where the model may be right.
    """
    resampling = resampling or Resampling()
    result = evaluate(predictions, threshold, prevalence)
    tally = tally_of(predictions, threshold)
    groups = resampling.groups(len(tally.patients))
    overall, per_class = left_out or figures_left_out(tally, groups, progress)
    result["resampling"] = resampling.as_dict()
    reference = result["classes"][1] if result["positive"] is not None else None
    told = isinstance(tally, Tally) and "calibration_error" in result
    chance = tally.calibration_errors_by_chance() if told else np.empty(0)
    if len(chance):
        result[BY_CHANCE] = float(chance.mean())
    found = _Intervals(tally, groups.sizes, resampling.level, chance)
    found.add(result, overall, reference)
    for name, figures in per_class.items():
        found.add(result["per_class"][name], figures, name)
    if prevalence is not None:
        there = [
            at_prevalence({"sensitivity": a, "specificity": b}, prevalence)
            for a, b in zip(overall["sensitivity"], overall["specificity"], strict=True)
        ]
        values = {
            name: np.array([entry.get(name, np.nan) for entry in there], dtype=float)
            for name in ("ppv", "npv")
            if name in result["at_prevalence"]
        }
        found.add(result["at_prevalence"], values, None)
    return result


def assess_decisions(
    predictions: Predictions, threshold: float | None = None, resampling: Resampling | None = None
) -> dict[str, Any]:
    """What `assess` gives of two classes that follows from what is predicted alone, at a part of its price.

    Returns
    -------
    dict
        Accuracy, sensitivity, specificity, PPV, NPV, F1, MCC and threat score, where they are defined;
        ``undefined``, ``intervals`` and ``no_interval``.
    """
    resampling = resampling or Resampling()
    tally = Tally(predictions, threshold)
    groups, positive = resampling.groups(len(tally.patients)), tally.classes[1]
    result = evaluate_decisions(tally)
    blocks = [tally.decided_figures(positive, weights) for weights in groups.weights()]
    left_out = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    _Intervals(tally, groups.sizes, resampling.level, np.empty(0)).add(result, left_out, positive)
    return result


@dataclass(frozen=True)
class _Intervals:
    """Puts intervals beside figures of one model.

    Attributes
    ----------
    tally : AnyTally
    sizes : ndarray of shape (n_groups,), int
        Of the groups left out.
    level : float
    chance : ndarray, float64
        Of `Tally.calibration_errors_by_chance`; empty where there is no calibration error.
    """

    tally: AnyTally
    sizes: np.ndarray
    level: float
    chance: np.ndarray

    def add(self, entry: dict[str, Any], left_out: dict[str, np.ndarray], one: str | None) -> None:
        """Put ``intervals`` and ``no_interval`` into `entry`.

        `one` is the class its proportions speak of; None leaves accuracy over all classes.
        """
        entry["intervals"], entry["no_interval"] = {}, {}
        rough = fewest_of_a_class([self.tally], self.tally.patients) < LEAST_PATIENTS
        for name, values in left_out.items():
            if name not in entry:
                continue
            found = self._interval(name, entry[name], values, one)
            if isinstance(found, str):
                entry["no_interval"][name] = found
                continue
            low, high, method = found
            entry["intervals"][name] = {"low": low, "high": high, "method": method}
            if rough and method in (METHOD, "chance"):
                entry["intervals"][name]["rough"] = True

    def _interval(
        self, name: str, figure: float, left_out: np.ndarray, one: str | None
    ) -> tuple[float, float, str] | str:
        proportion = name == "accuracy" or (name in _PROPORTIONS and one is not None)
        single = len(self.tally.patients) == len(self.tally.patient)
        if single and proportion and len(self.sizes) > 1:
            return *wilson(*_trials(name, self.tally, one, by_patient=False), self.level), "wilson"
        if name == "calibration_error" and len(self.sizes) > 1:
            # By the triangle inequality it differs from the true one by no more than the noise of the gaps.
            reach = float(np.quantile(self.chance, self.level))
            return max(figure - reach, 0.0), min(figure + reach, 1.0), "chance"
        found = Estimate.of(figure, left_out, self.sizes, bounds_of(name, len(self.tally.classes)))
        if isinstance(found, Estimate):
            found = found.interval(self.level)
        if isinstance(found, str):
            if found != SAME or not proportion or figure not in (0, 1):
                return found
            _, patients = _trials(name, self.tally, one, by_patient=True)
            return *wilson(figure * patients, patients, self.level), "wilson, patients"
        return *found, METHOD


def _trials(name: str, tally: AnyTally, one: str | None, by_patient: bool) -> tuple[float, float]:
    """Successes and trials of a proportion about class `one`, in slices or in patients that have any."""
    if one is None:
        return float(tally.right.sum()), float(len(tally.patients) if by_patient else len(tally.right))
    (tn, fp), (fn, tp) = np.moveaxis(tally.class_tables(one), 0, -1)
    hits, misses = {
        "accuracy": (tp + tn, fp + fn),
        "sensitivity": (tp, fn),
        "specificity": (tn, fp),
        "ppv": (tp, fp),
        "npv": (tn, fn),
    }[name]
    trials = np.count_nonzero(hits + misses) if by_patient else (hits + misses).sum()
    return float(hits.sum()), float(trials)
