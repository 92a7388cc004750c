"""``haemo evaluate``: models judged elsewhere, untouched, and anyone's scores."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from cohorts import class_folders, write_csv
from pictured import picture, trained_run
from PIL import Image
from runs import add_model, make_run
from scored import make_predictions

from haemo.errors import BadDataset, BadSettings, TooFewData
from haemo.models.heads.thresholds import parse_threshold
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.calibration_line import log_odds
from haemo.pipeline.evaluation.intervals import Resampling, assess
from haemo.pipeline.judging.answers import Answered
from haemo.pipeline.judging.judged_model import resolve_model
from haemo.pipeline.judging.judgement import judge
from haemo.pipeline.judging.labels import in_words_of
from haemo.pipeline.judging.recalibration import MARK, recalibration_offer
from haemo.pipeline.judging.scores_table import read_scores
from haemo.pipeline.judging.shift import shift_from_training
from haemo.pipeline.judging.sides import JudgingSettings
from haemo.pipeline.predicting.prediction import predict
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.training.network import train_network

QUICK = Resampling(200)
FEW = ("--resamples", "100")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Twenty other patients with two slices each, labelled in other words; one slice has no label."""
    root = tmp_path_factory.mktemp("elsewhere")
    random = np.random.default_rng(9)
    rows = [("path", "diagnosis", "patient", "sex")]
    for number in range(40):
        kind = number // 2 % 2
        path = root / f"{number:02d}.png"
        Image.fromarray(picture(random, kind)).save(path)
        rows.append((path.name, ("negative", "subdural")[kind], f"q{number // 2:02d}", "FM"[number // 4 % 2]))
    rows[1] = (rows[1][0], "", *rows[1][2:])
    write_csv(root / "labels.csv", rows)
    return root


@pytest.fixture(scope="module")
def judged(trained, elsewhere, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "judged"
    before = {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()}
    model = str(trained.model_path("svm"))
    code = main(["evaluate", model, str(elsewhere), "--keep", "sex", "--out", str(out), *FEW])
    assert {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()} == before
    return code, out


def read(out):
    return json.loads((out / "judgement.json").read_text())


def test_slices_get_the_scores_that_predict_gives_them(judged, trained, elsewhere):
    _, out = judged
    said = Predictions.read(out / "svm" / "predictions.csv")
    result = predict(trained, "svm", [elsewhere], device="cpu")
    expected = {path.name: score for path, score in zip(result.paths, result.scores.tolist(), strict=True)}
    assert len(said) == 39
    assert {name: expected[name] for name in said.slice_id} == dict(
        zip(said.slice_id.tolist(), said.scores.tolist(), strict=True)
    )
    threshold = read(out)["judged"]["svm"]["threshold"]
    assert np.array_equal(said.predicted == "haemorrhage", said.probabilities >= threshold)


def test_figures_are_those_of_the_predictions_at_the_models_own_points(judged, trained):
    _, out = judged
    said, found = Predictions.read(out / "svm" / "predictions.csv"), read(out)
    own = assess(said, resampling=Resampling(100))
    assert found["models"]["svm"]["roc_auc"] == own["roc_auc"]
    assert found["models"]["svm"]["intervals"] == own["intervals"]
    held_out = trained.predictions("svm").of_part("cv")
    at = parse_threshold("sensitivity=0.9").choose(held_out.label == "haemorrhage", held_out.probabilities)
    assert found["operating_points"]["svm"]["sensitivity=0.9"]["threshold"] == at


def test_what_is_handed_on_tells_no_place_on_this_machine(judged, trained, elsewhere):
    _, out = judged
    for name in ("report.html", "judgement.json", "CLAIM.md", "TRIPOD.md"):
        text = (out / name).read_text()
        assert not any(str(path) in text for path in (out.parent, trained.path.parent, elsewhere))
    assert f"On {elsewhere.name}." in (out / "report.html").read_text()
    assert read(out)["judged"]["svm"]["origin"] == f"{trained.path.name}/svm"


def test_labels_in_other_words_are_understood_and_one_without_is_named(judged, elsewhere):
    code, out = judged
    assert code == 3
    assert read(out)["labels"] == {"negative": "normal", "subdural": "haemorrhage"}
    with (out / "failures.csv").open(newline="") as stream:
        (failure,) = csv.DictReader(stream)
    assert failure["path"] == str(elsewhere / "00.png")
    assert failure["reason"] == "has no label: not judged"


def test_everything_asked_for_is_written(judged):
    _, out = judged
    found = read(out)
    assert {"clinical", "subgroups", "shift", "recalibration"} <= set(found)
    assert found["part"] == "external"
    groups = {group["attribute"] for group in found["subgroups"]["models"]["svm"]["groups"]}
    assert groups == {"sex", "bleed"}
    page = (out / "report.html").read_text()
    for words in ("In use", "Shift against training", "For whom it holds", "an offer", "Not judged"):
        assert words in page
    tripod = (out / "TRIPOD.md").read_text()
    assert "| 17 | Ethical approval | for the authors |" in tripod
    assert "figures by sex, bleed" in tripod
    assert "| 33 | Testing on external data | svm, on 39 slices" in (out / "CLAIM.md").read_text()
    assert {"roc.png", "decision_curve.png", "subgroups_svm.png"} <= {
        path.name for path in (out / "figures").iterdir()
    }


def test_typed_again_it_embeds_nothing_again_and_writes_the_same(judged, trained, elsewhere, capsys):
    _, out = judged
    before = (out / "judgement.json").read_bytes()
    capsys.readouterr()
    arguments = ["evaluate", "--run", str(trained.path), "--head", "svm", str(elsewhere), "--keep", "sex"]
    assert main([*arguments, "--out", str(out), *FEW]) == 3
    assert "svm: 39 slices embedded before, 0 now" in capsys.readouterr().err
    assert (out / "judgement.json").read_bytes() == before


def test_slices_of_the_training_are_found_by_their_pixels(trained, tmp_path):
    data = trained.path.parent / "slices"
    labels = [("path", "label", "patient")]
    labels += [(row.path.name, row.label, row.patient) for row in trained.manifest()]
    table = write_csv(tmp_path / "labels.csv", labels)
    settings = JudgingSettings(index={"labels": table}, resampling=Resampling(100))
    found = judge([str(trained.model_path("svm"))], data, tmp_path / "out", settings)
    assert any(note.startswith("SEEN IN TRAINING") for note in found.comparison.notes)
    assert found.shift["svm"]["seen"] > 10


def test_the_builtin_model_and_a_table_of_scores_stand_beside_one_another(tmp_path, caplog):
    data = class_folders(tmp_path / "data", patients=4, slices=2)
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    rows = [("slice_id", "label", "probability"), *((name, "normal", 0.1) for name in names[:-1])]
    rows.append((names[-1], "haemorrhage", 0.9))
    table = write_csv(tmp_path / "reader.csv", rows)
    both, out = ["builtin", str(table)], tmp_path / "out"
    found = judge(both, data, out, JudgingSettings(resampling=Resampling(100)))
    assert list(found.comparison.models) == ["builtin", "reader"]
    assert "trained on synthetic heads only" in found.models["builtin"]["caveat"]
    assert found.comparison.pairs[0]["second"] == "reader"
    kept = next((out / "maps").glob("*.csv"))
    assert len(kept.read_text().splitlines()) == 8
    kept.write_text(kept.read_text()[:-9])  # as a kill leaves it: the last slice is drawn again
    with caplog.at_level("INFO", "haemo"):
        again = judge(both, data, out, JudgingSettings(by="patient", resampling=Resampling(100)))
    assert "builtin: 7 slices drawn before, 1 to draw" in caplog.text
    assert again.comparison.unit == "patient (max)"


def test_a_packed_model_is_judged_as_its_run(tmp_path, trained, elsewhere, capsys):
    packed = tmp_path / "handed-over.haemo"
    assert main(["pack", "--run", str(trained.path), "--head", "svm", str(packed)]) == 0
    settings = JudgingSettings(resampling=Resampling(100))
    both = [str(trained.model_path("svm")), str(packed)]
    found = judge(both, elsewhere, tmp_path / "out", settings)
    own, other = (found.comparison.models[name] for name in ("svm", "handed-over"))
    assert own["roc_auc"] == other["roc_auc"]
    assert own["log_loss"] == pytest.approx(other["log_loss"])
    assert own["sensitivity"] == other["sensitivity"]
    assert found.comparison.points["svm"] == found.comparison.points["handed-over"]
    for whole, part in (("scores", "all"), ("roc_auc", "difference")):
        one, two = (found.shift[name][whole][part] for name in ("svm", "handed-over"))
        one, two = (some.get("distance", some) for some in (one, two))
        assert one == pytest.approx(two)
    assert "trained on cannot be told of a packed model" in capsys.readouterr().err


def test_a_network_is_judged_as_it_predicts(tmp_path, elsewhere):
    data = class_folders(tmp_path / "data", patients=16, slices=2)
    assert main(["index", str(data), "--run", str(tmp_path / "run")]) == 0
    run = RunDirectory(tmp_path / "run")
    train_network(run, "tinyvgg", epochs=1)
    settings = JudgingSettings(resampling=Resampling(100))
    found = judge([str(run.model_path("tinyvgg"))], elsewhere, tmp_path / "out", settings)
    said = found.answers["tinyvgg"]
    result = predict(run, "tinyvgg", [elsewhere], device="cpu")
    expected = {path.name: score for path, score in zip(result.paths, result.scores.tolist(), strict=True)}
    found = dict(zip(said.slice_id.tolist(), said.scores.tolist(), strict=True))
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-4)


def test_anyones_scores_are_judged_from_a_table_as_people_make_them(tmp_path, capsys):
    answers = make_predictions(n=200, patients=40)
    rows = [("ID", "Truth", "Prob", "Subject", "Sex")]
    rows += [
        (a, int(b == "bleed"), repr(p), c, "FM"[int(c[1:]) % 2])
        for a, b, p, c in zip(
            answers.slice_id, answers.label, answers.probabilities.tolist(), answers.patient, strict=True
        )
    ]
    rows[1] = (rows[1][0], "", *rows[1][2:])
    rows[2] = (*rows[2][:2], "high", *rows[2][3:])
    table = write_csv(tmp_path / "theirs.csv", rows)
    assert main(["evaluate", str(table), "--keep", "sex", "--out", str(tmp_path / "out"), *FEW]) == 3
    assert "'high' is not a number" in capsys.readouterr().err
    found = read(tmp_path / "out")
    own = assess(answers.select(np.arange(200) > 1), 0.5, resampling=Resampling(100))
    assert found["models"]["theirs"]["roc_auc"] == own["roc_auc"]
    assert found["models"]["theirs"]["intervals"]["sensitivity"] == own["intervals"]["sensitivity"]
    assert "why_not" in found["shift"]["theirs"]["scores"]
    assert found["shift"]["theirs"]["seen"] is None
    assert [group["group"] for group in found["subgroups"]["models"]["theirs"]["groups"]] == ["F", "M"]


def test_scores_that_are_no_probabilities_get_no_figures_of_probabilities(tmp_path):
    answers = make_predictions(n=100, patients=20)
    rows = [("label", "score", "patient")]
    rows += list(zip(answers.label, answers.scores.tolist(), answers.patient, strict=True))
    table = write_csv(tmp_path / "raw.csv", rows)
    with pytest.raises(BadSettings, match="--threshold"):
        read_scores(table)
    assert main(["evaluate", str(table), "--threshold", "0", "--out", str(tmp_path / "out"), *FEW]) == 0
    own = read(tmp_path / "out")["models"]["raw"]
    assert (
        own["sensitivity"]
        == assess(replace(answers, predicted=np.where(answers.scores >= 0, "bleed", "normal")))["sensitivity"]
    )
    assert not {"brier", "mse", "log_loss", "calibration_error"} & set(own)
    assert "why_not" in read(tmp_path / "out")["clinical"]["raw"]["calibration"]


def test_a_predictions_csv_is_judged_on_its_tested_rows(tmp_path):
    run = make_run(tmp_path / "run", patients=30)
    add_model(run, "svm")
    path = run.model_path("svm") / "predictions.csv"
    found = read_scores(path)
    assert set(found.answers.part) == {"test"}
    assert set(found.held_out.part) == {"cv"}
    judgement = judge([str(path)], None, tmp_path / "out", JudgingSettings(resampling=Resampling(100)))
    assert "threshold" in judgement.comparison.points["svm"]["sensitivity=0.9"]
    assert judgement.shift["svm"]["scores"]["all"]["there"]["slices"] == len(found.held_out)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("score", "patient"), (1, "a")], "no column label"),
        ([("label", "patient"), (1, "a")], "no column score or probability"),
        ([("label", "probability"), (1, 0.2), (1, 0.3)], "nothing names the other class"),
        ([("label", "probability"), ("", 0.2)], "no row"),
        ([("label", "probability"), *((n, 0.5) for n in range(4))], "has 4 classes"),
    ],
)
def test_tables_that_cannot_be_judged_say_why(tmp_path, rows, words):
    path = write_csv(tmp_path / "bad.csv", rows)
    with pytest.raises((BadDataset, BadSettings, TooFewData), match=words):
        read_scores(path)


def test_wrong_requests_are_told_what_to_type(tmp_path, capsys, trained):
    out = ["--out", str(tmp_path / "out")]
    for arguments, words in (
        ([], "name a model"),
        (["nosuch", str(tmp_path)], "nosuch is no model"),
        ([str(trained.path), str(tmp_path)], "give one of its models"),
        (["gone.csv"], "is not there"),
        (["--head", "svm", str(tmp_path)], "--run RUN"),
        (["builtin", str(tmp_path / "gone")], "is not there"),
    ):
        assert main(["evaluate", *arguments, *out]) in (1, 2)
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out" / "judgement.json").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main(["evaluate", "builtin", str(tmp_path), "--out", str(tmp_path / "mine")]) == 2
    assert "holds something else already" in capsys.readouterr().err
    assert main(["evaluate", "builtin", str(tmp_path), "--out", str(trained.path)]) == 2


def test_words_for_classes():
    two = ("normal", "haemorrhage")
    assert in_words_of(two, ["0", "1"]) == {"0": "normal", "1": "haemorrhage"}
    assert in_words_of(two, ["healthy", "epidural", "subdural"])["epidural"] == "haemorrhage"
    assert in_words_of(two, ["A", "B"], positive="B") == {"A": "normal", "B": "haemorrhage"}
    for labels, words in ((["A", "B"], "--positive LABEL"), (["tumour", "normal"], "'tumour'")):
        with pytest.raises(BadDataset, match=words):
            in_words_of(two, labels)
    with pytest.raises(BadDataset, match="--positive C"):
        in_words_of(two, ["A", "B"], positive="C")
    with pytest.raises(BadDataset, match="same names"):
        in_words_of(("a", "b", "c"), ["d"])


def test_a_model_that_is_one_is_found_with_what_it_knew(trained):
    found = resolve_model(str(trained.model_path("svm")), device="cpu")
    assert found.name == "svm"
    assert len(found.held_out) > 10
    assert found.known


@pytest.mark.numerical
def test_recalibration_puts_right_what_it_was_not_fitted_on():
    answers = make_predictions(n=400, patients=80)
    wrong = replace(answers, probabilities=1 / (1 + np.exp(-(2 * log_odds(answers.probabilities) + 1.5))))
    offer = recalibration_offer(wrong, QUICK)
    assert offer["mark"] == MARK
    before, shift, line = (offer[way]["figures"]["log_loss"] for way in ("before", "shift", "line"))
    assert line < shift < before
    slope = offer["line"]["calibration"]["slope"]
    assert slope["low"] < 1 < slope["high"]
    assert slope["value"] != pytest.approx(1, abs=1e-6)  # on its own patients it would be
    few = recalibration_offer(make_predictions(n=20, patients=5), QUICK)
    assert "recalibration needs 8 or more" in few["why_not"]


@pytest.mark.numerical
def test_shift_is_measured_in_deviations_of_training_scores():
    there = make_predictions(n=400, patients=80, seed=1)
    here = replace(make_predictions(n=400, patients=80, seed=2))
    moved = replace(here, scores=here.scores + 2 * there.scores.std(ddof=1))
    far = np.where(np.arange(400) < 100, 2.0, 0.5)
    found = shift_from_training(Answered(moved, [], far, 1.0, ["a"]), there, QUICK)
    expected = (moved.scores.mean() - there.scores.mean()) / there.scores.std(ddof=1)
    distance = found["scores"]["all"]["distance"]
    assert distance["value"] == pytest.approx(expected)
    assert distance["low"] < expected < distance["high"]
    assert found["outside"]["share"]["value"] == 0.25
    assert found["seen"] == 1
    difference = found["roc_auc"]["difference"]
    assert difference["low"] < 0 < difference["high"]
    nothing = shift_from_training(Answered(moved, [], None, None, None), None, QUICK)
    assert "why_not" in nothing["scores"]
    assert "why_not" in nothing["outside"]
