"""Always saying the same, held to a model that does so, and what is said of one that is no better."""

from dataclasses import replace

import numpy as np
import pytest
from scored import make_predictions, make_several

from haemo.pipeline.evaluation.aggregation import aggregate
from haemo.pipeline.evaluation.baseline import always_the_same, shortfalls
from haemo.pipeline.evaluation.metrics import METRICS, evaluate

OF_PROBABILITIES = {"mse", "brier", "log_loss", "calibration_error"}


def says(predictions, name):
    """A model that gives every slice this class, and the same scores to all."""
    one = predictions.classes.index(name)
    certain = np.zeros((len(predictions), len(predictions.classes)))
    certain[:, one] = 1.0
    if predictions.positive is not None:
        certain = certain[:, 1]
    return replace(
        predictions,
        predicted=np.full(len(predictions), name),
        scores=np.zeros_like(certain),
        probabilities=certain,
    )


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("predictions", "name"),
    [
        (make_predictions(n=61, seed=1), "normal"),
        (make_predictions(n=61, classes=("bleed", "normal")), "normal"),
        (make_predictions(n=62, classes=("epidural", "normal", "subdural")), "normal"),
        (make_predictions(n=61, classes=("epidural", "subdural")), "epidural"),  # the more frequent one
        (replace(make_predictions(), label=np.full(60, "normal")), "normal"),
        (replace(make_predictions(), label=np.full(60, "bleed")), "normal"),
    ],
    ids=["two", "normal is positive", "three", "no background", "no bleed", "no normal"],
)
def test_figures_are_those_of_a_model_that_always_says_so(predictions, name):
    found = always_the_same(evaluate(predictions))
    assert found["name"] == f"always {name}"
    oracle = evaluate(says(predictions, name))
    for metric in set(METRICS) - OF_PROBABILITIES:
        assert found.get(metric) == pytest.approx(oracle.get(metric)), metric
    assert set(found["undefined"]) == {metric for metric in METRICS if metric not in found}
    assert set(found["undefined"]) >= OF_PROBABILITIES


def test_patients_with_several_bleeds_at_once_are_judged_by_whole_sets():
    slices = make_several()
    found = always_the_same(evaluate(aggregate(slices, "patient", "max")))
    oracle = evaluate(aggregate(says(slices, "normal"), "patient", "max"))
    for metric in set(METRICS) - OF_PROBABILITIES:
        assert found.get(metric) == pytest.approx(oracle.get(metric)), metric
    bleeds = make_several(classes=("epidural", "subdural", "intraventricular"), patients=12)
    assert "accuracy" not in always_the_same(evaluate(aggregate(bleeds, "patient", "max")))


def named(bleeds_found, false_alarms, classes=("normal", "bleed")):
    """100 slices, 12 of which bleed."""
    label = np.array(["bleed"] * 12 + ["normal"] * 88)
    predicted = np.full(100, "normal")
    predicted[:bleeds_found] = "bleed"
    predicted[12 : 12 + false_alarms] = "bleed"
    return evaluate(replace(make_predictions(n=100, classes=classes), label=label, predicted=predicted))


@pytest.mark.parametrize("classes", [("normal", "bleed"), ("bleed", "normal")])
def test_a_model_that_is_no_better_than_saying_normal_is_told_so(classes):
    assert shortfalls(named(1, 1, classes)) == [
        "its accuracy, 0.880, does not beat that of always saying normal, 0.880",
        "it finds fewer than half of the slices of class bleed (sensitivity 0.083)",
    ]
    assert shortfalls(named(6, 5, classes), "patients") == []
    assert len(shortfalls(named(12, 20, classes))) == 1


def test_each_bleed_that_is_missed_is_named():
    several = make_predictions(n=90, classes=("epidural", "normal", "subdural"))
    missed = replace(several, predicted=np.where(several.label == "epidural", "normal", several.label))
    assert shortfalls(evaluate(missed)) == [
        "it finds fewer than half of the slices of class epidural (sensitivity 0.000)"
    ]
