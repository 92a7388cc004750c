"""Stage two on the workers of a cluster: the same figures to the last bit."""

import csv
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from remote import broken_host, host_that_hangs, host_that_waits, scaled
from runs import make_run

from haemo.errors import ClusterFailed
from haemo.features.cluster import sharing as sharing_module
from haemo.features.cluster.connection import Cluster, connected
from haemo.features.cluster.sharing import DaskWorkers
from haemo.piecework import done, done_by
from haemo.pipeline.cli import main
from haemo.pipeline.run.directory import RunDirectory


class Counted(DaskWorkers):
    """Counts how often it is asked."""

    calls = 0

    def __call__(self, *arguments):
        self.calls += 1
        return super().__call__(*arguments)


@pytest.fixture(scope="module")
def workers():
    with connected(Cluster.parse("local:2")) as client:
        yield Counted(client, 300.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("run") / "run", patients=18, slices=2)
    for words in (["svm"], ["mlp"]):
        assert main([*words, "--run", str(run), "--folds", "3"]) == 0
    return run


def cells(folder: Path) -> list[dict[str, str]]:
    """The grid, without how long it took."""
    with (folder / "grid.csv").open() as stream:
        return [{name: one[name] for name in one if name != "seconds"} for one in csv.DictReader(stream)]


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["leakage", "--no-pixels", "--repeats", "2"], "leakage.json"),
        (["learning-curve", "--repeats", "3"], "learning_curve.json"),
        (["compare", "--cv", "3x2"], "compare_cv.json"),
    ],
)
def test_the_figures_are_those_of_one_host(workers, run, words, file):
    assert main([*words, "--run", str(run)]) == 0
    alone = (run.path / file).read_bytes()
    (run.path / file).unlink()
    before = workers.calls
    with done_by(workers):
        assert main([*words, "--run", str(run)]) == 0
    assert workers.calls > before
    assert (run.path / file).read_bytes() == alone


@pytest.mark.parametrize(
    "words",
    [
        ["svm", "--kernel", "rbf", "--C", "0.1,1"],
        ["svm", "--C", "1e-4,1e-2"],
        ["softmax", "--C", "1e-4,1e-2"],
        ["train", "--estimator", "sklearn.tree.DecisionTreeClassifier", "--grid", "max_depth=2,3"],
    ],
    ids=" ".join,
)
def test_the_cells_of_a_grid_are_those_of_one_host(workers, run, tmp_path, words):
    for name in ("alone", "together"):
        shutil.copytree(run.path, tmp_path / name)
    told, before = ["--name", "again"], workers.calls
    assert main([*words, *told, "--run", str(tmp_path / "alone")]) == 0
    with done_by(workers):
        assert main([*words, *told, "--run", str(tmp_path / "together")]) == 0
    assert (workers.calls > before) == (words[0] != "softmax")
    folders = [RunDirectory(tmp_path / name).model_path("again") for name in ("alone", "together")]
    assert cells(folders[0]) == cells(folders[1])
    assert (folders[0] / "predictions.csv").read_bytes() == (folders[1] / "predictions.csv").read_bytes()


def test_pieces_come_in_their_order_and_a_killed_worker_costs_none(workers, tmp_path):
    shared = np.arange(2000.0)
    pieces = [(factor, tmp_path / "mark" if factor == 3 else None) for factor in range(8)]
    with done_by(workers):
        found = list(done(scaled, shared, pieces))
    assert found == [factor * shared.sum() for factor in range(8)]


def test_what_a_piece_raises_is_raised_here(workers):
    with done_by(workers), pytest.raises(TypeError, match="unsupported operand"):
        list(done(scaled, np.ones(3), [({},)]))


def test_a_worker_of_other_versions_is_left_out(workers, monkeypatch, caplog):
    monkeypatch.setattr(sharing_module, "_ALIKE", ("numpy",))
    monkeypatch.setattr(sharing_module, "version", lambda name: "0.1")
    alone = DaskWorkers(workers._client, 0.0)
    with done_by(alone), pytest.raises(ClusterFailed, match="no worker that can do this for 0 s"):
        list(done(scaled, np.ones(3), [(1,)]))
    assert f"is left out: it has numpy {np.__version__}; install the same there as here" in caplog.text


def test_a_worker_that_is_broken_is_left_out_with_what_it_raised(workers, monkeypatch, caplog):
    monkeypatch.setattr(sharing_module, "this_host", broken_host)
    alone = DaskWorkers(workers._client, 0.0)
    with done_by(alone), pytest.raises(ClusterFailed, match="no worker that can do this for 0 s"):
        list(done(scaled, np.ones(3), [(1,)]))
    assert (
        "is left out: OSError: [Errno 5] Input/output error; mend it there, see: haemo doctor" in caplog.text
    )


def test_workers_are_asked_all_at_once(workers, monkeypatch, tmp_path, caplog):
    asked = partial(host_that_waits, folder=tmp_path, count=2)
    monkeypatch.setattr(sharing_module, "this_host", asked)
    alone = DaskWorkers(workers._client, 300.0)
    with done_by(alone):
        assert list(done(scaled, np.ones(3), [(1,), (2,)])) == [3.0, 6.0]
    assert "left out" not in caplog.text
    assert len(alone._hosts) == 2


def test_a_worker_that_hangs_does_not_hold_up_the_others(workers, monkeypatch, tmp_path, caplog):
    folder = tmp_path / "asked"
    folder.mkdir()
    hanging = partial(host_that_hangs, mark=tmp_path / "mark", folder=folder)
    monkeypatch.setattr(sharing_module, "this_host", hanging)
    monkeypatch.setattr(sharing_module, "_SECONDS_FOR_THE_OTHERS", 0.3)
    alone = DaskWorkers(workers._client, 300.0)
    pieces = [(factor,) for factor in range(4)]
    try:
        with done_by(alone):
            assert list(done(scaled, np.ones(3), pieces)) == [0.0, 3.0, 6.0, 9.0]
            assert "left out" not in caplog.text
            monkeypatch.setattr(sharing_module, "_SECONDS_TO_ANSWER", 0.0)
            assert list(done(scaled, np.ones(3), pieces)) == [0.0, 3.0, 6.0, 9.0]
    finally:
        (folder / "go").touch()
    assert (
        "is left out: it has not said who it is within 0 s; mend it there, see: haemo doctor" in caplog.text
    )


def test_the_command(run, capsys):
    assert main(["learning-curve", "--repeats", "3", "--run", str(run), "--cluster", "local:1"]) == 0
    assert "training patients, 3 splits by patient" in capsys.readouterr().out
    assert main(["compare", "--run", str(run), "--cluster", "local:1"]) == 2
    assert "--cluster is for --cv" in capsys.readouterr().err
