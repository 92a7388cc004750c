"""Intervals against statsmodels and against a slow bootstrap that really draws patients."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import make_predictions
from sklearn.metrics import recall_score, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from haemo.errors import BadSettings
from haemo.pipeline.evaluation.intervals import (
    Resampling,
    assess,
    percentile_interval,
    resampled_figures,
    wilson,
)
from haemo.pipeline.evaluation.tallies import Tally

pytestmark = pytest.mark.numerical


@settings(deadline=None, max_examples=50)
@given(n=st.integers(1, 500), share=st.floats(0, 1), level=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_that_of_statsmodels(n, share, level):
    successes = round(share * n)
    expected = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert wilson(successes, n, level) == pytest.approx(expected, abs=1e-12)


def test_wilson_holds_the_figure_at_both_ends():
    assert wilson(0, 7)[0] == 0
    assert wilson(7, 7)[1] == 1


def test_the_bootstrap_is_that_of_drawing_patients_one_by_one():
    p = make_predictions(n=80, patients=9, coarse=True)
    tally, resampling = Tally(p), Resampling(resamples=100, seed=5)
    fast, per_class = resampled_figures(tally, resampling)
    weights = np.concatenate(list(resampling.weights(len(tally.patients))))
    assert (weights.sum(axis=1) == len(tally.patients)).all()
    for row, counts in enumerate(weights):
        drawn = np.repeat(tally.patients, counts.astype(int))
        chosen = p.select(np.concatenate([np.flatnonzero(p.patient == name) for name in drawn]))
        positive = chosen.label == "bleed"
        assert fast["roc_auc"][row] == pytest.approx(roc_auc_score(positive, chosen.scores))
        named = chosen.predicted == "bleed"
        assert fast["sensitivity"][row] == pytest.approx(recall_score(positive, named))
        assert per_class["normal"]["sensitivity"][row] == pytest.approx(recall_score(~positive, ~named))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    p = make_predictions()
    first = assess(p, resampling=Resampling(seed=1))
    assert first == assess(p, resampling=Resampling(seed=1))
    assert first["intervals"] != assess(p, resampling=Resampling(seed=2))["intervals"]


def test_blocks_of_resamples_do_not_change_the_draws(monkeypatch):
    p = make_predictions()
    whole = resampled_figures(Tally(p), Resampling(resamples=120))[0]["roc_auc"]
    monkeypatch.setattr("haemo.pipeline.evaluation.tallies._BLOCK_ELEMENTS", 500)
    assert np.array_equal(whole, resampled_figures(Tally(p), Resampling(resamples=120))[0]["roc_auc"])


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
    assert found["intervals"]["roc_auc"]["method"] == "bootstrap"


def test_no_errors_are_not_certainty():
    p = make_predictions(n=60, patients=12)
    p = replace(p, predicted=p.label, scores=np.where(p.label == "bleed", 1.0, -1.0))
    found = assess(p)
    accuracy = found["intervals"]["accuracy"]
    assert (found["accuracy"], accuracy["method"]) == (1, "wilson, patients")
    assert accuracy["low"] == pytest.approx(wilson(12, 12)[0])
    assert "every resample gives the same value" in found["no_interval"]["roc_auc"]


def test_intervals_that_cannot_be_had_say_why():
    p = make_predictions(n=30)
    one = assess(replace(p, patient=np.full(30, "p")))
    assert one["intervals"] == {}
    assert set(one["no_interval"].values()) == {"there is one patient only"}
    rare = replace(p, label=np.where(p.patient == p.patient[0], "bleed", "normal"))
    assert "too few patients of a class" in assess(rare)["no_interval"]["sensitivity"]
    assert percentile_interval(np.array([0.5] * 80 + [np.nan] * 20), 0.95) == (
        "undefined in 20 of 100 resamples: too few patients of a class"
    )


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


def test_the_interval_of_the_calibration_error_holds_the_figure():
    """A resample has more noise in its bins: plain percentiles of few patients lie above the figure."""
    p = make_predictions(n=72, patients=24, seed=3)
    chance = np.tile((np.arange(10) + 0.5) / 10, 8)[:72]
    right = np.arange(72) // 10 < np.round(8 * chance)
    p = replace(p, probabilities=chance, label=np.where(right, "bleed", "normal"))
    found = assess(p, resampling=Resampling(resamples=500))
    plain, _ = resampled_figures(Tally(p), Resampling(resamples=500))
    figure, interval = found["calibration_error"], found["intervals"]["calibration_error"]
    assert np.quantile(plain["calibration_error"], 0.025) > figure
    assert 0 <= interval["low"] < figure < interval["high"]
    width = np.subtract(*np.quantile(plain["calibration_error"], [0.975, 0.025]))
    assert interval["high"] - interval["low"] <= width + 1e-12
    assert interval["method"] == "bootstrap, less its bias"
