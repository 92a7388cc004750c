"""The Makefile: every command is a target, every target is explained, no step runs twice."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from haemo.pipeline.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def workplace(tmp_path):
    """A folder with the Makefile and a stand-in for haemo that notes how it was called."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("setup.cfg", "pyproject.toml"):
        (tmp_path / name).touch()
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    (tmp_path / ".venv" / ".installed").touch()
    script = commands / "haemo"
    script.write_text(
        "#!/bin/sh\n"
        'echo "$@" >> calls\n'
        'run=$(echo "$@" | sed -E "s/.*--run ([^ ]+).*/\\1/")\n'
        'mkdir -p "$run"\n'
        'case "$1" in index) touch "$run/manifest.csv";; features) touch "$run/features.h5";; esac\n'
        'exit "${HAEMO_EXIT:-0}"\n'
    )
    script.chmod(0o755)
    return tmp_path


def make(folder, *arguments, **environment):
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


def calls(folder):
    path = folder / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_help_lists_every_command_with_a_line(workplace):
    listed = dict(re.findall(r"^  ([a-z-]+) +(\S.*)$", make(workplace, "help").stdout, re.MULTILINE))
    assert set(COMMANDS) <= set(listed) | {"summary", "plot", "names", "pacs"}
    assert {"setup", "test", "lint", "help"} <= set(listed)


def test_svm_runs_the_steps_before_it_once(workplace):
    assert make(workplace, "svm", "DATA=slices", "RUN=runs/x").returncode == 0
    assert calls(workplace) == ["index slices --run runs/x", "features --run runs/x", "svm --run runs/x"]
    assert make(workplace, "svm", "RUN=runs/x", "ARGS=--kernel rbf").returncode == 0
    assert calls(workplace) == ["svm --run runs/x --kernel rbf"]


def test_unusable_inputs_do_not_stop_the_chain(workplace):
    result = make(workplace, "runs/x/features.h5", "DATA=slices", "RUN=runs/x", HAEMO_EXIT="3")
    assert result.returncode == 0
    assert len(calls(workplace)) == 2


def test_a_failed_step_stops_the_chain(workplace):
    assert make(workplace, "svm", "DATA=slices", "RUN=runs/x", HAEMO_EXIT="1").returncode != 0
    assert calls(workplace) == ["index slices --run runs/x"]


def test_a_run_without_data_says_what_to_type(workplace):
    result = make(workplace, "svm", "RUN=runs/x")
    assert result.returncode != 0
    assert "make index DATA=folder RUN=runs/x" in result.stderr
