"""Paired tests against statsmodels and against their definitions, written out slowly."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from scored import make_predictions
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from haemo.pipeline.evaluation.intervals import figures_left_out
from haemo.pipeline.evaluation.jackknife import Estimate, Groups, difference
from haemo.pipeline.evaluation.paired import delong, exact_mcnemar, holm, patient_sign_test
from haemo.pipeline.evaluation.tallies import Tally


def slow_delong(positive, first, second):
    """DeLong, DeLong and Clarke-Pearson, formula by formula, over all pairs."""
    components = []
    for scores in (first, second):
        x, y = scores[positive][:, None], scores[~positive][None]
        wins = (x > y) + 0.5 * (x == y)
        components.append((wins.mean(axis=1), wins.mean(axis=0), wins.mean()))
    m, n = positive.sum(), (~positive).sum()
    s10 = np.cov(np.stack([c[0] for c in components]))
    s01 = np.cov(np.stack([c[1] for c in components]))
    s = s10 / m + s01 / n
    variance = s[0, 0] + s[1, 1] - 2 * s[0, 1]
    return variance, 2 * norm.sf(abs(components[0][2] - components[1][2]) / np.sqrt(variance))


def slow_obuchowski(positive, first, second, patient):
    """Obuchowski 1997 for two tests, with loops over patients and all four covariances kept apart."""
    m, n = positive.sum(), (~positive).sum()
    names = sorted(set(patient))
    areas, sums10, sums01 = [], [], []
    for scores in (first, second):
        x, y = scores[positive][:, None], scores[~positive][None]
        wins = (x > y) + 0.5 * (x == y)
        area = wins.mean()
        areas.append(area)
        sums10.append([np.sum((wins.mean(axis=1) - area)[patient[positive] == k]) for k in names])
        sums01.append([np.sum((wins.mean(axis=0) - area)[patient[~positive] == k]) for k in names])
    i10 = sum(np.any(patient[positive] == k) for k in names)
    i01 = sum(np.any(patient[~positive] == k) for k in names)
    i = len(names)
    a, b = np.array(sums10), np.array(sums01)

    def covariance(r, s):
        s10 = i10 / ((i10 - 1) * m) * np.sum(a[r] * a[s])
        s01 = i01 / ((i01 - 1) * n) * np.sum(b[r] * b[s])
        s11 = i / (i - 1) * np.sum(a[r] * b[s])
        s11_swapped = i / (i - 1) * np.sum(a[s] * b[r])
        return s10 / m + s01 / n + (s11 + s11_swapped) / (m * n)

    return covariance(0, 0) + covariance(1, 1) - 2 * covariance(0, 1)


def two_models(seed, n=60, patients=10, coarse=False):
    rng = np.random.default_rng(seed)
    positive = np.arange(n) % 3 == 0
    shared = rng.normal(size=n) + positive
    first, second = (shared + rng.normal(size=n) for _ in range(2))
    if coarse:
        first, second = np.round(first), np.round(second)
    return positive, first, second, rng.integers(patients, size=n)


@pytest.mark.numerical
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), coarse=st.booleans())
def test_delong_is_its_definition(seed, coarse):
    positive, first, second, _ = two_models(seed, coarse=coarse)
    found = delong(positive, first, second)
    variance, p = slow_delong(positive, first, second)
    assert found.variance == pytest.approx(variance)
    assert found.p == pytest.approx(p)
    assert found.first == pytest.approx(roc_auc_score(positive, first))
    assert found.second == pytest.approx(roc_auc_score(positive, second))


def left_out(positive, scores, patient):
    """The ROC area, and how it moves as patients are left out."""
    area = roc_auc_score(positive, scores)
    names, sizes = np.unique(patient), np.ones(len(np.unique(patient)), dtype=int)
    without = [roc_auc_score(positive[patient != name], scores[patient != name]) for name in names]
    return Estimate.of(area, np.array(without), sizes)


@pytest.mark.numerical
@pytest.mark.parametrize("coarse", [False, True])
def test_patients_left_out_give_the_variance_of_obuchowski(coarse):
    for seed in range(3):
        positive, first, second, patient = two_models(seed, n=600, patients=120, coarse=coarse)
        a, b = (left_out(positive, scores, patient) for scores in (first, second))
        expected = slow_obuchowski(positive, first, second, patient)
        assert np.sum((a.moves - b.moves) ** 2) == pytest.approx(expected, rel=0.1)
        z = (a.figure - b.figure) / np.sqrt(expected)
        assert difference(a, b, 0.95)[2] == pytest.approx(2 * norm.sf(abs(z)), abs=0.04)


@pytest.mark.numerical
def test_repeating_slices_makes_delong_surer_but_not_patients_left_out():
    positive, first, second, _ = two_models(4)
    each = np.arange(60)
    once = delong(positive, first, second).variance
    a, b = (left_out(positive, scores, each) for scores in (first, second))
    assert np.sum((a.moves - b.moves) ** 2) == pytest.approx(once, rel=0.05)
    again = [np.tile(x, 5) for x in (positive, first, second)]
    assert delong(*again).variance == pytest.approx(once / 5, rel=0.05)
    c, d = (left_out(again[0], scores, np.tile(each, 5)) for scores in again[1:])
    assert difference(c, d, 0.95) == pytest.approx(difference(a, b, 0.95))


def test_the_interval_of_a_difference_leaves_out_0_where_p_is_small():
    for seed in range(40):
        positive, first, second, patient = two_models(seed)
        a, b = (left_out(positive, scores, patient) for scores in (first, second))
        low, high, p = difference(a, b, 0.7)
        assert low < a.figure - b.figure < high
        assert (p < 0.3) == (low > 0 or high < 0)


@pytest.mark.numerical
def test_a_perfect_model_is_compared_as_it_is():
    positive, first, _, patient = two_models(1)
    perfect, other = left_out(positive, positive.astype(float), patient), left_out(positive, first, patient)
    low, high, p = difference(perfect, other, 0.95)
    assert (low + high) / 2 == pytest.approx(1 - other.figure)
    assert p < 0.05
    assert "whichever patient is left out" in difference(perfect, perfect, 0.95)


def test_equal_models_are_told_apart_as_often_as_the_level_says():
    """Of two models with equal areas one ranks patients better, and the other the slices within them."""
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(24), 5)
    p = replace(make_predictions(n=120), patient=patient.astype(str))
    p = replace(p, label=np.where(patient < 10, "bleed", "normal"))
    groups = Groups.deal(24, 100, 0)
    found = []
    for _ in range(500):
        models = []
        for alike in (0.8, 0.2):
            noise = np.sqrt(alike) * rng.normal(size=24)[patient] + np.sqrt(1 - alike) * rng.normal(size=120)
            tally = Tally(replace(p, scores=noise + 1.2 * (patient < 10)))
            without = figures_left_out(tally, groups)[0]["roc_auc"]
            models.append(Estimate.of(tally.figures()["roc_auc"][0], without, groups.sizes))
        found.append(difference(*models, 0.95)[2])
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.075


@pytest.mark.numerical
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_that_of_statsmodels(b, c):
    expected = mcnemar([[10, b], [c, 10]], exact=True).pvalue if b + c else 1.0
    assert exact_mcnemar(b, c) == pytest.approx(expected)
    difference = np.array([1] * b + [-1] * c + [0] * 5)
    assert patient_sign_test(difference, np.arange(len(difference))) == pytest.approx(expected)


@pytest.mark.numerical
@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 1)), min_size=1, max_size=25))
def test_the_patient_sign_test_counts_all_exchanges(rows):
    patient, difference = (np.array(column) for column in zip(*rows, strict=True))
    sums = [difference[patient == name].sum() for name in sorted(set(patient))]
    totals = [abs(np.dot(signs, sums)) >= abs(sum(sums)) for signs in product((-1, 1), repeat=len(sums))]
    assert patient_sign_test(difference, patient) == pytest.approx(np.mean(totals))


@pytest.mark.numerical
@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values):
    with pytest.MonkeyPatch.context() as patch:
        # statsmodels calls it each time, and it takes long in a process that has imported much.
        patch.setattr("gc.collect", lambda: 0)
        expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected)
