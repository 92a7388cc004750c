"""Files that a command is asked to write are looked at before the work begins."""

from runs import make_run

from haemo.pipeline.cli import main


def test_scores_that_cannot_be_written_are_refused_before_anything_is_loaded(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    picture = str(run.manifest().rows[0].path)
    for out, reason in (
        ("x/scores.csv", f"there is no folder {tmp_path / 'x'}"),
        ("run/run.json/scores.csv", f"there is no folder {run.record_path}"),
        ("run", "is a directory"),
    ):
        assert main(["predict", "--run", str(run.path), "--out", str(tmp_path / out), picture]) == 2
        assert reason in capsys.readouterr().err
