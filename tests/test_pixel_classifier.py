"""Classifiers of pixels as plain arrays: the answers of scikit-learn, which are the oracle."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from haemo.errors import BadSettings, TooFewData
from haemo.models.pixels import pixel_classifier, trees
from haemo.models.pixels.pixel_classifier import KINDS, PixelClassifier, fit_pixels
from haemo.models.pixels.trees import BoostedTrees, _ShortCuts

ROUNDS = 15


def pixels(seed: int = 0, count: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, 6)).astype(np.float32)
    X[:, 4] = np.round(X[:, 4])  # ties, and values that are cuts themselves
    y = X[:, 0] + X[:, 1] * X[:, 2] + 0.5 * X[:, 4] + rng.normal(size=count) > 0.8
    return X, y, rng.uniform(0.5, 3, count), rng.integers(0, 12, count).astype(str)


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(pixel_classifier, "_ROUNDS", ROUNDS)
    monkeypatch.setattr(pixel_classifier, "_LEAST_LEAF", 5)


@pytest.mark.numerical
@given(st.integers(0, 2**31), st.integers(2, 31), st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_trees_say_what_scikit_learn_says(seed, leaves, rounds):
    X, y, weights, _ = pixels(seed % 1000, 500)
    fitted = HistGradientBoostingClassifier(
        max_iter=rounds, max_leaf_nodes=leaves, min_samples_leaf=2, early_stopping=False
    ).fit(X, y, sample_weight=weights)
    own = BoostedTrees.of(fitted)
    rng = np.random.default_rng(seed)
    on_cuts = rng.choice(own.cuts[np.isfinite(own.cuts)], (200, 6))  # beside what the trees were grown on
    for asked in (X, on_cuts, np.full((1, 6), 1e30), np.full((1, 6), -1e30)):
        np.testing.assert_allclose(own.scores(asked), fitted.decision_function(asked), atol=1e-5)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_places_among_cuts_are_those_of_a_search(drawn, are_near):
    cuts = np.unique(np.clip(np.array(drawn) * (1e-3 if are_near else 1), -3e38, 3e38))
    short = cuts.astype(np.float32)
    some = [0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf, 3e38, -3e38]
    beside = [short, *(np.nextafter(short, np.float32(way)) for way in (-np.inf, np.inf)), np.float32(some)]
    values = np.concatenate(beside)
    found = np.empty(len(values), dtype=np.intp)
    _ShortCuts(cuts).places(values, found)
    np.testing.assert_array_equal(found, [(cuts < value).sum() for value in values.astype(float)])


@pytest.mark.numerical
def test_the_same_numbers_in_32_and_in_64_bits_are_answered_alike():
    X, y, weights, patients = pixels()
    model = fit_pixels("trees", X, y, weights, patients).model
    np.testing.assert_array_equal(model.scores(X), model.scores(X.astype(np.float64)))
    np.testing.assert_array_equal(model.scores(X), model.scores(np.asfortranarray(X)))


@pytest.mark.numerical
def test_looked_up_together_trees_say_what_each_says_by_itself(monkeypatch):
    X, y, weights, patients = pixels()
    model = fit_pixels("trees", X, y, weights, patients).model
    together = model.scores(X, ((0.2, -1.0),))
    monkeypatch.setattr(trees, "_MOST_FEATURES_AT_ONCE", 5)
    np.testing.assert_array_equal(model.scores(X, ((0.2, -1.0),)), together)


def test_trees_of_more_than_256_numbers_a_pixel_too():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 300)).astype(np.float32)
    y = X[:, 290] + X[:, 3] > 0.3
    fitted = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5, early_stopping=False).fit(X, y)
    own = BoostedTrees.of(fitted)
    assert own.feature.max() >= 256
    again = BoostedTrees.of_arrays(own.arrays)
    np.testing.assert_allclose(again.scores(X), fitted.decision_function(X), atol=1e-5)
    assert BoostedTrees.of(fitted.fit(X[:, :256], y)).feature.dtype == np.uint8


def test_rows_that_are_surely_not_keep_the_sum_of_the_trees_so_far():
    X, y, weights, patients = pixels()
    model = fit_pixels("trees", X, y, weights, patients).model
    sums = []
    for count in (3, 7, len(model.splits)):
        splits = model.splits[:count].sum()
        fields = {name: getattr(model, name)[:splits] for name in ("feature", "cut", "first", "middle")}
        trees = {name: getattr(model, name)[:count] for name in ("values", "splits")}
        sums.append(replace(model, **fields, **trees).scores(X))
    first, second = np.quantile(sums[0], 0.4), np.quantile(sums[1], 0.7)
    expected = np.where(sums[0] < first, sums[0], np.where(sums[1] < second, sums[1], sums[2]))
    assert 0.2 < np.mean(sums[0] < first) < 0.5 < np.mean(sums[1] < second) < 0.9, "each limit stops some"
    found = model.scores(X, ((3 / ROUNDS, first), (0.5, second)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pixels_are_left_out_only_among_dark_ones(monkeypatch):
    X, y, weights, patients = pixels(count=9000)
    fitted = fit_pixels("trees", X, y, weights, patients)
    monkeypatch.setattr(pixel_classifier, "_SURELY_NOT", ())
    monkeypatch.setattr(pixel_classifier, "_DARK", -0.5)
    inside = np.random.default_rng(3).random((100, 120)) < 0.75
    # Smooth over the place, as descriptors of a slice are.
    rows, columns = np.nonzero(inside)
    smooth = np.stack([np.sin(rows / (5 + k) + k) + np.cos(columns / (9 - k)) for k in range(6)], axis=1)
    each, sparse = fitted.probability(smooth), fitted.probability_over(inside, smooth.__getitem__)
    kept = np.isclose(each, sparse, atol=1e-7)
    assert 0.1 < np.mean(~kept) < 0.9
    maps = np.full((2, *inside.shape), np.nan)
    maps[:, inside] = each, sparse
    for row, column in np.argwhere(inside)[~kept]:
        assert row % 2 or column % 2, "asked in any case"
        about = maps[0][max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        first = np.s_[(max(row - 1, 0) % 2) :: 2, (max(column - 1, 0) % 2) :: 2]
        assert maps[1][row, column] == pytest.approx(np.nanmax(about[first]), abs=1e-6)
        assert maps[1][row, column] < 1 / (1 + np.exp(0.5))


@pytest.mark.numerical
def test_more_rows_than_a_block_are_answered_alike():
    X, y, weights, patients = pixels(count=9000)
    model = fit_pixels("trees", X, y, weights, patients).model
    np.testing.assert_array_equal(model.scores(X)[5000:5050], model.scores(X[5000:5050]))
    assert model.scores(X[:0]).shape == (0,)


@pytest.mark.numerical
def test_logistic_is_scikit_learns_on_standardised_descriptors():
    X, y, weights, patients = pixels()
    own = fit_pixels("logistic", X, y, weights, patients)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    fitted.fit(X, y, logisticregression__sample_weight=weights)
    np.testing.assert_allclose(own.probability(X), fitted.predict_proba(X)[:, 1], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_as_frequent_as_they_say_and_survive_a_file(kind):
    X, y, _weights, patients = pixels(count=6000)
    fitted = fit_pixels(kind, X[:4000], y[:4000], np.ones(4000), patients[:4000])
    chances = fitted.probability(X[4000:])
    assert chances.dtype == np.float32
    assert abs(chances.mean() - y[4000:].mean()) < 0.04
    assert chances[y[4000:]].mean() > chances[~y[4000:]].mean() + 0.2
    again = PixelClassifier.of_arrays(kind, fitted.model.arrays)
    np.testing.assert_array_equal(again.probability(X[:100]), fitted.probability(X[:100]))


def test_what_cannot_be_learned_is_refused():
    X, y, weights, patients = pixels(count=200)
    with pytest.raises(TooFewData, match="pixels with blood and pixels without"):
        fit_pixels("trees", X, np.zeros(200, dtype=bool), weights, patients)
    with pytest.raises(TooFewData, match="3 patients who bleed"):
        fit_pixels("svm", X, y, weights, np.where(y, "one", patients))
    with pytest.raises(BadSettings, match="trees, logistic, svm"):
        fit_pixels("forest", X, y, weights, patients)
