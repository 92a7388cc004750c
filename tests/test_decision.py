"""Heads in torch against scikit-learn's own scores, and their gradients against differences."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC

from haemo.errors import BadSettings
from haemo.models.evidence.decision import decision_function
from haemo.models.heads.calibration import CalibratedHead
from haemo.models.heads.log_odds import LogOdds
from haemo.models.heads.spec import KERNELS, HeadSpec

pytestmark = pytest.mark.numerical

DIMENSION = 30
SPECS = [HeadSpec("svm"), HeadSpec("softmax"), HeadSpec("mlp"), *(HeadSpec("svm", name) for name in KERNELS)]


def data(n_classes, count=90):
    random = np.random.default_rng(3)
    y = np.arange(count) % n_classes
    X = random.normal(size=(count, DIMENSION)) * 3 + 5
    X[:, :4] += y[:, None] * random.normal(size=4) * 2
    return X.astype(np.float32), y


def fitted(spec, n_classes):
    X, y = data(n_classes)
    parameters = {"gamma": 0.02} if spec.kernel in ("rbf", "poly", "sigmoid") else {}
    return spec.build(**parameters).fit(X, y), X


def agrees(estimator, X):
    expected = estimator.decision_function(X)
    found = decision_function(estimator)(torch.from_numpy(X)).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.name} {spec.kernel or ''}")
def test_scores_are_those_of_scikit_learn(spec, n_classes):
    agrees(*fitted(spec, n_classes))


def test_gamma_scale_and_steps_before_the_head():
    X, y = data(3)
    agrees(make_pipeline(StandardScaler(), Normalizer(), PCA(5, whiten=True), SVC()).fit(X, y), X)
    agrees(make_pipeline(StandardScaler(with_mean=False), PCA(5), SVC(kernel="poly")).fit(X, y), X)
    agrees(make_pipeline(StandardScaler(with_std=False), SVC()).fit(X, y), X)
    for kernel in ("rbf", "poly", "sigmoid"):
        landmarks = Nystroem(kernel=kernel, n_components=20, random_state=0)
        agrees(make_pipeline(StandardScaler(), landmarks, SVC(kernel="linear")).fit(X, y), X)


def test_a_calibrated_head_stands_for_its_scores():
    X, y = data(2)
    head = CalibratedHead(HeadSpec("svm", "rbf").build(gamma=0.02)).fit(X, y)
    agrees(head, X)


def test_a_randomised_head_has_the_same_shape_and_other_scores():
    for n_classes in (2, 3):
        X, y = data(n_classes)
        head = decision_function(HeadSpec("softmax").build().fit(X, y))
        rows = torch.from_numpy(X)
        one, same, other = (head.randomised(seed)(rows) for seed in (1, 1, 2))
        assert one.shape == head(rows).shape
        assert torch.equal(one, same)
        assert not torch.allclose(one, other)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.name} {spec.kernel or ''}")
def test_gradients_are_those_of_differences(spec, n_classes):
    estimator, X = fitted(spec, n_classes)
    function = decision_function(estimator)
    rows = torch.from_numpy(X[:3].astype(np.float64)).requires_grad_()
    assert torch.autograd.gradcheck(function, (rows,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_another_classifier_is_called_and_has_no_gradients(n_classes):
    X, y = data(n_classes)
    head = make_pipeline(StandardScaler(), LogOdds(KNeighborsClassifier())).fit(X, y)
    agrees(head, X)
    assert not decision_function(head).has_gradients
    assert decision_function(make_pipeline(StandardScaler(), SVC()).fit(X, y)).has_gradients


def test_a_head_without_gradients_is_named():
    X, y = data(2)
    with pytest.raises(BadSettings, match="step KNeighborsClassifier cannot be explained by gradients"):
        decision_function(Pipeline([("head", KNeighborsClassifier().fit(X, y))]))
    with pytest.raises(BadSettings, match="kernel 'precomputed'"):
        decision_function(SVC(kernel="precomputed").fit(X @ X.T, y))
