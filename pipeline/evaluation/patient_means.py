"""Means and ratios over slices, with intervals from patients left out in turn."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.jackknife import LEAST_PATIENTS, Estimate
from haemo.pipeline.evaluation.ranking import ratio

__all__ = ["means_by_patient"]


def means_by_patient(
    values: Mapping[str, np.ndarray],
    patients: np.ndarray,
    seed: int = 0,
    weights: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Means over slices, each with an interval where there are patients enough for one.

    Parameters
    ----------
    values : dict of str to ndarray of shape (n,)
        What is averaged, by name.
    patients : ndarray of shape (n,), str
    seed : int
        Of the groups of patients, where there are many.
    weights : dict of str to ndarray of shape (n,), optional
        What a slice counts for in the mean of that name: a ratio of sums is a mean of ratios, weighted by
        their denominators. Without, every slice counts the same.

    Returns
    -------
    dict
        ``slices``, ``patients``, and by name ``mean`` with ``low`` and ``high``, ``rough`` with
        too few patients for any method. A mean of nothing is absent.
    """
    names, patient = np.unique(patients, return_inverse=True)
    summary: dict[str, Any] = {"slices": len(patients), "patients": len(names)}
    groups = Resampling(seed=seed).groups(len(names))
    for name, column in values.items():
        counted = np.ones(len(patients)) if weights is None or name not in weights else weights[name]
        if not counted.sum():
            continue
        sums = np.bincount(patient, weights=np.where(counted > 0, column, 0) * counted)
        counts = np.bincount(patient, weights=counted)
        means = ratio(groups.sums_without(sums), groups.sums_without(counts))
        entry = {"mean": float(sums.sum() / counted.sum())}
        estimate = Estimate.of(entry["mean"], means, groups.sizes)
        interval = estimate if isinstance(estimate, str) else estimate.interval(0.95)
        if not isinstance(interval, str):
            entry["low"], entry["high"] = interval
            if len(names) < LEAST_PATIENTS:
                entry["rough"] = True
        summary[name] = entry
    return summary
