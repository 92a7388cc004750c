"""The fast search: the same numbers as GridSearchCV on the same folds, and the manners of a long job."""

import subprocess
import sys
from unittest import SkipTest

import numpy as np
import pytest
from embeddings import cohort
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import estimator_checks_generator

from haemo.errors import BadSettings, MemoryBudgetExceeded, TooFewData
from haemo.models.heads.mlp import EarlyStoppingMLP
from haemo.models.heads.scaling import FlooredScaler
from haemo.models.search import grid as search_module
from haemo.models.search import newton_search, path_search
from haemo.models.search.grid import SharedSearchCV
from haemo.models.search.rows import Rows

KERNEL_GRID = [
    {"head__kernel": ["linear"], "head__C": [1e-3, 0.1]},
    {"head__kernel": ["rbf"], "head__C": [0.1, 1.0, 10.0], "head__gamma": ["scale", 1e-2, 1e-3]},
    {"head__kernel": ["poly"], "head__C": [0.1, 1.0], "head__gamma": [1e-2], "head__degree": [2, 3]},
    {"head__kernel": ["sigmoid"], "head__C": [0.1, 1.0], "head__gamma": [1e-3]},
]
LINEAR_GRID = {"head__C": [1e-4, 1e-3, 1e-2, 0.1]}
# Tolerances that make a head an oracle: at the default ones the last bits of a kernel decide which support
# vectors remain and how scores that are close rank.
EXACT_SVC = {"tol": 1e-9}
EXACT_LINEAR = {"tol": 1e-9, "max_iter": 200_000, "dual": True}


def pipeline(head, *before, scaler=FlooredScaler):
    steps = [(type(step).__name__.lower(), step) for step in before]
    return Pipeline([*steps, ("scale", scaler()), ("head", head)])


def assert_same_search(peer, ours, atol):
    for name in (n for n in peer.cv_results_ if n.startswith("split")):
        np.testing.assert_allclose(ours.cv_results_[name], peer.cv_results_[name], atol=atol)
    assert ours.best_params_ == peer.best_params_
    assert ours.best_score_ == pytest.approx(peer.best_score_, abs=atol)
    np.testing.assert_array_equal(ours.cv_results_["rank_test_score"], peer.cv_results_["rank_test_score"])


def both(estimator, grid, data, scoring, folds=None, **options):
    folds = folds or data.folds()
    peer = GridSearchCV(estimator, grid, scoring=scoring, cv=folds).fit(data.X, data.y)
    ours = SharedSearchCV(estimator, grid, scoring=scoring, cv=folds, **options).fit(data.X, data.y)
    return peer, ours


@pytest.mark.numerical
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize(
    ("classes", "scoring"), [(2, "roc_auc"), (2, "average_precision"), (3, "balanced_accuracy")]
)
def test_kernel_searches_equal_grid_search(classes, scoring, class_weight):
    data = cohort(classes=classes, dtype=np.float32)
    peer, ours = both(pipeline(SVC(class_weight=class_weight, **EXACT_SVC)), KERNEL_GRID, data, scoring)
    assert_same_search(peer, ours, atol=1e-9)
    np.testing.assert_allclose(ours.decision_function(data.X), peer.decision_function(data.X), atol=1e-6)
    np.testing.assert_array_equal(
        ours.best_estimator_["head"].support_, peer.best_estimator_["head"].support_
    )


@pytest.mark.numerical
def test_a_kernel_search_over_blocks_of_columns_equals_grid_search_on_all_of_them():
    data = cohort(120, 60, dtype=np.float32)
    estimator = pipeline(SVC(**EXACT_SVC))
    peer, ours = both(estimator, KERNEL_GRID, data, "roc_auc", blocks=(10, 30, 20))
    assert_same_search(peer, ours, atol=1e-9)
    np.testing.assert_allclose(ours.decision_function(data.X), peer.decision_function(data.X), atol=1e-6)


@pytest.mark.numerical
@pytest.mark.parametrize(("n", "d"), [(90, 200), (200, 20)], ids=["n < d", "n > d"])
def test_odd_folds_are_searched_as_grid_search_does(n, d):
    data = cohort(n, d)
    data.X[:, 3] = 2.5
    folds = data.folds()
    train, held_out = folds[0]
    data.X[train, 4] = 1.0
    data.X[held_out[0]] = data.X[train[0]]
    data.X[train[1]] = data.X[train[0]]
    assert_same_search(*both(pipeline(SVC(**EXACT_SVC)), KERNEL_GRID, data, "roc_auc", folds), atol=1e-9)
    head = LinearSVC(intercept_scaling=10, **EXACT_LINEAR)
    peer, ours = both(pipeline(head), LINEAR_GRID, data, "roc_auc", folds, tolerance=1e-10)
    assert_same_search(peer, ours, atol=1e-6)


@pytest.mark.numerical
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 1.0, 1: 3.0}])
@pytest.mark.parametrize(("classes", "scoring"), [(2, "roc_auc"), (3, "accuracy")])
@pytest.mark.parametrize("most_rows", [0, 2000], ids=["block", "kernel"])
def test_linear_svms_equal_grid_search(most_rows, classes, scoring, class_weight, monkeypatch):
    monkeypatch.setattr(newton_search, "_MOST_ROWS", most_rows)
    data = cohort(classes=classes)
    head = LinearSVC(class_weight=class_weight, intercept_scaling=10, **EXACT_LINEAR)
    peer, ours = both(pipeline(head), LINEAR_GRID, data, scoring, tolerance=1e-10)
    assert_same_search(peer, ours, atol=1e-6)
    np.testing.assert_allclose(ours.decision_function(data.X), peer.decision_function(data.X), atol=1e-3)


@pytest.mark.numerical
@pytest.mark.parametrize("scaler", [StandardScaler, FlooredScaler])
@pytest.mark.parametrize("most_rows", [0, 2000], ids=["block", "kernel"])
@pytest.mark.parametrize("head", [SVC(**EXACT_SVC), LinearSVC(**EXACT_LINEAR)])
def test_units_that_are_nearly_always_zero_are_scaled_as_the_pipeline_does(
    head, most_rows, scaler, monkeypatch
):
    monkeypatch.setattr("haemo.models.search.newton_search._MOST_ROWS", most_rows)
    data = cohort(dtype=np.float32)
    data.X[:, ::2] *= np.random.default_rng(0).random(data.X[:, ::2].shape) < 0.03
    found = both(pipeline(head, scaler=scaler), {"head__C": [1e-2, 1.0]}, data, "roc_auc")
    assert_same_search(*found, atol=1e-4)


@pytest.mark.numerical
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("classes", [2, 3])
def test_softmax_equals_grid_search(classes, class_weight):
    data = cohort(classes=classes)
    head = LogisticRegression(class_weight=class_weight, tol=1e-9, max_iter=10_000)
    peer, ours = both(pipeline(head), LINEAR_GRID, data, "neg_log_loss", tolerance=1e-11)
    assert_same_search(peer, ours, atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(data.X), peer.predict_proba(data.X), atol=1e-5)


@pytest.mark.numerical
@pytest.mark.parametrize("head", [SVC(**EXACT_SVC), LinearSVC(**EXACT_LINEAR)])
def test_steps_before_the_scaler_are_fitted_inside_the_fold(head):
    data = cohort()
    estimator = pipeline(head, Normalizer(), PCA(random_state=0, svd_solver="full"))
    grid = {"pca__n_components": [5, 20], "head__C": [1e-2, 1.0]}
    assert_same_search(*both(estimator, grid, data, "roc_auc", tolerance=1e-10), atol=1e-6)
    estimator = pipeline(head, Normalizer())
    assert_same_search(*both(estimator, {"head__C": [1e-2]}, data, "roc_auc", tolerance=1e-10), atol=1e-6)


@pytest.mark.numerical
def test_held_out_rows_change_nothing_but_their_own_score():
    data = cohort()
    train, held_out = data.folds()[0]
    grid = {"head__C": [1e-2], "head__gamma": ["scale"]}
    first = SharedSearchCV(pipeline(SVC()), grid, scoring="roc_auc", cv=[(train, held_out)], refit=False)
    before = first.fit(data.X, data.y).oof_scores_[held_out[:5]]
    data.X[held_out[5:]] *= 100.0
    np.testing.assert_array_equal(first.fit(data.X, data.y).oof_scores_[held_out[:5]], before)


@pytest.mark.numerical
@pytest.mark.parametrize(
    "head", [SVC(**EXACT_SVC), LinearSVC(**EXACT_LINEAR), EarlyStoppingMLP(hidden=4, max_epochs=3)]
)
def test_each_row_is_scored_by_the_model_that_did_not_see_it(head):
    data = cohort()
    folds = data.folds()
    grid = {"alpha": [1.0]} if isinstance(head, EarlyStoppingMLP) else {"C": [1e-2]}
    search = SharedSearchCV(head, grid, scoring="roc_auc", cv=folds, tolerance=1e-11, n_jobs=1)
    search.fit(data.X, data.y)
    for train, held_out in folds:
        peer = type(head)(**{**head.get_params(), **{name: values[0] for name, values in grid.items()}})
        expected = peer.fit(data.X[train], data.y[train]).decision_function(data.X[held_out])
        np.testing.assert_allclose(search.oof_scores_[held_out], expected, atol=1e-3)


def test_patients_reach_the_splitter_and_the_network():
    seen = []

    class Watched(EarlyStoppingMLP):
        def fit(self, X, y, groups=None):
            seen.append(groups)
            return super().fit(X, y, groups)

    data = cohort()
    estimator = pipeline(Watched(hidden=4, max_epochs=2))
    search = SharedSearchCV(estimator, {"head__alpha": [1.0]}, cv=data.folds(), n_jobs=1)
    search.fit(data.X, data.y, groups=data.patients)
    train = data.folds()[0][0]
    np.testing.assert_array_equal(seen[0], data.patients[train])
    np.testing.assert_array_equal(seen[-1], data.patients)


def test_another_classifier_is_searched_one_fit_at_a_time():
    data = cohort()
    forest = RandomForestClassifier(n_estimators=5, random_state=0)
    peer, ours = both(forest, {"max_depth": [2, 4]}, data, "roc_auc", n_jobs=1)
    assert_same_search(peer, ours, atol=1e-12)


def test_steps_before_another_classifier_are_fitted_once_a_fold(monkeypatch):
    data = cohort()
    forest = pipeline(RandomForestClassifier(n_estimators=5, random_state=0), PCA(3, random_state=0))
    grid = {"head__max_depth": [1, 2, 4, 8]}
    peer, ours = both(forest, grid, data, "roc_auc", n_jobs=2)
    assert_same_search(peer, ours, atol=1e-12)
    fitted, fit = [], PCA.fit_transform

    def counting(self, X, y=None):
        fitted.append(len(X))
        return fit(self, X, y)

    monkeypatch.setattr(PCA, "fit_transform", counting)
    SharedSearchCV(forest, grid, cv=data.folds(), refit=False, n_jobs=2).fit(data.X, data.y)
    assert sorted(fitted) == sorted(len(train) for train, _ in data.folds())


def test_results_have_the_form_of_grid_search():
    data = cohort()
    peer, ours = both(pipeline(SVC()), KERNEL_GRID, data, "roc_auc")
    assert set(ours.cv_results_) == set(peer.cv_results_)
    assert ours.cv_results_["params"] == peer.cv_results_["params"]
    for name in (n for n in peer.cv_results_ if n.startswith("param_")):
        np.testing.assert_array_equal(
            np.ma.getmaskarray(ours.cv_results_[name]), np.ma.getmaskarray(peer.cv_results_[name])
        )
    assert ours.scorer_(ours, data.X, data.y) == ours.score(data.X, data.y)
    assert ours.classes_.tolist() == [0, 1]
    assert ours.n_features_in_ == data.X.shape[1]


@pytest.mark.parametrize("head", [SVC(), LinearSVC(), EarlyStoppingMLP(hidden=4, max_epochs=3)])
def test_a_killed_search_goes_on_where_it_was(head):
    data = cohort()
    name = "alpha" if isinstance(head, EarlyStoppingMLP) else "C"
    grid = {f"head__{name}": [1e-3, 1e-2, 0.1]}

    class Killed(Exception):
        pass

    cells = []

    def kill_after_five(cell):
        cells.append(cell)
        if len(cells) == 5:
            raise Killed

    options = {"scoring": "roc_auc", "cv": data.folds(), "n_jobs": 1, "tolerance": 1e-10}
    with pytest.raises(Killed):
        SharedSearchCV(pipeline(head), grid, on_cell=kill_after_five, **options).fit(data.X, data.y)
    new = []
    resumed = SharedSearchCV(pipeline(head), grid, finished=cells, on_cell=new.append, **options)
    resumed.fit(data.X, data.y)
    whole = SharedSearchCV(pipeline(head), grid, **options).fit(data.X, data.y)
    assert len(new) == 12 - 5
    assert resumed.best_params_ == whole.best_params_
    np.testing.assert_allclose(
        resumed.cv_results_["mean_test_score"], whole.cv_results_["mean_test_score"], atol=1e-4
    )
    np.testing.assert_allclose(resumed.oof_scores_, whole.oof_scores_, atol=1e-3)


def test_scores_that_were_not_kept_are_made_again():
    data = cohort()
    options = {"scoring": "roc_auc", "cv": data.folds()}
    cells = []
    grid = {"head__C": [0.1, 1.0]}
    whole = SharedSearchCV(pipeline(SVC()), grid, on_cell=cells.append, **options).fit(data.X, data.y)
    bare = [
        search_module.Cell(cell.candidate, cell.fold, cell.score, cell.fit_seconds, cell.score_seconds)
        for cell in cells
    ]
    resumed = SharedSearchCV(pipeline(SVC()), grid, finished=bare, **options).fit(data.X, data.y)
    np.testing.assert_array_equal(resumed.oof_scores_, whole.oof_scores_)


@pytest.mark.numerical
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_the_number_of_threads_changes_no_number(n_jobs):
    data = cohort()
    options = {"scoring": "roc_auc", "cv": data.folds()}
    one = SharedSearchCV(pipeline(SVC()), KERNEL_GRID, n_jobs=1, **options).fit(data.X, data.y)
    other = SharedSearchCV(pipeline(SVC()), KERNEL_GRID, n_jobs=n_jobs, **options).fit(data.X, data.y)
    np.testing.assert_array_equal(one.oof_scores_, other.oof_scores_)
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], other.cv_results_["mean_test_score"])


def test_a_kernel_that_does_not_fit_is_refused_with_a_way_out():
    data = cohort(400)
    search = SharedSearchCV(pipeline(SVC(cache_size=1)), {"head__C": [1.0]}, cv=data.folds(), memory=10**6)
    with pytest.raises(MemoryBudgetExceeded, match=r"linear SVM.*--nystroem \d+"):
        search.fit(data.X, data.y)


@pytest.mark.numerical
def test_a_tight_budget_changes_no_number():
    data = cohort(300)
    grid = {"head__C": [0.1, 1.0], "head__gamma": [1e-3, 1e-2, 0.1]}
    options = {"scoring": "roc_auc", "cv": data.folds(), "n_jobs": 4}
    svc = pipeline(SVC(cache_size=1))
    wide = SharedSearchCV(svc, grid, **options).fit(data.X, data.y)
    tight = SharedSearchCV(svc, grid, memory=3 * 10**6, **options).fit(data.X, data.y)
    np.testing.assert_array_equal(wide.oof_scores_, tight.oof_scores_)


def test_linear_problems_are_solved_as_many_at_a_time_as_fit(monkeypatch):
    data, sizes, solve = cohort(300), [], path_search.solved_in_turn
    options = {"scoring": "roc_auc", "cv": data.folds()}

    def counted(rows, problems, *rest):
        sizes.append(len(problems.fold))
        return solve(rows, problems, *rest)

    monkeypatch.setattr(path_search, "solved_in_turn", counted)
    head = pipeline(LogisticRegression())
    wide = SharedSearchCV(head, LINEAR_GRID, **options).fit(data.X, data.y)
    assert len(sizes) == 1
    room = 2 * path_search._BYTES * sum(data.X.shape)
    tight = SharedSearchCV(head, LINEAR_GRID, memory=room, **options).fit(data.X, data.y)
    assert set(sizes[1:-1]) == {2}
    assert sum(sizes[1:]) == sizes[0]
    np.testing.assert_allclose(tight.oof_scores_, wide.oof_scores_, atol=2e-3)


def test_a_fold_without_a_class_is_an_error_that_says_so():
    data = cohort(classes=3)
    rare = np.flatnonzero(data.y == 2)
    folds = [(np.setdiff1d(np.arange(len(data.y)), rare), rare)]
    with pytest.raises(TooFewData, match="fold 0"):
        SharedSearchCV(pipeline(LinearSVC()), LINEAR_GRID, cv=folds).fit(data.X, data.y)


def test_a_fold_that_holds_out_one_class_is_left_out_of_the_mean():
    data = cohort()
    folds = data.folds()
    only = folds[0][1][data.y[folds[0][1]] == 0]

    def auc_or_nan(estimator, X, y):
        from sklearn.metrics import roc_auc_score

        return roc_auc_score(y, estimator.decision_function(X)) if len(set(y)) == 2 else float("nan")

    folds = [(folds[0][0], only), *folds[1:]]
    search = SharedSearchCV(pipeline(SVC()), {"head__C": [1.0]}, scoring=auc_or_nan, cv=folds)
    search.fit(data.X, data.y)
    values = [search.cv_results_[f"split{fold}_test_score"][0] for fold in range(4)]
    assert np.isnan(values[0])
    assert search.best_score_ == pytest.approx(np.mean(values[1:]))


@pytest.mark.numerical
@pytest.mark.parametrize("head", [LinearSVC(), LogisticRegression()], ids=["svm", "softmax"])
def test_features_that_stream_in_are_searched_alike(head):
    data = cohort(dtype=np.float32)
    estimator = pipeline(head, Normalizer())

    def blocks():
        for start in range(0, len(data.X), 23):
            yield data.X[start : start + 23]

    options = {"scoring": "roc_auc", "cv": data.folds(), "tolerance": 1e-10}
    whole = SharedSearchCV(estimator, LINEAR_GRID, **options).fit(data.X, data.y)
    stream = SharedSearchCV(estimator, LINEAR_GRID, **options).fit(Rows(blocks, data.X.shape), data.y)
    assert_same_search(whole, stream, atol=1e-6)
    np.testing.assert_allclose(stream.decision_function(data.X), whole.decision_function(data.X), atol=1e-3)
    with pytest.raises(BadSettings, match="in memory"):
        SharedSearchCV(pipeline(SVC()), {"head__C": [1.0]}, **options).fit(Rows(blocks, data.X.shape), data.y)
    with pytest.raises(BadSettings, match="in memory"):
        SharedSearchCV(pipeline(head, PCA(2)), LINEAR_GRID, **options).fit(Rows(blocks, data.X.shape), data.y)


def test_labels_may_be_names():
    data = cohort()
    names = np.array(["normal", "bleed"])[data.y]
    for head in (SVC(), LinearSVC()):
        search = SharedSearchCV(pipeline(head), {"head__C": [1e-2, 0.1]}, cv=StratifiedKFold(3))
        search.fit(data.X, names)
        assert set(search.predict(data.X)) <= {"normal", "bleed"}


def test_stage_two_needs_no_torch():
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        assert name.split('.')[0] != 'torch', 'torch is imported'\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "import numpy as np\n"
        "from sklearn.svm import SVC, LinearSVC\n"
        "from haemo.models.search.grid import SharedSearchCV\n"
        "X = np.random.default_rng(0).normal(size=(60, 5)); y = (X[:, 0] > 0).astype(int)\n"
        "for head in (SVC(), LinearSVC()):\n"
        "    SharedSearchCV(head, {'C': [0.1, 1.0]}, cv=3).fit(X, y)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("head", [SVC(), LinearSVC()], ids=["svc", "linear"])
def test_the_search_behaves_as_scikit_learn_asks(head):
    search = SharedSearchCV(head, {"C": [0.1, 1.0]}, cv=2)
    failed = []
    for instance, check in estimator_checks_generator(search):
        name = getattr(check, "func", check).__name__
        try:
            check(instance)
        except SkipTest:
            continue
        except Exception as error:
            failed.append(f"{name}: {error}")
    assert not failed


@pytest.mark.numerical
@pytest.mark.parametrize("classes", [2, 3])
def test_few_rows_and_many_are_fitted_alike(classes, monkeypatch):
    data = cohort(classes=classes)
    estimator = pipeline(LinearSVC(class_weight="balanced", intercept_scaling=10))
    options = {"scoring": "accuracy", "cv": data.folds(), "tolerance": 1e-11}
    few = SharedSearchCV(estimator, LINEAR_GRID, **options).fit(data.X, data.y)
    monkeypatch.setattr(newton_search, "_MOST_ROWS", 0)
    many = SharedSearchCV(estimator, LINEAR_GRID, **options).fit(data.X, data.y)
    assert_same_search(few, many, atol=1e-9)
    np.testing.assert_allclose(few.oof_scores_, many.oof_scores_, atol=1e-3)
    np.testing.assert_allclose(few.decision_function(data.X), many.decision_function(data.X), atol=1e-3)
    assert few.best_estimator_["head"].coef_.shape == many.best_estimator_["head"].coef_.shape
