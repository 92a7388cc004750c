"""What a model would be worth in use: calibration line, net benefit, fixed points, predictive values."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scored import make_predictions
from sklearn.metrics import roc_curve
from statsmodels.api import GLM, add_constant, families

from haemo.pipeline.evaluation.calibration_line import CalibrationLine, calibration_line, log_odds
from haemo.pipeline.evaluation.decision_curve import THRESHOLDS, decision_curve
from haemo.pipeline.evaluation.fixed_points import SHARES, at_fixed, at_prevalences
from haemo.pipeline.evaluation.intervals import Resampling, assess
from haemo.pipeline.evaluation.jackknife import FREE, with_interval

pytestmark = pytest.mark.numerical

QUICK = Resampling(200)


@pytest.fixture(scope="module")
def answers():
    return make_predictions(n=120, patients=24)


def glm(answers):
    """Calibration-in-the-large, slope and intercept by statsmodels."""
    y, x = (answers.label == "bleed").astype(float), log_odds(answers.probabilities)
    family = families.Binomial()
    shift = GLM(y, np.ones((len(y), 1)), offset=x, family=family).fit().params[0]
    intercept, slope = GLM(y, add_constant(x), family=family).fit().params
    return float(shift), float(slope), float(intercept)


def test_the_line_is_that_of_logistic_regression(answers):
    line = CalibrationLine.fit(answers.label == "bleed", answers.probabilities)
    assert (line.shift, line.slope, line.intercept) == pytest.approx(glm(answers), abs=1e-7)


def test_the_line_and_its_interval_are_those_of_fits_without_each_patient(answers):
    found = calibration_line(answers, QUICK)
    names = np.unique(answers.patient)
    fits = np.array([glm(answers.select(answers.patient != name)) for name in names])
    for name, place in (("in_the_large", 0), ("slope", 1)):
        expected = with_interval(glm(answers)[place], fits[:, place], np.ones(len(names), int), 0.95, FREE)
        assert found[name] == pytest.approx(expected, abs=1e-6)
    positive = answers.label == "bleed"
    assert found["observed_to_expected"]["value"] == pytest.approx(
        positive.sum() / answers.probabilities.sum()
    )


def test_probabilities_that_are_too_sure_have_a_slope_below_one(answers):
    sure = replace(answers, probabilities=1 / (1 + np.exp(-1.5 * log_odds(answers.probabilities))))
    found = calibration_line(sure, QUICK)
    plain = calibration_line(answers, QUICK)
    assert found["slope"]["value"] == pytest.approx(plain["slope"]["value"] / 1.5)
    line = CalibrationLine.fit(sure.label == "bleed", sure.probabilities)
    again = CalibrationLine.fit(sure.label == "bleed", line.apply(sure.probabilities))
    assert (again.shift, again.slope, again.intercept) == pytest.approx((0, 1, 0), abs=1e-6)


def test_a_line_that_no_fit_has_is_absent_with_the_reason(answers):
    perfect = replace(answers, probabilities=np.where(answers.label == "bleed", 0.9, 0.1))
    assert "no slope fits best" in calibration_line(perfect, QUICK)["why_not"]
    one = answers.select(answers.label == "bleed")
    assert calibration_line(one, QUICK) == {"why_not": "all rows are of one class"}
    raw = replace(answers, uncalibrated="they are sums")
    assert calibration_line(raw, QUICK) == decision_curve(raw, QUICK) == {"why_not": "they are sums"}


@pytest.mark.parametrize("coarse", [False, True])
def test_net_benefit_is_hits_less_weighted_false_alarms(answers, coarse):
    if coarse:  # probabilities that are thresholds
        answers = replace(answers, probabilities=np.round(answers.probabilities, 2))
    found = decision_curve(answers, QUICK)
    positive, n = answers.label == "bleed", len(answers)
    for place, at in enumerate(THRESHOLDS):
        called = answers.probabilities >= at
        model = (called & positive).sum() / n - (called & ~positive).sum() / n * at / (1 - at)
        everyone = positive.mean() - (1 - positive.mean()) * at / (1 - at)
        assert found["model"][place]["value"] == pytest.approx(model)
        assert found["everyone"][place]["value"] == pytest.approx(everyone)
        assert found["gain"][place]["value"] == pytest.approx(model - max(everyone, 0))


def test_the_interval_of_net_benefit_is_that_of_patients_left_out(answers):
    at = 0.3
    place = THRESHOLDS.index(at)
    names = np.unique(answers.patient)

    def benefit(p):
        called, positive = p.probabilities >= at, p.label == "bleed"
        return ((called & positive).sum() - (called & ~positive).sum() * at / (1 - at)) / len(p)

    without = np.array([benefit(answers.select(answers.patient != name)) for name in names])
    expected = with_interval(benefit(answers), without, np.ones(len(names), int), 0.95, FREE)
    assert decision_curve(answers, QUICK)["model"][place] == pytest.approx(expected)


def test_noise_is_of_no_use_and_knowledge_is():
    rng = np.random.default_rng(3)
    answers = make_predictions(n=400, patients=80)
    share = float(np.mean(answers.label == "bleed"))
    noise = replace(answers, probabilities=np.clip(rng.normal(share, 0.05, 400), 0.01, 0.99))
    assert decision_curve(noise, QUICK)["useful"] is None
    first, last = decision_curve(answers, QUICK)["useful"]
    assert first < share < last


def test_a_decision_curve_takes_no_table_of_rows_by_thresholds():
    answers = make_predictions(n=20_000, patients=50)
    tracemalloc.start()
    decision_curve(answers, QUICK)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 20_000 * len(THRESHOLDS)


@pytest.mark.parametrize("coarse", [False, True])
def test_fixed_points_are_points_of_the_curve(coarse):
    answers = make_predictions(n=120, patients=24, coarse=coarse)
    found = at_fixed(answers, QUICK)
    alarms, hits, _ = roc_curve(answers.label == "bleed", answers.scores, drop_intermediate=False)
    for place, share in enumerate(SHARES):
        one = found["sensitivity"][place]
        assert one["at"] == share
        assert one["value"] == pytest.approx(hits[1 - alarms >= share - 1e-12].max())
        assert one["low"] <= one["value"] <= one["high"]
        other = found["specificity"][place]["value"]
        assert other == pytest.approx((1 - alarms[hits >= share - 1e-12]).max())


def test_predictive_values_elsewhere_are_those_of_an_assessment_there(answers):
    for entry in at_prevalences(answers, (0.05, 0.4), resampling=QUICK):
        there = assess(answers, None, entry["prevalence"], QUICK)["at_prevalence"]
        for name in ("ppv", "npv"):
            ends = there["intervals"][name]
            expected = {"value": there[name], "low": ends["low"], "high": ends["high"]}
            assert {key: entry[name][key] for key in expected} == pytest.approx(expected)
