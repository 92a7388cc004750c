"""A run with several sets of features: made, named, stood on alone and side by side, under one split."""

import json

import numpy as np
import pytest
from oracles import exact_head
from pictured import trained_run

from haemo.errors import BadSettings
from haemo.features.store.store import FeatureStore
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.comparison import compare
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.repeated_cv import repeat_cv
from haemo.pipeline.predicting.blended_model import load_model
from haemo.pipeline.predicting.prediction import predict
from haemo.pipeline.run.directory import train_command
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.training.head import HeadSettings, train_head

C = {"C": [1e-4]}
PLAIN = ("--weights", "random", "--precision", "float32")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose default set is as it comes, with a second set of cropped slices and their mirror images."""
    made = trained_run(tmp_path_factory.mktemp("sets"))
    options = [
        "--crop",
        "head",
        "--mirror",
        "--layer",
        "pool3",
        *PLAIN,
    ]
    assert main(["features", "--run", str(made), "--name", "mirrored", *options]) == 0
    assert main(["svm", "--run", str(made), "--features", "mirrored", "--C", "1e-4"]) == 0
    assert main(["svm", "--run", str(made), "--features", "default,mirrored", "--C", "1e-4"]) == 0
    return made


def test_a_second_set_leaves_the_first_and_its_head_as_they_were(tmp_path, capsys):
    run = trained_run(tmp_path)
    before = {path: path.read_bytes() for path in (run.store_path, *run.model_path("svm").iterdir())}
    options = ["--crop", "head", "--layer", "pool4", *PLAIN]
    assert main(["features", "--run", str(run), "--name", "cropped", *options]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-2:] == [
        f"next: haemo svm --run {run} --features cropped",
        "0 cached, 36 new, 0 failed",
    ]
    assert main(["features", "--run", str(run), "--name", "cropped", *options]) == 0
    assert "36 cached, 0 new" in capsys.readouterr().out
    assert main(["svm", "--run", str(run), "--features", "cropped", "--C", "1e-4"]) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert run.sets() == ["default", "cropped"]
    steps = run.read_record()["steps"]
    assert (steps["features"]["settings"]["crop"], steps["features-cropped"]["settings"]["crop"]) == (
        "none",
        "head",
    )


def test_heads_say_which_set_they_stand_on_under_one_split(run):
    facts = {name: run.settings(name) for name in ("svm", "svm-mirrored", "svm-default-mirrored")}
    assert [own.get("features") for own in facts.values()] == [None, ["mirrored"], ["default", "mirrored"]]
    assert len({own["split"] for own in facts.values()}) == 1
    assert [own["dimension"] for own in facts.values()] == [9216, 27648, 36864]
    assert {own["head"] for own in facts.values()} == {"svm"}
    assert facts["svm-mirrored"]["fingerprint"]["mirror"]
    assert facts["svm-default-mirrored"]["fingerprint"].keys() == {"default", "mirrored"}
    command = train_command(run.model_path("svm-mirrored"))
    assert command == f"haemo svm --name svm-mirrored --features mirrored --run {run}"


def test_joined_sets_are_their_columns_side_by_side(run):
    rows = run.manifest().rows
    ids = [row.slice_id for row in rows]
    parts = []
    for name in ("default", "mirrored"):
        with FeatureStore(run.on(name).store_path) as store:
            parts.append(store.embeddings(ids))
    X, y = np.hstack(parts), np.array([row.label == "haemorrhage" for row in rows])
    train = Split.read(run.split_path).parts(rows) == "train"
    wanted = exact_head("svm", C=1e-4).fit(X[train], y[train]).decision_function(X[~train])
    found = Predictions.read(run.model_path("svm-default-mirrored") / "predictions.csv").of_part("test")
    order = [found.slice_id.tolist().index(name) for name in np.array(ids)[~train]]
    np.testing.assert_allclose(found.scores[order], wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["svm-mirrored", "svm-default-mirrored"])
def test_new_slices_are_embedded_for_the_sets_that_a_head_stands_on(run, name):
    files = sorted((run.path.parent / "slices").glob("*.png"))
    found = predict(run, name, files)
    scores = {path.name: score for path, score in zip(found.paths, found.scores.tolist(), strict=True)}
    kept = Predictions.read(run.model_path(name) / "predictions.csv").of_part("test")
    wanted = dict(zip(kept.slice_id.tolist(), kept.scores.tolist(), strict=True))
    assert {one: scores[one] for one in wanted} == wanted


def test_models_on_different_sets_are_compared_on_the_same_slices(run):
    found = compare(run, resampling=Resampling(resamples=200))
    assert {"svm", "svm-mirrored", "svm-default-mirrored"} <= found.models.keys()
    pairs = {(pair["first"], pair["second"]) for pair in found.pairs}
    assert ("svm", "svm-mirrored") in pairs or ("svm-mirrored", "svm") in pairs
    again = repeat_cv(run, 3, 1, resampling=Resampling(resamples=200))
    assert list(again.models) == ["svm", "svm-default-mirrored", "svm-mirrored"]
    with FeatureStore(run.on("mirrored").store_path) as store:
        X = store.embeddings([row.slice_id for row in run.manifest().rows])
    assert X.shape[1] == 27648


def test_maps_of_a_joined_head_are_of_its_first_set_with_the_others_at_the_average(run, caplog):
    model = load_model(run, "svm-default-mirrored")
    with caplog.at_level("INFO"):
        network, _ = model.explained("hirescam")
    assert "the sets of features after the first are held at the average" in caplog.text
    planes = np.stack(model._training_planes(model.training_paths())[:2])
    own = model.extractor(planes)
    rows = np.hstack([own, np.tile(model.average_row()[own.shape[1] :], (2, 1))])
    np.testing.assert_allclose(network.scores(planes), model.head.decision_function(rows), atol=1e-4)


def test_all_sets_are_verified_or_one_and_damage_is_told_with_its_set(run, tmp_path, capsys):
    assert main(["verify", "--run", str(run)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["verify", "--run", str(run), "--name", "mirrored"]) == 0
    assert "feature-sets/mirrored/features.h5: 36 rows, every bit" in capsys.readouterr().out
    path = run.on("mirrored").store_path
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(bytes(damaged))
    try:
        assert main(["verify", "--run", str(run)]) == 1
        assert f"haemo verify --run {run} --name mirrored --repair" in capsys.readouterr().out
    finally:
        path.write_bytes(sound)


def test_the_report_names_the_set(run):
    assert main(["report", "--run", str(run), "--resamples", "100"]) == 0
    chosen = (run.path / "MODEL_CARD.md").read_text()
    assert "svm" in chosen
    json.loads((run.path / "compare.json").read_text())


def test_wrong_names_of_sets_and_heads_are_refused(run, capsys):
    for options, message in (
        (["svm", "--features", "miror"], "there is no set of features 'miror'. Did you mean mirrored?"),
        (["svm", "--features", "default,default"], "names a set twice"),
        (["svm", "--name", "cnn"], "cannot be called 'cnn'"),
        (["svm", "--name", "feature-sets"], "cannot be called 'feature-sets'"),
        (["features", "--name", "../up"], "a set of features cannot be called '../up'"),
        (["leakage", "--features", "nothing"], "there is no set of features 'nothing'"),
    ):
        assert main([options[0], "--run", str(run), *options[1:]]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(BadSettings, match="cannot be called"):
        train_head(run, "svm", HeadSettings(grid=C), called="a b")
