"""Studies judged by a rule of their own: however many slices they have, and by whoever asks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from haemo.pipeline.evaluation.aggregation import Aggregation, aggregate
from haemo.pipeline.evaluation.comparison import compare
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.metrics import evaluate
from haemo.pipeline.evaluation.unit_rule import judged_units, unit_rule
from haemo.pipeline.predicting.slice_scores import SliceScores
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions

SPACINGS = {1.25: 1, 2.5: 2, 5.0: 4}  # mm: every slice, every second, every fourth


def predictions(studies, part="test", classes=("normal", "bleed")) -> Predictions:
    """One study a patient, as pairs of labels (1 bleeds) and log odds of its slices."""
    unit = np.repeat(np.arange(len(studies)), [len(scores) for _, scores in studies])
    truth, scores = (np.concatenate([study[column] for study in studies]) for column in (0, 1))
    if classes[0] == "bleed":
        truth, scores = 1 - truth, -scores
    names = np.char.add(part, unit.astype(str))
    chances = expit(scores)
    return Predictions(
        slice_id=np.char.add(names, np.char.add("-", np.arange(len(unit)).astype(str))),
        patient=names,
        study=names,
        label=np.array(classes)[truth.astype(int)],
        part=np.full(len(unit), part),
        fold=unit % 5 if part == "cv" else np.full(len(unit), -1),
        scores=scores,
        probabilities=chances,
        predicted=np.array(classes)[(chances >= 0.5).astype(int)],
        classes=classes,
    )


def smooth(count, seed, slices=96, alike=0.7):
    """Every second study has a bleed of 10 to 30 mm; scores of neighbours 1.25 mm apart are alike."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, slices))
    for place in range(1, slices):
        noise[:, place] = alike * noise[:, place - 1] + np.sqrt(1 - alike**2) * noise[:, place]
    truth = np.zeros((count, slices))
    for study in range(0, count, 2):
        first = rng.integers(slices - slices // 4)
        truth[study, first : first + rng.integers(slices // 12, slices // 4)] = 1
    scores = noise + 0.7 * rng.normal(size=(count, 1)) + 2.5 * truth - 2
    return list(zip(truth, scores, strict=True))


def random(count, seed, healthy=(5, 26), bleeding=(20, 41)):
    """Scores that know nothing; half the studies bleed, and these have more slices."""
    rng = np.random.default_rng(seed)
    studies = []
    for study in range(count):
        truth = rng.random(rng.integers(*(bleeding if study % 2 else healthy))) < 0.25 * (study % 2)
        truth[0] |= study % 2
        studies.append((truth.astype(float), rng.normal(-2, 1, len(truth))))
    return studies


def run_of(folder: Path, *parts: Predictions, rule="youden") -> RunDirectory:
    (folder / "svm").mkdir(parents=True)
    columns = (
        "slice_id",
        "patient",
        "study",
        "label",
        "part",
        "fold",
        "scores",
        "probabilities",
        "predicted",
    )
    together = {name: np.concatenate([getattr(own, name) for own in parts]) for name in columns}
    replace(parts[0], **together).write(folder / "svm" / "predictions.csv")
    (folder / "svm" / "settings.json").write_text(json.dumps({"threshold": 0.5, "threshold_rule": rule}))
    return RunDirectory(folder)


@pytest.mark.parametrize("how", Aggregation)
@pytest.mark.parametrize("learned_mm", [1.25, 5.0])
def test_how_often_healthy_studies_are_called_bleeding_does_not_depend_on_the_spacing(
    tmp_path, how, learned_mm
):
    """By the threshold of slices it was 0.46, 0.56 and 0.65 of them at 5, 2.5 and 1.25 mm, with max."""
    step = SPACINGS[learned_mm]
    known = predictions([(truth[::step], scores[::step]) for truth, scores in smooth(150, 0)], "cv")
    run, tested = run_of(tmp_path, known), smooth(600, 1)
    shares, before = [], []
    for step in SPACINGS.values():
        thinned = predictions([(truth[::step], scores[::step]) for truth, scores in tested])
        for found, own in (
            (shares, judged_units(run, "svm", thinned, "study", how)),
            (before, aggregate(thinned, "study", how, 0.5)),
        ):
            named = dict(zip(own.patient.tolist(), own.predicted.tolist(), strict=True))
            found.append(np.mean([named[f"test{study}"] == "bleed" for study in range(1, 600, 2)]))
    assert np.ptp(shares) < 0.07
    assert how is Aggregation.NOISY_OR or np.ptp(before) > 0.1
    assert 0.05 < min(shares) < max(shares) < 0.6


@pytest.mark.parametrize(("how", "before"), [("max", 0.66), ("mean-top", 0.73), ("noisy-or", 0.9)])
def test_scores_that_know_nothing_do_not_tell_studies_by_their_number_of_slices(tmp_path, how, before):
    known, tested = predictions(random(200, 0), "cv"), predictions(random(400, 1))
    run = run_of(tmp_path, known, tested)
    assert evaluate(aggregate(tested, "study", how))["roc_auc"] > before - 0.05
    assert evaluate(judged_units(run, "svm", tested, "study", how))["roc_auc"] < 0.62
    found = compare(run, by="study", how=how, resampling=Resampling(100))
    note = next(note for note in found.notes if "number of slices" in note)
    assert note.startswith("the number of slices of a study alone has a ROC AUC of 0.9")


@pytest.mark.numerical
@pytest.mark.parametrize("classes", [("normal", "bleed"), ("bleed", "normal")])
@pytest.mark.parametrize("how", Aggregation)
def test_compare_and_predict_judge_a_study_by_one_rule(tmp_path, how, classes):
    known = predictions(smooth(60, 0, slices=24), "cv", classes)
    tested = predictions(smooth(40, 1, slices=30), classes=classes)
    run = run_of(tmp_path, known, tested)
    judged = judged_units(run, "svm", tested, "study", how)
    said = SliceScores(
        paths=tuple(map(Path, tested.slice_id)),
        studies=tuple(tested.study.tolist()),
        positions=(None,) * len(tested),
        outside=("",) * len(tested),
        classes=classes,
        threshold=0.5,
        scores=tested.scores,
        probabilities=tested.probabilities,
        predicted=tested.predicted,
        failures=(),
        study_rule=lambda how: unit_rule(run, "svm", "study", how),
    )
    rows = {row["study"]: row for row in said.study_rows(how)}
    for place, study in enumerate(judged.study.tolist()):
        assert rows[study]["predicted"] == judged.predicted[place]
        assert rows[study]["probability"] == judged.probabilities[place]
        assert rows[study]["score"] == judged.scores[place]
        assert rows[study]["threshold"] == judged.thresholds[place]
    asked = judged_units(run, "svm", tested, "study", how, 0.9)
    strict = {row["study"]: row["predicted"] for row in replace(said, asked_threshold=0.9).study_rows(how)}
    assert [strict[study] for study in asked.study.tolist()] == asked.predicted.tolist()
    assert ((asked.probabilities >= 0.9) == (asked.predicted == classes[1])).all()


@pytest.mark.numerical
@pytest.mark.parametrize("how", Aggregation)
def test_it_does_not_matter_which_class_is_the_positive_one(tmp_path, how):
    found = []
    for classes in (("normal", "bleed"), ("bleed", "normal")):
        known, tested = (
            predictions(smooth(count, count, slices=24), part, classes)
            for count, part in ((60, "cv"), (30, "test"))
        )
        run = run_of(tmp_path / classes[0], known, tested)
        own = judged_units(run, "svm", tested, "study", how)
        found.append(own.probabilities if classes[1] == "bleed" else 1 - own.probabilities)
    np.testing.assert_allclose(*found, atol=1e-9)


@pytest.mark.numerical
def test_held_out_studies_are_judged_by_the_rule_of_the_other_folds(tmp_path):
    known = predictions(smooth(60, 0, slices=24), "cv")
    judged = judged_units(run_of(tmp_path / "all", known), "svm", known, "study", "max")
    for fold in range(5):
        others = run_of(tmp_path / str(fold), known.select(known.fold != fold))
        own = unit_rule(others, "svm", "study", "max").judge(known.select(known.fold == fold))
        there = judged.select(judged.fold == fold)
        for column in ("scores", "probabilities", "predicted", "thresholds"):
            np.testing.assert_array_equal(getattr(own, column), getattr(there, column))


@pytest.mark.parametrize(("rule", "least"), [("sensitivity=0.95", 0.85), ("youden", 0.0)])
def test_the_threshold_of_studies_is_chosen_as_that_of_slices_was(tmp_path, rule, least):
    run = run_of(tmp_path, predictions(smooth(200, 0, slices=24), "cv"), rule=rule)
    found = evaluate(unit_rule(run, "svm", "study", "max").judge(predictions(smooth(400, 1, slices=24))))
    assert found["sensitivity"] > least
    assert found["balanced_accuracy"] > 0.6


def test_only_calibrated_units_have_a_calibration_error(tmp_path):
    known, tested = predictions(smooth(200, 0, slices=24), "cv"), predictions(smooth(400, 1, slices=24))
    for parts, calibrated in (((known, tested), True), ((known.select(known.study == "cv0"), tested), False)):
        run = run_of(tmp_path / str(calibrated), *parts)
        figures = compare(run, by="study", resampling=Resampling(100)).models["svm"]
        assert ("calibration_error" in figures) == calibrated
        if calibrated:
            assert figures["intervals"]["calibration_error"]["low"] == 0
        else:
            reason = "probabilities of slices joined by max are not calibrated for a study"
            assert figures["undefined"]["calibration_error"] == reason
