import json
import shlex
import threading
import time

import pytest

from haemo.errors import BadDataset, MissingStep
from haemo.features.failures import Failure
from haemo.pipeline.run.directory import RunDirectory, software_versions


def test_an_unindexed_run_names_the_command_to_type(tmp_path):
    with pytest.raises(MissingStep, match="haemo index DATA --run"):
        RunDirectory(tmp_path).manifest()


def test_each_step_keeps_its_own_record(tmp_path):
    run = RunDirectory(tmp_path / "runs" / "x")
    run.create()
    run.record("index", slices=3)
    run.record("features", computed=3)
    run.record("features", computed=0)
    record = json.loads(run.record_path.read_text())
    assert record["steps"]["index"]["slices"] == 3
    assert record["steps"]["features"]["computed"] == 0
    assert record["haemo"] == software_versions()
    assert {"python", "torch", "scikit-learn"} <= set(record["haemo"])


def test_steps_that_end_at_the_same_moment_all_keep_their_record(tmp_path, monkeypatch):
    run, start = RunDirectory(tmp_path), threading.Barrier(8)
    read = RunDirectory.read_record

    def slowly(self):
        record = read(self)
        time.sleep(0.02)
        return record

    def work(number):
        start.wait()
        run.record(f"step {number}")

    monkeypatch.setattr(RunDirectory, "read_record", slowly)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read(run)["steps"]) == {f"step {number}" for number in range(8)}


def test_a_damaged_record_is_named(tmp_path):
    run = RunDirectory(tmp_path)
    run.record_path.write_text("{")
    with pytest.raises(BadDataset, match=r"run\.json is not JSON"):
        run.record("index")


def test_trained_models_are_those_with_predictions(tmp_path):
    run = RunDirectory(tmp_path)
    for name in ("svm", "mlp"):
        run.model_path(name).mkdir()
    (run.model_path("svm") / "predictions.csv").touch()
    assert run.trained() == ["svm"]


def test_no_failures_leave_no_file(tmp_path):
    run = RunDirectory(tmp_path)
    run.replace_failures("index", [])
    assert not run.failures_path.exists()
    run.replace_failures("index", [Failure("a", "index", "empty")])
    run.replace_failures("index", [])
    assert run.failures_path.read_text() == "path,stage,reason\n"


def test_a_command_can_be_typed_whatever_the_name_of_the_run(tmp_path):
    run = RunDirectory(tmp_path / "a b's")
    with pytest.raises(MissingStep) as told:
        run.manifest()
    command = str(told.value).partition("make it first: ")[2]
    assert shlex.split(command) == ["haemo", "index", "DATA", "--run", str(run.path)]
    assert str(RunDirectory("runs/plain")) == "runs/plain"
