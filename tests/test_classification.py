import csv
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import runs
from oracles import solved_to_the_end
from sklearn.model_selection import GridSearchCV, PredefinedSplit, cross_val_predict

from haemo.errors import BadSettings, MissingStep, RunLocked, TooFewData
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import FeatureStore, create_store
from haemo.models.heads.calibration import (
    SigmoidCalibrator,
    cross_thresholds,
    fit_calibrators,
    probabilities,
)
from haemo.models.heads.spec import HeadSpec
from haemo.models.heads.thresholds import parse_threshold
from haemo.models.search.scoring import METRICS, score, score_estimator
from haemo.pipeline.cli import main
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.directory import HEADS, RunDirectory
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.splitting.protocols import SplitRequest, load_or_make_split
from haemo.pipeline.trained.headfolder import HeadFolder
from haemo.pipeline.training.examples import load_examples
from haemo.pipeline.training.head import HeadSettings, train_head
from haemo.pipeline.training.journal import SearchJournal
from haemo.pipeline.training.resources import Resources
from haemo.pipeline.training.selection import Search

FAST = HeadSettings(grid={"C": [1e-4, 1e-2]})


def make_run(
    path,
    patients=18,
    slices=4,
    features=40,
    labels=("normal", "haemorrhage"),
    variants=1,
    missing=(),
    effect=1.0,
):
    """A run with a manifest and a store; patient p is of class p modulo the number of labels."""
    random = np.random.default_rng(0)
    rows, embeddings = [], []
    directions = random.normal(size=(len(labels), features)) * effect
    for patient in range(patients):
        own = random.normal(size=features)
        for number in range(slices):
            kind = patient % len(labels) if number else 0
            name = f"p{patient:02d}"
            rows.append(
                ManifestRow(f"{name}/{number}", Path(f"/d/{name}"), labels[kind], name, name, float(number))
            )
            embeddings.append(random.normal(size=(variants, features)) + own + directions[kind])
    path.mkdir(parents=True, exist_ok=True)
    run = RunDirectory(path)
    Manifest(rows).write(run.manifest_path)
    keep = [number for number, row in enumerate(rows) if row.slice_id not in missing]
    create_store(
        run.store_path,
        [rows[number].slice_id for number in keep for _ in range(variants)],
        np.concatenate([embeddings[number] for number in keep]).astype(np.float32),
        Fingerprint({"network": "made up"}),
        variants=[variant for _ in keep for variant in range(variants)],
    )
    return run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def examples_of(run, **options):
    cohort = Cohort.of(run, SplitRequest(folds=3))
    with open_features(run) as store:
        return load_examples(store, cohort, **options)


@pytest.mark.parametrize("name", HEADS)
def test_a_trained_head_leaves_everything_that_evaluation_and_prediction_need(run, name):
    grid = {"hidden": [8], "alpha": [1e-3]} if name == "mlp" else FAST.grid
    result = train_head(run, name, HeadSettings(grid=grid))
    folder = run.model_path(name)
    assert sorted(path.name for path in folder.iterdir()) == [
        "grid.csv",
        "metrics.json",
        "model.skops",
        "predictions.csv",
        "settings.json",
    ]
    predictions = Predictions.read(folder / "predictions.csv")
    manifest = {row.slice_id: row for row in run.manifest()}
    assert sorted(predictions.slice_id) == sorted(manifest)
    assert predictions.classes == ("normal", "haemorrhage")
    split = load_or_make_split(run, run.manifest())
    rows = [manifest[slice_id] for slice_id in predictions.slice_id]
    assert (np.where(split.parts(rows) == "train", "cv", "test") == predictions.part).all()
    assert (split.fold_numbers(rows) == predictions.fold).all()
    assert [row.label for row in rows] == predictions.label.tolist()
    test = predictions.of_part("test")
    with open_features(run) as store:
        X = store.embeddings(test.slice_id.tolist())
    head = HeadFolder(folder).head()
    np.testing.assert_array_equal(head.decision_function(X), test.scores)
    np.testing.assert_array_equal(head.predict_proba(X)[:, 1], test.probabilities)
    np.testing.assert_array_equal(head.predict(X), test.predicted)
    assert result.metrics["test"]["roc_auc"] > 0.7
    assert json.loads((folder / "metrics.json").read_text()) == result.metrics
    assert json.loads(run.record_path.read_text())["steps"][name]["parameters"] == result.facts["parameters"]


@pytest.mark.numerical
@pytest.mark.parametrize("spec", [HeadSpec("svm"), HeadSpec("softmax"), HeadSpec("svm", "rbf")], ids=str)
def test_the_search_is_that_of_scikit_learn(run, spec, monkeypatch):
    build = HeadSpec.build
    monkeypatch.setattr(HeadSpec, "build", lambda *spec, **given: solved_to_the_end(build(*spec, **given)))
    examples = examples_of(run)
    grid = {"C": [1e-4, 1e-2, 1.0]} | ({"gamma": [1e-3, 1e-2]} if spec.kernel else {})
    found = Search(spec, grid, "roc_auc", Resources(jobs=2)).over_folds(examples)
    folds, X = PredefinedSplit(examples.fold), examples.X.astype(float)
    peer = GridSearchCV(
        spec.build(), {f"head__{name}": values for name, values in grid.items()}, cv=folds, scoring="roc_auc"
    ).fit(X, examples.y)
    np.testing.assert_allclose([row["mean"] for row in found.table], peer.cv_results_["mean_test_score"])
    np.testing.assert_allclose([row["sd"] for row in found.table], peer.cv_results_["std_test_score"])
    assert [row["fold_1"] for row in found.table] == peer.cv_results_["split1_test_score"].tolist()
    assert {f"head__{name}": value for name, value in found.parameters.items()} == peer.best_params_
    expected = cross_val_predict(peer.best_estimator_, X, examples.y, cv=folds, method="decision_function")
    np.testing.assert_allclose(found.scores, expected, atol=1e-4)
    np.testing.assert_allclose(
        found.estimator.decision_function(examples.X_test),
        peer.decision_function(examples.X_test.astype(float)),
        atol=1e-4,
    )


@pytest.mark.parametrize("name", HEADS)
def test_a_search_that_was_killed_goes_on_and_ends_the_same(tmp_path, monkeypatch, name, caplog):
    caplog.set_level(logging.INFO, "haemo")
    values = (
        {"alpha": [0.1, 1.0], "hidden": [4], "max_epochs": [5]}
        if name == "mlp"
        else {"C": [1e-4, 1e-3, 1e-2]}
    )
    settings = HeadSettings(grid=values)
    whole = train_head(make_run(tmp_path / "whole"), name, settings, resources=Resources(jobs=1))

    class Killed(BaseException):
        pass

    written = []
    add = SearchJournal.add

    def add_four(self, setting, cell):
        add(self, setting, cell)
        written.append(cell)
        if len(written) == 4:
            raise Killed

    run = make_run(tmp_path / "killed")
    monkeypatch.setattr(SearchJournal, "add", add_four)
    with pytest.raises(Killed):
        train_head(run, name, settings, resources=Resources(jobs=1))
    assert len((run.model_path(name) / "cells.csv").read_text().splitlines()) == 1 + 4
    monkeypatch.setattr(SearchJournal, "add", add)
    resumed = train_head(run, name, settings, resources=Resources(jobs=1))
    assert "4 cells of an unfinished search are kept" in caplog.text
    assert not (run.model_path(name) / "cells.csv").exists()
    assert resumed.facts["parameters"] == whole.facts["parameters"]
    np.testing.assert_allclose(resumed.predictions.scores, whole.predictions.scores, atol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_metric_of_the_search_is_what_its_name_says(metric, classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import get_scorer, roc_auc_score
    from sklearn.preprocessing import label_binarize

    random = np.random.default_rng(3)
    y = random.integers(classes, size=90)
    X = random.normal(size=(90, 4)) + y[:, None]
    model = LogisticRegression().fit(X, y)
    if classes == 2 or metric in ("accuracy", "balanced_accuracy"):
        name = "matthews_corrcoef" if metric == "mcc" else metric
        expected = get_scorer(name)(model, X, y)
    elif metric == "roc_auc":
        expected = roc_auc_score(label_binarize(y, classes=range(3)), model.decision_function(X))
    elif metric == "average_precision":
        expected = get_scorer(metric)(model, X, y)
    else:
        expected = get_scorer("f1_macro" if metric == "f1" else "matthews_corrcoef")(model, X, y)
    assert score_estimator(metric, model, X, y) == pytest.approx(expected)


def test_a_ranking_of_one_class_is_undefined_and_an_unknown_metric_refused():
    assert np.isnan(score("roc_auc", np.zeros(3, int), np.arange(3.0)))
    assert np.isnan(score("average_precision", np.array([0, 0, 1]), np.eye(3)))
    with pytest.raises(BadSettings, match="metric 'auc' is not one of roc_auc"):
        score("auc", np.zeros(3, int), np.arange(3.0))


def test_parameters_calibration_and_predictions_know_nothing_of_the_test_slices(tmp_path):
    first = train_head(make_run(tmp_path / "a"), "svm", FAST)
    other = make_run(tmp_path / "b")
    rows = other.manifest().rows
    sides = load_or_make_split(other, other.manifest()).parts(rows)
    with open_features(other) as store:
        X = store.embeddings([row.slice_id for row in rows])
    X[sides == "test"] = 7 * X[sides == "test"][::-1]
    create_store(other.store_path, [row.slice_id for row in rows], X, Fingerprint({"network": "made up"}))
    second = train_head(other, "svm", FAST)
    for name in ("scores", "probabilities"):
        mine, theirs = (getattr(result.predictions.of_part("cv"), name) for result in (first, second))
        np.testing.assert_array_equal(mine, theirs)
    head, twin = (HeadFolder(tmp_path / run / "svm").head() for run in "ab")
    np.testing.assert_array_equal(head.decision_function(X), twin.decision_function(X))


def test_the_same_settings_are_not_trained_again_and_others_are(run, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "haemo")
    first = train_head(run, "svm", FAST)
    written = {path.name: path.read_bytes() for path in run.model_path("svm").iterdir()}
    again = train_head(run, "svm", FAST)
    assert again.up_to_date
    assert again.metrics == first.metrics
    assert again.facts == first.facts
    assert {path.name: path.read_bytes() for path in run.model_path("svm").iterdir()} == written
    assert "up to date" in caplog.text
    other = train_head(run, "svm", HeadSettings(grid={"C": [1e-3]}))
    assert not other.up_to_date
    assert other.facts["parameters"] == {"C": 1e-3}
    assert other.facts["test_judgements"] == 2
    assert "judge setting number 2" in caplog.text


def test_one_head_is_trained_by_one_process_at_a_time(run):
    with claim(run.path, "svm"):
        with pytest.raises(RunLocked, match=f"svm in .* is in use by process {os.getpid()} on "):
            train_head(run, "svm", FAST)
        train_head(run, "softmax", HeadSettings(grid={"C": [1e-3]}))
    assert not train_head(run, "svm", FAST).up_to_date


def test_a_folder_that_a_crash_left_half_written_is_trained_again(run):
    train_head(run, "svm", FAST)
    (run.model_path("svm") / "predictions.csv").unlink()
    assert not train_head(run, "svm", FAST).up_to_date


def test_the_same_seed_gives_the_same_figures_and_other_embeddings_do_not(tmp_path):
    results = [
        train_head(make_run(tmp_path / name, effect=effect), "softmax", FAST, resources=Resources(jobs=jobs))
        for name, effect, jobs in (("a", 1.0, 1), ("b", 1.0, 2), ("c", 0.9, 1))
    ]
    written = [(tmp_path / name / "softmax" / "predictions.csv").read_bytes() for name in "abc"]
    assert written[0] == written[1]
    assert written[0] != written[2]
    assert results[0].facts["key"] == results[1].facts["key"] != results[2].facts["key"]


@pytest.mark.numerical
@pytest.mark.parametrize("name", ["svm", "softmax"])
def test_jobs_change_nothing(run, name):
    examples = examples_of(run)
    grid = {"C": [0.01, 0.1, 1.0]}
    one, *others = (
        Search(HeadSpec(name), grid, "roc_auc", Resources(jobs=jobs)).over_folds(examples)
        for jobs in (1, 4, 4)
    )
    for other in others:
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.estimator[-1].coef_, other.estimator[-1].coef_)


def test_slices_without_features_or_label_are_left_out_and_counted(tmp_path, caplog):
    run = make_run(tmp_path / "run", missing={"p00/0", "p01/2"})
    rows = [*run.manifest().rows, ManifestRow("new", Path("/d/new"), "", "new", "new")]
    Manifest(rows).write(run.manifest_path)
    result = train_head(run, "svm", FAST)
    assert result.facts["slices"]["missing"] == 2
    assert len(result.predictions) == 70
    assert "2 of 72 labelled slices have no features (p00/0, p01/2 ...)" in caplog.text


def test_rotations_train_and_never_validate_or_test(tmp_path):
    run = make_run(tmp_path / "run", variants=7)
    plain, augmented = examples_of(run), examples_of(run, rotations=True)
    assert len(augmented.X) == 7 * len(plain.X)
    assert len(augmented.patient) == len(augmented.y) == len(augmented.X)
    np.testing.assert_array_equal(augmented.X_test, plain.X_test)
    with open_features(run) as store:
        ids = [row.slice_id for row in augmented.train_rows]
        turned = [store.embeddings(ids, variant) for variant in range(7)]
    np.testing.assert_array_equal(augmented.X, np.concatenate(turned))
    assert not (turned[0] == turned[1]).all()
    for (train, validation), (_, plain_validation) in zip(
        augmented.fold_pairs, plain.fold_pairs, strict=True
    ):
        np.testing.assert_array_equal(validation, plain_validation)
        assert not set(augmented.patient[train]) & set(augmented.patient[validation])
        assert len(train) == 7 * (len(plain.X) - len(validation))
    result = train_head(run, "svm", HeadSettings(grid=FAST.grid, rotations=True), split=SplitRequest(folds=3))
    assert len(result.predictions) == 72
    with pytest.raises(MissingStep, match="--rotations paper"):
        train_head(make_run(tmp_path / "none"), "svm", HeadSettings(rotations=True))


@pytest.mark.numerical
def test_three_classes_give_a_score_and_a_probability_each(tmp_path):
    run = make_run(tmp_path / "run", patients=24, labels=("none", "epidural", "subdural"))
    for name, kernel in (("svm", None), ("svm", "rbf"), ("softmax", None)):
        grid = {"C": [1e-2, 1.0]}
        result = train_head(
            run,
            name,
            HeadSettings(grid=grid, kernel=kernel, calibration="isotonic"),
            split=SplitRequest(folds=3),
        )
        assert result.predictions.classes == ("epidural", "none", "subdural")
        assert result.predictions.probabilities.shape == (96, 3)
        np.testing.assert_allclose(result.predictions.probabilities.sum(axis=1), 1)
        assert result.metrics["test"]["roc_auc"] > 0.6


def test_a_lower_threshold_finds_more_bleeds(run):
    found = []
    for threshold in (0.2, 0.8):
        result = train_head(run, "svm", HeadSettings(grid={"C": [1e-3]}, threshold=threshold))
        found.append((result.predictions.predicted == "haemorrhage").sum())
        assert (
            (result.predictions.probabilities >= threshold) == (result.predictions.predicted == "haemorrhage")
        ).all()
    assert found[0] > found[1]


@pytest.mark.numerical
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_out_of_fold_probabilities_know_nothing_of_their_own_fold(run, method):
    found = train_head(run, "svm", replace(FAST, calibration=method)).predictions.of_part("cv")
    y = (found.label == "haemorrhage").astype(int)
    for fold in np.unique(found.fold):
        own = found.fold == fold
        others = fit_calibrators(found.scores[~own], y[~own], method)
        expected = probabilities(found.scores[own], others)[:, 1]
        np.testing.assert_array_equal(found.probabilities[own], expected)
    all_of_them = probabilities(found.scores, fit_calibrators(found.scores, y, method))[:, 1]
    assert np.abs(found.probabilities - all_of_them).max() > 1e-3


@pytest.mark.parametrize("rule", ["youden", "sensitivity=0.95", "specificity=0.8"])
def test_a_threshold_is_chosen_out_of_fold_and_stored_with_the_model(run, rule):
    result = train_head(run, "svm", HeadSettings(grid={"C": [1e-3]}, threshold=rule))
    head = HeadFolder(run.model_path("svm")).head()
    cv, test = result.predictions.of_part("cv"), result.predictions.of_part("test")
    chances = cv.probabilities
    assert head.threshold == parse_threshold(rule).choose(cv.label == "haemorrhage", chances)
    assert result.facts["threshold"] == head.threshold
    assert result.facts["threshold_rule"] == rule
    assert ((test.probabilities >= head.threshold) == (test.predicted == "haemorrhage")).all()
    # Out of fold each slice is judged at what the other folds chose, and the run knows at what.
    y = (cv.label == "haemorrhage").astype(int)
    thresholds = cross_thresholds(cv.scores, y, cv.fold, "sigmoid", parse_threshold(rule))
    assert ((chances >= thresholds) == (cv.predicted == "haemorrhage")).all()
    known = run.predictions("svm")
    assert known.of_part("cv").thresholds.tolist() == thresholds.tolist()
    assert set(known.of_part("test").thresholds) == {head.threshold}


def test_probabilities_from_two_folds_are_not_too_sure_of_new_patients(tmp_path):
    # By the scores of models that learned from half the patients the slope is 0.82.
    run = make_run(tmp_path / "run", patients=300, features=150, effect=0.25)
    few = SplitRequest(folds=2, train_fraction=0.2)
    test = train_head(run, "svm", HeadSettings(grid={"C": [1e-3]}), split=few).predictions.of_part("test")
    log_odds = np.log(test.probabilities / (1 - test.probabilities))
    assert SigmoidCalibrator().fit(log_odds, test.label == "haemorrhage").slope_ > 0.88


@pytest.mark.parametrize("name", ["softmax", "mlp"])
def test_probabilities_without_calibration_are_for_as_many_bleeds_as_there_are(tmp_path, name):
    # Classes that weigh alike gave a mean probability of 0.5 where 1 in 6 bleeds.
    run = make_run(tmp_path / "run", patients=90, slices=6, effect=0.2, labels=("normal", *["a"] * 5))
    rows = [
        replace(row, label="bleed" if number % 6 == 1 else "normal")
        for number, row in enumerate(run.manifest())
    ]
    Manifest(rows).write(run.manifest_path)
    grid = {"C": [1e-3]} if name == "softmax" else {"hidden": [8], "alpha": [10.0]}
    found = {}
    for method in ("none", "sigmoid"):
        settings = HeadSettings(grid=grid, calibration=method)
        found[method] = train_head(run, name, settings).predictions
        for part in ("cv", "test"):
            own = found[method].of_part(part)
            assert own.probabilities.mean() == pytest.approx((own.label == "bleed").mean(), abs=0.08)


def test_too_few_patients_to_calibrate_by_are_named(tmp_path, caplog):
    run = make_run(tmp_path / "run", patients=8)
    train_head(run, "svm", FAST, split=SplitRequest(folds=2))
    assert "come from 3 folds only, for a class has 3 training patients" in caplog.text


def test_by_default_a_head_finds_bleeds_where_few_slices_bleed(tmp_path):
    """At 0.5 it would call next to everything normal."""
    run = runs.make_run(tmp_path, patients=60, copies=1, signal=0.6)  # one slice in six bleeds
    found = {}
    for threshold in (None, 0.5):
        result = train_head(run, "svm", HeadSettings(grid={"C": [1e-3]}, threshold=threshold))
        found[threshold] = result.metrics["test"]
        assert result.facts["threshold_rule"] == ("youden" if threshold is None else "0.5")
    assert found[None]["sensitivity"] > 0.5 > found[0.5]["sensitivity"]
    assert found[None]["roc_auc"] == found[0.5]["roc_auc"]


@pytest.mark.parametrize("protocol", ["slice", "lenet", "thesis"])
def test_published_protocols_keep_the_threshold_that_they_had(run, protocol):
    result = train_head(run, "svm", FAST, split=SplitRequest(protocol=protocol, new=True))
    assert (result.facts["threshold_rule"], result.facts["threshold"]) == ("0.5", 0.5)


def test_a_head_that_was_trained_at_another_default_keeps_its_threshold(run):
    train_head(run, "svm", replace(FAST, threshold=0.5))
    assert set(run.predictions("svm").thresholds) == {0.5}
    assert train_head(run, "svm", replace(FAST, threshold=0.5)).up_to_date
    assert not train_head(run, "svm", FAST).up_to_date
    assert train_head(run, "svm", replace(FAST, threshold="youden")).up_to_date


def test_a_threshold_rule_is_for_two_classes(tmp_path):
    run = make_run(tmp_path / "run", patients=24, labels=("none", "epidural", "subdural"))
    with pytest.raises(BadSettings, match="two classes, and there are 3"):
        train_head(run, "svm", HeadSettings(threshold="youden"), split=SplitRequest(folds=3))


@pytest.mark.numerical
@pytest.mark.parametrize(
    "options",
    [
        {"normalise": True},
        {"pca": 5},
        {"kernel": "rbf", "nystroem": 10, "grid": {"C": [1e-2], "gamma": [1e-3, 1e-2]}},
        {"kernel": "poly", "pca": 5, "normalise": True, "grid": {"C": [1.0]}},
    ],
    ids=str,
)
def test_steps_around_the_scaler_train_and_read_back(run, options):
    settings = HeadSettings(**{"grid": {"C": [1e-3, 1e-2]}, **options})
    result = train_head(run, "svm", settings)
    test = result.predictions.of_part("test")
    with open_features(run) as store:
        X = store.embeddings(test.slice_id.tolist())
    head = HeadFolder(run.model_path("svm")).head()
    np.testing.assert_array_equal(head.decision_function(X), test.scores)
    assert set(result.facts["parameters"]) == set(settings.grid)


@pytest.mark.parametrize("many", [60, 500])
def test_more_components_than_a_fold_has_rows_are_refused(run, capsys, many):
    assert main(["svm", "--run", str(run), "--C", "1e-3", "--pca", str(many)]) == 2
    assert f"--pca {many} is too many" in capsys.readouterr().err
    assert main(["svm", "--run", str(run), "--C", "1e-3", "--pca", "10"]) == 0


def test_kernels_that_do_not_fit_are_refused_with_a_way_out(run, capsys):
    assert main(["svm", "--run", str(run), "--kernel", "rbf", "--memory", "0.001"]) == 1
    assert "--nystroem" in capsys.readouterr().err


class TestFeaturesLargerThanTheBudget:
    BUDGET = 1000

    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch):
        # Seven rows of 40 numbers: many blocks, and the last one short.
        monkeypatch.setattr("haemo.pipeline.training.examples._BLOCK_BYTES", 4 * 40 * 7)

    @staticmethod
    def shuffled(path, **options):
        """A run whose store has its rows in another order than the slices have by their ids."""
        run = make_run(path, **options)
        with FeatureStore(run.store_path) as store:
            pairs = list(zip(store.keys.slice_ids, store.keys.variants, strict=True))
            order = np.random.default_rng(1).permutation(len(pairs))
            X = store.read_rows(order)
        ids, variants = zip(*(pairs[place] for place in order), strict=True)
        create_store(run.store_path, ids, X, Fingerprint({"network": "made up"}), variants=variants)
        return run

    @pytest.mark.numerical
    @pytest.mark.parametrize(
        ("name", "labels", "settings"),
        [
            ("svm", ("normal", "haemorrhage"), {"threshold": "youden", "normalise": True}),
            ("svm", ("none", "epidural", "subdural"), {"calibration": "isotonic"}),
            ("softmax", ("normal", "haemorrhage"), {"rotations": True, "class_weight": "none"}),
            ("softmax", ("none", "epidural", "subdural"), {"metric": "mcc"}),
        ],
    )
    def test_they_are_read_in_blocks_and_give_the_same_head(self, tmp_path, caplog, name, labels, settings):
        caplog.set_level(logging.INFO, "haemo")
        settings = HeadSettings(grid=FAST.grid, **settings)
        whole, blocks = (
            train_head(
                self.shuffled(tmp_path / where, patients=24, labels=labels, variants=3),
                name,
                settings,
                split=SplitRequest(folds=3),
                resources=Resources(memory=memory),
            )
            for where, memory in (("whole", None), ("blocks", self.BUDGET))
        )
        rows = 96 + (blocks.facts["slices"]["train"] * 2 if settings.rotations else 0)
        assert f"features of {rows} rows take " in caplog.text
        assert caplog.text.count("read in blocks") == 1
        assert blocks.facts["key"] == whole.facts["key"]
        assert blocks.facts["parameters"] == whole.facts["parameters"]
        assert blocks.facts["threshold"] == pytest.approx(whole.facts["threshold"], abs=1e-3)
        tables = [
            [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]
            for stream in (
                (tmp_path / where / name / "grid.csv").read_text().splitlines()
                for where in ("whole", "blocks")
            )
        ]
        for mine, theirs in zip(*tables, strict=True):
            assert {key: float(value) for key, value in mine.items()} == pytest.approx(
                {key: float(value) for key, value in theirs.items()}, abs=1e-6
            )
        assert blocks.predictions.slice_id.tolist() == whole.predictions.slice_id.tolist()
        np.testing.assert_allclose(blocks.predictions.scores, whole.predictions.scores, atol=2e-3)
        np.testing.assert_allclose(
            blocks.predictions.probabilities, whole.predictions.probabilities, atol=2e-3
        )

    def test_no_pass_asks_for_more_rows_than_a_block_has(self, tmp_path, monkeypatch):
        asked, read_rows = [], FeatureStore.read_rows

        def counting(self, rows):
            asked.append(len(rows))
            return read_rows(self, rows)

        monkeypatch.setattr(FeatureStore, "read_rows", counting)
        train_head(make_run(tmp_path / "run"), "softmax", FAST, resources=Resources(memory=self.BUDGET))
        assert max(asked) == 7

    def test_what_was_trained_in_memory_is_up_to_date_in_blocks(self, run):
        train_head(run, "svm", FAST)
        assert train_head(run, "svm", FAST, resources=Resources(memory=self.BUDGET)).up_to_date

    @pytest.mark.parametrize("options", [["svm", "--kernel", "rbf"], ["softmax", "--pca", "3"], ["mlp"]])
    def test_heads_that_need_them_in_memory_refuse(self, run, capsys, options):
        assert main([*options, "--run", str(run), "--memory", "1e-6"]) == 1
        told = " ".join(capsys.readouterr().err.split())
        assert "features of 72 rows take 1.07e-05 GiB, more than the 9.99e-07 GiB of --memory" in told
        assert "raise --memory, or train the linear SVM" in told
        assert not list(run.path.glob("*/model.skops"))

    def test_slices_that_all_look_alike_are_refused_as_in_memory(self, tmp_path):
        run = make_run(tmp_path / "run")
        ids = [row.slice_id for row in run.manifest()]
        create_store(run.store_path, ids, np.ones((72, 40)), Fingerprint({"network": "made up"}))
        with pytest.raises(TooFewData, match="the same features"):
            train_head(run, "svm", FAST, resources=Resources(memory=self.BUDGET))


def test_a_head_no_better_than_chance_is_said(tmp_path, caplog):
    for effect, backwards in ((1.0, False), (0.0, True)):
        run = make_run(tmp_path / str(effect), patients=30, effect=effect)
        out_of_fold = train_head(run, "svm", HeadSettings(grid={"C": [1e-6]})).predictions.of_part("cv")
        area = score("roc_auc", (out_of_fold.label == "haemorrhage").astype(int), out_of_fold.scores)
        assert (area < 0.45) == ("no better than chance" in caplog.text) == backwards


class TestTooLittle:
    def test_no_features_at_all(self, run):
        run.store_path.unlink()
        with pytest.raises(MissingStep, match="haemo features --run"):
            train_head(run, "svm")

    def test_features_of_other_slices(self, run):
        create_store(run.store_path, ["x"], np.zeros((1, 3), np.float32), Fingerprint({}))
        with pytest.raises(MissingStep, match="no features of the labelled slices"):
            train_head(run, "svm")

    def test_two_slices(self, tmp_path):
        with pytest.raises(TooFewData, match="too few patients"):
            train_head(make_run(tmp_path / "run", patients=2, slices=2), "svm")

    def test_one_class(self, tmp_path):
        with pytest.raises(TooFewData, match="only the class 'normal'"):
            train_head(make_run(tmp_path / "run", labels=("normal",)), "svm")

    def test_one_patient(self, tmp_path):
        run = make_run(tmp_path / "run", patients=2, slices=30)
        one = [replace(row, patient="p", study="p") for row in run.manifest()]
        Manifest(one).write(run.manifest_path)
        with pytest.raises(TooFewData, match="too few patients"):
            train_head(run, "svm")

    def test_all_images_identical(self, run):
        ids = [row.slice_id for row in run.manifest()]
        create_store(run.store_path, ids, np.ones((len(ids), 5), np.float32), Fingerprint({}))
        with pytest.raises(TooFewData, match="training slices have the same features"):
            train_head(run, "svm")

    def test_a_class_whose_slices_could_not_be_read(self, tmp_path):
        run = make_run(tmp_path / "run", patients=6, slices=3)
        load_or_make_split(run, run.manifest())
        split = load_or_make_split(run, run.manifest())
        bleeding = [row.slice_id for row in run.manifest() if row.label != "normal"]
        trained = [name for name in bleeding if split.part[name.partition("/")[0]] == "train"]
        broken = make_run(tmp_path / "run", patients=6, slices=3, missing=set(trained[:-1]))
        with pytest.raises(TooFewData, match="fewer than two folds"):
            train_head(broken, "svm")

    def test_nothing_left_to_test_on(self, tmp_path):
        run = make_run(tmp_path / "run")
        split = load_or_make_split(run, run.manifest())
        tested = {row.slice_id for row in run.manifest() if split.part[row.patient] == "test"}
        with pytest.raises(TooFewData, match="no test slice has features"):
            train_head(make_run(tmp_path / "run", missing=tested), "svm")

    def test_the_smallest_run_that_works(self, tmp_path):
        result = train_head(make_run(tmp_path / "run", patients=6, slices=2), "svm", FAST)
        assert result.metrics["test"]["patients"] == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calibration": "none"}, "scores of the head svm are no log odds"),
        ({"calibration": "beta"}, "calibration 'beta'"),
        ({"metric": "auc"}, "metric 'auc'"),
        ({"threshold": 1.0}, "threshold '1.0'"),
        ({"threshold": "best"}, "threshold 'best'"),
        ({"nystroem": 10}, "Nystroem approximates a kernel"),
        ({"pca": 0}, "pca is 0"),
    ],
)
def test_settings_that_do_not_exist_are_refused(run, settings, message):
    with pytest.raises(BadSettings, match=message):
        train_head(run, "svm", HeadSettings(grid={"C": [1e-3]}, **settings))


class TestCommand:
    def test_it_prints_what_was_chosen_what_it_is_worth_and_what_to_do_next(self, run, capsys):
        assert main(["svm", "--run", str(run), "--C", "1e-3,1e-2", "--folds", "3"]) == 0
        lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        assert lines[0].startswith("svm: C = 0.0")
        assert "sd" in lines[0]
        assert any(line.startswith("ROC AUC") for line in lines)
        mse = next(line for line in lines if line.startswith("MSE"))
        assert re.fullmatch(r"MSE +0\.\d{3} +0\.\d{3} \(~0\.\d{3}-0\.\d{3}\)", mse)
        assert lines[-2:] == [f"written to {run}/svm", f"next: haemo softmax --run {run}"]
        assert main(["softmax", "--run", str(run), "--grid", "C=1e-3"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"next: haemo compare --run {run}"

    def test_missing_slices_give_exit_code_3(self, tmp_path):
        run = make_run(tmp_path / "run", missing={"p00/0"})
        assert main(["svm", "--run", str(run), "--C", "1e-3"]) == 3

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["--grid", "gamma=1"], 2, "svm has no parameter 'gamma'"),
            (["--calibration", "none"], 2, "no log odds"),
            (["--seed", "3"], 2, "has seed 0, not 3"),
            (["--kernel", "cosine"], 2, "'cosine' is not one of"),
        ],
    )
    def test_wrong_usage_is_told_without_a_trace(self, run, capsys, arguments, code, message):
        load_or_make_split(run, run.manifest())
        assert main(["svm", "--run", str(run), *arguments]) == code
        assert message in capsys.readouterr().err

    def test_the_grid_is_kept_as_a_table(self, run):
        main(
            [
                "svm",
                "--run",
                str(run),
                "--kernel",
                "rbf",
                "--C",
                "1,10",
                "--grid",
                "gamma=1e-3",
                "--folds",
                "3",
            ]
        )
        with (run.model_path("svm") / "grid.csv").open() as stream:
            table = list(csv.DictReader(stream))
        assert [(row["C"], row["gamma"]) for row in table] == [("1.0", "0.001"), ("10.0", "0.001")]
        assert sorted(row["rank"] for row in table) == ["1", "2"]


def test_stage_two_never_loads_torch(run):
    script = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision', 'skimage', 'pydicom'):\n"
        "            raise AssertionError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from haemo.pipeline.cli import main\n"
        f"for head, grid in (('svm', 'C=1'), ('softmax', 'C=1'), ('mlp', 'max_epochs=3')):\n"
        f"    assert main([head, '--run', {str(run)!r}, '--grid', grid]) == 0\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_a_run_directory_may_be_moved(run, tmp_path):
    first = train_head(run, "svm", FAST)
    moved = tmp_path / "elsewhere"
    shutil.move(run.path, moved)
    again = train_head(RunDirectory(moved), "svm", FAST)
    assert again.up_to_date
    assert again.facts == first.facts
