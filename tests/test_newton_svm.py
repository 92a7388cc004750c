"""The SVM of few rows against scikit-learn's LinearSVC, solved as tightly as it can be."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from haemo.models.heads.scaling import FlooredScaler
from haemo.models.search import newton_svm
from haemo.models.search.newton_svm import newton_scores, scores_from_rows, standardised_kernel

pytestmark = pytest.mark.numerical


@pytest.mark.parametrize("c", [1e-5, 1e-3, 0.1, 10.0])
@pytest.mark.parametrize("features", [8, 200])
def test_scores_are_those_of_linear_svc(c, features):
    rng = np.random.default_rng(0)
    y = np.where(np.arange(90) % 4 == 0, 1.0, -1.0)
    x = rng.normal(size=(90, features)) * rng.uniform(0.5, 3, features) + 2 + 0.3 * y[:, None]
    training = rng.random(90) < 0.7
    costs = np.where(training, c * np.where(y > 0, 2.0, 0.7), 0.0)
    found = newton_scores(standardised_kernel(x, training, 10.0), y, costs)
    scaler = FlooredScaler().fit(x[training])
    svm = LinearSVC(C=c, class_weight={1: 2.0, -1: 0.7}, intercept_scaling=10.0, tol=1e-9, max_iter=200_000)
    svm.fit(scaler.transform(x[training]), y[training])
    assert found == pytest.approx(svm.decision_function(scaler.transform(x)), abs=1e-4)


def test_repeated_and_constant_columns_and_rows_are_no_obstacle():
    rng = np.random.default_rng(1)
    x = np.repeat(rng.normal(size=(20, 3)), 2, axis=0)
    x = np.column_stack([x, x, np.ones(40)]).astype(np.float32)
    y = np.where(np.arange(40) < 20, 1.0, -1.0)
    scores = newton_scores(standardised_kernel(x, np.ones(40, dtype=bool), 10.0), y, np.full(40, 1e3))
    assert np.isfinite(scores).all()
    assert scores[::2] == pytest.approx(scores[1::2])


@pytest.mark.parametrize("c", [1e-4, 0.1])
def test_starting_from_half_of_the_rows_ends_at_the_same_svm(c, monkeypatch):
    rng = np.random.default_rng(2)
    y = np.repeat([1.0, -1.0], 60)  # in order: the first half has one class only
    x = rng.normal(size=(120, 30)) + 0.3 * y[:, None]
    costs = c * (rng.random(120) < 0.8) * rng.uniform(0.5, 2, 120)
    kernel = standardised_kernel(x, costs > 0, 10.0)
    at_once = newton_scores(kernel, y, costs)
    monkeypatch.setattr(newton_svm, "_MOST_ROWS_AT_ONCE", 10)
    assert newton_scores(kernel, y, costs) == pytest.approx(at_once, abs=1e-9)


def test_several_svms_on_the_training_rows_alone_have_the_scores_of_the_whole_kernel():
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(70, 25)) * rng.uniform(0.5, 3, 25) + 5).astype(np.float32)
    training = rng.random(70) < 0.6
    targets = np.where(rng.random((70, 3)) < 0.4, 1.0, -1.0)
    costs = np.array([1e-3, 1e-2, 1.0]) * rng.uniform(0.5, 2, (70, 3))
    found = scores_from_rows(x, training, targets, costs, 10.0)
    kernel = standardised_kernel(x.astype(np.float64), training, 10.0)
    for one in range(3):
        expected = newton_scores(kernel, targets[:, one], np.where(training, costs[:, one], 0.0))
        assert found[:, one] == pytest.approx(expected, abs=1e-4)
