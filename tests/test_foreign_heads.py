"""Any classifier as a head: trained, kept, compared, reported and asked like those that are built in."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from pictured import trained_run
from plugins import lay_down, looked_up_anew
from runs import make_run
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from haemo.errors import BrokenExtension
from haemo.models.heads import kinds
from haemo.models.heads.spec import HeadSpec
from haemo.pipeline.cli import main
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.splitting.protocols import SplitRequest
from haemo.pipeline.training.examples import load_examples
from haemo.pipeline.training.head import HeadSettings, train_head

FOREST = "sklearn.ensemble.RandomForestClassifier"
FEW = ("--grid", "n_estimators=5")
DOCUMENT = Path(__file__).parent.parent / "docs" / "extending.md"


class Stranger(ExtraTreesClassifier):
    """A classifier of a package that is not scikit-learn."""


STRANGER = f"{Stranger.__module__}.Stranger"


def haemo(capsys, *words):
    """Exit status, and what was written to the terminal and to the log."""
    status = main(["-q", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize(
    "estimator",
    [
        FOREST,
        "sklearn.ensemble.HistGradientBoostingClassifier",
        "sklearn.neighbors.KNeighborsClassifier",
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.neural_network.MLPClassifier",
        "sklearn.gaussian_process.GaussianProcessClassifier",
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_classifier_of_scikit_learn_is_kept_and_read_back_with_its_scores(tmp_path, estimator):
    run = make_run(tmp_path / "run", patients=12, dimension=6, copies=1)
    train_head(run, "other", HeadSettings(estimator=estimator))
    predictions = Predictions.read(run.model_path("other") / "predictions.csv").of_part("test")
    from haemo.pipeline.trained.headfolder import HeadFolder

    with open_features(run) as store:
        X = store.embeddings(predictions.slice_id.tolist())
    head = HeadFolder(run.model_path("other")).head()
    np.testing.assert_array_equal(head.decision_function(X), predictions.scores)


def test_its_search_is_that_of_scikit_learn(tmp_path):
    run = make_run(tmp_path / "run", patients=15, dimension=8, copies=1)
    grid = {"max_depth": [1, 2], "n_estimators": [5, 20]}
    train_head(run, "forest", HeadSettings(grid=grid, estimator=FOREST), split=SplitRequest(folds=3))
    cohort = Cohort.of(run, SplitRequest(folds=3))
    with open_features(run) as store:
        examples = load_examples(store, cohort)
    peer = GridSearchCV(
        HeadSpec("forest", estimator=FOREST).build(),
        {f"head__estimator__{name}": values for name, values in grid.items()},
        cv=PredefinedSplit(examples.fold),
        scoring="roc_auc",
    ).fit(examples.X, examples.y)
    with (run.model_path("forest") / "grid.csv").open() as file:
        found = [float(row["mean"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(found, peer.cv_results_["mean_test_score"])


def test_a_forest_stands_beside_the_heads_that_are_built_in(tmp_path, capsys, monkeypatch):
    run = trained_run(tmp_path).path
    monkeypatch.setattr("haemo.models.evidence.explain._OCCLUDER_STEP", 32)
    train = ["train", "--run", run, "--estimator", FOREST, "--name", "forest", "--grid"]
    status, out, _ = haemo(capsys, *train, "n_estimators=3,5")
    assert status == 0
    assert "forest: n_estimators = " in out
    assert "kept in" in haemo(capsys, *train, "n_estimators=3,5")[1]
    status, out, _ = haemo(capsys, "compare", "--run", run, "--resamples", 100)
    assert status == 0
    assert " forest " in out
    status, out, _ = haemo(capsys, "compare", "--run", run, "--cv", "2x1", "--resamples", 100)
    assert status == 0
    assert " forest " in out
    assert haemo(capsys, "report", "--run", run, "--resamples", 100)[0] == 0
    page = (run / "report.html").read_text()
    assert "forest" in page
    assert "n_estimators" in page
    status, out, err = haemo(
        capsys, "predict", "--run", run, "--head", "forest", tmp_path / "slices" / "00.png"
    )
    assert status == 0, err
    assert haemo(capsys, "explain", "--run", run, "--head", "forest", tmp_path / "slices" / "01.png")[0] == 0
    status, _, err = haemo(
        capsys,
        "explain",
        "--run",
        run,
        "--head",
        "forest",
        "--method",
        "hirescam",
        tmp_path / "slices" / "01.png",
    )
    assert status == 2
    assert "this head has none; take --method occlusion" in err


def test_an_estimator_of_others_is_admitted_by_the_command_alone(tmp_path, capsys):
    run = trained_run(tmp_path).path
    train = ["train", "--run", run, "--estimator", STRANGER, "--name", "stranger", *FEW]
    assert haemo(capsys, *train)[0] == 0
    ask = ["predict", "--run", run, "--head", "stranger", tmp_path / "slices" / "00.png"]
    status, _, err = haemo(capsys, *ask)
    assert status == 1
    assert f"--trust {STRANGER}" in err
    assert haemo(capsys, *ask, "--trust", STRANGER)[0] == 0
    status, _, err = haemo(capsys, "compare", "--run", run, "--cv", "2x1", "--resamples", 100)
    assert status == 1
    assert f"--trust {STRANGER}" in err
    compare = ["compare", "--run", run, "--cv", "2x1", "--resamples", 100, "--trust", STRANGER]
    assert haemo(capsys, *compare)[0] == 0


def test_settings_cannot_make_a_run_import_what_nobody_admitted(tmp_path, capsys, monkeypatch):
    run = make_run(tmp_path / "run", patients=18, slices=2, copies=1).path
    assert haemo(capsys, "train", "--run", run, "--estimator", FOREST, "--name", "forest", *FEW)[0] == 0
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "harm.py").write_text("raise SystemExit('imported')")
    settings = json.loads((run / "forest" / "settings.json").read_text())
    settings["estimator"] = "harm.Classifier"
    (run / "forest" / "settings.json").write_text(json.dumps(settings))
    status, _, err = haemo(capsys, "compare", "--run", run, "--cv", "2x1", "--resamples", 100)
    assert status == 1
    assert "--trust harm.Classifier" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--estimator", "sklearn.ensemble.RandomForestClasifier", "--name", "f"], "RandomForestClassifier"),
        (["--estimator", "nowhere.Forest", "--name", "f"], "No module named 'nowhere'"),
        (["--estimator", "sklearn.linear_model.LinearRegression", "--name", "f"], "is no classifier"),
        (["--estimator", "sklearn.ensemble.VotingClassifier", "--name", "f"], "without arguments"),
        (["--estimator", FOREST, "--name", "svm"], "cannot be called 'svm'"),
        (["--estimator", FOREST, "--name", "../f"], r"cannot be called '../f'"),
        (["--estimator", FOREST, "--name", "f", "--grid", "n_estimator=5"], "Did you mean n_estimators"),
        (["--head", "softmaks"], "Did you mean softmax"),
    ],
)
def test_what_cannot_be_a_head_is_said(tmp_path, capsys, words, told):
    run = make_run(tmp_path / "run", patients=6, copies=1)
    status, _, err = haemo(capsys, "train", "--run", run.path, *words)
    assert status == 2
    assert told in " ".join(err.split())
    assert not (run.path / "f").exists()


@pytest.mark.parametrize("words", [[], ["--head", "svm", "--estimator", FOREST], ["--estimator", FOREST]])
def test_half_a_name_is_wrong_usage(tmp_path, capsys, words):
    assert haemo(capsys, "train", "--run", tmp_path, *words)[0] == 2


def test_the_plugin_of_the_documentation_trains(tmp_path, capsys, monkeypatch):
    section = re.search(r"^## A head$(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.M | re.S)[1]
    (source,) = re.findall(r"```python\n(.*?)```", section, re.S)
    point, value = re.search(r'^(\w+) = "(\w+:\w+)"$', section, re.M).groups()
    site = tmp_path / "site"
    site.mkdir()
    lay_down(site, "more", {value.partition(":")[0]: source}, {point: value}, "haemo.heads")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr("haemo.models.heads.spec.HEAD_KINDS", anew := looked_up_anew(kinds.HEAD_KINDS))
    monkeypatch.setattr("haemo.pipeline.training.head.HEAD_KINDS", anew)
    run = make_run(tmp_path / "run", patients=12, copies=1).path
    assert haemo(capsys, "train", "--run", run, "--head", point)[0] == 0
    assert point in RunDirectory(run).heads()
    searched = json.loads((run / point / "settings.json").read_text())["parameters"]
    assert set(searched) == set(anew.get(point).grid)


def test_a_plugin_that_is_no_kind_of_head_is_named(tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    lay_down(site, "more", {"my_heads": "WRONG = 3\n"}, {"wrong": "my_heads:WRONG"}, "haemo.heads")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr("haemo.models.heads.spec.HEAD_KINDS", looked_up_anew(kinds.HEAD_KINDS))
    with pytest.raises(BrokenExtension, match=r"more 1\.2 is my_heads:WRONG, a int; it must be a HeadKind"):
        HeadSpec("wrong")
