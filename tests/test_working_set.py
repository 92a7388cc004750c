"""SVMs whose classes can be parted: held to LinearSVC, and to a number of passes over the features."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.svm import LinearSVC

from haemo.errors import NotSolved
from haemo.models.search import working_set
from haemo.models.search.linear_path import PathProblems, solve_paths
from haemo.models.search.path_losses import SquaredHinge
from haemo.models.search.rows import Rows, fold_scaling

pytestmark = pytest.mark.numerical

N, D, FOLDS, UNIT = 300, 150, 3, 10.0
CS = (1e-3, 1e-2, 0.1, 1.0)


class Counted(Rows):
    """Rows that count the passes over them."""

    passes = 0

    def blocks(self):
        self.passes += 1
        return super().blocks()


def parted(seed=0):
    """Rows of two classes that a plane parts, with patients that resemble themselves, and folds."""
    rng = np.random.default_rng(seed)
    patient = np.arange(N) // 10
    y = (patient % 5 < 2) & (np.arange(N) % 3 == 0)
    X = rng.normal(size=(patient.max() + 1, D))[patient] + 0.9 * y[:, None] + rng.normal(size=(N, D))
    training = np.stack([patient % FOLDS != fold for fold in range(FOLDS)], axis=1)
    return X.astype(np.float32), y, training


def solved(rows, y, training, costs=CS, tolerance=1e-9, memory=1 << 30):
    """All folds and all C in one block, problem number fold * len(costs) + place of C; and the scaling."""
    fold = np.repeat(np.arange(training.shape[1]), len(costs))
    weights = training[:, fold] * np.tile(costs, training.shape[1])
    targets = np.where(y, 1.0, -1.0)[:, None, None] * np.ones((1, len(fold), 1))
    problems = PathProblems(SquaredHinge(rows.xp, rows.array(targets)), fold, weights, UNIT, True)
    scaling = fold_scaling(rows, training, floor=True)
    return solve_paths(rows, problems, scaling, tolerance, memory), scaling


def assert_optimal(solution, scaling, X, y, training, costs=CS):
    for problem in range(len(solution.gap)):
        fold, C = problem // len(costs), costs[problem % len(costs)]
        Z = (X - scaling.mean[fold]) / scaling.scale[fold]
        train = training[:, fold]
        peer = LinearSVC(C=C, intercept_scaling=UNIT, tol=1e-10, max_iter=500_000, dual=True)
        peer.fit(Z[train], y[train])
        np.testing.assert_allclose(solution.weights[problem, 0], peer.coef_[0], atol=2e-5)
        np.testing.assert_allclose(solution.scores[:, problem, 0], peer.decision_function(Z), atol=5e-4)


def test_svms_of_parted_classes_are_those_of_linear_svc_after_few_passes():
    X, y, training = parted()
    rows = Counted(X)
    solution, scaling = solved(rows, y, training)
    assert rows.passes < 150  # by conjugate gradients alone 3,000
    assert (solution.newton_steps < 15).all()
    assert (solution.gap <= 1e-9 * solution.objective).all()
    assert_optimal(solution, scaling, X, y, training)


@pytest.mark.parametrize("cost", CS)
def test_one_svm_alone_is_solved_as_in_its_block(cost):
    X, y, training = parted()
    rows = Counted(X)
    alone, scaling = solved(rows, y, training[:, :1], (cost,))
    assert rows.passes < 100
    assert_optimal(alone, scaling, X, y, training, (cost,))


@pytest.mark.parametrize("memory", [0, 60_000, 600_000])
def test_less_memory_changes_no_svm(memory):
    X, y, training = parted()
    roomy, _ = solved(Rows(X), y, training, CS[:3])
    tight, _ = solved(Rows(X), y, training, CS[:3], memory=memory)
    np.testing.assert_allclose(tight.scores, roomy.scores, atol=2e-3)


def test_blocks_in_any_order_change_no_svm():
    X, y, training = parted()
    order = np.random.default_rng(1).permutation(N)
    stream = Rows(lambda: (X[order[i : i + 64]] for i in range(0, N, 64)), X.shape, order=order)
    found, scaling = solved(stream, y, training)
    assert_optimal(found, scaling, X, y, training)


def test_the_torch_path_gives_the_same_svms():
    X, y, training = parted()
    here, _ = solved(Rows(X), y, training)
    there, _ = solved(Rows(X, device="cpu"), y, training)
    np.testing.assert_allclose(there.scores, here.scores, atol=1e-3)


@pytest.mark.parametrize("error", [NotSolved("no"), np.linalg.LinAlgError("no")])
def test_where_a_set_has_no_answer_conjugate_gradients_go_on(error, monkeypatch):
    def fails(*_):
        raise error

    X, y, training = parted()
    expected, _ = solved(Rows(X), y, training, CS[:3])
    monkeypatch.setattr(working_set, "newton_coefficients", fails)
    found, _ = solved(Rows(X), y, training, CS[:3])
    np.testing.assert_allclose(found.scores, expected.scores, atol=2e-3)


def test_three_classes_on_one_fold_have_an_svm_each():
    X, y, training = parted()
    kind = y.astype(int) + (np.arange(N) % 7 == 0)
    X[kind == 2, :40] += 2.0
    rows, fold = Rows(X), np.zeros(3, dtype=int)
    targets = np.where(kind[:, None] == np.arange(3), 1.0, -1.0)[:, :, None]
    problems = PathProblems(SquaredHinge(np, targets), fold, 0.1 * training[:, fold], UNIT, True)
    scaling = fold_scaling(rows, training[:, :1], floor=True)
    solution = solve_paths(rows, problems, scaling, 1e-9)
    Z = (X - scaling.mean[0]) / scaling.scale[0]
    peer = LinearSVC(C=0.1, intercept_scaling=UNIT, tol=1e-10, max_iter=500_000, dual=True)
    peer.fit(Z[training[:, 0]], kind[training[:, 0]])
    np.testing.assert_allclose(solution.scores[:, :, 0], peer.decision_function(Z), atol=5e-4)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1e-3, 1.0]))
def test_the_lowest_point_of_a_line_is_found(seed, bend):
    rng = np.random.default_rng(seed)
    loss = SquaredHinge(np, rng.choice([-1.0, 1.0], (20, 3, 1)))
    scores, change = rng.normal(size=(2, 20, 3, 1)) * rng.choice([0.1, 1.0, 10.0])
    weights = rng.uniform(0, 2, (20, 3, 1)) * (rng.random((20, 3, 1)) < 0.8)
    slope = -(loss.slopes(scores, weights) * change).sum(axis=(0, 2)) - rng.uniform(0.1, 1, 3) * bend
    length = loss.lowest(scores, change, weights, slope * (bend > 0), np.full(3, bend))
    for one in range(3):

        def along(t, one=one):
            shift = slope[one] * (bend > 0) * t + bend * t * t / 2
            return shift + loss.value(scores + t * change, weights)[one]

        best = minimize_scalar(along, bounds=(0, 1e4), method="bounded", options={"xatol": 1e-10})
        assert along(length[one]) <= best.fun + 1e-7 * max(1.0, abs(best.fun))


def test_some_rows_of_a_stream_are_gathered():
    X, _, _ = parted()
    order = np.random.default_rng(2).permutation(N)
    wanted = np.array([3, 250, 7, 111])
    for rows in (
        Rows(X),
        Rows(X, device="cpu"),
        Rows(lambda: (X[order[i : i + 50]] for i in range(0, N, 50)), X.shape, order=order),
        Rows(lambda: (X[i : i + 50] for i in range(0, N, 50)), X.shape, "cpu"),
    ):
        np.testing.assert_array_equal(rows.gather(wanted), X[wanted])
