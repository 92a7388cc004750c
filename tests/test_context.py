"""Heads that look at the slices beside each slice: features joined, scores smoothed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from oracles import exact_head
from pictured import trained_run
from runs import make_run

from haemo.errors import BadSettings
from haemo.features.manifest import Manifest
from haemo.features.store.store import FeatureStore
from haemo.models.heads.calibration import cross_calibrated, cross_thresholds, fit_calibrators, probabilities
from haemo.models.heads.thresholds import parse_threshold
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.repeated_cv import repeat_cv
from haemo.pipeline.predicting.blended_model import load_model
from haemo.pipeline.predicting.prediction import predict
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.dealing import draw_folds
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.training.head import HeadSettings, train_head

C = {"C": [1e-3]}
JOINED = HeadSettings(grid=C, context=1)
BOTH = HeadSettings(grid=C, context=1, smooth=True)


def plain_rows(run):
    """Features of each slice, those of the slice before and of the one after: the slow, obvious way.

    Slices of a study of `make_run` lie at 0, 1, 2, 3.
    """
    rows = run.manifest().rows
    with FeatureStore(run.store_path) as store:
        own = store.embeddings([row.slice_id for row in rows])
    place = {(row.patient, row.position): number for number, row in enumerate(rows)}
    before = [place.get((row.patient, row.position - 1), number) for number, row in enumerate(rows)]
    after = [place.get((row.patient, row.position + 1), number) for number, row in enumerate(rows)]
    return rows, np.hstack([own, own[before], own[after]]), np.array(before), np.array(after)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("context"), copies=1, signal=0.5)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("pictures"), head=BOTH, slices=3, layer="pool5")


def test_rows_are_those_of_the_slice_and_of_its_neighbours(run):
    rows, wanted, _, _ = plain_rows(run)
    with open_features(run, context=1) as table:
        found = table.embeddings([row.slice_id for row in rows])
        parts = list(table.blocks([row.slice_id for row in rows], rows=7))
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(np.concatenate(parts), wanted)


@pytest.mark.numerical
def test_a_head_is_fitted_calibrated_and_judged_on_joined_rows_and_smoothed_scores(run):
    result = train_head(run, "svm", BOTH)
    rows, X, before, after = plain_rows(run)
    y = np.array([row.label == "bleed" for row in rows])
    split = Split.read(run.split_path)
    parts, fold = split.parts(rows), split.fold_numbers(rows)
    train = parts == "train"
    scores = np.empty(len(rows))
    for number in range(split.n_folds):
        fitted = exact_head("svm", C=1e-3).fit(X[train & (fold != number)], y[train & (fold != number)])
        scores[fold == number] = fitted.decision_function(X[fold == number])
    scores[~train] = exact_head("svm", C=1e-3).fit(X[train], y[train]).decision_function(X[~train])
    scores = scores / 2 + (scores[before] + scores[after]) / 4
    chances = np.empty(len(rows))
    chances[train] = cross_calibrated(scores[train], y[train].astype(int), fold[train], "sigmoid")[:, 1]
    whole = fit_calibrators(scores[train], y[train].astype(int), "sigmoid")
    chances[~train] = probabilities(scores[~train], whole)[:, 1]
    found = {name: place for place, name in enumerate(result.predictions.slice_id.tolist())}
    order = [found[row.slice_id] for row in rows]
    np.testing.assert_allclose(result.predictions.scores[order], scores, atol=1e-5)
    np.testing.assert_allclose(result.predictions.probabilities[order], chances, atol=1e-5)
    held = cross_thresholds(
        scores[train], y[train].astype(int), fold[train], "sigmoid", parse_threshold("youden")
    )
    np.testing.assert_allclose(result.predictions.thresholds[order][train], held, atol=1e-5)


def test_joining_and_smoothing_make_another_head_and_leave_the_plain_one_as_it_was(tmp_path):
    run = make_run(tmp_path / "run", copies=1)
    plain = train_head(run, "svm", HeadSettings(grid=C)).facts
    assert not {"context", "smooth"} & plain.keys()
    assert plain["dimension"] == 60
    joined = train_head(run, "svm", JOINED).facts
    assert (joined["context"], joined["dimension"]) == (1, 180)
    assert train_head(run, "svm", JOINED).up_to_date
    assert not train_head(run, "svm", BOTH).up_to_date
    assert train_head(run, "svm", HeadSettings(grid=C)).facts["key"] == plain["key"]


@pytest.mark.numerical
def test_cross_validation_again_joins_and_smooths_too(run):
    train_head(run, "svm", BOTH)
    found = repeat_cv(run, 3, 1, resampling=Resampling(resamples=200))
    rows, X, before, after = plain_rows(run)
    y = np.array([row.label == "bleed" for row in rows])
    of_patient = draw_folds(sorted(rows, key=lambda row: row.slice_id), ("normal", "bleed"), 3, 0)
    fold = np.array([of_patient[row.patient] for row in rows])
    scores = np.empty(len(rows))
    for number in range(3):
        fitted = exact_head("svm", C=1e-3).fit(X[fold != number], y[fold != number])
        scores[fold == number] = fitted.decision_function(X[fold == number])
    scores = scores / 2 + (scores[before] + scores[after]) / 4
    from sklearn.metrics import roc_auc_score

    assert found.models["svm"]["roc_auc"]["mean"] == pytest.approx(roc_auc_score(y, scores), abs=1e-6)


def test_new_slices_get_the_scores_that_their_study_got_in_the_run(pictures):
    files = sorted((pictures.path.parent / "slices").glob("*.png"))
    kept = Predictions.read(pictures.model_path("svm") / "predictions.csv").of_part("test")
    wanted = dict(zip(kept.slice_id.tolist(), kept.scores.tolist(), strict=True))
    # In whatever order they come: files of a study need not stand together.
    found = predict(pictures, "svm", files[::2] + files[1::2])
    scores = {path.name: score for path, score in zip(found.paths, found.scores.tolist(), strict=True)}
    assert {name: scores[name] for name in wanted} == wanted
    assert len(set(found.studies)) == 12


def test_pictures_of_others_lie_in_the_order_of_their_numbers(pictures, tmp_path, caplog):
    files = sorted((pictures.path.parent / "slices").glob("*.png"))[:3]
    for number, path in zip((10, 9, 2), files, strict=True):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / f"slice{number}.png").write_bytes(path.read_bytes())
    with caplog.at_level("INFO"):
        found = predict(pictures, "svm", [tmp_path / "other"])
    assert [path.name for path in found.paths] == ["slice2.png", "slice9.png", "slice10.png"]
    assert "3 pictures are put in order by the numbers in their names" in caplog.text
    known = predict(pictures, "svm", files)
    # 10, 9, 2 are as far apart as one gap: 9 and 2 are no neighbours.
    assert found.scores.tolist() != known.scores[::-1].tolist()


def test_pictures_without_a_number_fail_alone_and_single_slices_are_told(pictures, tmp_path, capsys):
    first = min((pictures.path.parent / "slices").glob("*.png"))
    for name in ("one/a.png", "two/b1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(first.read_bytes())
    (tmp_path / "one" / "broken.png").write_bytes(b"no picture")
    code = main(["predict", "--run", str(pictures), str(tmp_path / "one"), str(tmp_path / "two")])
    told = " ".join(capsys.readouterr().err.split())
    assert code == 3
    assert "one/a.png: nobody knows its place in its study" in told
    assert "broken.png: " in told
    assert "1 of 1 studies have one slice" in told


def test_maps_are_of_the_slice_itself_with_its_neighbours_at_the_average(pictures, caplog):
    model = load_model(pictures, "svm")
    with caplog.at_level("INFO"):
        network, method = model.explained("hirescam")
    assert "its neighbours are held at the average" in caplog.text
    planes = np.stack(model._training_planes(model.training_paths())[:3])
    own = next(rows for rows, _ in model.embedded([(planes,)]))
    average = model.average_row()
    rows = np.hstack([own, np.tile(average[own.shape[1] :], (3, 1))])
    np.testing.assert_allclose(network.scores(planes), model.head.decision_function(rows), atol=1e-4)
    maps = network.maps(planes, method)
    assert np.isfinite(maps).all()
    assert maps.any()


def test_what_smoothing_and_joining_need_is_said(tmp_path, capsys):
    run = make_run(tmp_path / "run", copies=7)
    assert main(["svm", "--run", str(run), "--smooth", "--protocol", "slice"]) == 2
    assert "--smooth needs whole patients on each side" in " ".join(capsys.readouterr().err.split())
    Manifest(replace(row, position=None) for row in run.manifest()).write(run.manifest_path)
    for option in (["--context", "1"], ["--smooth"]):
        assert main(["svm", "--run", str(run), "--C", "1e-3", *option]) == 2
        assert "96 of 96 slices have none" in " ".join(capsys.readouterr().err.split())
    assert not list(run.path.glob("*/model.skops"))
    with pytest.raises(BadSettings, match="counted from 0"):
        train_head(run, "svm", HeadSettings(context=-1))


@pytest.mark.parametrize("name", ["softmax", "mlp"])
def test_other_heads_join_and_smooth(run, name, capsys):
    grid = ["--grid", "hidden=4", "--grid", "alpha=1"] if name == "mlp" else ["--C", "1e-3"]
    assert main([name, "--run", str(run), "--context", "1", "--smooth", *grid]) == 0
    facts = json.loads((run.model_path(name) / "settings.json").read_text())
    assert (facts["context"], facts["smooth"], facts["dimension"]) == (1, True, 180)
