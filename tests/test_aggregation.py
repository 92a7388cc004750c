"""Studies and patients from slices, against a plain loop."""

from dataclasses import replace

import numpy as np
import pytest
from scored import make_predictions

from models.errors import BadSettings
from pipeline.evaluation.aggregation import TOP_SLICES, Aggregation, aggregate
from pipeline.evaluation.metrics import evaluate


def with_studies():
    p = make_predictions(n=50, patients=7, seed=2)
    return replace(p, study=np.array([f"scan{i % 3}" for i in range(50)]))


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
