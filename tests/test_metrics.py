"""Figures of a model against scikit-learn, and what is said where they are undefined."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scored import make_predictions
from sklearn import metrics as sk

from haemo.errors import BadDataset, BadSettings
from haemo.pipeline.evaluation.metrics import METRICS, at_prevalence, classification_report, evaluate
from haemo.pipeline.evaluation.tallies import Tally
from haemo.pipeline.run.predictions import Predictions

pytestmark = pytest.mark.numerical


def sklearn_figures(p: Predictions, weight=None) -> dict[str, float]:
    """The same figures, slowly and separately."""
    y, named = p.label == p.classes[1], p.predicted == p.classes[1]
    options = {"sample_weight": weight}
    w = np.ones(len(p)) if weight is None else weight
    edges = np.minimum((p.probabilities * 10).astype(int), 9)
    gaps = [abs(np.sum(w[edges == b] * (y - p.probabilities)[edges == b])) for b in range(10)]
    return {
        "accuracy": sk.accuracy_score(y, named, **options),
        "balanced_accuracy": sk.balanced_accuracy_score(y, named, **options),
        "sensitivity": sk.recall_score(y, named, **options),
        "specificity": sk.recall_score(~y, ~named, **options),
        "ppv": sk.precision_score(y, named, zero_division=np.nan, **options),
        "npv": sk.precision_score(~y, ~named, zero_division=np.nan, **options),
        "f1": sk.f1_score(y, named, **options),
        "mcc": sk.matthews_corrcoef(y, named, **options),
        "threat_score": sk.jaccard_score(y, named, **options),
        "roc_auc": sk.roc_auc_score(y, p.scores, **options),
        "average_precision": sk.average_precision_score(y, p.scores, **options),
        "mse": sk.mean_squared_error(y, p.probabilities, **options),
        "brier": sk.brier_score_loss(y, p.probabilities, **options),
        "log_loss": sk.log_loss(y, p.probabilities, **options),
        "calibration_error": sum(gaps) / w.sum(),
    }


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(6, 80), coarse=st.booleans())
@example(seed=82, n=6, coarse=False)  # no slice is predicted as normal
def test_two_class_figures_are_those_of_scikit_learn(seed, n, coarse):
    predictions = make_predictions(n=n, seed=seed, coarse=coarse)
    found = evaluate(predictions)
    expected = sklearn_figures(predictions)
    for name, value in expected.items():
        if name not in found["undefined"]:
            assert found[name] == pytest.approx(value, abs=1e-12), name
    # scikit-learn gives MCC 0 where it is 0 / 0.
    assert {name for name, value in expected.items() if np.isnan(value)} == set(found["undefined"]) - {"mcc"}


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000), coarse=st.booleans())
def test_weighted_figures_are_those_of_scikit_learn_with_sample_weights(seed, coarse):
    predictions = make_predictions(seed=seed, coarse=coarse)
    tally = Tally(predictions)
    weights = np.random.default_rng(seed).integers(0, 4, size=(3, len(tally.patients)))
    found = tally.figures(weights)
    for row, each in enumerate(weights):
        expected = sklearn_figures(predictions, each[tally.patient].astype(float))
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=1e-12), name


def test_several_classes_are_averaged_plainly_and_listed_one_by_one():
    p = make_predictions(n=90, classes=("epidural", "none", "subdural"), seed=3)
    found = evaluate(p)
    assert found["average"] == "macro"
    assert found["positive"] is None
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(p.label, p.predicted))
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(p.label, p.predicted))
    assert found["f1"] == pytest.approx(sk.f1_score(p.label, p.predicted, average="macro"))
    assert found["balanced_accuracy"] == found["sensitivity"]
    assert found["log_loss"] == pytest.approx(sk.log_loss(p.label, p.probabilities, labels=p.classes))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(p.label, p.probabilities, labels=p.classes))
    assert found["mse"] == pytest.approx(found["brier"] / 3)
    for i, name in enumerate(p.classes):
        area = sk.roc_auc_score(p.label == name, p.scores[:, i])
        assert found["per_class"][name]["roc_auc"] == pytest.approx(area)
    assert found["confusion"] == sk.confusion_matrix(p.label, p.predicted, labels=p.classes).tolist()


def test_both_classes_of_two_are_listed_with_the_same_area():
    found = evaluate(make_predictions(coarse=True))
    bleed, normal = found["per_class"]["bleed"], found["per_class"]["normal"]
    assert bleed["sensitivity"] == normal["specificity"]
    assert bleed["roc_auc"] == pytest.approx(normal["roc_auc"])
    assert found["f1"] == bleed["f1"]


def test_a_threshold_replaces_the_predicted_column():
    p = make_predictions()
    assert evaluate(p, threshold=0.0)["sensitivity"] == 1
    assert evaluate(p, threshold=0.0)["specificity"] == 0
    assert evaluate(p, threshold=0.5)["confusion"] == evaluate(p)["confusion"]


def test_undefined_figures_are_absent_with_the_reason():
    p = make_predictions()
    only = p.select(p.label == "normal")
    found = evaluate(only)
    assert set(found["undefined"]) >= {"sensitivity", "roc_auc", "average_precision", "mcc"}
    assert found["undefined"]["roc_auc"] == "there is no slice of class bleed"
    assert "roc_auc" not in found
    silent = evaluate(p, threshold=1.0)
    assert silent["undefined"] == {
        "ppv": "no slice is predicted as bleed",
        "mcc": "all slices are of one class, or all are predicted as one class",
    }


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8), st.booleans())
def test_every_figure_is_either_there_or_explained(rows, two):
    classes = ("a", "b") if two else ("a", "b", "c")
    p = make_predictions(n=len(rows), classes=classes)
    names = np.array(classes)
    truth, named = (np.array(column) % len(classes) for column in zip(*rows, strict=True))
    object.__setattr__(p, "label", names[truth])
    object.__setattr__(p, "predicted", names[named])
    found = evaluate(p)
    for name in METRICS:
        assert (name in found) != (name in found["undefined"])
    for entry in (found, *found["per_class"].values()):
        assert all(entry["undefined"].values())
    json.dumps(found, allow_nan=False)


def test_ppv_and_npv_follow_the_prevalence():
    p = make_predictions()
    own = evaluate(p)
    share = float(np.mean(p.label == "bleed"))
    there = at_prevalence(own, share)
    assert there["ppv"] == pytest.approx(own["ppv"])
    assert there["npv"] == pytest.approx(own["npv"])
    assert at_prevalence(own, 0.01)["ppv"] < own["ppv"] < at_prevalence(own, 0.9)["ppv"]
    assert evaluate(p, prevalence=0.1)["at_prevalence"] == at_prevalence(own, 0.1)


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"prevalence": 0}, {"prevalence": 1}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(BadSettings, match="between 0 and 1"):
        evaluate(make_predictions(), **options)


def test_a_threshold_for_several_classes_is_refused():
    with pytest.raises(BadSettings, match="needs two classes; here there are 3"):
        evaluate(make_predictions(classes=("a", "b", "c")), threshold=0.5)


def test_labels_that_are_no_class_are_named():
    p = make_predictions()
    object.__setattr__(p, "label", np.where(np.arange(60) == 7, "tumour", p.label))
    with pytest.raises(BadDataset, match="'tumour' is none of the classes normal, bleed"):
        evaluate(p)
    with pytest.raises(BadDataset, match="no predictions"):
        evaluate(make_predictions().select(np.zeros(60, dtype=bool)))


def test_the_classification_report_lines_up():
    p = make_predictions(classes=("epidural", "none", "subdural"))
    p = replace(p, predicted=np.where(p.predicted == "none", "epidural", p.predicted))
    found = evaluate(p)
    for things in ("slices", "slices and rotated copies"):
        lines = classification_report(found, things).splitlines()
        assert lines[0].split() == ["class", "PPV", "sensitivity", "specificity", "F1", *things.split()]
        assert len({len(line) for line in lines}) == 1
        for line, name in zip(lines[1:], p.classes, strict=True):
            own = found["per_class"][name]
            figures = [own.get(metric) for metric in ("ppv", "sensitivity", "specificity", "f1")]
            shown = ["undefined" if value is None else f"{value:.3f}" for value in figures]
            assert line.split() == [name, *shown, str(np.sum(p.label == name))]
    assert "undefined" in lines[2]
