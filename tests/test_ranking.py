"""Rankings without groups of patients, all at once: as one after the other, and as scikit-learn has it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import make_predictions, make_several
from sklearn.metrics import average_precision_score, roc_auc_score

from haemo.pipeline.evaluation import intervals, ranking
from haemo.pipeline.evaluation.aggregation import aggregate
from haemo.pipeline.evaluation.intervals import figures_left_out
from haemo.pipeline.evaluation.jackknife import Groups
from haemo.pipeline.evaluation.ranking import Ranking
from haemo.pipeline.evaluation.set_tallies import tally_of

pytestmark = pytest.mark.numerical


def slices(seed, patients, count, levels, share):
    """Scores with `levels` different values, classes, and a patient each."""
    rng = np.random.default_rng(seed)
    patient = np.r_[np.arange(patients), rng.integers(0, patients, count)]
    positive = rng.random(len(patient)) < share
    scores = rng.normal(size=len(patient)) + positive + rng.normal(size=patients)[patient]
    edges = np.quantile(scores, np.linspace(0, 1, levels + 1))
    return np.searchsorted(edges, scores).astype(float), positive, patient


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.integers(0, 400),
    st.sampled_from([1, 2, 7, 1000]),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.integers(1, 50),
)
def test_without_all_groups_at_once_is_without_each_in_turn(seed, patients, count, levels, share, most):
    ranked = Ranking(*slices(seed, patients, count, levels, share))
    groups = Groups.deal(patients, most, seed)
    in_turn = [ranked.weighted(weights) for weights in groups.weights()]
    areas, precisions = ranked.without(groups.group)
    assert np.array_equal(areas, np.concatenate([one[0] for one in in_turn]), equal_nan=True)
    expected = np.concatenate([one[1] for one in in_turn])
    np.testing.assert_allclose(precisions, expected, rtol=1e-12, atol=1e-15)


def test_ranges_in_small_blocks_do_not_change_a_figure(monkeypatch):
    ranked, groups = Ranking(*slices(3, 30, 600, 1000, 0.3)), Groups.deal(30, 2000, 0)
    whole = ranked.without(groups.group)[1]
    monkeypatch.setattr(ranking, "_BLOCK_ELEMENTS", 5)
    np.testing.assert_allclose(ranked.without(groups.group)[1], whole, rtol=1e-14)


def test_without_a_group_is_what_scikit_learn_says_of_the_other_slices():
    scores, positive, patient = slices(1, 300, 5000, 400, 0.2)
    groups = Groups.deal(300, 20, 0)
    areas, precisions = Ranking(scores, positive, patient).without(groups.group)
    for number in range(20):
        left = groups.group[patient] != number
        assert areas[number] == pytest.approx(roc_auc_score(positive[left], scores[left]), rel=1e-13)
        expected = average_precision_score(positive[left], scores[left])
        assert precisions[number] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "answers",
    [
        make_predictions(n=300, patients=40),
        make_predictions(n=300, patients=40, classes=("normal", "epidural", "subdural")),
        aggregate(make_several(), "study", "max"),
    ],
    ids=["two classes", "three classes", "sets of classes"],
)
def test_many_patients_left_out_give_the_figures_that_few_do(answers, monkeypatch):
    tally = tally_of(answers)
    groups = Groups.deal(len(tally.patients), 2000, 0)
    in_turn, each_in_turn = figures_left_out(tally, groups)
    monkeypatch.setattr(intervals, "AT_ONCE", 0)
    at_once, each_at_once = figures_left_out(tally, groups)
    for found, expected in (
        (at_once, in_turn),
        *((each_at_once[one], each_in_turn[one]) for one in tally.classes),
    ):
        assert list(found) == list(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)
