"""The block solver: held to LinearSVC, LogisticRegression and to its own optimality bound."""

import numpy as np
import pytest
from embeddings import cohort
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from haemo.errors import NotSolved
from haemo.models.heads.scaling import FlooredScaler
from haemo.models.search import linear_path
from haemo.models.search.linear_path import PathProblems, solve_paths, solved_in_turn
from haemo.models.search.path_losses import BinaryLogistic, Multinomial, SquaredHinge
from haemo.models.search.rows import FoldScaling, Rows, fold_scaling

pytestmark = pytest.mark.numerical

CS = (1e-4, 1e-3, 1e-2, 0.1)
SCALING = 10.0


def training_masks(data, n_splits=4):
    masks = np.zeros((len(data.y), n_splits), dtype=bool)
    for number, (train, _) in enumerate(data.folds(n_splits)):
        masks[train, number] = True
    return masks


def hinge_path(data, rows, masks, scaling, tolerance=1e-9):
    """All folds and all C in one block; problem number is fold * len(CS) + place of C."""
    fold = np.repeat(np.arange(masks.shape[1]), len(CS))
    weights = masks[:, fold] * np.tile(CS, masks.shape[1])
    targets = np.where(data.y == 1, 1.0, -1.0)[:, None, None] * np.ones((1, len(fold), 1))
    loss = SquaredHinge(rows.xp, rows.array(targets))
    return solve_paths(rows, PathProblems(loss, fold, weights, SCALING, True), scaling, tolerance)


def hinge_objective(Z, y, C, w, b):
    margins = np.maximum(0, 1 - np.where(y == 1, 1, -1) * (Z @ w + b))
    return 0.5 * w @ w + 0.5 * (b / SCALING) ** 2 + C * (margins**2).sum()


@pytest.mark.parametrize(("n", "d"), [(200, 40), (60, 150)], ids=["n > d", "n < d"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_block_of_svms_reaches_the_optimum_of_linear_svc(n, d, dtype):
    data = cohort(n, d, dtype=dtype)
    masks, rows = training_masks(data), Rows(data.X)
    scaling = fold_scaling(rows, masks, floor=False)
    solution = hinge_path(data, rows, masks, scaling)
    for fold in range(masks.shape[1]):
        train = masks[:, fold]
        scaler = StandardScaler().fit(data.X[train].astype(float))
        Z = scaler.transform(data.X.astype(float))
        for place, C in enumerate(CS):
            problem = fold * len(CS) + place
            peer = LinearSVC(C=C, intercept_scaling=SCALING, tol=1e-10, max_iter=200_000, dual=True)
            peer.fit(Z[train], data.y[train])
            best = hinge_objective(Z[train], data.y[train], C, peer.coef_[0], peer.intercept_[0])
            ours = solution.weights[problem, 0], solution.intercepts[problem, 0]
            assert solution.objective[problem] == pytest.approx(best, rel=1e-6)
            assert hinge_objective(Z[train], data.y[train], C, *ours) == pytest.approx(best, rel=1e-6)
            # Strong convexity: a gap of g leaves the weights within sqrt(2 g) of the optimum.
            longest = np.sqrt((Z**2).sum(axis=1).max() + SCALING**2)
            np.testing.assert_allclose(
                solution.scores[:, problem, 0],
                peer.decision_function(Z),
                atol=2 * longest * np.sqrt(2e-9 * best),
            )


def test_the_gap_is_a_bound_on_what_is_left_to_gain():
    data = cohort(150, 50)
    masks, rows = training_masks(data), Rows(data.X)
    scaling = fold_scaling(rows, masks, floor=False)
    exact = hinge_path(data, rows, masks, scaling, tolerance=1e-12)
    for tolerance in (1e-1, 1e-2, 1e-4):
        rough = hinge_path(data, rows, masks, scaling, tolerance)
        left = rough.objective - exact.objective
        assert (left <= rough.gap + 1e-12).all()
        assert (rough.gap <= tolerance * rough.objective).all()
        assert (left >= -1e-12).all()


def test_a_problem_does_not_depend_on_its_neighbours_in_the_block():
    data = cohort(150, 50)
    masks, rows = training_masks(data), Rows(data.X)
    scaling = fold_scaling(rows, masks, floor=False)
    together = hinge_path(data, rows, masks, scaling, tolerance=1e-11)
    alone = hinge_path(
        data,
        rows,
        masks[:, 2:3],
        FoldScaling(scaling.mean[2:3], scaling.scale[2:3], scaling.variance[2:3]),
        1e-11,
    )
    part = slice(2 * len(CS), 3 * len(CS))
    np.testing.assert_allclose(alone.scores, together.scores[:, part], atol=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_softmax_reaches_the_optimum_of_logistic_regression(n_classes):
    data = cohort(200, 30, classes=n_classes)
    masks, rows = training_masks(data), Rows(data.X)
    fold = np.repeat(np.arange(4), len(CS))
    weights = masks[:, fold] * np.tile(CS, 4)
    if n_classes == 2:
        targets = np.where(data.y == 1, 1.0, -1.0)[:, None, None] * np.ones((1, len(fold), 1))
        loss = BinaryLogistic(np, targets)
    else:
        loss = Multinomial(np, (data.y[:, None] == np.arange(3))[:, None, :].astype(float))
    problems = PathProblems(loss, fold, weights, 1.0, False)
    solution = solve_paths(rows, problems, fold_scaling(rows, masks, floor=False), 1e-11)
    for number in range(len(fold)):
        train, C = masks[:, fold[number]], CS[number % len(CS)]
        Z = StandardScaler().fit(data.X[train]).transform(data.X)
        peer = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(Z[train], data.y[train])
        expected = peer.decision_function(Z).reshape(len(Z), -1)
        ours = solution.scores[:, number]
        if n_classes == 3:
            # Intercepts that all classes have in common change no probability.
            expected = expected - expected.mean(axis=1, keepdims=True)
            ours = ours - ours.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(ours, expected, atol=1e-4)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.sampled_from(["hinge", "logistic", "multinomial"]))
def test_slopes_and_curvature_agree_with_differences(seed, name):
    rng = np.random.default_rng(seed)
    n, outputs = 8, 3 if name == "multinomial" else 1
    weights = rng.uniform(0, 2, (n, 1, 1))
    if name == "multinomial":
        loss = Multinomial(np, np.eye(3)[rng.integers(0, 3, n)][:, None, :])
    else:
        kind = SquaredHinge if name == "hinge" else BinaryLogistic
        loss = kind(np, rng.choice([-1.0, 1.0], (n, 1, 1)))
    scores, change = rng.normal(size=(2, n, 1, outputs))

    def shaped(flat):
        return flat.reshape(n, 1, outputs)

    error = check_grad(
        lambda flat: loss.value(shaped(flat), weights)[0],
        lambda flat: loss.slopes(shaped(flat), weights).ravel(),
        scores.ravel(),
    )
    assert error < 1e-5
    bent = loss.bend(loss.curvature(scores, weights), weights, change)
    step = 1e-6
    difference = (loss.slopes(scores + step * change, weights) - loss.slopes(scores, weights)) / step
    np.testing.assert_allclose(bent, difference, atol=1e-4)
    every = np.stack(
        [
            loss.bend(loss.curvature(scores, weights), weights, np.eye(outputs)[one] * np.ones_like(scores))
            for one in range(outputs)
        ]
    )
    diagonal = loss.diagonal(loss.curvature(scores, weights), weights)
    np.testing.assert_allclose(diagonal, np.stack([every[one, :, :, one] for one in range(outputs)], axis=2))


@pytest.mark.parametrize("floor", [False, True])
def test_scaling_is_that_of_the_scaler_for_every_fold(floor):
    data = cohort(120, 20, dtype=np.float32)
    data.X[:, 3] = 0.1
    data.X[:, 4] += 1e4
    masks = training_masks(data)
    data.X[masks[:, 0], 5] = 7.0
    scaling = fold_scaling(Rows(data.X), masks, floor=floor)
    for fold in range(masks.shape[1]):
        peer = (FlooredScaler if floor else StandardScaler)().fit(data.X[masks[:, fold]].astype(float))
        np.testing.assert_allclose(scaling.mean[fold], peer.mean_, rtol=1e-12)
        np.testing.assert_allclose(scaling.scale[fold], peer.scale_, rtol=1e-9)
    assert (scaling.scale[0, 5] == 1.0) != floor


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("in_order", [True, False])
def test_rows_that_stream_in_give_the_same_answer(in_order, device):
    data = cohort(130, 40, dtype=np.float32)
    masks = training_masks(data)
    order = np.arange(130) if in_order else np.random.default_rng(0).permutation(130)

    def blocks():
        for start in range(0, len(data.X), 17):
            yield data.X[order[start : start + 17]]

    whole = Rows(data.X)
    stream = Rows(blocks, data.X.shape, order=None if in_order else order).on(device)
    doubled, doubled_stream = Rows(2 * data.X), stream.mapped(lambda block: 2 * block)
    for one, other in ((whole, stream), (doubled, doubled_stream)):
        expected = hinge_path(data, one, masks, fold_scaling(one, masks, floor=False))
        found = hinge_path(data, other, masks, fold_scaling(other, masks, floor=False))
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.parametrize("name", ["hinge", "logistic", "multinomial"])
def test_the_torch_path_gives_the_same_answer(name):
    data = cohort(100, 30, classes=3 if name == "multinomial" else 2, dtype=np.float32)
    masks = training_masks(data)
    fold, weights = np.arange(4), masks * 1e-2
    found = []
    for device in ("numpy", "cpu"):
        rows = Rows(data.X, device=device)
        if name == "multinomial":
            loss = Multinomial(rows.xp, rows.array((data.y[:, None] == np.arange(3))[:, None, :]))
        else:
            targets = np.where(data.y == 1, 1.0, -1.0)[:, None, None] * np.ones((1, 4, 1))
            loss = (SquaredHinge if name == "hinge" else BinaryLogistic)(rows.xp, rows.array(targets))
        problems = PathProblems(loss, fold, weights, 1.0, name == "hinge")
        found.append(solve_paths(rows, problems, fold_scaling(rows, masks, floor=False), 1e-10))
    np.testing.assert_allclose(found[0].scores, found[1].scores, atol=1e-4)
    np.testing.assert_allclose(found[0].objective, found[1].objective, rtol=1e-8)


def test_an_accuracy_out_of_reach_is_said(monkeypatch):
    monkeypatch.setattr(linear_path, "_MAX_NEWTON", 1)
    data = cohort(100, 30)
    masks, rows = training_masks(data), Rows(data.X)
    with pytest.raises(NotSolved, match="not solved after 1 Newton"):
        hinge_path(data, rows, masks, fold_scaling(rows, masks, floor=False))


def test_problems_are_handed_over_as_they_are_solved():
    data = cohort(100, 30)
    masks, rows = training_masks(data), Rows(data.X)
    scaling, fold = fold_scaling(rows, masks, floor=False), np.repeat(np.arange(4), len(CS))
    targets = np.where(data.y == 1, 1.0, -1.0)[:, None, None] * np.ones((1, len(fold), 1))
    weights = masks[:, fold] * np.tile((1e-8, *CS[1:]), 4)  # the smallest is solved first
    problems = PathProblems(SquaredHinge(np, targets), fold, weights, SCALING, True)
    turns = list(solved_in_turn(rows, problems, scaling, 1e-9))
    whole = solve_paths(rows, problems, scaling, 1e-9)
    assert len(turns) > 1
    assert sorted(np.concatenate([solved for solved, _ in turns])) == list(range(len(fold)))
    for solved, scores in turns:
        np.testing.assert_array_equal(scores, whole.scores[:, solved])
