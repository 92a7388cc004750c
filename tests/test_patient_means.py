"""Means over slices with intervals over patients, against sums by hand."""

import tracemalloc

import numpy as np
import pytest

from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.jackknife import Estimate
from haemo.pipeline.evaluation.patient_means import means_by_patient

PATIENTS = np.array(["a", "a", "b", "b", "b", "c", "d", "e"])
RNG = np.random.default_rng(0)


def test_means_and_their_jackknife():
    values = RNG.uniform(size=8)
    found = means_by_patient({"dice": values}, PATIENTS)
    assert (found["slices"], found["patients"]) == (8, 5)
    assert found["dice"]["mean"] == pytest.approx(values.mean())
    assert found["dice"]["low"] < values.mean() < found["dice"]["high"]


def test_a_ratio_of_sums_is_no_mean_of_ratios():
    true, common = np.array([10.0, 100, 1, 5, 20, 7, 3, 9]), np.array([1.0, 100, 0, 5, 10, 7, 3, 9])
    found = means_by_patient({"sensitivity": common / true}, PATIENTS, weights={"sensitivity": true})
    assert found["sensitivity"]["mean"] == pytest.approx(common.sum() / true.sum())


def test_slices_without_a_denominator_do_not_count_and_none_at_all_is_absent():
    values, counted = np.array([np.nan, 1.0, np.nan, 0.5]), np.array([0.0, 2.0, 0.0, 2.0])
    patients = np.array(["a", "b", "c", "d"])
    assert means_by_patient({"x": values}, patients, weights={"x": counted})["x"]["mean"] == 0.75
    assert "x" not in means_by_patient({"x": values}, patients, weights={"x": np.zeros(4)})


def test_one_patient_has_a_mean_and_no_interval():
    found = means_by_patient({"dice": np.array([0.5, 0.7])}, np.array(["a", "a"]))
    assert found["dice"] == {"mean": pytest.approx(0.6)}


def test_many_slices_of_one_patient_widen_the_interval():
    """The same numbers as slices of 40 patients and as slices of 8: fewer patients know less."""
    values = np.repeat(RNG.uniform(size=8), 5)

    def width(patients):
        entry = means_by_patient({"dice": values}, patients)["dice"]
        return entry["high"] - entry["low"]

    assert width(np.repeat(np.arange(8), 5).astype(str)) > 1.8 * width(np.arange(40).astype(str))


def test_many_patients_are_left_out_a_block_of_groups_at_a_time():
    patients, values = np.arange(4000).astype(str), RNG.uniform(size=4000)
    tracemalloc.start()
    found = means_by_patient({"dice": values}, patients)["dice"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2000 * 4000  # the weights of all groups
    groups = Resampling().groups(4000)
    # Names sort as text: the groups are dealt to patients in that order.
    order = np.argsort(patients)
    means = [values[order][groups.group != one].mean() for one in range(len(groups.sizes))]
    expected = Estimate.of(values.mean(), np.array(means), groups.sizes).interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx(expected)
