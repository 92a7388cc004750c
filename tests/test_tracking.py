"""`--track`: what MLflow's own client then finds, and what is not told."""

import json
import sys
import warnings

import pytest
from runs import make_run

from haemo.pipeline.cli import main

SVM = ("svm", "--C", "1e-5,1e-4", "--folds", "3")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("tracked") / "first").path
    assert main([*SVM, "--run", str(run), "--track", "auto"]) == 0
    return run


@pytest.fixture
def store(run):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{run.parent / 'tracking.db'}")
        yield client, client.get_experiment_by_name("first").experiment_id


def test_a_grid_is_one_entry_with_its_settings_below(run, store):
    client, experiment = store
    found = client.search_runs([experiment])
    (parent,) = (one for one in found if "mlflow.parentRunId" not in one.data.tags)
    assert parent.info.run_name == "svm"
    assert parent.info.status == "FINISHED"
    below = [one for one in found if one.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(float(one.data.params["C"]) for one in below) == [1e-5, 1e-4]
    best = min(below, key=lambda one: one.data.metrics["rank"])
    assert best.data.params["C"] == parent.data.params["parameters.C"]
    assert len(found) == 3


def test_figures_stand_with_their_intervals(run, store):
    client, experiment = store
    (entry,) = client.search_runs([experiment], "tags.model = 'svm'")
    own = json.loads((run / "svm" / "metrics.json").read_text())
    assert entry.data.metrics["roc_auc"] == pytest.approx(own["test"]["roc_auc"])
    assert entry.data.metrics["cv_roc_auc"] == pytest.approx(own["cv"]["roc_auc"])
    low = own["cv"]["intervals"]["roc_auc"]["low"]
    assert entry.data.metrics["cv_roc_auc_low"] == pytest.approx(low)
    assert entry.data.params["calibration"] == "sigmoid"


def test_files_are_kept_beside_the_database_and_name_no_patient(run, store):
    client, experiment = store
    (entry,) = client.search_runs([experiment], "tags.model = 'svm'")
    names = {one.path for one in client.list_artifacts(entry.info.run_id)}
    assert names == {"settings.json", "metrics.json", "grid.csv"}
    own = run.parent / "tracking" / entry.info.run_id
    kept = [path for path in own.rglob("*") if path.is_file()]
    assert {path.name for path in kept} == names
    for path in [*kept, run.parent / "tracking.db"]:
        assert b"patient07" not in path.read_bytes()
        assert b"p07-" not in path.read_bytes()


def test_a_model_is_tracked_once(run, store, capsys):
    client, experiment = store
    assert main([*SVM, "--run", str(run), "--track", "auto"]) == 0
    assert "tracked before: svm of experiment first" in capsys.readouterr().out
    assert len(client.search_runs([experiment])) == 3


def test_nothing_is_tracked_unless_it_is_asked_for(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run").path
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main([*SVM, "--run", str(run)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("uri", "code", "said"),
    [
        ("nowhere", 2, "'nowhere' is no URI of a store"),
        ("sqlite:////proc/none/tracking.db", 1, "the model is trained and kept, but sqlite:////proc/none"),
    ],
)
def test_a_store_that_is_none_leaves_the_model(run, capsys, uri, code, said):
    assert main([*SVM, "--run", str(run), "--track", uri]) == code
    assert said in capsys.readouterr().err
    assert (run / "svm" / "model.skops").is_file()


def test_without_mlflow_the_extra_is_named(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", None)
    assert main([*SVM, "--run", str(run), "--track", "auto"]) == 1
    assert "pip install 'haemo[track]'" in capsys.readouterr().err


def test_networks_are_tracked_too(run, capsys):
    net = make_run(run.parent / "net", patients=12, slices=2).path
    words = ["tinyvgg", "--run", str(net), "--epochs", "1", "--batch-size", "8", "--track", "auto"]
    assert main(words) == 0
    assert "tracked: tinyvgg of experiment net" in capsys.readouterr().out
    assert list((run.parent / "tracking").rglob("history.csv"))
