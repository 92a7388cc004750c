"""Nested training sets of whole patients, and a power law that is believed only as far as it is earned."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import CLASSES, make_run

from haemo.errors import BadSettings, TooFewData
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.inflation import load_cohort
from haemo.pipeline.evaluation.learning_curve import _nested, measure_learning_curve
from haemo.pipeline.evaluation.power_law import PowerLaw, fit_power_law
from haemo.pipeline.run.featuresets import open_features

X = np.array([5, 10, 20, 40, 80])
STILL = np.zeros((len(X), 1))
"""Points that other patients would not move."""


@pytest.mark.numerical
@settings(deadline=None, max_examples=25)
@given(b1=st.floats(-60, -10), b2=st.floats(-1.0, -0.15))
def test_an_exact_power_law_is_found_again(b1, b2):
    wanted = float(PowerLaw.curve(b1, b2, 150))
    fit = fit_power_law(X, PowerLaw.curve(b1, b2, X), STILL, wanted)
    assert fit.b1 == pytest.approx(b1, rel=1e-3)
    assert fit.b2 == pytest.approx(b2, rel=1e-3)
    assert fit.patients == pytest.approx(150, rel=1e-2)
    assert fit.warnings == ()


def test_the_interval_holds_the_truth_when_scores_are_noisy():
    rng = np.random.default_rng(0)
    percent = PowerLaw.curve(-60, -0.4, X) + rng.normal(size=len(X)) / np.sqrt(20)
    fit = fit_power_law(X, percent, np.eye(len(X)) / np.sqrt(20), 90)
    assert fit.b1_interval[0] < -60 < fit.b1_interval[1]
    assert fit.b2_interval[0] < -0.4 < fit.b2_interval[1]
    truth = (10 / 60) ** (1 / -0.4)
    assert fit.patients_interval[0] < truth < fit.patients_interval[1]


def test_a_prediction_that_is_not_earned_says_so():
    far = fit_power_law(X, PowerLaw.curve(-40, -0.2, X), STILL, 99)
    assert "times beyond the 80 patients" in far.warnings[0]
    flat = fit_power_law(X, 70 + np.random.default_rng(0).normal(size=5) / 2, np.eye(5) / 2, 90)
    assert "do not clearly grow" in " ".join(flat.warnings)
    falling = fit_power_law(X, 90 - X / 10, STILL, 95)
    assert falling.patients is None
    assert "the curve does not reach the wanted score" in falling.warnings
    kinked = fit_power_law(X, np.array([60, 60, 61, 75, 95.0]), STILL, 97)
    assert "points above the curve" in kinked.warnings[0]
    json.dumps(falling.as_dict(), allow_nan=False)


def test_scores_without_an_error_reach_the_wanted_score_where_measuring_began():
    fit = fit_power_law(X, np.full(len(X), 100.0), STILL, 95)
    assert (fit.b1, fit.b2) == (0, 0)
    assert (fit.patients, fit.patients_interval) == (5, (5, 5))
    assert fit.warnings == ()
    assert fit.as_dict()["patients"] == 5


def test_scores_that_fall_from_above_the_wanted_score_reach_it_at_once_and_are_doubted():
    fit = fit_power_law(X, 99 - X / 40, STILL, 95)
    assert fit.patients == 5
    assert "the measured scores do not clearly grow with the number of patients" in fit.warnings
    assert "the curve does not reach the wanted score" not in fit.warnings


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("curve"), patients=40, copies=1, signal=0.3, patient_effect=1.0)


def test_training_sets_are_nested_whole_and_apart_from_the_tested_patients(run):
    with open_features(run) as store:
        cohort = load_cohort(run.manifest(), CLASSES, store)
    training, tested, counts = _nested(cohort, 3, None, seed=0)
    patient = np.array([row.patient for row in cohort.rows])
    label = np.array([row.label for row in cohort.rows])
    for repeat in range(3):
        own = training[:, repeat]
        assert (np.diff(own.astype(int), axis=1) >= 0).all()
        assert not (own & tested[:, [repeat]]).any()
        for place, count in enumerate(counts):
            chosen = set(patient[own[:, place]])
            assert len(chosen) == count
            assert np.isin(patient, list(chosen)).sum() == own[:, place].sum()
            assert set(label[own[:, place]]) == set(CLASSES)


def test_scores_grow_with_patients(run):
    curve = measure_learning_curve(run, repeats=6)
    first, last = curve.points[0]["roc_auc"], curve.points[-1]["roc_auc"]
    assert last["mean"] > first["mean"] + 0.05
    assert all(point["roc_auc"]["low"] <= point["roc_auc"]["high"] for point in curve.points)
    assert json.loads((run.path / "learning_curve.json").read_text()).items() >= curve.as_dict().items()
    assert curve.fits["roc_auc"].b2 < 0


def test_more_splits_of_the_same_patients_do_not_make_it_much_surer(run):
    few, many = (measure_learning_curve(run, repeats=repeats, sizes=(5, 12, 24)) for repeats in (8, 60))
    for one, other in zip(few.points, many.points, strict=True):
        widths = [point["roc_auc"]["high"] - point["roc_auc"]["low"] for point in (one, other)]
        assert widths[1] > 0.6 * widths[0]
    widths = [np.ptp(curve.fits["roc_auc"].b2_interval) for curve in (few, many)]
    assert widths[1] > 0.6 * widths[0]


def test_the_command_prints_points_and_the_fit(run, capsys):
    arguments = ["learning-curve", "--run", str(run.path), "--repeats", "3", "--patients", "5,10,20"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[4:7]] == ["5", "10", "20"]
    assert any(line.startswith("ROC AUC in % = 100 -") for line in lines)
    assert main([*arguments[:-1], "5,ten"]) == 2


def test_settings_out_of_range_are_refused(run, tmp_path):
    with pytest.raises(BadSettings, match="3 or more"):
        measure_learning_curve(run, repeats=2)
    with pytest.raises(BadSettings, match="between 0 and 1"):
        measure_learning_curve(run, wanted=1.0)
    with pytest.raises(BadSettings, match="training patients must be"):
        measure_learning_curve(run, sizes=(5, 10, 500))
    small = make_run(tmp_path, patients=9, slices=2, copies=1)
    with pytest.raises(TooFewData, match="three numbers of training patients"):
        measure_learning_curve(small, repeats=3, sizes=(4, 5))
