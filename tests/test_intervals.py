"""Intervals against statsmodels, against a slow jackknife, and against the truth of simulated cohorts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit
from scored import make_predictions
from sklearn.metrics import recall_score, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from haemo.errors import BadSettings
from haemo.pipeline.evaluation.intervals import (
    Resampling,
    assess,
    figures_left_out,
    wilson,
)
from haemo.pipeline.evaluation.jackknife import Groups
from haemo.pipeline.evaluation.tallies import Tally


@pytest.mark.numerical
@settings(deadline=None, max_examples=50)
@given(n=st.integers(1, 500), share=st.floats(0, 1), level=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_that_of_statsmodels(n, share, level):
    successes = round(share * n)
    expected = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert wilson(successes, n, level) == pytest.approx(expected, abs=1e-12)


def test_wilson_holds_the_figure_at_both_ends():
    assert wilson(0, 7)[0] == 0
    assert wilson(7, 7)[1] == 1


def figures_without(p, patients):
    """Figures of what is left, by scikit-learn."""
    chosen = p.select(~np.isin(p.patient, patients))
    positive, named = chosen.label == "bleed", chosen.predicted == "bleed"
    found, cleared = recall_score(positive, named), recall_score(~positive, ~named)
    return roc_auc_score(positive, chosen.scores), found, cleared


@pytest.mark.numerical
@pytest.mark.parametrize("resamples", [100, 120])
def test_figures_without_patients_are_those_of_the_other_slices(resamples):
    p = make_predictions(n=330, patients=110, coarse=True)
    tally = Tally(p)
    groups = Resampling(resamples, seed=5).groups(len(tally.patients))
    assert len(groups.sizes) == min(resamples, len(tally.patients))
    assert groups.sizes.sum() == len(tally.patients)
    assert np.ptp(groups.sizes) <= 1
    overall, per_class = figures_left_out(tally, groups)
    for number in range(0, len(groups.sizes), 7):
        area, found, cleared = figures_without(p, tally.patients[groups.group == number])
        assert overall["roc_auc"][number] == pytest.approx(area)
        assert overall["sensitivity"][number] == pytest.approx(found)
        assert per_class["normal"]["sensitivity"][number] == pytest.approx(cleared)


@pytest.mark.numerical
def test_an_interval_is_students_on_the_logit_with_the_variance_of_patients_left_out():
    p = make_predictions(n=200, patients=20)
    figure = roc_auc_score(p.label == "bleed", p.scores)
    moves = np.array([figure - figures_without(p, name)[0] for name in np.unique(p.patient)])
    error = np.sqrt(19 / 20 * np.sum(moves**2)) / (figure * (1 - figure))
    spread = 20 * np.mean(moves**4) / np.mean(moves**2) ** 2 - 20
    half = stats.t.ppf(0.975, min(2 * 20**2 / spread, 19)) * error
    interval = assess(p)["intervals"]["roc_auc"]
    ends = expit([logit(figure) - half, logit(figure) + half])
    assert (interval["low"], interval["high"]) == pytest.approx(ends)
    assert interval["method"] == "jackknife"


def test_the_seed_deals_the_groups_and_nothing_else():
    p = make_predictions(n=400, patients=130)
    many, few = Resampling(200, seed=1), Resampling(100, seed=1)
    assert assess(p, resampling=many)["intervals"] == assess(p, resampling=Resampling(200, 2))["intervals"]
    first = assess(p, resampling=few)
    assert first == assess(p, resampling=few)
    assert first["intervals"] != assess(p, resampling=Resampling(100, 2))["intervals"]
    assert first["resampling"] == {"method": "jackknife", "resamples": 100, "seed": 1, "level": 0.95}


@pytest.mark.numerical
def test_groups_of_patients_give_much_the_same_interval_as_patients_one_by_one():
    p = make_predictions(n=3000, patients=600)
    one_by_one, grouped = (assess(p, resampling=Resampling(n))["intervals"] for n in (600, 200))
    for name, alone in one_by_one.items():
        width = alone["high"] - alone["low"]
        assert grouped[name]["high"] - grouped[name]["low"] == pytest.approx(width, rel=0.25), name


@pytest.mark.numerical
def test_blocks_of_patients_left_out_do_not_change_a_figure(monkeypatch):
    tally = Tally(make_predictions())
    whole = figures_left_out(tally, Groups.deal(len(tally.patients), 2000, 0))[0]["roc_auc"]
    monkeypatch.setattr("haemo.pipeline.evaluation.ranking._BLOCK_ELEMENTS", 500)
    monkeypatch.setattr("haemo.pipeline.evaluation.jackknife._BLOCK_ELEMENTS", 50)
    again = figures_left_out(tally, Groups.deal(len(tally.patients), 2000, 0))[0]["roc_auc"]
    assert np.array_equal(whole, again)


def test_slices_that_repeat_within_patients_do_not_make_it_surer():
    p = make_predictions(n=60, patients=20)
    ten_times = p.select(np.tile(np.arange(60), 10))
    once, repeated = (assess(x)["intervals"]["accuracy"] for x in (p, ten_times))
    assert repeated["high"] - repeated["low"] == pytest.approx(once["high"] - once["low"])
    as_slices = replace(ten_times, patient=np.array([f"p{i}" for i in range(600)]))
    alone = assess(as_slices)["intervals"]["accuracy"]
    assert alone["high"] - alone["low"] < 0.5 * (once["high"] - once["low"])


def test_wilson_is_used_where_each_patient_has_one_slice():
    p = make_predictions(n=40)
    p = replace(p, patient=p.slice_id)
    found = assess(p)
    hits = int(np.sum((p.predicted == "bleed") & (p.label == "bleed")))
    low, high = wilson(hits, int(np.sum(p.label == "bleed")))
    assert found["intervals"]["sensitivity"] == {"low": low, "high": high, "method": "wilson"}
    assert found["intervals"]["roc_auc"]["method"] == "jackknife"


def test_no_errors_are_not_certainty():
    p = make_predictions(n=60, patients=12)
    p = replace(p, predicted=p.label, scores=np.where(p.label == "bleed", 1.0, -1.0))
    found = assess(p)
    accuracy = found["intervals"]["accuracy"]
    assert (found["accuracy"], accuracy["method"]) == (1, "wilson, patients")
    assert accuracy["low"] == pytest.approx(wilson(12, 12)[0])
    assert "it is the same whichever patient is left out" in found["no_interval"]["roc_auc"]


def test_intervals_that_cannot_be_had_say_why():
    p = make_predictions(n=30)
    one = assess(replace(p, patient=np.full(30, "p")))
    assert one["intervals"] == {}
    assert set(one["no_interval"].values()) == {"there is one patient only"}
    rare = replace(p, label=np.where(p.patient == p.patient[0], "bleed", "normal"))
    assert "too few patients of a class" in assess(rare)["no_interval"]["sensitivity"]


@pytest.mark.numerical
def test_every_class_of_several_and_every_prevalence_has_intervals():
    several = assess(make_predictions(n=120, classes=("a", "b", "c")))
    for entry in (several, *several["per_class"].values()):
        for name, interval in entry["intervals"].items():
            assert interval["low"] <= entry[name] <= interval["high"]
        assert "roc_auc" in entry["intervals"]
    there = assess(make_predictions(n=120), prevalence=0.1)["at_prevalence"]
    assert there["intervals"]["ppv"]["low"] < there["ppv"] < there["intervals"]["ppv"]["high"]


@pytest.mark.parametrize("options", [{"resamples": 99}, {"level": 1.0}, {"level": 0.0}])
def test_resampling_refuses_what_gives_no_interval(options):
    with pytest.raises(BadSettings):
        Resampling(**options)


@pytest.mark.numerical
def test_the_interval_of_the_calibration_error_holds_the_figure():
    """A bootstrap sample has more noise in its bins, so that its percentiles may lie above the figure."""
    p = make_predictions(n=72, patients=24, seed=3)
    chance = np.tile((np.arange(10) + 0.5) / 10, 8)[:72]
    right = np.arange(72) // 10 < np.round(8 * chance)
    found = assess(replace(p, probabilities=chance, label=np.where(right, "bleed", "normal")))
    interval = found["intervals"]["calibration_error"]
    assert 0 <= interval["low"] < found["calibration_error"] < interval["high"]


@pytest.mark.parametrize(("patients", "slices", "alike"), [(60, 1, 0), (60, 5, 0.5), (200, 1, 0)])
def test_a_model_whose_probabilities_are_right_is_not_said_to_err(patients, slices, alike):
    """Its true error is 0; the interval about an error that chance had made held that in 1 of 100."""
    held, errors, chance = [], [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        shared = np.repeat(rng.normal(size=patients), slices)
        own = np.sqrt(alike) * shared + np.sqrt(1 - alike) * rng.normal(size=len(shared))
        p = simulated(seed, patients, slices=slices)
        p = replace(p, probabilities=rng.beta(1, 1.5, len(shared)))
        found = assess(replace(p, label=np.where(stats.norm.cdf(own) < p.probabilities, "bleed", "normal")))
        interval = found["intervals"]["calibration_error"]
        held.append(interval["low"] == 0)
        errors.append(found["calibration_error"])
        chance.append(found["calibration_error_by_chance"])
        assert interval["low"] <= errors[-1] <= interval["high"]
    assert np.mean(held) > 0.9
    assert np.mean(chance) == pytest.approx(np.mean(errors), rel=0.1)


def test_probabilities_that_are_wrong_are_said_to_err_by_as_much_as_they_do():
    held = []
    for seed in range(50):
        p = simulated(seed, 100)
        chance = np.random.default_rng(seed).beta(1, 1.5, len(p))
        right = np.random.default_rng(seed + 1000).random(len(p)) < np.clip(chance + 0.1, 0, 1)
        found = assess(replace(p, probabilities=chance, label=np.where(right, "bleed", "normal")))
        interval = found["intervals"]["calibration_error"]
        assert interval["low"] > 0
        held.append(interval["low"] < 0.099 < interval["high"])  # 0.1, and less above 0.9
    assert np.mean(held) > 0.94


def test_intervals_of_a_class_with_few_patients_are_marked_as_rough():
    p = make_predictions(n=90, patients=30)
    for few, rough in ((7, True), (8, False)):
        positive = np.isin(p.patient, np.unique(p.patient)[:few])
        entry = assess(replace(p, label=np.where(positive, "bleed", "normal")))["intervals"]["roc_auc"]
        assert entry.get("rough", False) == rough


def simulated(seed, patients, share=0.44, area=0.8, alike=0.5, slices=10):
    """Slices with a normal score, part of which (`alike`) all slices of a patient have in common."""
    rng = np.random.default_rng(seed)
    bleeds = np.repeat(rng.random(patients) < share, slices)
    shift = np.sqrt(2) * stats.norm.ppf(area)
    scores = np.sqrt(alike) * np.repeat(rng.normal(size=patients), slices) + shift * (bleeds - 0.5)
    scores += np.sqrt(1 - alike) * rng.normal(size=len(scores))
    p = make_predictions(n=len(scores))
    return replace(
        p,
        patient=np.repeat(np.char.add("p", np.arange(patients).astype(str)), slices),
        label=np.where(bleeds, "bleed", "normal"),
        scores=scores,
        probabilities=expit(shift * scores),
        predicted=np.where(scores > 0, "bleed", "normal"),
    )


@pytest.mark.parametrize(("patients", "area"), [(20, 0.8), (25, 0.9), (60, 0.9)])
def test_intervals_hold_the_truth_as_often_as_they_say(patients, area):
    truth = {"roc_auc": area, "sensitivity": stats.norm.cdf(stats.norm.ppf(area) / np.sqrt(2))}
    truth["specificity"] = truth["accuracy"] = truth["sensitivity"]
    held = {name: [] for name in truth}
    for seed in range(300):
        intervals = assess(simulated(seed, patients, area=area))["intervals"]
        for name, value in truth.items():
            if name in intervals and "rough" not in intervals[name]:
                held[name].append(intervals[name]["low"] <= value <= intervals[name]["high"])
    for name, own in held.items():
        assert len(own) > 150
        # Percentiles of bootstrap samples hold 86 to 90 % for 20 and 25 patients.
        assert 0.92 < np.mean(own) < 0.99, name
