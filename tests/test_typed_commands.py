"""Commands that are printed can be typed as they stand, whatever the names of runs and folders."""

import shlex

import pytest
from cohorts import class_folders
from runs import make_run

from haemo.errors import HaemoError
from haemo.pipeline.cli import main
from haemo.pipeline.predicting.blended_model import load_model
from haemo.pipeline.report.pictures import make_picture
from haemo.pipeline.training.head import train_head


def typed(said: str) -> list[str]:
    """The words of the last command in what was said, as a shell reads them."""
    return shlex.split("haemo " + said.rpartition("haemo ")[2].splitlines()[0])


def test_the_next_command_names_the_run(tmp_path, capsys):
    data, new, run = tmp_path / "my data", tmp_path / "new run", make_run(tmp_path / "a run's").path
    class_folders(data, patients=16, slices=1)
    for command, following in (
        (["index", str(data), "--run", str(new)], ["features", "--run", str(new)]),
        (["svm", "--run", str(run), "--C", "1e-3"], ["softmax", "--run", str(run)]),
        (
            ["phantom", str(tmp_path / "a p"), "--patients", "1", "--slices", "1", "--size", "64"],
            ["index", str(tmp_path / "a p")],
        ),
    ):
        assert main(["-q", *command]) == 0
        assert typed(capsys.readouterr().out)[1 : 1 + len(following)] == following
    assert main(["-q", "index", str(data), "--run", str(run)]) == 0
    capsys.readouterr()
    assert main(["-q", "svm", "--run", str(run), "--new-split"]) == 1
    assert typed(capsys.readouterr().err) == ["haemo", "features", "--run", str(run)]


@pytest.mark.parametrize(
    "ask",
    [
        lambda run: load_model(run, "svm"),
        lambda run: load_model(run, "cnn"),
        lambda run: make_picture(run, "curves"),
        lambda run: (run.store_path.unlink(), train_head(run, "svm")),
    ],
)
def test_a_step_that_is_missing_names_the_run(tmp_path, ask):
    run = make_run(tmp_path / "a run's")
    with pytest.raises(HaemoError) as told:
        ask(run)
    assert typed(str(told.value))[2:] == ["--run", str(run.path)]
