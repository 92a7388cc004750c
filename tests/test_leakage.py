"""A run with a known leak: what is measured must find it, and must not find one where there is none."""

import json

import numpy as np
import pytest
from runs import CLASSES, add_model, make_run

from features.manifest import Manifest
from features.store import FeatureStore
from models.errors import MissingStep
from pipeline.cli import main
from pipeline.evaluation.findings import both_sides, contradicted_labels, mixed_patients
from pipeline.evaluation.inflation import load_cohort, measure_protocols, shuffle_by_patient
from pipeline.evaluation.intervals import Resampling
from pipeline.evaluation.leakage import measure_leakage
from pipeline.predictions import Predictions
from pipeline.run import RunDirectory

QUICK = Resampling(resamples=200)


@pytest.fixture(scope="module", autouse=True)
def few_trees():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.evaluation.shortcuts._TREES", 10)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    # Slices of a patient are much alike and bleeds hardly differ: what a slice split learns is the patient.
    made = make_run(tmp_path_factory.mktemp("leaky"), patients=36, signal=0.1, patient_effect=3.0)
    add_model(made, "svm")
    return made


@pytest.fixture(scope="module")
def leakage(run):
    return measure_leakage(run, repeats=4, resampling=QUICK)


def by_protocol(entries):
    return {entry["protocol"]: entry for entry in entries}


def test_shuffled_labels_give_chance_with_whole_patients_and_more_without(leakage):
    shuffled = by_protocol(leakage.shuffled)
    honest = shuffled["patient"]["figures"]["roc_auc"]
    assert honest["low"] < 0.5 < honest["high"]
    paper = shuffled["paper"]["figures"]["roc_auc"]
    assert paper["low"] > 0.6
    assert shuffled["paper"]["inflation"]["roc_auc"]["low"] > 0


def test_every_leaky_protocol_has_an_inflation_with_an_interval_and_patient_has_none(leakage):
    for name, entry in by_protocol(leakage.protocols).items():
        assert entry["leaky"] == (name != "patient")
        assert ("inflation" in entry) == entry["leaky"]
        value = entry["figures"]["roc_auc"]
        assert value["low"] <= value["mean"] <= value["high"]
    paper = by_protocol(leakage.protocols)["paper"]
    difference = (
        paper["figures"]["roc_auc"]["mean"]
        - by_protocol(leakage.protocols)["patient"]["figures"]["roc_auc"]["mean"]
    )
    assert paper["inflation"]["roc_auc"]["mean"] == pytest.approx(difference)


def test_the_same_seed_gives_the_same_file(run, leakage):
    first = (run.path / "leakage.json").read_bytes()
    measure_leakage(run, repeats=4, resampling=QUICK)
    assert (run.path / "leakage.json").read_bytes() == first
    assert json.loads(first) == json.loads(json.dumps(leakage.as_dict()))


def test_without_rotated_copies_paper_is_absent_with_the_command(tmp_path):
    made = make_run(tmp_path, copies=1)
    with FeatureStore(made.store_path) as store:
        entries = measure_protocols(
            load_cohort(made.manifest(), CLASSES, store), 1e-3, repeats=2, resampling=QUICK
        )
    assert "haemo features --rotations paper" in by_protocol(entries)["paper"]["absent"]
    assert "figures" in by_protocol(entries)["thesis"]


def test_a_shuffle_moves_whole_sequences_between_patients(run):
    rows = run.manifest().rows
    shuffled = shuffle_by_patient(rows, CLASSES, seed=0)
    sequences = [
        sorted(
            tuple(row.label for row in source if row.patient == patient)
            for patient in {row.patient for row in source}
        )
        for source in (rows, shuffled)
    ]
    assert sequences[0] == sequences[1]
    assert [row.label for row in rows] != [row.label for row in shuffled]
    assert [row.slice_id for row in rows] == [row.slice_id for row in shuffled]


def test_findings_name_what_stands_on_both_sides(run):
    rows = run.manifest().rows
    trains = np.arange(len(rows)) % 2 == 0
    contents = [f"c{i // 2}" if i < 4 else f"c{i}" for i in range(len(rows))]
    patients, studies, pixels = both_sides(rows, np.where(trains, "train", "test"), contents)
    assert (patients.verdict.value, len(patients.items)) == ("LEAK", 36)
    assert studies.verdict.value == "LEAK"
    assert pixels.found.startswith("2 pictures")
    assert pixels.items[0]["slices"] == ["p00-0", "p00-1"]
    whole = np.array([row.patient < "patient20" for row in rows])
    assert [
        f.verdict.value for f in both_sides(rows, np.where(whole, "train", "test"), [None] * len(rows))
    ] == ["fine"] * 3


def test_patients_of_several_classes_are_counted(run):
    assert mixed_patients(run.manifest().rows).found == "12 of 36 patients"


def test_labels_that_the_model_contradicts_are_listed_worst_first(run):
    p = Predictions.read(run.path / "svm" / "predictions.csv")
    chances = np.where(p.label == "bleed", 0.9, 0.1)
    chances[[3, 8]] = [0.97, 0.99]
    object.__setattr__(p, "probabilities", chances)
    assert (p.label[[3, 8]] == ["bleed", "normal"]).all()
    finding = contradicted_labels(p, "svm")
    assert finding.found == f"1 of {len(p)} slices (0.7%): svm gives 90% to another class"
    assert finding.items[0]["slice"] == str(p.slice_id[8])
    assert finding.items[0]["model_says"] == "bleed"


def test_the_command_prints_tables_and_findings(run, capsys):
    assert main(["leakage", "--run", str(run.path), "--repeats", "2", "--resamples", "100"]) == 0
    out = capsys.readouterr().out
    for line in (
        "paper LEAKY",
        "labels shuffled between patients",
        "width, height and file size",
        "fine  patients",
    ):
        assert line in out
    assert out.splitlines()[-1] == f"all of it, with the slices: {run.path / 'leakage.json'}"


def test_files_that_cannot_be_read_are_named_and_the_exit_code_is_3(tmp_path, capsys):
    made = make_run(tmp_path, copies=1)
    (tmp_path / "slices" / "p05-1.png").write_bytes(b"not a picture")
    assert main(["leakage", "--run", str(tmp_path), "--repeats", "2", "--resamples", "100"]) == 3
    assert "1 slices could not be read" in capsys.readouterr().err
    assert "p05-1.png,leakage," in made.failures_path.read_text()


def test_slices_that_stand_for_patients_are_a_leak(tmp_path):
    made = make_run(tmp_path, copies=1, known=False)
    result = measure_leakage(made, repeats=2, pixels=False, resampling=QUICK)
    assert result.findings[0].verdict.value == "LEAK"
    assert "stands as its own patient" in result.findings[0].found
    assert result.absent["shortcuts"] == "files were not to be read (--no-pixels)"


def test_without_features_the_step_is_named(tmp_path):
    made = make_run(tmp_path, copies=1)
    other = RunDirectory(tmp_path / "other")
    other.create()
    Manifest(made.manifest().rows).write(other.manifest_path)
    with pytest.raises(MissingStep, match="haemo features"):
        measure_leakage(other)
