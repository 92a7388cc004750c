"""Other operating points: thresholds chosen on what was held out, and figures at them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from runs import add_model, make_run
from scored import make_predictions

from haemo.models.heads.thresholds import parse_threshold
from haemo.pipeline.evaluation.comparison import compare
from haemo.pipeline.evaluation.intervals import Resampling, assess, assess_decisions
from haemo.pipeline.evaluation.operating import OWN, POINTS, operating_points
from haemo.pipeline.evaluation.unit_rule import unit_rule

pytestmark = pytest.mark.numerical

QUICK = Resampling(200)


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_figures_are_those_of_an_assessment_at_the_threshold(threshold):
    predictions = make_predictions(n=80, patients=20)
    found, whole = (
        assess_decisions(predictions, threshold, QUICK),
        assess(predictions, threshold, None, QUICK),
    )
    names = set(found) - {"undefined", "intervals", "no_interval"}
    assert names == {"accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "mcc", "threat_score"}
    assert {name: found[name] for name in names} == {name: whole[name] for name in names}
    assert found["intervals"] == {name: whole["intervals"][name] for name in names}


def test_thresholds_are_chosen_on_what_was_held_out_and_judged_on_the_test_slices():
    held_out, test = make_predictions(n=200, seed=1), make_predictions(n=80, seed=2)
    found = operating_points(test, held_out, resampling=QUICK)
    assert list(found) == [OWN, *POINTS]
    for name in POINTS:
        at = parse_threshold(name).choose(held_out.label == "bleed", held_out.probabilities)
        assert found[name] == {"threshold": at, **assess_decisions(test, at, QUICK)}
    assert found[OWN] == assess_decisions(test, None, QUICK)
    own = operating_points(replace(test, thresholds=np.full(80, 0.3)), held_out, resampling=QUICK)[OWN]
    assert own["threshold"] == 0.3


def test_without_answers_out_of_fold_only_a_fixed_threshold_is_judged():
    found = operating_points(make_predictions(), None, resampling=QUICK)
    assert found["0.5"]["threshold"] == 0.5
    for name in POINTS[1:]:
        assert found[name] == {"why_not": "no answers out of fold to choose a threshold by"}


@pytest.mark.parametrize("name", POINTS[1:])
def test_noise_is_not_found_out_of_fold(name):
    """At a threshold of their own choice, on cross-calibrated probabilities, it would be 0.48 to 0.51."""
    fold, found = np.arange(30) // 2 % 5, []
    for seed in range(300):
        noise = make_predictions(n=30, patients=30)
        scores = np.random.default_rng(seed).normal(size=30)
        label = np.array(noise.classes)[np.arange(30) % 2]
        one = replace(noise, scores=scores, label=label, part=np.full(30, "cv"), fold=fold)
        at = operating_points(one, resampling=QUICK)[name]
        assert "threshold" not in at
        found.append((at["sensitivity"] + at["specificity"]) / 2)
    assert np.mean(found) == pytest.approx(0.5, abs=0.01)


def test_the_fold_that_is_judged_has_no_say_in_its_threshold():
    rng = np.random.default_rng(0)
    p = replace(make_predictions(n=60), part=np.full(60, "cv"), fold=rng.integers(3, size=60))
    named = operating_points(p, resampling=QUICK)["sensitivity=0.9"]
    called = np.zeros(60, dtype=bool)
    for fold in range(3):
        others = np.sort(p.scores[(p.fold != fold) & (p.label == "bleed")])[::-1]
        lowest = others[int(np.ceil(0.9 * len(others))) - 1]
        # Halfway, in rank, to the next lower score of the other folds.
        below = p.scores[(p.fold != fold) & (p.scores < lowest)]
        rank = np.argsort(np.argsort(p.scores))
        middle = (rank[p.scores == lowest][0] + (rank[p.scores == below.max()][0] if len(below) else -1)) / 2
        called[p.fold == fold] = rank[p.fold == fold] >= middle
    assert named["sensitivity"] == pytest.approx(called[p.label == "bleed"].mean())
    assert named["specificity"] == pytest.approx((~called)[p.label == "normal"].mean())


@pytest.mark.parametrize("by", ["slice", "patient"])
def test_compare_keeps_points_and_baseline_beside_the_figures(tmp_path, by):
    run = make_run(tmp_path, patients=60, copies=1)
    add_model(run, "svm")
    found = compare(run, by=by, resampling=QUICK)
    kept = json.loads((tmp_path / "compare.json").read_text())
    points = kept["operating_points"]["svm"]
    assert points[OWN]["sensitivity"] == kept["models"]["svm"]["sensitivity"]
    p = run.predictions("svm")
    held_out, test = p.of_part("cv"), p.of_part("test")
    if by == "patient":
        # Both by one rule: a threshold on other probabilities would mean something else.
        rule = unit_rule(run, "svm", by, "max")
        held_out, test = rule.judge(held_out), rule.judge(test)
    at = parse_threshold("specificity=0.9").choose(held_out.label == "bleed", held_out.probabilities)
    assert points["specificity=0.9"]["threshold"] == at
    assert points["specificity=0.9"]["sensitivity"] == assess_decisions(test, at, QUICK)["sensitivity"]
    assert kept["baseline"]["name"] == "always normal"
    assert kept["baseline"]["accuracy"] == np.mean(test.label == "normal")
    assert kept["shortfalls"] == found.shortfalls
