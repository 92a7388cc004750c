"""How sure a figure is: intervals by bootstrap over patients, and Wilson's for plain proportions.

Slices of one patient resemble one another, so the patient is what is drawn again. An interval that
cannot be had is absent, with the reason, like an undefined figure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.errors import BadSettings
from haemo.pipeline.evaluation.metrics import at_prevalence, evaluate
from haemo.pipeline.evaluation.set_tallies import AnyTally, tally_of
from haemo.pipeline.evaluation.units import Answers
from haemo.progress import Progress, silent

__all__ = ["Resampling", "assess", "percentile_interval", "resampled_figures", "wilson"]

Resampled = tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]

_PROPORTIONS = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
_BLOCK_ELEMENTS = 2_000_000  # of one block of weights: 16 MB
_MOST_UNDEFINED = 0.1  # share of resamples that may lack a figure before its interval is given up


@dataclass(frozen=True)
class Resampling:
    """How patients are drawn again for intervals.

    Attributes
    ----------
    resamples : int
        Number of bootstrap samples, each of as many patients as there are, drawn with replacement.
    seed : int
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

    def weights(self, patients: int) -> Iterator[np.ndarray]:
        """How often each patient is drawn: blocks of shape (some resamples, patients), float64.

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


def resampled_figures(tally: AnyTally, resampling: Resampling, progress: Progress = silent) -> Resampled:
    """Every figure of every resample.

    Returns
    -------
    figures : dict of str to ndarray of shape (resamples,)
        NaN where the figure is undefined in a resample.
    per_class : dict of str to the same
        Figures of each class against all others.
    """
    blocks = [
        tally.all_figures(weights)
        for weights in progress(resampling.weights(len(tally.patients)), label="bootstrap")
    ]
    overall = {name: np.concatenate([block[0][name] for block in blocks]) for name in blocks[0][0]}
    per_class = {
        one: {name: np.concatenate([block[1][one][name] for block in blocks]) for name in figures}
        for one, figures in blocks[0][1].items()
    }
    return overall, per_class


def percentile_interval(values: np.ndarray, level: float) -> tuple[float, float] | str:
    """Percentile interval of resampled values, or the reason why there is none.

    Resamples without a value (NaN) are left out; there is no interval if they are more than a tenth, or
    if all values are the same, for then the resamples say nothing of how sure the figure is.
    """
    defined = values[~np.isnan(values)]
    lost = len(values) - len(defined)
    if lost > _MOST_UNDEFINED * len(values):
        return f"undefined in {lost} of {len(values)} resamples: too few patients of a class"
    if np.ptp(defined) < 1e-12:
        return "every resample gives the same value: too few patients, or no errors, to tell how sure it is"
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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
    resampled: Resampled | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """What `pipeline.evaluation.metrics.evaluate` gives, and an interval for every figure.

    Parameters
    ----------
    predictions, threshold, prevalence
        As for `evaluate`.
    resampling : Resampling, optional
    resampled : tuple, optional
        What `resampled_figures` gave for the same arguments, where it is at hand.
    progress : Progress

    Returns
    -------
    dict
        Of `evaluate`, with ``resampling`` (resamples, seed, level) and, there and in each class,
        ``intervals`` (metric -> ``low``, ``high``, ``method``) and ``no_interval`` (metric -> reason).
        The method is ``bootstrap`` (percentiles over patients), ``bootstrap, less its bias`` (the same,
        moved so that the resamples' mean is the figure), ``wilson`` (each patient has one slice)
        or ``wilson, patients`` (all resamples agree, as with no errors at all: Wilson's interval with
        the number of patients as the number of trials, which is on the safe side).
    """
    resampling = resampling or Resampling()
    result = evaluate(predictions, threshold, prevalence)
    tally = tally_of(predictions, threshold)
    overall, per_class = resampled or resampled_figures(tally, resampling, progress)
    result["resampling"] = {
        "resamples": resampling.resamples,
        "seed": resampling.seed,
        "level": resampling.level,
    }
    reference = result["classes"][1] if result["positive"] is not None else None
    _add_intervals(result, overall, tally, reference, resampling.level)
    for name, figures in per_class.items():
        _add_intervals(result["per_class"][name], figures, tally, name, resampling.level)
    if prevalence is not None:
        there = [
            at_prevalence({"sensitivity": a, "specificity": b}, prevalence)
            for a, b in zip(overall["sensitivity"], overall["specificity"], strict=True)
        ]
        resampled = {
            name: np.array([entry.get(name, np.nan) for entry in there], dtype=float)
            for name in ("ppv", "npv")
            if name in result["at_prevalence"]
        }
        _add_intervals(result["at_prevalence"], resampled, tally, None, resampling.level)
    return result


def _add_intervals(
    entry: dict[str, Any], resampled: dict[str, np.ndarray], tally: AnyTally, one: str | None, level: float
) -> None:
    """Put ``intervals`` and ``no_interval`` into `entry`.

    `one` is the class its proportions speak of; None leaves accuracy over all classes.
    """
    entry["intervals"], entry["no_interval"] = {}, {}
    single = len(tally.patients) == len(tally.patient)
    for name, values in resampled.items():
        if name not in entry:
            continue
        proportion = name == "accuracy" or (name in _PROPORTIONS and one is not None)
        if len(tally.patients) == 1:
            found: tuple[float, float] | str = "there is one patient only"
        elif single and proportion:
            found = wilson(*_trials(name, tally, one, by_patient=False), level)
            method = "wilson"
        else:
            method = "bootstrap"
            if name == "calibration_error":
                # A resample has more noise in its bins, which a mean of absolute gaps takes for error.
                values = np.maximum(values - np.nanmean(values) + entry[name], 0)
                method = "bootstrap, less its bias"
            found = percentile_interval(values, level)
            if isinstance(found, str) and "same value" in found and proportion and entry[name] in (0, 1):
                _, patients = _trials(name, tally, one, by_patient=True)
                found = wilson(entry[name] * patients, patients, level)
                method = "wilson, patients"
        if isinstance(found, str):
            entry["no_interval"][name] = found
        else:
            entry["intervals"][name] = {"low": found[0], "high": found[1], "method": method}


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
