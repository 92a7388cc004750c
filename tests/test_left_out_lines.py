"""Calibration lines without groups of patients, all at once: the same as fitted one after the other."""

from dataclasses import replace

import numpy as np
import pytest
from scored import make_predictions

from haemo.pipeline.evaluation import calibration_line as module
from haemo.pipeline.evaluation.calibration_line import CalibrationLine, calibration_line, log_odds
from haemo.pipeline.evaluation.left_out_lines import moves_without

pytestmark = pytest.mark.numerical


@pytest.mark.parametrize(
    ("count", "patients"), [(4000, 300), (60, 12), (30, 30)], ids=["many", "few", "single"]
)
def test_lines_of_groups_left_out_at_once_are_those_fitted_in_turn(count, patients, monkeypatch):
    answers = make_predictions(n=count, patients=patients)
    in_turn = calibration_line(answers)
    monkeypatch.setattr(module, "AT_ONCE", 0)
    at_once = calibration_line(answers)
    assert at_once.keys() == in_turn.keys()
    for name in ("in_the_large", "slope", "observed_to_expected"):
        assert at_once[name] == pytest.approx(in_turn[name], rel=1e-8), name


def test_probabilities_at_both_ends_are_held_alike(monkeypatch):
    answers = make_predictions(n=900, patients=90)
    ends = np.where(
        answers.probabilities > 0.97, 1.0, np.where(answers.probabilities < 0.03, 0.0, answers.probabilities)
    )
    answers = replace(answers, probabilities=ends)
    in_turn = calibration_line(answers)
    monkeypatch.setattr(module, "AT_ONCE", 0)
    assert calibration_line(answers)["slope"] == pytest.approx(in_turn["slope"], rel=1e-8)


def test_a_line_that_moves_far_is_left_to_be_fitted_by_itself():
    answers = make_predictions(n=2000, patients=100)
    _, group = np.unique(answers.patient, return_inverse=True)
    positive = (answers.label == "bleed") ^ (group == 7)
    group = np.where(group < 40, 7, group)  # a group of 40 patients, one of them wrongly labelled
    line = CalibrationLine.fit(positive, answers.probabilities)
    x = log_odds(answers.probabilities)
    moves = moves_without(x, line.intercept + line.slope * x, positive, group, 100, offset=False)[1]
    assert np.flatnonzero(np.isnan(moves)).tolist() == [7]
