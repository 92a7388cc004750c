"""What was made with one split is not taken for what another one gives."""

import json
from dataclasses import replace

import pytest
from runs import add_model, make_run

from haemo.errors import BadDataset, FingerprintMismatch, MissingStep
from haemo.features.manifest import Manifest
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.comparison import compare
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.explaining.localisation import localise
from haemo.pipeline.report.evidence import gather
from haemo.pipeline.splitting.protocols import SplitRequest
from haemo.pipeline.splitting.split import Split, make_split, manifest_hash
from haemo.pipeline.splitting.splitfile import is_of_split, keep_split, load_split, made_for
from haemo.pipeline.training.head import HeadSettings, train_head

QUICK = Resampling(resamples=100)
ONE = HeadSettings(grid={"C": [1e-3]})


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """The shortcut control is of no interest here."""
    monkeypatch.setattr("haemo.pipeline.evaluation.shortcuts._TREES", 5)


@pytest.fixture
def run(tmp_path):
    """svm of a leaky split, softmax of the honest one that came after it."""
    made = make_run(tmp_path / "run", copies=1, signal=0.4)
    train_head(made, "svm", ONE, split=SplitRequest(protocol="slice"))
    train_head(made, "softmax", ONE, split=SplitRequest(new=True))
    return made


def test_a_model_of_another_split_is_left_out_and_named(run, capsys):
    found = compare(run, resampling=QUICK)
    assert list(found.models) == ["softmax"]
    assert not found.leaky
    (note,) = [note for note in found.notes if "another split" in note]
    assert note.endswith(f"train it again: haemo svm --run {run}")
    assert main(["compare", "--run", str(run), "--resamples", "100"]) == 0
    assert "svm was trained on another split and is left out" in capsys.readouterr().out
    train_head(run, "svm", ONE)
    assert list(compare(run, resampling=QUICK).models) == ["svm", "softmax"]


def test_nothing_is_compared_where_every_model_is_of_another_split(run):
    (run.path / "softmax" / "predictions.csv").unlink()
    with pytest.raises(MissingStep, match="svm was trained on another split"):
        compare(run, resampling=QUICK)


def test_predictions_of_another_program_are_taken_as_they_are(run):
    add_model(run, "theirs")
    assert is_of_split(run.settings("theirs"), Split.read(run.split_path))
    assert "theirs" in compare(run, resampling=QUICK).models


def test_a_model_of_another_split_neither_predicts_nor_points(run, capsys):
    with pytest.raises(FingerprintMismatch, match="another split"):
        localise(run, ["svm"])
    picture = str(run.manifest().rows[0].path)
    assert main(["predict", "--run", str(run), "--head", "svm", picture]) == 1
    assert f"train it again: haemo svm --run {run}" in capsys.readouterr().err


def test_other_labels_make_all_models_stale(run):
    rows = run.manifest().rows
    Manifest(replace(row, label="bleed" if place % 3 else "normal") for place, row in enumerate(rows)).write(
        run.manifest_path
    )
    with pytest.raises(BadDataset, match="made for another manifest"):
        compare(run, resampling=QUICK)


@pytest.mark.parametrize(
    ("command", "file"), [("leakage", "leakage.json"), ("learning-curve", "learning_curve.json")]
)
def test_what_was_measured_for_other_labels_is_not_reported(run, caplog, command, file):
    assert main([command, "--run", str(run), "--repeats", "3"]) == 0
    recorded = json.loads((run.path / file).read_text())["made_for"]
    assert recorded["manifest"] == manifest_hash(run.manifest())
    attribute = file.removesuffix(".json")
    assert getattr(gather(run, False, None, QUICK), attribute) is not None
    changed = {**json.loads((run.path / file).read_text()), "made_for": {"manifest": "0" * 64}}
    (run.path / file).write_text(json.dumps(changed))
    assert getattr(gather(run, False, None, QUICK), attribute) is None


def test_leakage_of_another_split_is_not_reported(run):
    assert main(["leakage", "--run", str(run), "--repeats", "2", "--resamples", "100"]) == 0
    train_head(run, "svm", ONE, split=SplitRequest(new=True, protocol="slice"))
    assert gather(run, False, None, QUICK).leakage is None


def test_what_a_measurement_holds_for_changes_with_split_and_labels(run):
    before = made_for(run)
    manifest = run.manifest()
    assert before == {"manifest": manifest_hash(manifest), "split": Split.read(run.split_path).hash}
    other = make_split(manifest, ("normal", "bleed"), seed=9)
    keep_split(run, other, manifest)
    assert made_for(run) == {**before, "split": other.hash} != before
    assert load_split(run, manifest, seed=9) == other


def test_a_split_has_a_count_of_its_own_of_how_often_its_test_slices_judged(tmp_path):
    run = make_run(tmp_path, copies=1)
    counts = []
    for seed, c in ((0, 1e-3), (0, 1e-2), (1, 1e-3), (0, 1e-1), (1, 1e-2)):
        settings = HeadSettings(grid={"C": [c]})
        counts.append(
            train_head(run, "svm", settings, split=SplitRequest(seed=seed, new=True)).facts["test_judgements"]
        )
    assert counts == [1, 2, 1, 3, 2]


def test_predictions_that_were_cut_are_not_judged_on_fewer_slices(run):
    path = run.path / "softmax" / "predictions.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-3]))
    with pytest.raises(BadDataset, match=rf"of part test; train it again: haemo softmax --run {run}"):
        compare(run, resampling=QUICK)


def test_a_training_that_is_done_again_is_no_second_judgement(run):
    settings = HeadSettings(grid={"C": [1e-4]})
    counts = [train_head(run, "svm", settings).facts["test_judgements"]]
    (run.model_path("svm") / "metrics.json").unlink()  # as a kill between two files leaves it
    counts.append(train_head(run, "svm", settings).facts["test_judgements"])
    assert counts[0] == counts[1]
    counts.append(train_head(run, "svm", HeadSettings(grid={"C": [1e-5]})).facts["test_judgements"])
    assert counts[2] == counts[0] + 1


def test_a_training_whose_record_was_lost_is_recorded_when_it_is_typed_again(run):
    settings = HeadSettings(grid={"C": [1e-4]})
    train_head(run, "svm", settings)
    record = json.loads(run.record_path.read_text())
    step = record["steps"].pop("svm")
    run.record_path.write_text(json.dumps(record))
    assert train_head(run, "svm", settings).up_to_date
    again = json.loads(run.record_path.read_text())["steps"]["svm"]
    assert {**again, "finished": "", "command": ""} == {**step, "finished": "", "command": ""}
