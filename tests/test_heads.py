import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import ParameterGrid
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from haemo.errors import BadSettings
from haemo.models.heads.mlp import EarlyStoppingMLP
from haemo.models.heads.spec import KERNELS, HeadSpec, parse_grid

SPECS = [
    HeadSpec("svm"),
    HeadSpec("softmax"),
    HeadSpec("mlp"),
    *(HeadSpec("svm", kernel) for kernel in KERNELS),
]


def patients(n_patients=30, slices=6, features=300, seed=0, effect=1.0):
    """Embeddings whose slices resemble one another within a patient: X, y and the patient of each."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), slices)
    y = (patient % 3 == 0) * (random.random(len(patient)) < 0.7)
    own = random.normal(size=(n_patients, features))[patient]
    bleed = random.normal(size=features)
    X = random.normal(size=(len(patient), features)) + own + effect * y[:, None] * bleed
    return np.maximum(X, 0).astype(np.float32), y.astype(int), patient


@pytest.mark.numerical
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_head_learns_what_is_easy_over_its_whole_grid(spec):
    X, y, patient = patients()
    train = patient < 20
    best = 0
    for parameters in ParameterGrid(spec.default_grid):
        head = spec.build(**parameters).fit(X[train], y[train])
        best = max(best, roc_auc_score(y[~train], head.decision_function(X[~train])))
    assert best > 0.9


def test_the_kinds_of_classifier_are_those_that_the_names_promise():
    kinds = [type(spec.build()[-1]) for spec in SPECS]
    assert kinds == [LinearSVC, LogisticRegression, EarlyStoppingMLP, SVC, SVC, SVC, SVC]
    assert [spec.build()[-1].kernel for spec in SPECS[3:]] == list(KERNELS)


@pytest.mark.numerical
def test_the_intercept_of_the_linear_svm_is_as_good_as_free():
    X, y, _ = patients(effect=0.3)
    head = HeadSpec("svm", class_weight="none").build(C=1e-3)
    free, held = (
        clone(head).set_params(head__intercept_scaling=scaling, head__max_iter=10**6).fit(X, y)
        for scaling in (100, 1)
    )
    ours, free, held = (fitted[-1].intercept_[0] for fitted in (head.fit(X, y), free, held))
    assert ours == pytest.approx(free, rel=0.1)
    assert abs(held) < abs(free) / 2


@pytest.mark.numerical
def test_class_weights_move_scores_towards_the_rare_class():
    X, y, _ = patients(effect=0.3)
    for name in ("svm", "softmax"):
        balanced, plain = (
            HeadSpec(name, class_weight=weight).build(C=1e-4).fit(X, y).decision_function(X).mean()
            for weight in ("balanced", "none")
        )
        assert balanced > plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "forest"}, "no head 'forest'. There are: svm, softmax, mlp"),
        ({"name": "svm", "kernel": "cosine"}, "kernel 'cosine' is not one of linear"),
        ({"name": "softmax", "kernel": "rbf"}, "a kernel is for the head svm"),
        ({"name": "svm", "class_weight": "3"}, "class weight '3'"),
    ],
)
def test_a_head_that_does_not_exist_is_refused(arguments, message):
    with pytest.raises(BadSettings, match=message):
        HeadSpec(**arguments)


def test_a_typed_grid_replaces_the_values_it_names():
    grid = parse_grid(["C=1e-3, 1"], HeadSpec("svm", "rbf"))
    assert grid == {"C": [1e-3, 1.0], "gamma": HeadSpec("svm", "rbf").default_grid["gamma"]}
    assert parse_grid(["degree=2", "coef0=0,-1"], HeadSpec("svm", "poly"))["coef0"] == [0.0, -1.0]
    assert parse_grid(["hidden=8,16"], HeadSpec("mlp"))["hidden"] == [8, 16]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gamma=1", "no parameter 'gamma' to search; there are C"),
        ("1e-3", "no parameter '1e-3'"),
        ("C=", "C='' is not a number"),
        ("C=a", "is not a number"),
        ("C=0", "must be above 0"),
        ("C=inf", "must be above 0"),
    ],
)
def test_a_mistyped_grid_is_refused(text, message):
    with pytest.raises(BadSettings, match=message):
        parse_grid([text], HeadSpec("svm"))


def test_a_whole_number_is_asked_for_where_it_must_be_one():
    with pytest.raises(BadSettings, match="whole number"):
        parse_grid(["hidden=8.5"], HeadSpec("mlp"))


def test_every_head_has_a_grid_of_its_own_parameters():
    for spec in SPECS:
        assert set(spec.default_grid) <= set(spec.parameters)
        spec.default_grid["C"] = []
        assert spec.default_grid != {"C": []}


class TestEarlyStopping:
    @pytest.mark.numerical
    def test_the_same_seed_gives_the_same_weights(self):
        X, y, patient = patients()
        first, second = (EarlyStoppingMLP(max_epochs=5).fit(X, y, groups=patient) for _ in range(2))
        other = EarlyStoppingMLP(max_epochs=5, random_state=1).fit(X, y, groups=patient)
        np.testing.assert_array_equal(first.coefs_[0], second.coefs_[0])
        assert first.coefs_[0].dtype == np.float32
        assert (first.coefs_[0] != other.coefs_[0]).any()

    def test_patients_are_held_out_whole(self, monkeypatch):
        X, y, patient = patients()
        seen = []
        monkeypatch.setattr(
            "haemo.models.heads.mlp._log_loss", lambda logits, *_: seen.append(len(logits)) or 0.0
        )
        EarlyStoppingMLP(patience=1).fit(X, y, groups=patient)
        # A fifth of the 10 patients with a bleed and of the 20 without, six slices each.
        assert set(seen) == {6 * (2 + 4)}

    def test_it_stops_once_held_out_patients_no_longer_gain(self):
        X, y, patient = patients(effect=0.0)
        noise = EarlyStoppingMLP(patience=3).fit(X, y, groups=patient)
        assert noise.n_epochs_ < 60

    @pytest.mark.numerical
    def test_the_weights_kept_are_those_of_the_best_epoch(self):
        X, y, patient = patients(effect=0.2)
        stopped = EarlyStoppingMLP(patience=4).fit(X, y, groups=patient)
        best = stopped.n_epochs_ - 4
        short = EarlyStoppingMLP(patience=4, max_epochs=best).fit(X, y, groups=patient)
        np.testing.assert_array_equal(stopped.coefs_[1], short.coefs_[1])

    def test_a_class_with_a_single_patient_is_trained_on_all_the_same(self):
        X, y, patient = patients()
        one = np.isin(patient, [0, 1, 2, 4, 5])
        model = EarlyStoppingMLP(max_epochs=100).fit(X[one], y[one], groups=patient[one])
        assert (model.predict(X[one]) == y[one]).mean() > 0.9

    def test_three_classes_give_a_logit_each(self):
        X, y, patient = patients()
        three = np.where(patient % 5 == 0, 2, y)
        model = EarlyStoppingMLP(max_epochs=40, learning_rate=1e-3).fit(X, three, groups=patient)
        assert model.decision_function(X).shape == (len(y), 3)
        assert (model.predict(X) == three).mean() > 0.8

    def test_it_keeps_scikit_learns_contract(self):
        model = EarlyStoppingMLP(hidden=16, max_epochs=40, learning_rate=5e-2, alpha=1e-3, patience=40)
        check_estimator(model, on_skip=None)
