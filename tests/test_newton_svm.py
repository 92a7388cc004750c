"""The SVM of few rows against scikit-learn's LinearSVC, solved as tightly as it can be."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from models.newton_svm import newton_scores, standardised_kernel
from models.scaling import FlooredScaler


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
