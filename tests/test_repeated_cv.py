"""Repeated cross-validation: whole patients, the heads' own settings, and one answer a slice and repeat."""

import json

import numpy as np
import pytest
from runs import make_run
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from features.store import FeatureStore
from models.errors import BadSettings, MissingStep
from models.heads import HeadSpec
from models.scaling import FlooredScaler
from pipeline.cli import main
from pipeline.dealing import draw_folds
from pipeline.evaluation.intervals import Resampling
from pipeline.evaluation.repeated_cv import _rotated, parse_plan, repeat_cv

QUICK = Resampling(resamples=200)
C = {"svm": 1e-3, "softmax": 1e-2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("cv"), copies=1, dimension=200, signal=0.3)
    for name, c in C.items():
        made.model_path(name).mkdir()
        settings = {
            "head": name,
            "kernel": None,
            "class_weight": "balanced",
            "seed": 0,
            "parameters": {"C": c},
        }
        (made.model_path(name) / "settings.json").write_text(json.dumps(settings))
    return made


def test_figures_are_means_over_repeats_of_plain_cross_validation(run):
    found = repeat_cv(run, 4, 2, resampling=QUICK)
    rows = run.manifest().rows
    truth = np.array([row.label == "bleed" for row in rows])
    with FeatureStore(run.store_path) as store:
        features = store.embeddings([row.slice_id for row in rows])
    for name, c in C.items():
        areas = []
        for repeat in range(2):
            fold = draw_folds(sorted(rows, key=lambda row: row.slice_id), ("normal", "bleed"), 4, repeat)
            folds = np.array([fold[row.patient] for row in rows])
            scores = np.empty(len(rows))
            for k in range(4):
                head = HeadSpec(name).build(C=c).fit(features[folds != k], truth[folds != k])
                scores[folds == k] = head.decision_function(features[folds == k])
            areas.append(roc_auc_score(truth, scores))
        assert found.models[name]["roc_auc"]["mean"] == pytest.approx(np.mean(areas), abs=2e-3)
    assert json.loads((run.path / "compare_cv.json").read_text()) == found.as_dict()


def test_the_network_head_stops_on_patients_it_does_not_learn_from(tmp_path):
    made = make_run(tmp_path, patients=18, copies=1, dimension=40, signal=0.5)
    parameters = {"hidden": 4, "alpha": 0.01, "patience": 3}
    made.model_path("mlp").mkdir()
    settings = {"head": "mlp", "class_weight": "balanced", "seed": 0, "parameters": parameters}
    (made.model_path("mlp") / "settings.json").write_text(json.dumps(settings))
    found = repeat_cv(made, 3, 1, resampling=QUICK)
    rows = sorted(made.manifest().rows, key=lambda row: row.slice_id)
    truth = np.array([row.label == "bleed" for row in rows])
    patients = np.array([row.patient for row in rows])
    fold = draw_folds(rows, ("normal", "bleed"), 3, 0)
    folds = np.array([fold[name] for name in patients])
    with FeatureStore(made.store_path) as store:
        features = store.embeddings([row.slice_id for row in rows])
    scores = np.empty(len(rows))
    for k in range(3):
        head = HeadSpec("mlp").build(**parameters)
        head.fit(features[folds != k], truth[folds != k], head__groups=patients[folds != k])
        scores[folds == k] = head.decision_function(features[folds == k])
    assert found.models["mlp"]["roc_auc"]["mean"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)


def test_the_difference_of_two_heads_has_an_interval_and_a_sentence(run):
    pair = repeat_cv(run, 3, 2, resampling=QUICK).pairs[0]
    entry = pair["differences"]["roc_auc"]
    assert entry["low"] <= entry["mean"] <= entry["high"]
    assert pair["sentence"].startswith("svm and softmax cannot be told apart on these 24 patients: ROC AUC")


def test_turned_features_give_the_same_softmax():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 150)) * rng.uniform(0.5, 2, 150)
    y = np.arange(40) % 3
    training = rng.random(40) < 0.7
    scaler = FlooredScaler().fit(features[training])
    plain = LogisticRegression(C=0.01, tol=1e-10, max_iter=5000)
    plain.fit(scaler.transform(features[training]), y[training])
    turned = _rotated(features, training)
    fast = LogisticRegression(C=0.01, tol=1e-10, max_iter=5000).fit(turned[training], y[training])
    assert turned.shape[1] < training.sum()
    expected = plain.decision_function(scaler.transform(features))
    assert fast.decision_function(turned) == pytest.approx(expected, abs=1e-5)


def test_the_command_prints_a_table_of_heads(run, capsys):
    assert main(["compare", "--run", str(run.path), "--cv", "3x2", "--resamples", "100"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "3-fold cross-validation over whole patients, mean of 2 repeats: 96 slices of 24 patients; 95%"
    )
    assert "svm and softmax" in out


@pytest.mark.parametrize("plan", ["5", "5x", "x10", "1x10", "5x0", "5*10", "ax2"])
def test_plans_that_make_no_sense_are_refused(plan, run):
    with pytest.raises(BadSettings, match="such as 5x10"):
        parse_plan(plan)
    assert main(["compare", "--run", str(run.path), "--cv", plan]) == 2


def test_without_a_trained_head_the_next_command_is_named(tmp_path):
    with pytest.raises(MissingStep, match="haemo svm"):
        repeat_cv(make_run(tmp_path, patients=9, slices=2, copies=1), 5, 2)
