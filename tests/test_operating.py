"""Other operating points: thresholds chosen on what was held out, and figures at them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from runs import add_model, make_run
from scored import make_predictions

import haemo
from haemo.models.heads.thresholds import parse_threshold
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.comparison import compare
from haemo.pipeline.evaluation.intervals import Resampling, assess, assess_decisions
from haemo.pipeline.evaluation.operating import OWN, POINTS, operating_points
from haemo.pipeline.evaluation.unit_rule import unit_rule

QUICK = Resampling(200)


@pytest.mark.numerical
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
        assert found[name] == {"why_not": "nothing was held out of training to choose a threshold by"}


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


@pytest.mark.numerical
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


def silent_model(run):
    """A model that ranks slices well and finds next to nothing: one slice in six bleeds."""
    add_model(run, "svm")
    made = run.predictions("svm")
    chances = 0.4 * made.probabilities
    named = np.array(made.classes)[(chances >= 0.5).astype(int)]
    replace(made, probabilities=chances, predicted=named).write(run.path / "svm" / "predictions.csv")
    facts = {"head": "svm", "threshold": 0.5, "threshold_rule": "0.5"}
    (run.path / "svm" / "settings.json").write_text(json.dumps(facts))


def test_a_model_that_finds_nothing_is_told_so_in_terminal_report_and_card(tmp_path, capsys):
    run = make_run(tmp_path, patients=60, copies=1)
    silent_model(run)
    told = [
        "its accuracy, 0.850, does not beat that of always saying normal, 0.850",
        "it finds fewer than half of the slices of class bleed (sensitivity 0.000)",
    ]
    assert main(["compare", "--run", str(tmp_path), "--resamples", "200"]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert [line for line in out.splitlines() if line.startswith("warning")] == [
        f"warning: svm: {sentence}" for sentence in told
    ]
    assert ["svm", "always", "normal"] in lines
    (ninety,) = [line for line in lines if line[:4] == ["svm", "for", "90%", "sensitivity"]]
    assert float(ninety[4]) < 0.5 < float(ninety[5])
    # At 0.5 it decides by itself, so that stands there once.
    assert [line[1] for line in lines if line[:1] == ["svm"] and len(line) > 3] == ["own", "for", "for"]
    assert main(["report", "--run", str(tmp_path), "--resamples", "200"]) == 0
    page, card = ((tmp_path / name).read_text() for name in ("report.html", "MODEL_CARD.md"))
    for sentence in told:
        assert page.count(sentence) == 2  # before all figures, and under the table
        assert f"- **{sentence}**" in card
    assert '<th scope="col">always normal</th>' in page
    assert "svm for 90% specificity" in page
    assert "Always normal would have accuracy 0.850, sensitivity 0.000, specificity 1.000" in card


def test_a_threshold_of_before_that_these_slices_chose_is_noted(tmp_path):
    run = make_run(tmp_path, patients=60, copies=1)
    silent_model(run)
    settings = run.path / "svm" / "settings.json"
    facts = {"head": "svm", "threshold": 0.2, "threshold_rule": "youden"}
    noted = {}
    for name, more in (("before", {}), ("now", {"fold_thresholds": [0.2]})):
        settings.write_text(json.dumps(facts | more))
        found = {part: compare(run, part=part, resampling=QUICK).notes for part in ("cv", "test")}
        noted[name] = [part for part, notes in found.items() if "chose its threshold" in " ".join(notes)]
    assert noted == {"before": ["cv"], "now": []}


def test_a_head_is_told_so_after_its_training(tmp_path, capsys):
    run = make_run(tmp_path, patients=60, copies=1, signal=0.2)
    command = ["svm", "--run", str(tmp_path), "--grid", "C=1e-3"]
    assert main([*command, "--threshold", "0.9"]) == 0
    out = capsys.readouterr().out
    assert "warning: svm: it finds fewer than half of the test slices of class bleed (sensitivity" in out
    assert "svm at threshold 0.9\n" in out
    assert main([*command]) == 0
    assert f"svm at threshold {run.settings('svm')['threshold']:g} (youden, out of fold)" in (
        capsys.readouterr().out
    )


def test_cross_validation_has_the_same_column_and_words(tmp_path, capsys):
    run = make_run(tmp_path, patients=30, copies=1, signal=0.2)
    assert main(["svm", "--run", str(run.path), "--grid", "C=1e-3", "--threshold", "0.9"]) == 0
    capsys.readouterr()
    assert main(["compare", "--run", str(run.path), "--cv", "3x2", "--resamples", "200"]) == 0
    out = capsys.readouterr().out
    kept = json.loads((tmp_path / "compare_cv.json").read_text())
    share = np.mean([row.label == "normal" for row in run.manifest()])
    assert kept["baseline"]["accuracy"] == {"mean": pytest.approx(share)}
    assert "always normal" in out
    mean = kept["models"]["svm"]["sensitivity"]["mean"]
    assert f"fewer than half of the slices of class bleed (sensitivity {mean:.3f})" in out


def test_python_has_the_same_column_points_and_words(tmp_path):
    run = make_run(tmp_path, patients=60, copies=1)
    silent_model(run)
    found = haemo.Run(tmp_path).compare(resamples=200)
    assert found.baseline["always normal"]["accuracy"].value == found.models["svm"]["accuracy"].value
    assert "always normal" in repr(found)
    assert "<th" in found._repr_html_()
    assert "warning: svm: it finds fewer than half" in repr(found)
    assert list(found.points["svm"]) == [OWN, *POINTS]
