"""A run with a known leak: what is measured must find it, and must not find one where there is none."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from oracles import exact_head
from runs import CLASSES, add_model, make_run
from scipy import stats
from sklearn.metrics import roc_auc_score

from haemo.errors import MissingStep
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import FeatureStore, create_store
from haemo.features.store.table import FeatureTable
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.drawn_figures import DrawnFigure, figures_of_draws
from haemo.pipeline.evaluation.findings import both_sides, contradicted_labels, mixed_patients
from haemo.pipeline.evaluation.inflation import (
    _test_answers,
    load_cohort,
    measure_protocols,
    shuffle_by_patient,
)
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.leakage import measure_leakage, pairs_found
from haemo.pipeline.evaluation.refits import DEFAULT_C
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.protocols import draw_training
from haemo.pipeline.splitting.split import Protocol

QUICK = Resampling(resamples=200)


@pytest.fixture(scope="module", autouse=True)
def few_trees():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("haemo.pipeline.evaluation.shortcuts._TREES", 10)
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
    written, whole = json.loads(first), json.loads(json.dumps(leakage.as_dict()))
    # Slices and patients have codes in the file.
    for finding in whole["findings"]:
        finding["items"] = run.codes().hide(finding["items"])
    assert written.items() >= whole.items()


def test_without_rotated_copies_paper_is_absent_with_the_command(tmp_path):
    made = make_run(tmp_path, copies=1)
    with open_features(made) as store:
        entries = measure_protocols(
            load_cohort(made.manifest(), CLASSES, store), 1e-3, repeats=2, resampling=QUICK
        )
    assert "haemo features --rotations paper" in by_protocol(entries)["paper"]["absent"]
    assert "figures" in by_protocol(entries)["thesis"]


def rolled(labels):
    """The same for a sequence wherever on its circle it begins."""
    return min(labels[start:] + labels[:start] for start in range(len(labels)))


def sequence(rows, patient):
    own = sorted((row for row in rows if row.patient == patient), key=lambda row: row.position)
    return tuple(row.label for row in own)


def test_a_shuffle_moves_whole_sequences_between_patients_and_rolls_them(run):
    rows = run.manifest().rows
    patients = sorted({row.patient for row in rows})
    shuffled = shuffle_by_patient(rows, CLASSES, seed=0)
    before, after = ([sequence(source, patient) for patient in patients] for source in (rows, shuffled))
    assert sorted(map(rolled, before)) == sorted(map(rolled, after))
    assert set(after) - set(before)
    assert [row.label for row in rows] != [row.label for row in shuffled]
    assert [row.slice_id for row in rows] == [row.slice_id for row in shuffled]


def test_no_level_and_no_number_of_slices_goes_with_a_shuffled_label():
    # Patients of 1, 3, 5 or 8 slices, with as many of them that bleed, each in the middle slices.
    rows = []
    for p in range(32):
        count = (1, 3, 5, 8)[p % 4]
        for s in range(count):
            label = CLASSES[p % 8 < 4 and abs(s - (count - 1) / 2) < count / 3]
            name = f"p{p:02d}-{s}"
            rows.append(ManifestRow(name, Path(f"{name}.png"), label, f"p{p:02d}", "", float(s)))
    draws = 600
    bleeds = np.array(
        [[row.label == "bleed" for row in shuffle_by_patient(rows, CLASSES, seed)] for seed in range(draws)]
    )
    counts = Counter(row.patient for row in rows)
    shares = [np.mean([label == "bleed" for label in sequence(rows, patient)]) for patient in counts]
    kinds = [(row.position, counts[row.patient]) for row in rows]
    for kind in set(kinds):
        own = [place for place, one in enumerate(kinds) if one == kind]
        # Eight patients a kind and 600 draws: the standard error is below 0.01.
        assert bleeds[:, own].mean() == pytest.approx(np.mean(shares), abs=0.03)


def test_a_stretched_sequence_stays_together():
    rows = []
    for p, count in enumerate((2, 4, 8, 12)):
        for s in range(count):
            name = f"p{p}-{s}"
            rows.append(
                ManifestRow(name, Path(f"{name}.png"), CLASSES[s >= count / 2], f"p{p}", "", float(s))
            )
    for seed in range(20):
        for p in range(4):
            found = sequence(shuffle_by_patient(rows, CLASSES, seed), f"p{p}")
            # Half a circle of each: one beginning and one end, wherever they are, and about as many of each.
            assert sum(a != b for a, b in zip(found, (*found[1:], found[0]), strict=True)) == 2
            assert abs(found.count("bleed") - len(found) / 2) <= 1


def test_features_that_know_only_the_level_give_chance_once_labels_are_shuffled(run, tmp_path):
    rows = run.manifest().rows
    store = tmp_path / "features.h5"
    levels = np.eye(4, dtype=np.float32)[[int(row.position) for row in rows]]
    create_store(
        store, [row.slice_id for row in rows], levels, Fingerprint({"network": "level", "weights": "0" * 64})
    )
    with FeatureTable({"levels": FeatureStore(store)}) as levels_store:
        cohort = load_cohort(run.manifest(), CLASSES, levels_store)
        true = measure_protocols(cohort, 1e-2, repeats=3, resampling=QUICK)
        shuffled = measure_protocols(
            cohort, 1e-2, repeats=40, shuffled=True, resampling=Resampling(200, 0, 0.99)
        )
    assert by_protocol(true)["patient"]["figures"]["roc_auc"]["mean"] > 0.75
    found = by_protocol(shuffled)["patient"]["figures"]["roc_auc"]
    assert found["low"] < 0.5 < found["high"]
    assert found["high"] - found["low"] < 0.1


def predicted(scores, patients, truth):
    """Predictions of slices for a mean over draws."""
    return Predictions(
        slice_id=np.array([f"s{i}" for i in range(len(truth))]),
        patient=np.array(patients),
        study=np.array(patients),
        label=np.array(CLASSES)[truth],
        part=np.full(len(truth), "test"),
        fold=np.full(len(truth), -1),
        scores=scores,
        probabilities=(scores > 0).astype(float),
        predicted=np.array(CLASSES)[(scores > 0).astype(int)],
        classes=CLASSES,
    )


@pytest.mark.numerical
def test_figures_of_draws_without_a_patient_are_those_of_the_other_slices():
    rng = np.random.default_rng(3)
    everyone = np.array([f"p{i:02d}" for i in range(20)])
    # Each draw tests other patients, and none of them is the beginning of the list.
    draws = []
    for tested in (everyone[8:], everyone[5:15], everyone[1::2]):
        patients = np.repeat(tested, 3)
        truth = rng.integers(2, size=len(patients))
        effect = dict(zip(everyone, rng.normal(size=20), strict=True))
        scores = truth - 0.5 + np.array([effect[name] for name in patients]) + rng.normal(size=len(truth))
        draws.append(predicted(scores, patients, truth))
    found = figures_of_draws(draws, everyone, Resampling(), ("roc_auc", "accuracy"))
    for number, name in enumerate(everyone):
        areas, hits = [], []
        for one in draws:
            rows = np.flatnonzero(one.patient != name)
            if len(rows):
                hits.append(np.mean(one.predicted[rows] == one.label[rows]))
            if len(set(one.label[rows])) == 2:
                areas.append(roc_auc_score(one.label[rows] == "bleed", one.scores[rows]))
        assert found["roc_auc"].left_out[:, number].mean() == pytest.approx(np.mean(areas))
        assert found["accuracy"].left_out[:, number].mean() == pytest.approx(np.mean(hits))
    assert found["accuracy"].tested == pytest.approx((12 + 10 + 10) / 60)
    assert found["accuracy"].draws == pytest.approx([np.mean(p.predicted == p.label) for p in draws])


@pytest.mark.numerical
def test_an_interval_over_draws_is_that_of_a_t_test():
    values = np.random.default_rng(0).normal(0.6, 0.1, 12)
    for level in (0.9, 0.99):
        found = DrawnFigure("roc_auc", values).summary(level)
        expected = stats.ttest_1samp(values, 0.5).confidence_interval(level)
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert found["mean"] == pytest.approx(values.mean())
    assert DrawnFigure("roc_auc", values[:1]).summary(0.95)["no_interval"] == "one draw only"


@pytest.mark.numerical
def test_lenet_takes_the_best_c_on_its_test_slices(run):
    rows = run.manifest().rows
    truth = np.array([CLASSES.index(row.label) for row in rows])
    with open_features(run) as store:
        cohort = load_cohort(run.manifest(), CLASSES, store)
        features = store.embeddings(cohort.slice_ids)
        found = _test_answers(cohort, [rows] * 3, Protocol.LENET, 1.0, (0,), 0)
    for draw, answers in enumerate(found):
        trained = draw_training(rows, CLASSES, Protocol.LENET, draw)
        scores = []
        for c in DEFAULT_C:
            head = exact_head("svm", C=c).fit(features[trained], truth[trained])
            scores.append(np.mean(head.predict(features[~trained]) == truth[~trained]))
        assert min(scores) < max(scores)
        assert np.mean(answers.predicted == answers.label) == pytest.approx(max(scores))


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


@pytest.mark.parametrize(
    ("count", "listed", "strangers", "said"),
    [
        (0, 0, 0, "no pair across the split"),
        (1, 1, 0, "1 pair across the split, of one patient"),
        (1, 1, 1, "1 pair across the split, of two patients"),
        (2, 2, 0, "2 pairs across the split; none joins two patients"),
        (2, 2, 1, "2 pairs across the split; 1 joins two patients"),
        (70, 50, 12, "70 pairs across the split; of the 50 listed, 12 join two patients"),
    ],
)
def test_pairs_across_the_split_are_counted_in_words(count, listed, strangers, said):
    assert pairs_found(count, listed, strangers) == said


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
    assert "1 slice could not be read" in capsys.readouterr().err
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
