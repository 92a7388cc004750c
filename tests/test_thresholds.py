"""The operating point: held to scikit-learn's ROC curve and to counting by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from haemo.errors import BadSettings
from haemo.models.heads.thresholds import parse_threshold

slices = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.71, 0.9, 1.0])),
    min_size=2,
    max_size=40,
).filter(lambda drawn: len({positive for positive, _ in drawn}) == 2)


def reached(positive: np.ndarray, chance: np.ndarray, threshold: float) -> tuple[float, float]:
    """Sensitivity and specificity, counted."""
    called = chance >= threshold
    return called[positive].mean(), (~called)[~positive].mean()


@pytest.mark.numerical
@settings(deadline=None, max_examples=60)
@given(slices)
def test_youden_finds_the_largest_sum_on_the_roc_curve(drawn):
    positive, chance = np.array([p for p, _ in drawn]), np.array([c for _, c in drawn])
    threshold = parse_threshold("youden").choose(positive, chance)
    false_alarms, sensitivity, _ = roc_curve(positive, chance, drop_intermediate=False)
    expected = (sensitivity - false_alarms)[1:].max()
    assert sum(reached(positive, chance, threshold)) - 1 == pytest.approx(expected)


@pytest.mark.numerical
@settings(deadline=None, max_examples=60)
@given(slices, st.sampled_from([0.05, 0.5, 0.8, 0.95, 1.0]))
def test_a_wanted_sensitivity_is_reached_by_the_highest_threshold_that_does(drawn, wanted):
    positive, chance = np.array([p for p, _ in drawn]), np.array([c for _, c in drawn])
    threshold = parse_threshold(f"sensitivity={wanted}").choose(positive, chance)
    assert reached(positive, chance, threshold)[0] >= wanted - 1e-12
    for higher in np.unique(chance)[np.unique(chance) > threshold][1:]:
        assert reached(positive, chance, higher)[0] < wanted


@pytest.mark.numerical
@settings(deadline=None, max_examples=60)
@given(slices, st.sampled_from([0.05, 0.5, 0.8, 0.95, 1.0]))
def test_a_wanted_specificity_is_kept_by_the_lowest_threshold_that_does(drawn, wanted):
    positive, chance = np.array([p for p, _ in drawn]), np.array([c for _, c in drawn])
    threshold = parse_threshold(f"specificity={wanted}").choose(positive, chance)
    assert reached(positive, chance, threshold)[1] >= wanted - 1e-12
    for lower in np.unique(chance)[np.unique(chance) < threshold]:
        assert reached(positive, chance, lower)[1] < wanted


def test_the_threshold_lies_between_the_classes_where_they_separate():
    positive = np.array([False, False, True, True])
    chance = np.array([0.1, 0.2, 0.6, 0.8])
    assert parse_threshold("youden").choose(positive, chance) == pytest.approx(0.4)
    assert parse_threshold("0.3").choose(positive, chance) == 0.3


@pytest.mark.parametrize("text", ["0.5", "youden", "sensitivity=0.95", "specificity=0.9"])
def test_a_rule_reads_back_from_its_text(text):
    assert str(parse_threshold(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "0", "1", "1.5", "nan", "half", "sensitivity", "sensitivity=", "sensitivity=2", "=0.5", "f1=0.5"],
)
def test_other_rules_are_refused(text):
    with pytest.raises(BadSettings, match="threshold"):
        parse_threshold(text)
