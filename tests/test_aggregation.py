"""Studies and patients from slices, against a plain loop."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scored import make_predictions

from haemo.errors import BadDataset, BadSettings
from haemo.pipeline.evaluation.aggregation import TOP_SLICES, Aggregation, aggregate
from haemo.pipeline.evaluation.comparison import compare
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.metrics import evaluate
from haemo.pipeline.predicting.slice_scores import SliceScores
from haemo.pipeline.run.directory import RunDirectory


def with_studies():
    p = make_predictions(n=50, patients=7, seed=2)
    return replace(p, study=np.array([f"scan{i % 3}" for i in range(50)]))


@pytest.mark.numerical
@pytest.mark.parametrize("how", list(Aggregation))
@pytest.mark.parametrize("by", ["study", "patient"])
def test_units_are_those_of_a_plain_loop(how, by):
    p = with_studies()
    found = aggregate(p, by, how)
    keys = sorted({(a, b if by == "study" else a) for a, b in zip(p.patient, p.study, strict=True)})
    assert [(a, b) for a, b in zip(found.patient, found.slice_id, strict=True)] == keys
    for row, (patient, unit) in enumerate(keys):
        own = (p.patient == patient) & ((p.study == unit) if by == "study" else True)
        probabilities = np.sort(p.probabilities[own])[::-1]
        expected = {
            Aggregation.MAX: probabilities[0],
            Aggregation.MEAN_TOP: probabilities[:TOP_SLICES].mean(),
            Aggregation.NOISY_OR: 1 - np.prod(1 - probabilities),
        }[how]
        assert found.probabilities[row] == pytest.approx(expected)
        assert (found.label[row] == "bleed") == np.any(p.label[own] == "bleed")
        assert (found.predicted[row] == "bleed") == (expected >= 0.5)


def test_the_highest_slice_decides_at_whatever_threshold_was_used():
    p = with_studies()
    p = replace(p, predicted=np.where(p.probabilities >= 0.9, "bleed", "normal"))
    found = aggregate(p, "patient", "max")
    assert (found.predicted == "bleed").tolist() == (found.probabilities >= 0.9).tolist()
    assert evaluate(aggregate(p, "patient", "max", threshold=0.0))["sensitivity"] == 1


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("how", list(Aggregation))
def test_a_threshold_is_what_a_units_probability_is_held_against(how, threshold):
    p = with_studies()
    found = aggregate(p, "study", how, threshold)
    assert (found.predicted == "bleed").tolist() == (found.probabilities >= threshold).tolist()
    # So that another threshold would be seen.
    shares = [np.mean(found.probabilities >= value) for value in (0.2, 0.5, 0.9)]
    assert len(set(shares)) == 3


@pytest.mark.parametrize("how", list(Aggregation))
def test_compare_judges_the_studies_that_predict_names(tmp_path, how):
    rng = np.random.default_rng(0)
    study = np.repeat(np.array([f"p{number:02d}" for number in range(60)]), 10)
    sick = (rng.random(60) < 0.4).repeat(10) & (rng.random(600) < 0.3)
    scores = rng.normal(size=600) + 1.6 * sick - 3.5
    slices = SliceScores(
        paths=tuple(Path(f"x{number}") for number in range(600)),
        studies=tuple(study),
        positions=(None,) * 600,
        outside=("",) * 600,
        classes=("normal", "bleed"),
        threshold=0.2,
        scores=scores,
        probabilities=1 / (1 + np.exp(-scores)),
        predicted=np.where(1 / (1 + np.exp(-scores)) >= 0.2, "bleed", "normal"),
        failures=(),
    )
    run = RunDirectory(tmp_path)
    answers = replace(slices._as_predictions(study), label=np.where(sick, "bleed", "normal"))
    (tmp_path / "svm").mkdir()
    answers.write(tmp_path / "svm" / "predictions.csv")
    (tmp_path / "svm" / "settings.json").write_text(json.dumps({"threshold": 0.2}))
    named = np.array([row["predicted"] for row in slices.study_rows(how)])
    has = sick.reshape(60, 10).any(axis=1)
    judged = compare(run, by="study", how=how, resampling=Resampling(100)).models["svm"]["confusion"]
    assert judged == [[np.sum((named == c) & (has == h)) for c in ("normal", "bleed")] for h in (False, True)]
    # So that a study held against 0.5 would be seen.
    assert judged != evaluate(aggregate(answers, "study", how, threshold=0.5))["confusion"]


def some_clear():
    """Patients of whom about half have no bleed and low probabilities of one."""
    p = with_studies()
    clear = p.patient < "p04"
    scores = p.scores - np.where(clear, 3, 1)
    probabilities = 1 / (1 + np.exp(-scores))
    return replace(
        p,
        label=np.where(clear, "normal", p.label),
        scores=scores,
        probabilities=probabilities,
        predicted=np.where(probabilities >= 0.5, "bleed", "normal"),
    )


def turned(p):
    """The same predictions with the classes the other way round, so that normal is the positive one."""
    return replace(p, classes=p.classes[::-1], scores=-p.scores, probabilities=1 - p.probabilities)


class TestNormalAsThePositiveClass:
    @pytest.mark.numerical
    @pytest.mark.parametrize("threshold", [None, 0.3, 0.6])
    @pytest.mark.parametrize("how", list(Aggregation))
    @pytest.mark.parametrize("by", ["study", "patient"])
    def test_units_are_those_with_the_bleed_as_the_positive_class(self, by, how, threshold):
        p = some_clear()
        bleed = aggregate(p, by, how, threshold)
        normal = aggregate(turned(p), by, how, None if threshold is None else 1 - threshold)
        assert normal.classes == ("bleed", "normal")
        assert normal.slice_id.tolist() == bleed.slice_id.tolist()
        assert normal.label.tolist() == bleed.label.tolist()
        assert normal.predicted.tolist() == bleed.predicted.tolist()
        assert len(set(bleed.label)) == len(set(bleed.predicted)) == 2
        np.testing.assert_allclose(normal.probabilities, 1 - bleed.probabilities, rtol=0, atol=1e-12)
        np.testing.assert_allclose(normal.scores, -bleed.scores, rtol=0, atol=1e-9)
        one, other = evaluate(normal), evaluate(bleed)
        assert one["accuracy"] == other["accuracy"]
        assert one["mse"] == pytest.approx(other["mse"])
        for name in p.classes:
            mine, theirs = dict(one["per_class"][name]), dict(other["per_class"][name])
            assert mine.pop("undefined") == theirs.pop("undefined")
            assert mine == pytest.approx(theirs)

    def test_one_normal_slice_does_not_make_a_patient_normal(self):
        p = turned(make_predictions(n=4, patients=1))
        p = replace(
            p,
            patient=np.array(["bleeds", "bleeds", "clear", "clear"]),
            label=np.array(["normal", "bleed", "normal", "normal"]),
            predicted=np.array(["normal", "bleed", "normal", "normal"]),
            probabilities=np.array([0.9, 0.2, 0.9, 0.8]),
        )
        for how, expected in (("max", [0.2, 0.8]), ("mean-top", [0.55, 0.85]), ("noisy-or", [0.18, 0.72])):
            found = aggregate(p, "patient", how)
            assert found.label.tolist() == ["bleed", "normal"]
            np.testing.assert_allclose(found.probabilities, expected)

    @pytest.mark.parametrize("how", list(Aggregation))
    @pytest.mark.parametrize("threshold", [0.0, 0.1, 0.4, 0.9, 1.0])
    def test_a_threshold_is_on_the_probability_of_normal(self, how, threshold):
        found = aggregate(turned(with_studies()), "patient", how, threshold)
        assert (found.predicted == "normal").tolist() == (found.probabilities >= threshold).tolist()

    def test_without_a_background_the_second_class_is_what_any_slice_decides(self):
        p = make_predictions(n=50, patients=7, classes=("epidural", "subdural"))
        found = aggregate(p, "patient", "max")
        for row, name in enumerate(found.patient):
            own = p.patient == name
            assert (found.label[row] == "subdural") == np.any(p.label[own] == "subdural")
            assert found.probabilities[row] == p.probabilities[own].max()

    @pytest.mark.numerical
    def test_certain_units_stay_in_order(self):
        p = turned(make_predictions(n=60, patients=2))
        p = replace(p, patient=np.where(np.arange(60) < 30, "bleeds", "bleeds more"))
        p = replace(p, probabilities=np.where(p.patient == "bleeds", 0.01, 0.001))
        found = aggregate(p, "patient", "noisy-or")
        assert 0 <= found.probabilities.max() < 1e-50
        assert found.scores[0] > found.scores[1]


def test_a_label_that_is_no_class_is_refused():
    p = with_studies()
    with pytest.raises(BadDataset, match="'tumour' is none of the classes"):
        aggregate(replace(p, label=np.where(np.arange(50) == 7, "tumour", p.label)), "study", "max")


@pytest.mark.numerical
def test_noisy_or_keeps_certain_units_in_order():
    p = make_predictions(n=60, patients=2)
    p = replace(p, patient=np.where(np.arange(60) < 30, "sure", "surer"))
    p = replace(p, probabilities=np.where(p.patient == "sure", 0.99, 0.999))
    found = aggregate(p, "patient", "noisy-or")
    assert found.probabilities.tolist() == [1.0, 1.0]
    assert found.scores[0] < found.scores[1]


def test_what_cannot_be_joined_is_refused():
    with pytest.raises(BadSettings, match="a threshold needs two classes; here there are 3"):
        aggregate(make_predictions(classes=("a", "b", "c")), "study", "max", threshold=0.4)
    with pytest.raises(BadSettings, match="not by 'scanner'"):
        aggregate(make_predictions(classes=("a", "b", "c")), "scanner", "max")
    with pytest.raises(BadSettings, match="not by 'scanner'"):
        aggregate(make_predictions(), "scanner", "max")
