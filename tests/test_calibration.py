import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from haemo.errors import BadSettings
from haemo.models.heads.calibration import (
    CalibratedHead,
    SigmoidCalibrator,
    cross_calibrated,
    cross_thresholds,
    fit_calibrators,
    probabilities,
)
from haemo.models.heads.thresholds import parse_threshold


def clouds(n=150, classes=2, seed=0, spread=1.5):
    """Overlapping Gaussian clouds, one a class."""
    random = np.random.default_rng(seed)
    y = random.integers(classes, size=n)
    return (random.normal(size=(n, 5)) * spread + y[:, None]).astype(np.float32), y


@pytest.mark.numerical
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_probabilities_are_those_of_scikit_learn(classes, method):
    X, y = clouds(classes=classes)
    folds = list(StratifiedKFold(5).split(X, y))
    peer = CalibratedClassifierCV(LinearSVC(), method=method, cv=folds, ensemble=False).fit(X, y)
    ours = CalibratedHead(LinearSVC(), method=method, cv=folds).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X), atol=2e-5)
    np.testing.assert_array_equal(
        CalibratedHead(LinearSVC(), method=method).fit(X, y).predict(X), ours.predict(X)
    )


@pytest.mark.numerical
@settings(max_examples=30, deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(-1e3, 1e3), st.integers(0, 9))
def test_a_sigmoid_does_not_depend_on_the_scale_of_the_scores(scale, shift, seed):
    random = np.random.default_rng(seed)
    is_class = np.arange(60) % 3 == 0
    scores = random.normal(size=60) + is_class
    plain = SigmoidCalibrator().fit(scores, is_class).predict(scores)
    moved = scale * (scores + shift)
    np.testing.assert_allclose(SigmoidCalibrator().fit(moved, is_class).predict(moved), plain, atol=1e-6)


@pytest.mark.numerical
def test_a_sigmoid_is_the_optimum_of_its_likelihood():
    X, y = clouds()
    scores = X.sum(axis=1).astype(float)
    fitted = SigmoidCalibrator().fit(scores, y == 1)
    positives, negatives = (y == 1).sum(), (y == 0).sum()
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(slope, intercept):
        logit = slope * scores + intercept
        return (np.logaddexp(0, logit) - target * logit).sum()

    best = loss(fitted.slope_, fitted.intercept_)
    for nudge in ((1e-4, 0), (-1e-4, 0), (0, 1e-4), (0, -1e-4)):
        assert loss(fitted.slope_ + nudge[0], fitted.intercept_ + nudge[1]) > best


@pytest.mark.numerical
@pytest.mark.parametrize("scores", [np.zeros(10), np.arange(10.0), np.repeat([-1e9, 1e9], 5)])
def test_equal_and_separated_scores_give_probabilities_between_0_and_1(scores):
    chances = SigmoidCalibrator().fit(scores, np.arange(10) >= 5).predict(scores)
    assert ((chances > 0) & (chances < 1)).all()
    assert chances[-1] >= chances[0]


def test_log_odds_go_without_calibration():
    X, y = clouds(classes=3)
    X = X.astype(np.float64)
    for labels in (y, np.minimum(y, 1)):
        softmax = LogisticRegression().fit(X, labels)
        ours = CalibratedHead(LogisticRegression(), method="none", cv=2).fit(X, labels)
        np.testing.assert_allclose(ours.predict_proba(X), softmax.predict_proba(X), rtol=1e-9)


def test_an_unknown_method_is_refused():
    with pytest.raises(BadSettings, match="sigmoid, isotonic, none"):
        fit_calibrators(np.zeros(4), np.array([0, 1, 0, 1]), "beta")


def test_classes_that_no_calibrator_believes_in_share_alike():
    scores = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    chances = probabilities(scores, fit_calibrators(scores[:3], np.array([0, 1, 2]), "isotonic"))
    np.testing.assert_allclose(chances[-1], 1 / 3)
    np.testing.assert_allclose(chances.sum(axis=1), 1)


def test_out_of_fold_probabilities_come_from_the_other_folds():
    X, y = clouds()
    scores, folds = X.sum(axis=1), np.arange(len(y)) % 5
    chances = cross_calibrated(scores, y, folds, "sigmoid")
    others = folds != 2
    expected = SigmoidCalibrator().fit(scores[others], y[others] == 1).predict(scores[~others])
    np.testing.assert_array_equal(chances[~others, 1], expected)


@pytest.mark.parametrize("rule", ["youden", "sensitivity=0.9", "0.3"])
def test_the_threshold_of_a_fold_is_chosen_by_the_others(rule):
    rule = parse_threshold(rule)
    rng = np.random.default_rng(0)
    y, folds = rng.integers(2, size=60), np.arange(60) % 3
    scores = rng.normal(size=60) + y
    found = cross_thresholds(scores, y, folds, "sigmoid", rule)
    for fold in range(3):
        own, first, second = (folds == (fold + step) % 3 for step in range(3))
        chances = np.empty(60)
        for judged, fitted in ((first, second), (second, first)):
            chances[judged] = SigmoidCalibrator().fit(scores[fitted], y[fitted] == 1).predict(scores[judged])
        assert np.unique(found[own]) == rule.choose(y[~own] == 1, chances[~own])


def test_a_threshold_finds_nothing_in_noise():
    # On the slices that chose it, Youden's threshold has a balanced accuracy of 0.59 here.
    y, folds, rule = np.arange(30) % 2, np.arange(30) // 2 % 5, parse_threshold("youden")
    shares = []
    for seed in range(100):
        scores = np.random.default_rng(seed).normal(size=30)
        chances = cross_calibrated(scores, y, folds, "sigmoid")[:, 1]
        named = chances >= cross_thresholds(scores, y, folds, "sigmoid", rule)
        shares.append((named[y == 1].mean() + 1 - named[y == 0].mean()) / 2)
    assert np.mean(shares) < 0.53


def test_a_class_that_one_fold_has_alone_still_gets_probabilities():
    y = np.array([0, 0, 0, 0, 1, 1])
    chances = cross_calibrated(np.arange(6.0), y, np.array([0, 0, 1, 1, 1, 1]), "sigmoid")
    assert np.isfinite(chances).all()


@pytest.mark.numerical
@pytest.mark.parametrize("estimator", [LinearSVC(), SVC(), LogisticRegression()])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_score_is_the_same_bit_for_bit_whatever_it_is_scored_with(estimator, classes):
    X, y = clouds(classes=classes)
    wide = np.random.default_rng(1).normal(size=(len(X), 700)).astype(np.float32)
    wide[:, :5] += X
    head = CalibratedHead(estimator, cv=3).fit(wide, y)
    together = head.decision_function(wide)
    alone = np.concatenate([head.decision_function(wide[i : i + 1]) for i in range(len(wide))])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(head.decision_function(wide[13:120]), together[13:120])


def test_the_order_of_the_classes_is_as_given_and_the_second_is_positive():
    X, y = clouds()
    names = np.array(["normal", "haemorrhage"])[y]
    head = CalibratedHead(LinearSVC(), classes=("normal", "haemorrhage")).fit(X, names)
    assert head.classes_.tolist() == ["normal", "haemorrhage"]
    assert head.decision_function(X)[y == 1].mean() > head.decision_function(X)[y == 0].mean()
    assert (head.predict(X) == names).mean() > 0.7


def test_the_threshold_is_on_the_probability():
    X, y = clouds()
    head = CalibratedHead(LinearSVC()).fit(X, y)
    chances = head.predict_proba(X)[:, 1]
    head.threshold = float(chances[7])
    np.testing.assert_array_equal(head.predict(X), chances >= chances[7])


def test_a_fitted_estimator_is_calibrated_without_fitting_it_again():
    X, y = clouds()
    fitted = LinearSVC().fit(X, y)
    weights = fitted.coef_.copy()
    folds = list(StratifiedKFold(5).split(X, y))
    scores = np.empty(len(y))
    for train, validation in folds:
        scores[validation] = clone(fitted).fit(X[train], y[train]).decision_function(X[validation])
    given = CalibratedHead(LinearSVC(), classes=(0, 1)).fit_calibration(fitted, scores, y)
    np.testing.assert_array_equal(given.estimator_.coef_, weights)
    np.testing.assert_allclose(
        given.predict_proba(X), CalibratedHead(LinearSVC(), cv=folds).fit(X, y).predict_proba(X), atol=1e-9
    )


def test_the_head_keeps_scikit_learns_contract():
    reason = "classes are chosen by a threshold on the probability, not by the sign of the score"
    check_estimator(
        CalibratedHead(LinearSVC(), cv=2),
        on_skip=None,
        expected_failed_checks={"check_classifiers_train": reason},
    )
