"""``haemo doctor`` and the top of the command line: what a person sees before any data is there."""

import importlib
import os
import shutil
from collections import namedtuple

import click
import pytest
from cohorts import class_folders

import haemo.pipeline.doctor
from haemo.errors import DamagedStore, WeightsUnavailable
from haemo.pipeline.cli import COMMANDS, cli, main
from haemo.pipeline.doctor import Check, Status, examine


def by_name(checks):
    return {check.name: check for check in checks}


def test_this_machine_can_run_the_pipeline(tmp_path):
    checks = by_name(examine(tmp_path / "not" / "there" / "yet"))
    for name in ("python", "torch and torchvision", "device", "bfloat16", "DICOM decoders"):
        assert checks[name].status is Status.PASS, checks[name]
    assert str(tmp_path) in checks["run folder"].detail


def test_missing_weights_come_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("HAEMO_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    *sources, builtin = [check for check in examine(tmp_path) if check.name.startswith("weights")]
    assert builtin.status is Status.PASS
    assert "--recipe builtin" in builtin.detail
    assert len(sources) == 2
    for check in sources:
        assert check.status is Status.WARN
        assert "--weights" in check.remedy


def test_a_full_disk_and_a_locked_folder_are_told_apart(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, 10**8))
    check = by_name(examine(tmp_path))["run folder"]
    assert (check.status, check.remedy != "") == (Status.WARN, True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    check = by_name(examine(tmp_path))["run folder"]
    assert check.status is Status.FAIL
    assert "cannot be written to" in check.detail


def test_a_mismatched_torchvision_fails_with_the_command_that_mends_it(tmp_path, monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", broken)
    check = by_name(examine(tmp_path))["torch and torchvision"]
    assert check.status is Status.FAIL
    assert "pip install --force-reinstall torch torchvision" in check.remedy


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        ([Check("a", Status.PASS, "fine"), Check("b", Status.WARN, "meh", "do this")], 0),
        ([Check("a", Status.FAIL, "broken", "mend it")], 1),
    ],
)
def test_doctor_exits_with_one_only_when_something_fails(checks, code, monkeypatch, capsys):
    monkeypatch.setattr(haemo.pipeline.doctor, "examine", lambda folder: checks)
    assert main(["doctor"]) == code
    out = capsys.readouterr().out
    for check in checks:
        assert f"{check.status.value}  {check.name}: {check.detail}" in out
        if check.remedy:
            assert f"-> {check.remedy}" in out


def test_help_lists_every_command_with_a_sentence(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in out
        assert cli.get_command(None, name).get_short_help_str()


def test_a_wrong_option_is_wrong_usage(capsys):
    assert main(["doctor", "--hurry"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_a_mistyped_command_is_wrong_usage(capsys):
    assert main(["svn"]) == 2
    assert "svn" in capsys.readouterr().err


def test_an_error_is_one_line_and_its_exit_code(monkeypatch, capsys):
    def fail(folder):
        raise DamagedStore("features.h5 is damaged; run: haemo verify")

    monkeypatch.setattr(haemo.pipeline.doctor, "examine", fail)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "error: features.h5 is damaged; run: haemo verify\n"


def test_an_operating_system_error_names_the_file(monkeypatch, capsys):
    def fail(folder):
        raise OSError(28, "No space left on device", "/data/features.h5")

    monkeypatch.setattr(haemo.pipeline.doctor, "examine", fail)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "error: /data/features.h5: No space left on device\n"


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


GOES_ON = "stopped; what was finished is kept, the same command goes on from there"


@pytest.mark.parametrize(
    ("command", "work", "said"),
    [
        (["features"], "haemo.pipeline.preparing.extraction.make_features", GOES_ON),
        (["-q", "svm"], "haemo.pipeline.training.head.train_head", GOES_ON),
        (["tinyvgg"], "haemo.pipeline.training.network.train_network", GOES_ON),
        (["compare"], "haemo.pipeline.evaluation.comparison.compare", "stopped"),
        (["leakage"], "haemo.pipeline.evaluation.leakage.measure_leakage", "stopped"),
        (["svm"], "haemo.pipeline.cli.processors", GOES_ON),
    ],
)
def test_ctrl_c_says_how_to_go_on_where_there_is_something_to_go_on_from(
    command, work, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(work, interrupt)
    assert main([*command, "--run", str(tmp_path)]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_ctrl_c_in_any_step_of_the_demo_says_that_the_demo_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("haemo.features.phantom.write_cohort", interrupt)
    assert main(["demo", "--run", str(tmp_path), "--weights", "random"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == GOES_ON


def test_what_is_up_to_date_is_not_said_to_be_written(tmp_path, capsys):
    data, run = class_folders(tmp_path / "data", patients=16, slices=2), str(tmp_path / "run")
    assert main(["-q", "index", str(data), "--run", run]) == 0
    assert main(["-q", "features", "--run", run, "--weights", "random", "--layer", "pool5"]) == 0
    for command in (["svm", "--run", run, "--C", "1e-3"], ["tinyvgg", "--run", run, "--epochs", "1"]):
        folder = f"{run}/{command[0]}"
        for verb, other in (("written to", "kept in"), ("kept in", "written to")):
            capsys.readouterr()
            assert main(command) == 0
            said = capsys.readouterr().out.splitlines()
            assert f"{verb} {folder}" in said
            assert f"{other} {folder}" not in said


@pytest.fixture
def typed(monkeypatch):
    """Command lines that the demo runs, in place of running them; one of them may be made to fail."""
    steps, codes = [], {}

    def run(step):
        steps.append(step)
        return codes.get(step[0], 0)

    monkeypatch.setattr("haemo.pipeline.cli.main", run)
    return steps, codes


def run_demo(*arguments):
    return cli.main(["demo", *arguments], standalone_mode=False)


def test_the_demo_types_the_main_job_and_every_word_of_it_is_understood(typed, tmp_path, capsys):
    steps, _ = typed
    (tmp_path / "x" / "phantom" / "P0001").mkdir(parents=True)
    assert run_demo("--run", str(tmp_path / "x"), "--weights", "random", "--seed", "3") == 0
    order = ["phantom", "index", "features", "svm", "softmax", "mlp", "compare", "report"]
    order += ["segment", "predict", "explain"]
    assert [step[0] for step in steps] == order
    assert "--layer fc7 --crop head --weights random --seed 3" in " ".join(steps[2])
    out = capsys.readouterr().out
    for step in steps:
        assert f"$ haemo {' '.join(step)}\n" in out
        command = cli.get_command(None, step[0])
        if isinstance(command, click.Group):
            command, step = command.commands[step[1]], step[1:]
        command.make_context(step[0], step[1:])


def test_without_fc7_the_demo_says_so_and_takes_the_trunk(typed, tmp_path, monkeypatch, capsys):
    def unavailable(source, seed, need):
        raise WeightsUnavailable(f"no weights with {need}")

    monkeypatch.setattr("haemo.models.weights.imagenet.resolve_weights", unavailable)
    assert run_demo("--run", str(tmp_path)) == 0
    assert "--layer pool5" in " ".join(typed[0][2])
    assert "no weights with fc7" in capsys.readouterr().err


def test_the_demo_stops_at_a_step_that_fails_and_goes_on_past_unusable_inputs(typed, tmp_path):
    steps, codes = typed
    codes.update(index=3, svm=1)
    assert run_demo("--run", str(tmp_path), "--weights", "random") == 1
    assert [step[0] for step in steps] == ["phantom", "index", "features", "svm"]
