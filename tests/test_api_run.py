"""A run from Python: the same directory as that of the command line, in both directions."""

import json

import numpy as np
import pytest
from cohorts import class_folders

import haemo
from haemo.errors import BadDataset, BadSettings, MissingStep
from haemo.features.store.store import FeatureStore
from haemo.models.networks import alexnet
from haemo.pipeline.api import embedding as embedding_module
from haemo.pipeline.cli import main
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.split import Split

CONTROL = {"layer": "pool5", "weights": "random", "precision": "float32", "device": "cpu"}
WORDS = [word for name, value in CONTROL.items() for word in (f"--{name}", value)]
GRID = {"C": [1e-5, 1e-4]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data"), patients=16, slices=2)


@pytest.fixture(autouse=True, scope="module")
def _small_network(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAEMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(alexnet._BATCH, "cpu", 4)
        yield
    embedding_module._last.clear()


@pytest.fixture(scope="module")
def run(data, tmp_path_factory, _small_network):
    run = haemo.Run(tmp_path_factory.mktemp("run") / "here")
    run.index(data)
    run.extract(**CONTROL)
    run.train("svm", grid=GRID)
    return run


@pytest.fixture(scope="module")
def typed(data, tmp_path_factory, _small_network):
    """The same by the commands."""
    path = tmp_path_factory.mktemp("typed") / "there"
    assert main(["-q", "index", str(data), "--run", str(path)]) == 0
    assert main(["-q", "features", "--run", str(path), *WORDS]) == 0
    assert main(["-q", "svm", "--run", str(path), "--C", "1e-5,1e-4"]) == 0
    return path


@pytest.mark.parametrize(
    "name", ["manifest.csv", "features.h5", "split.json", "svm/predictions.csv", "svm/metrics.json"]
)
def test_every_file_is_the_one_that_the_command_writes(run, typed, name):
    assert (run.path / name).read_bytes() == (typed / name).read_bytes()


def test_the_commands_go_on_from_it(run, capsys):
    assert main(["-q", "svm", "--run", str(run.path), "--C", "1e-5,1e-4"]) == 0
    assert "kept in" in capsys.readouterr().out
    assert main(["-q", "features", "--run", str(run.path)]) == 0
    assert capsys.readouterr().out.startswith("32 cached, 0 new")


def test_it_goes_on_from_the_commands(typed):
    run = haemo.Run(str(typed))
    assert run.extract().cached == 32
    assert run.train("svm", grid=GRID).up_to_date
    assert repr(run) == f"Run({str(typed)!r}: manifest, features, svm)"
    assert run.models == ("svm",)
    assert run.classes == ("normal", "haemorrhage")


def test_settings_left_out_are_those_of_the_features(run):
    assert run.extract(workers=1).fingerprint.facts["layer"] == "pool5"


@pytest.mark.parametrize("part", ["train", "test"])
def test_features_are_those_of_the_store_on_one_side_of_the_split(run, part):
    found = run.features(part)
    X, y, groups = found
    rows = {row.slice_id: row for row in run.manifest}
    split = Split.read(run.path / "split.json")
    assert set(found.slice_ids) == {one for one, row in rows.items() if split.part[row.patient] == part}
    with FeatureStore(run.path / "features.h5") as store:
        np.testing.assert_array_equal(X, store.embeddings(found.slice_ids.tolist()))
    assert [run.classes[one] for one in y] == [rows[one].label for one in found.slice_ids]
    assert groups.tolist() == [rows[one].patient for one in found.slice_ids]
    assert found.folds.tolist() == [split.fold.get(patient, -1) for patient in groups]
    assert (X.shape, X.dtype, y.dtype.kind) == ((len(found), 9216), np.float32, "i")
    assert repr(found).startswith(f"Features({part}: {len(y)} slices of {len(set(groups))} patients")


def test_no_patient_is_on_both_sides(run):
    assert not set(run.features("train").groups) & set(run.features("test").groups)


def test_features_draw_the_split_that_training_then_keeps(data, tmp_path, run):
    other = haemo.Run(tmp_path / "other")
    other.index(data)
    other.extract(**CONTROL)
    train = other.features()
    assert (other.path / "split.json").read_bytes() == (run.path / "split.json").read_bytes()
    assert other.train("svm", grid=GRID).test == run.train("svm", grid=GRID).test
    np.testing.assert_array_equal(train.slice_ids, run.features().slice_ids)


def test_training_gives_the_figures_of_metrics_json(run):
    trained = run.train("svm", grid=GRID)
    kept = json.loads((run.path / "svm" / "metrics.json").read_text())
    for part, figures in (("test", trained.test), ("cv", trained.out_of_fold)):
        assert {name: figures[name].value for name in figures} == {name: kept[part][name] for name in figures}
    assert trained.parameters["C"] in GRID["C"]
    settings = json.loads((run.path / "svm" / "settings.json").read_text())
    assert (settings["threshold_rule"], settings["threshold"]) == ("youden", trained.threshold)
    heading = f"svm: C = {trained.parameters['C']:g}; threshold {trained.threshold:.3g}"
    assert repr(trained).startswith(f"{heading}\ntest: ")
    assert ">out of fold</th>" in trained._repr_html_()


def test_a_network_trains_too(run):
    trained = run.train("tinyvgg", epochs=1, device="cpu", precision="float32", crop="head")
    assert trained.parameters == {"epoch": 1}
    assert trained.test.patients == len(set(run.features("test").groups))
    assert run.train("tinyvgg", epochs=1, device="cpu", precision="float32", crop="head").up_to_date


def test_options_reach_the_split_and_the_machine(run):
    assert run.train("svm", grid=GRID, jobs=1, memory=2**30).up_to_date
    for name in ("svm", "tinyvgg"):
        with pytest.raises(BadSettings, match=r"has train fraction 0\.7, not 0\.5"):
            run.train(name, train_fraction=0.5)
    with pytest.raises(BadSettings, match="has seed 0, not 3"):
        run.train("svm", seed=3)


@pytest.fixture
def own(run):
    """A model of one's own in the table, and its probabilities."""
    probability = np.linspace(0.1, 0.9, len(run.features("test")))
    out_of_fold = np.linspace(0.2, 0.8, len(run.features()))
    run.add_model("mine", probability, out_of_fold, threshold=0.6)
    return probability, out_of_fold


def test_a_model_of_ones_own_stands_in_the_table(run, own, capsys):
    test = run.features("test")
    compared = run.compare(resamples=200)
    figures = haemo.evaluate(test.y, groups=test.groups, probability=own[0], threshold=0.6, resamples=200)
    mine = compared.models["mine"]
    assert {name: mine[name] for name in mine} == {name: figures[name] for name in figures}
    assert {"svm", "mine"} <= set(compared.models)
    assert "svm and mine" in repr(compared)
    assert ">mine</th>" in compared._repr_html_()
    assert main(["-q", "compare", "--run", str(run.path), "--resamples", "200"]) == 0
    assert "mine" in capsys.readouterr().out
    of_folds = run.compare("cv", resamples=100).models["mine"]
    assert (
        of_folds["roc_auc"].value
        == haemo.evaluate(run.features().y, own[1], run.features().groups, resamples=100)["roc_auc"].value
    )
    by_patient = run.compare(by="patient", resamples=100)
    assert by_patient.heading.startswith(f"{len(set(test.groups))} patients, positive: haemorrhage")


def test_its_predictions_are_written_as_given(run, own):
    kept = Predictions.read(run.path / "mine" / "predictions.csv")
    np.testing.assert_array_equal(kept.of_part("test").probabilities, own[0])
    np.testing.assert_array_equal(kept.of_part("test").slice_id, run.features("test").slice_ids)
    np.testing.assert_array_equal(kept.of_part("cv").probabilities, own[1])
    np.testing.assert_array_equal(kept.predicted == "haemorrhage", kept.probabilities >= 0.6)


def test_it_is_left_out_when_the_split_is_another(data, tmp_path):
    run = haemo.Run(tmp_path / "run")
    run.index(data)
    run.extract(**CONTROL)
    run.add_model("mine", np.full(len(run.features("test")), 0.5))
    run.train("svm", grid=GRID, seed=1, new_split=True)
    compared = run.compare(resamples=100)
    assert set(compared.models) == {"svm"}
    assert "mine was trained on another split" in repr(compared)


@pytest.mark.parametrize(
    ("name", "change", "error", "said"),
    [
        ("svm", lambda p: p, BadSettings, "cannot be called 'svm'"),
        ("../mine", lambda p: p, BadSettings, "cannot be called"),
        ("explain", lambda p: p, BadSettings, "is there and is no model"),
        ("mine", lambda p: p[1:], BadDataset, r"those of features\('test'\) have the shape"),
        ("mine", lambda p: p + 1, BadDataset, "must lie in 0..1"),
        ("mine", lambda p: p * np.nan, BadDataset, "must lie in 0..1"),
    ],
)
def test_answers_that_do_not_fit_are_refused(run, name, change, error, said):
    (run.path / "explain").mkdir(exist_ok=True)
    with pytest.raises(error, match=said):
        run.add_model(name, change(np.full(len(run.features("test")), 0.5)))


def test_predictions_of_the_test_slices_are_those_of_the_training(run):
    test = run.features("test")
    paths = {row.slice_id: row.path for row in run.manifest}
    found = run.predict("svm", [paths[one] for one in test.slice_ids], device="cpu")
    kept = Predictions.read(run.path / "svm" / "predictions.csv").of_part("test")
    expected = {str(paths[one]): score for one, score in zip(kept.slice_id, kept.scores, strict=True)}
    assert {row["path"]: row["score"] for row in found.rows()} == expected
    assert repr(found).startswith(f"SliceScores(slices: {len(test)}, studies: ")
    one = run.predict("svm", str(paths[test.slice_ids[0]]), threshold=0.01, device="cpu")
    assert (len(one), one.threshold) == (1, 0.01)


def test_explained_slices_show_themselves(run, tmp_path):
    path = run.manifest.rows[0].path
    (explained,) = run.explain("svm", path, out=tmp_path / "pictures", device="cpu", method="hirescam")
    assert explained.path == path
    assert explained._repr_png_() == explained.picture.read_bytes()
    assert explained.picture.parent == tmp_path / "pictures"
    assert repr(explained).startswith("Explained(000.png, haemorrhage, regions: ")


def test_the_report_is_written_with_a_model_of_ones_own(run, own):
    report = run.report(anonymous=True)
    assert report.page == run.path / "report.html"
    assert "mine" in report.page.read_text()


def test_steps_that_are_missing_are_named(tmp_path):
    run = haemo.Run(tmp_path / "nothing")
    assert repr(run) == f"Run({str(tmp_path / 'nothing')!r}: empty)"
    for ask in (run.extract, run.features, run.compare, lambda: run.train("svm"), run.report):
        with pytest.raises(MissingStep, match="haemo"):
            ask()
    assert not run.path.exists()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda run: run.train("forest"), "there is no model 'forest'; there are svm"),
        (lambda run: run.train("svm", kernal="rbf"), "no option kernal; there are .*kernel"),
        (lambda run: run.train("cnn", grid={}), "no option grid"),
        (lambda run: run.extract(layers="fc7"), "no option layers"),
        (lambda run: run.features("cv"), "parts 'train' and 'test'"),
        (lambda run: run.compare("train"), "part is 'train'"),
    ],
)
def test_slips_are_refused_with_what_there_is(run, ask, said):
    with pytest.raises(BadSettings, match=said):
        ask(run)
