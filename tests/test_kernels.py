"""Kernels from shared products: held to scikit-learn's own kernels and to SVC on the features."""

import numpy as np
import pytest
from embeddings import cohort
from sklearn.base import clone
from sklearn.metrics.pairwise import linear_kernel, polynomial_kernel, rbf_kernel, sigmoid_kernel
from sklearn.svm import SVC

from haemo.models.search.kernels import (
    KernelSpec,
    Products,
    fit_on_kernel,
    kernel_spec,
    memory_needed,
    on_embeddings,
)

pytestmark = pytest.mark.numerical

SPECS = {
    "linear": (KernelSpec("linear"), linear_kernel),
    "rbf": (KernelSpec("rbf", 0.01), lambda a, b: rbf_kernel(a, b, gamma=0.01)),
    "sigmoid": (
        KernelSpec("sigmoid", 0.002, coef0=-0.5),
        lambda a, b: sigmoid_kernel(a, b, gamma=0.002, coef0=-0.5),
    ),
    "poly": (
        KernelSpec("poly", 0.01, 3, 1.0),
        lambda a, b: polynomial_kernel(a, b, gamma=0.01, degree=3, coef0=1.0),
    ),
}


def rows(n, d=40, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) + 1.0


@pytest.mark.parametrize("name", SPECS)
def test_kernels_equal_those_of_scikit_learn(name):
    train, held_out = rows(150), rows(70, seed=1)
    spec, peer = SPECS[name]
    inner, across = Products(train, held_out).kernel(spec)
    np.testing.assert_allclose(inner, peer(train, train), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(across, peer(held_out, train), rtol=1e-10, atol=1e-12)


def test_the_torch_path_gives_the_same_products():
    train, held_out = rows(50), rows(20, seed=1)
    # Any name of a torch device but plain "cpu" takes the products there.
    there, here = Products(train, held_out, "cpu:0"), Products(train, held_out)
    np.testing.assert_allclose(there.inner, here.inner, rtol=1e-12)
    np.testing.assert_allclose(there.across, here.across, rtol=1e-12)


@pytest.mark.parametrize("name", SPECS)
def test_kernels_of_blocks_are_those_of_the_blocks_side_by_side(name):
    train, held_out = rows(90).astype(np.float32), rows(30, seed=1).astype(np.float32)
    spec, peer = SPECS[name]
    inner, across = Products(train, held_out, blocks=(7, 25, 8)).kernel(spec)
    wide, other = train.astype(np.float64), held_out.astype(np.float64)
    np.testing.assert_allclose(inner, peer(wide, wide), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(across, peer(other, wide), rtol=1e-10, atol=1e-12)


def test_one_set_of_products_serves_every_width():
    train = rows(80)
    products = Products(train)
    room = products.room()
    for gamma in (1e-3, 1e-2, 0.1):
        inner, across = products.kernel(KernelSpec("rbf", gamma), room)
        np.testing.assert_allclose(inner, rbf_kernel(train, gamma=gamma), rtol=1e-10)
        assert across is None
        assert (inner.diagonal() == 1.0).all()


def test_a_row_and_its_copy_are_no_distance_apart():
    train = np.vstack([rows(30), rows(30)])
    inner, across = Products(train, rows(30)).kernel(KernelSpec("rbf", 10.0))
    np.testing.assert_allclose(inner.diagonal(30), 1.0, atol=1e-10)
    np.testing.assert_allclose(across.diagonal(), 1.0, atol=1e-10)
    assert inner.max() <= 1.0


@pytest.mark.parametrize("gamma", ["scale", "auto", 0.02])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "sigmoid"])
def test_an_svm_from_a_kernel_is_the_svm_from_features(kernel, n_classes, gamma):
    data = cohort(120, classes=n_classes)
    X = (data.X - data.X.mean(axis=0)) / data.X.std(axis=0)
    # Solved to the last digit: at the default tolerance the last bits of a kernel decide which rows are left.
    svc = SVC(kernel=kernel, C=2.0, gamma=gamma, class_weight="balanced", coef0=0.5, tol=1e-10)
    peer = clone(svc).fit(X, data.y)
    spec = kernel_spec(svc, X.var(), X.shape[1])
    inner, _ = Products(X).kernel(spec)
    model = on_embeddings(svc, fit_on_kernel(svc, inner, data.y), spec, X)
    np.testing.assert_array_equal(model.support_, peer.support_)
    np.testing.assert_allclose(model.dual_coef_, peer.dual_coef_, atol=1e-9)
    new = rows(40, X.shape[1], seed=3)
    np.testing.assert_allclose(model.decision_function(new), peer.decision_function(new), atol=1e-9)
    np.testing.assert_array_equal(model.predict(new), peer.predict(new))
    assert model.get_params() == peer.get_params()
    assert set(vars(model)) == set(vars(peer))


def test_fitting_leaves_the_kernel_as_it_is():
    data = cohort(60)
    inner, _ = Products(data.X).kernel(KernelSpec("rbf", 0.01))
    before = inner.copy()
    fit_on_kernel(SVC(), inner, data.y)
    np.testing.assert_array_equal(inner, before)


def test_the_memory_estimate_grows_with_rows_and_with_kernels():
    one, two = memory_needed(1000, 250, 64, 1, 200), memory_needed(1000, 250, 64, 2, 200)
    assert two - one == 8 * 1000 * 1250
    assert memory_needed(100, 25, 90_000, 1, 0, 9_000) < 0.5 * memory_needed(100, 25, 90_000, 1, 0)
    assert memory_needed(2000, 500, 64, 1, 0) > 3.9 * memory_needed(1000, 250, 64, 1, 0)
