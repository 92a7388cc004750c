"""What the shell completes after it has run the lines of the README."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # where haemo is installed


def run(*command, **environment):
    environment = os.environ | {"PATH": PATH} | environment
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return result.stdout.splitlines()


def line_of_the_readme(shell):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.search(rf"^    (.*_HAEMO_COMPLETE={shell}_source haemo.*?)  +#", readme, re.MULTILINE).group(1)


def completed_by_bash(typed):
    """Words that bash offers for the last one of those typed."""
    script = f"{line_of_the_readme('bash')}\nCOMP_WORDS=({typed})\nCOMP_CWORD=$(({len(typed.split())} - 1))\n"
    return run("bash", "-c", script + '_haemo_completion haemo\nprintf "%s\\n" "${COMPREPLY[@]}"')


def test_bash_completes_commands_options_and_choices():
    assert completed_by_bash("haemo fea") == ["features"]
    assert completed_by_bash("haemo s") == ["svm", "softmax", "segment", "serve", "summary"]
    assert completed_by_bash("haemo features --cr") == ["--crop"]
    assert completed_by_bash("haemo features --crop he") == ["head"]


def test_bash_completes_networks():
    assert completed_by_bash("haemo features --network al") == ["alexnet"]


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_bash_completes_the_models_that_the_run_has(command, tmp_path):
    for name in ("svm", "softmax", "tinyvgg"):
        (tmp_path / name).mkdir()
    for name in ("svm", "softmax"):
        (tmp_path / name / "predictions.csv").touch()
    assert completed_by_bash(f"haemo {command} --run {tmp_path} --head s") == ["softmax", "svm"]
    assert completed_by_bash(f"haemo {command} --head s") == [""]


@pytest.mark.parametrize(
    ("shell", "words", "answer"),
    [
        ("zsh", {"COMP_WORDS": "haemo fea", "COMP_CWORD": "1"}, ["plain", "features"]),
        ("fish", {"COMP_WORDS": "haemo fea", "COMP_CWORD": "fea"}, ["plain,features"]),
    ],
)
def test_other_shells_get_a_script_and_its_answers(shell, words, answer):
    assert "haemo" in line_of_the_readme(shell)
    script = run("haemo", _HAEMO_COMPLETE=f"{shell}_source")
    assert any(f"_HAEMO_COMPLETE={shell}_complete" in line for line in script)
    lines = run("haemo", _HAEMO_COMPLETE=f"{shell}_complete", **words)
    assert lines[: len(answer) - 1] == answer[:-1]
    assert lines[len(answer) - 1].startswith(answer[-1])
