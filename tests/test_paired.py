"""Paired tests against statsmodels and against their definitions, written out slowly."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from haemo.errors import BadDataset
from haemo.pipeline.evaluation.paired import delong, exact_mcnemar, holm, patient_sign_test

pytestmark = pytest.mark.numerical


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


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), coarse=st.booleans())
def test_patients_with_many_slices_are_handled_as_obuchowski_does(seed, coarse):
    positive, first, second, patient = two_models(seed, coarse=coarse)
    found = delong(positive, first, second, patient)
    assert found.variance == pytest.approx(max(slow_obuchowski(positive, first, second, patient), 0))


def test_repeating_slices_makes_delong_surer_but_not_obuchowski():
    positive, first, second, _ = two_models(4)
    each = np.arange(60)
    once = delong(positive, first, second).variance
    assert delong(positive, first, second, each).variance == pytest.approx(once)
    again = [np.tile(x, 5) for x in (positive, first, second)]
    assert delong(*again).variance == pytest.approx(once / 5, rel=0.05)
    assert delong(*again, np.tile(each, 5)).variance == pytest.approx(once)


def test_a_variance_of_zero_with_different_areas_gives_no_p():
    positive = np.arange(20) < 10
    assert np.isnan(delong(positive, positive.astype(float), np.zeros(20)).p)


def test_models_that_rank_alike_do_not_differ():
    positive, first, _, patient = two_models(1)
    assert delong(positive, first, first * 2 + 1).p == 1
    assert delong(positive, first, np.exp(first), patient).p == 1


def test_too_few_of_a_class_cannot_be_compared():
    positive, first, second, _ = two_models(1)
    with pytest.raises(BadDataset, match="two slices of each class; there are 1 and 59"):
        delong(np.arange(60) == 5, first, second)
    with pytest.raises(BadDataset, match="two patients with each class; there are 1 and 1"):
        delong(positive, first, second, np.where(positive, "a", "b"))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_that_of_statsmodels(b, c):
    expected = mcnemar([[10, b], [c, 10]], exact=True).pvalue if b + c else 1.0
    assert exact_mcnemar(b, c) == pytest.approx(expected)
    difference = np.array([1] * b + [-1] * c + [0] * 5)
    assert patient_sign_test(difference, np.arange(len(difference))) == pytest.approx(expected)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 1)), min_size=1, max_size=25))
def test_the_patient_sign_test_counts_all_exchanges(rows):
    patient, difference = (np.array(column) for column in zip(*rows, strict=True))
    sums = [difference[patient == name].sum() for name in sorted(set(patient))]
    totals = [abs(np.dot(signs, sums)) >= abs(sum(sums)) for signs in product((-1, 1), repeat=len(sums))]
    assert patient_sign_test(difference, patient) == pytest.approx(np.mean(totals))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values):
    with pytest.MonkeyPatch.context() as patch:
        # statsmodels calls it each time, and it takes long in a process that has imported much.
        patch.setattr("gc.collect", lambda: 0)
        expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected)
