"""The heads' scaler: what varies is scaled as usual, what hardly ever answers is not magnified."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from haemo.models.heads.scaling import FlooredScaler, floored
from haemo.models.heads.spec import HeadSpec


def rare_units(n=60, common=6, rare=5, seed=0):
    """Units of which some are 0 on all rows but one."""
    random = np.random.default_rng(seed)
    X = random.normal(2, 1, (n, common + rare)) * np.linspace(3, 1, common + rare)
    X[1:, common:] = 0
    return X


@pytest.mark.numerical
def test_a_unit_that_hardly_ever_answers_is_not_magnified():
    X = rare_units()
    usual, ours = StandardScaler().fit(X), FlooredScaler().fit(X)
    # One row of 60 that differs stands sqrt(59) deviations out, whatever the unit's height.
    np.testing.assert_allclose(usual.transform(X)[0, 6:], np.sqrt(59))
    assert abs(ours.transform(X)[0, 6:]).max() < 6
    middle = np.median(X.std(axis=0))
    np.testing.assert_allclose(ours.scale_, np.maximum(X.std(axis=0), middle))
    np.testing.assert_array_equal(ours.mean_, usual.mean_)


@pytest.mark.numerical
def test_at_least_half_of_the_units_are_scaled_as_usual():
    X = rare_units(common=11)
    same = np.isclose(FlooredScaler().fit(X).scale_, StandardScaler().fit(X).scale_)
    assert same.mean() >= 0.5


@pytest.mark.numerical
def test_units_that_are_constant_do_not_pull_the_floor_down():
    X = rare_units()
    wider = np.hstack([X, np.full((len(X), 50), 0.1)])
    np.testing.assert_array_equal(
        FlooredScaler().fit(wider).scale_[: X.shape[1]], FlooredScaler().fit(X).scale_
    )


@settings(deadline=None, max_examples=40)
@given(arrays.arrays(np.float64, (3, 7), elements=st.floats(0, 1e6) | st.just(0.0)), st.floats(1e-3, 1e3))
def test_the_floor_is_positive_and_follows_the_unit_of_measurement(spread, factor):
    found = floored(spread)
    assert (found > 0).all()
    assert (found >= spread).all()
    for row, raised in zip(spread, found, strict=True):
        if row.any():
            np.testing.assert_allclose(floored(row * factor), raised * factor, rtol=1e-9)


@pytest.mark.parametrize("name", ["svm", "softmax", "mlp"])
def test_every_head_has_it(name):
    assert type(HeadSpec(name).build().named_steps["scale"]) is FlooredScaler


def test_it_is_an_estimator_as_scikit_learn_asks():
    failed = {
        result["check_name"]
        for result in check_estimator(FlooredScaler(), on_skip=None, on_fail=None)
        if result["status"] == "failed"
    }
    assert failed == set()
