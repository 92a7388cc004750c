"""`haemo run` and `--config`: the same as typing it, what is refused, and going on where it was stopped."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
from runs import make_run

from haemo.pipeline.cli import main

STUDY = """
run = "RUN"
[svm]
C = [1e-5, 1e-4]
folds = 3
[compare]
"""


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "a run").path


@pytest.fixture
def study(tmp_path, run):
    def write(text=STUDY):
        path = tmp_path / "study.toml"
        path.write_text(text.replace("RUN", str(run)), encoding="utf-8")
        return str(path)

    return write


def test_steps_are_those_that_would_be_typed_and_are_done_once(run, study, tmp_path, capsys):
    typed = tmp_path / "typed"
    shutil.copytree(run, typed)
    assert main(["svm", "--run", str(typed), "--C", "1e-5,1e-4", "--folds", "3"]) == 0
    capsys.readouterr()
    assert main(["run", study()]) == 0
    said = capsys.readouterr().out
    assert f"$ haemo svm --run '{run}' --C 1e-05,0.0001 --folds 3\n" in said
    assert "2 steps done, 0 done before" in said
    assert (run / "svm" / "predictions.csv").read_bytes() == (typed / "svm" / "predictions.csv").read_bytes()
    assert (run / "compare.json").is_file()
    before = (run / "compare.json").stat().st_mtime_ns
    assert main(["run", study()]) == 0
    assert "0 steps done, 2 done before" in capsys.readouterr().out
    assert (run / "compare.json").stat().st_mtime_ns == before


def test_what_changed_and_all_behind_it_is_done_again(run, study, capsys):
    assert main(["run", study()]) == 0
    capsys.readouterr()
    changed = study(STUDY.replace("folds = 3", "folds = 4"))
    assert main(["run", "--dry-run", changed]) == 0
    assert "2 steps to do, 0 done before" in capsys.readouterr().out
    assert main(["run", study(STUDY + "[report]\n")]) == 0
    assert "1 step done, 2 done before" in capsys.readouterr().out


def test_a_step_that_fails_stops_the_study_which_then_goes_on(run, study, capsys):
    kept = (run / "features.h5").rename(run / "elsewhere.h5")
    path = study('run = "RUN"\nsteps = ["compare", "svm"]\n[svm]\nC = "1e-4"\n')
    assert main(["run", path]) == 1
    assert "stopped at compare, exit code 1; to go on: haemo run" in capsys.readouterr().err
    path = study('run = "RUN"\n[svm]\nC = "1e-4"\n[compare]\n')
    assert main(["run", path]) == 1
    kept.rename(run / "features.h5")
    assert main(["run", path]) == 0
    assert "2 steps done" in capsys.readouterr().out


def test_a_study_that_is_killed_goes_on_and_ends_as_if_nothing_had_been(run, study, tmp_path, capsys):
    """Killed in its second step, as nobody could catch it."""
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(run, undisturbed)
    path = study(STUDY + "resamples = 100\n[report]\nresamples = 100\n")
    killed = [sys.executable, "-c", KILLED, "run", path]
    assert subprocess.run(killed, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert (run / "svm" / "metrics.json").is_file()
    assert not (run / "compare.json").exists()
    assert main(["run", path]) == 0
    said = capsys.readouterr().out
    assert f"done before: haemo svm --run '{run}'" in said
    assert "2 steps done, 1 done before" in said
    again = study(STUDY.replace("RUN", str(undisturbed)) + "resamples = 100\n[report]\nresamples = 100\n")
    assert main(["run", again]) == 0
    for name in ("svm/predictions.csv", "svm/metrics.json", "compare.json"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name


KILLED = """
import os, signal, sys
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation import comparison
comparison.compare = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def test_effective_settings_are_recorded_with_those_that_were_not_named(run, study):
    assert main(["run", study()]) == 0
    settings = json.loads((run / "run.json").read_text())["steps"]["study: svm"]["settings"]
    assert settings["folds"] == 3
    assert settings["calibration"] == "sigmoid"


def test_two_tables_for_one_command(run, study, capsys):
    text = 'run = "RUN"\nsteps = ["first", "second"]\n[first]\ncommand = "svm"\nC = 1e-4\n'
    assert main(["run", "--dry-run", study(text + '[second]\ncommand = "segment train"\nlooks = 2\n')]) == 0
    said = capsys.readouterr().out
    assert "haemo svm" in said
    assert "haemo segment train" in said
    assert "--looks 2" in said


class TestConfig:
    def test_what_is_typed_goes_before_the_file(self, run, study, capsys):
        path = study('run = "RUN"\n[svm]\nC = "1e-4"\nfolds = 3\nnormalise = true\n')
        assert main(["--config", path, "svm", "--folds", "4"]) == 0
        settings = json.loads((run / "svm" / "settings.json").read_text())
        typed = capsys.readouterr()
        assert "4 folds" in typed.err
        assert settings["normalise"] is True
        assert settings["grid"] == {"C": [1e-4]}

    def test_arguments_and_subcommands(self, run, study, capsys, tmp_path):
        text = 'run = "RUN"\n[segment.predict]\npaths = ["nowhere/1", "nowhere/2"]\nout = "OUT"\n'
        path = study(text.replace("OUT", str(tmp_path / "out")))
        assert main(["--config", path, "segment", "predict"]) == 2
        assert "nowhere/1" in capsys.readouterr().err
        assert main(["--config", path, "segment", "predict", "elsewhere"]) == 2
        assert "elsewhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[swm]\n", "'swm' is no command. Did you mean svm?"),
        ("[svm]\nkernl = 'rbf'\n", "[svm] has no option 'kernl'. Did you mean kernel?"),
        ("[svm]\nkernel = 'cubic'\n", "[svm] kernel: 'cubic' is not one of"),
        ("[svm]\nfolds = 'many'\n", "[svm] folds: 'many' is not a valid integer"),
        ("[svm]\naugment = 1\n", "augment is true or false, not 1"),
        ("[svm]\nC = {a = 1}\n", "'C' is no command"),
        ("[svm]\npca = 2026-01-01\n", "pca is a text, a number or a list of these"),
        ("[segment.tain]\n", "'tain' is no command. Did you mean train?"),
        ("[index]\ndata = ['a', 'b']\n", "data is one value, not 2"),
        ("[index]\ndata = '-x'\n", "write ./-x"),
        ("kernel = 'rbf'\n", "'kernel' is no option of all commands"),
        ("run = 3\n", "run is the run directory, as a text"),
        ("steps = 'svm'\n", "steps is a list of names"),
        ("steps = ['svn']\n", "'svn' is no command. Did you mean svm?"),
        ("[svm\n", "is no TOML"),
        ("", "names no run directory"),
        ("run = 'somewhere'\n", "has no steps"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_done(tmp_path, capsys, text, said):
    path = tmp_path / "study.toml"
    path.write_text(text)
    assert main(["run", str(path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert str(path) in error


def test_a_study_that_is_not_there(tmp_path, capsys):
    assert main(["run", str(tmp_path / "no.toml")]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err
