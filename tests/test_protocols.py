"""What each protocol puts on the two sides."""

import re
from dataclasses import replace

import numpy as np
import pytest
from oracles import exact_head
from runs import make_run
from skimage.transform import rotate
from sklearn.metrics import roc_auc_score

from haemo.errors import BadDataset, BadSettings, TooFewData
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.views.augment import rotate_planes
from haemo.pipeline.cli import main
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.splitting.copies import copies_of
from haemo.pipeline.splitting.protocols import FACTS, SplitRequest, draw_training, make_leaky_split
from haemo.pipeline.splitting.split import Protocol, Split
from haemo.pipeline.trained.headfolder import HeadFolder
from haemo.pipeline.training.examples import load_examples
from haemo.pipeline.training.head import HeadSettings, train_head


def cohort(patients=30, slices=5) -> list[ManifestRow]:
    return [
        ManifestRow(
            f"{p:02d}-{s}",
            f"/x/{p}-{s}.png",
            "bleed" if p % 3 == 0 and s > 1 else "normal",
            f"p{p:02d}",
            f"p{p:02d}",
        )
        for p in range(patients)
        for s in range(slices)
    ]


CLASSES = ("normal", "bleed")


def shared_patients(rows, trains):
    patient = np.array([row.patient for row in rows])
    return set(patient[trains]) & set(patient[~trains])


def test_only_patient_is_honest_and_the_other_four_are_leaky():
    assert [protocol.value for protocol in Protocol if not FACTS[protocol].leaky] == ["patient"]


@pytest.mark.parametrize(
    ("protocol", "fraction"), [("patient", 0.7), ("slice", 0.7), ("lenet", 0.75), ("thesis", 0.8)]
)
def test_sides_have_their_shares_of_every_class(protocol, fraction):
    rows = cohort()
    trains = draw_training(rows, CLASSES, Protocol(protocol), seed=3)
    labels = np.array([row.label for row in rows])
    slack = 0.06 if protocol == "patient" else 0.02
    for name in CLASSES:
        assert trains[labels == name].mean() == pytest.approx(fraction, abs=slack)
    assert bool(shared_patients(rows, trains)) == (protocol != "patient")


def test_paper_puts_rotated_copies_of_one_slice_on_both_sides():
    rows = cohort()
    trains = draw_training(rows, CLASSES, Protocol.PAPER, seed=0, copies=7).reshape(7, len(rows))
    assert trains.mean() == pytest.approx(0.7, abs=0.01)
    both = trains.any(axis=0) & ~trains.all(axis=0)
    assert both.mean() > 0.8


def test_patient_keeps_the_copies_of_a_slice_together():
    trains = draw_training(cohort(), CLASSES, Protocol.PATIENT, seed=0, copies=7).reshape(7, -1)
    assert (trains == trains[0]).all()


@pytest.mark.parametrize("protocol", list(Protocol))
def test_neither_the_order_of_the_rows_nor_a_repeat_changes_a_draw(protocol):
    rows = cohort()
    order = np.random.default_rng(1).permutation(len(rows))
    first = draw_training(rows, CLASSES, protocol, seed=5)
    assert (draw_training(rows, CLASSES, protocol, seed=5) == first).all()
    assert (draw_training([rows[i] for i in order], CLASSES, protocol, seed=5) == first[order]).all()
    assert (draw_training(rows, CLASSES, protocol, seed=6) != first).any()


def test_a_leaky_split_says_so_and_reads_back(tmp_path):
    manifest = Manifest(cohort())
    split = make_leaky_split(manifest, CLASSES, Protocol.THESIS, seed=0, folds=4)
    assert (split.leaky, split.unit, split.protocol, split.n_folds) == (True, "slice", Protocol.THESIS, 4)
    sides, folds = split.parts(manifest), split.fold_numbers(manifest)
    assert ((sides == "train") == (folds >= 0)).all()
    assert shared_patients(manifest.rows, sides == "train")
    split.write(tmp_path / "split.json")
    assert type(split).read(tmp_path / "split.json") == split


def test_a_split_by_copy_deals_every_copy_once_and_knows_the_originals():
    manifest = Manifest(cohort())
    split = make_leaky_split(manifest, CLASSES, Protocol.PAPER, seed=2, folds=4)
    assert (split.leaky, split.unit) == (True, "copy")
    copies = split.dealt(manifest.rows)
    assert len(copies) == 7 * len(manifest) == len(split.part)
    sides, folds = split.parts(copies), split.fold_numbers(copies)
    trains = draw_training(manifest.rows, CLASSES, Protocol.PAPER, 2, copies=7)
    assert ((sides == "train") == trains).all()
    assert ((folds >= 0) == trains).all()
    assert set(folds[trains]) == {0, 1, 2, 3}
    # Under its own id a slice stands where its unturned copy stands.
    assert (split.parts(manifest.rows) == sides[: len(manifest)]).all()
    for name in CLASSES:
        assert trains[[copy.label == name for copy in copies]].mean() == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("protocol", [Protocol.SLICE, Protocol.PAPER])
def test_the_seed_of_a_leaky_split_draws_its_folds_too(protocol):
    """Another seed trains on other slices; so it is compared which place among them has which fold."""
    manifest = Manifest(cohort())

    def folds_by_place(seed):
        split = make_leaky_split(manifest, CLASSES, protocol, seed=seed, folds=4)
        label = {row.slice_id: row.label for row in split.dealt(manifest.rows)}
        return [split.fold[name] for one in CLASSES for name in sorted(split.fold) if label[name] == one]

    first = folds_by_place(5)
    assert folds_by_place(5) == first
    assert len(folds_by_place(6)) == len(first)
    # Of four folds, a quarter agree by chance.
    assert np.mean(np.equal(folds_by_place(6), first)) < 0.5


def test_copies_are_named_by_slice_and_angle_and_a_slice_of_such_a_name_is_refused():
    first, second = cohort()[:2]
    copies = copies_of([first, second])
    assert [copy.slice_id for copy in copies[::2]] == [
        first.slice_id + turn for turn in ("", "@70", "@160", "@270", "@-70", "@-160", "@-270")
    ]
    assert {(copy.original, copy.label, copy.patient, copy.path) for copy in copies[1::2]} == {
        (second.slice_id, second.label, second.patient, second.path)
    }
    with pytest.raises(BadDataset, match=f"'{first.slice_id}@-160' is called like a rotated copy"):
        copies_of([first, replace(second, slice_id=f"{first.slice_id}@-160")])


@pytest.mark.numerical
def test_a_copy_turns_the_plane_as_stage_one_does():
    plane = np.random.default_rng(0).integers(0, 255, (31, 31), dtype=np.uint8)
    for copy in copies_of(cohort()[:1]):
        assert (copy.turned(plane) == rotate_planes(plane[None])[0, copy.variant]).all()
        oracle = rotate(plane.astype(float), copy.angle_deg, order=1, preserve_range=True)
        assert np.abs(copy.turned(plane) - oracle).max() <= 0.5 + 1e-2


def test_what_cannot_be_split_is_refused():
    with pytest.raises(BadSettings, match="patient is not leaky"):
        make_leaky_split(Manifest(cohort()), CLASSES, Protocol.PATIENT, seed=0, folds=5)
    rows = [*cohort(4, 1)[1:3], ManifestRow("b", "/x/b.png", "bleed", "b", "b")]
    with pytest.raises(TooFewData, match="'bleed' has 1 slices"):
        draw_training(rows, CLASSES, Protocol.SLICE, seed=0)


def test_a_head_under_the_paper_protocol_answers_for_every_copy(tmp_path, capsys):
    run = make_run(tmp_path)
    assert main(["svm", "--run", str(tmp_path), "--protocol", "paper", "--C", "1e-3"]) == 0
    shown = capsys.readouterr()
    assert "LEAKY protocol paper" in shown.err
    assert "training slices and rotated copies of" in shown.err
    split, rows = Split.read(run.split_path), run.manifest().rows
    copies = {copy.slice_id: copy for copy in copies_of(rows)}
    found = Predictions.read(tmp_path / "svm" / "predictions.csv")
    assert sorted(found.slice_id) == sorted(copies)
    assert (
        found.part == np.where(split.parts(copies[i] for i in found.slice_id) == "test", "test", "cv")
    ).all()
    # What a copy is given is the score of its own rotation's embedding.
    test = found.of_part("test")
    head = HeadFolder(tmp_path / "svm").head()
    with open_features(run) as store:
        features = np.vstack(
            [store.embeddings([copies[i].original], copies[i].variant) for i in test.slice_id]
        )
    assert test.scores == pytest.approx(head.decision_function(features), rel=1e-5)


def test_the_paper_protocol_flatters(tmp_path):
    """Rotated copies on both sides give a ROC AUC that whole patients do not."""
    honest = train_head(make_run(tmp_path / "honest", signal=0.3), "svm", HeadSettings(grid={"C": [1e-3]}))
    run = make_run(tmp_path / "paper", signal=0.3)
    leaky = train_head(run, "svm", HeadSettings(grid={"C": [1e-3]}), split=SplitRequest(protocol="paper"))
    assert leaky.facts["leaky"]
    assert leaky.metrics["test"]["roc_auc"] > honest.metrics["test"]["roc_auc"] + 0.1


def test_the_paper_protocol_says_what_it_needs(tmp_path, capsys):
    make_run(tmp_path / "plain", copies=1)
    arguments = ["softmax", "--run", str(tmp_path / "plain"), "--protocol", "paper"]
    assert main(arguments) == 1
    assert "--rotations paper" in capsys.readouterr().err
    make_run(tmp_path / "turned")
    arguments = ["softmax", "--run", str(tmp_path / "turned"), "--protocol", "paper", "--augment"]
    assert main(arguments) == 2
    assert "leave --augment out" in capsys.readouterr().err


@pytest.mark.numerical
@pytest.mark.parametrize("head", ["svm", "softmax"])
def test_the_lenet_protocol_chooses_on_the_test_slices(tmp_path, capsys, head):
    """The best C is the one that a plain loop over C finds on the test slices, and it is said."""
    run = make_run(tmp_path, copies=1, signal=0.4)
    grid = {"C": [1e-5, 1e-3, 1e-1, 10.0]}
    arguments = [head, "--run", str(tmp_path), "--protocol", "lenet", "--C", "1e-5,1e-3,1e-1,10"]
    assert main(arguments) == 0
    assert "on the test slices: LEAKY" in capsys.readouterr().out
    facts = HeadFolder(tmp_path / head).facts()
    with open_features(run) as store:
        examples = load_examples(store, Cohort.of(run))
    y_test = [CLASSES.index(row.label) for row in examples.test_rows]
    found = {}
    for c in grid["C"]:
        fitted = exact_head(head, C=c).fit(examples.X, examples.y)
        found[c] = roc_auc_score(y_test, fitted.decision_function(examples.X_test))
    assert facts["chosen_on_test"]
    assert facts["search"]["mean"] == pytest.approx(max(found.values()), abs=1e-6)
    assert found[facts["parameters"]["C"]] == max(found.values())
    assert len(set(found.values())) > 1
    shown = HeadFolder(tmp_path / head).metrics()["test"]["roc_auc"]
    assert facts["search"]["mean"] == pytest.approx(shown, rel=1e-12)


@pytest.mark.parametrize("protocol", ["paper", "lenet"])
def test_the_report_says_by_what_the_settings_were_chosen(tmp_path, monkeypatch, protocol):
    monkeypatch.setattr("haemo.pipeline.evaluation.shortcuts._TREES", 5)
    run = make_run(tmp_path, signal=0.2, dimension=3)
    arguments = ["svm", "--run", str(tmp_path), "--protocol", protocol, "--C", "1e-3,1e-1"]
    assert main(arguments) == 0
    assert main(["leakage", "--run", str(tmp_path), "--repeats", "2", "--resamples", "100"]) == 0
    assert main(["report", "--run", str(tmp_path), "--resamples", "100", "--anonymise"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert f"chosen by {FACTS[Protocol(protocol)].chosen_by} (LEAKY)" in page
    assert "chosen by cross-validation over whole" not in page
    split = Split.read(run.split_path)
    trained = (split.parts(split.dealt(run.manifest().rows)) == "train").sum()
    assert f"<td>{trained}</td>" in page
    assert re.search(r"<td>\d\.\d{3} .*?LEAKY", page.split("Beside the published")[-1])
    if protocol == "paper":
        assert re.search(r"LEAKY: On \d+ slices and rotated copies of 24 patients, 24 of them also", page)
        slices = run.manifest().rows
        sides = np.reshape(split.parts(split.dealt(slices)) == "train", (7, len(slices)))
        both = (sides.any(axis=0) & ~sides.all(axis=0)).sum()
        assert both > 60
        told = f"{both} of {len(slices)} slices train in one rotation and are tested in another."
        assert f'<b>rotated copies on both sides</b> (<span class="leaky">LEAK</span>): {told}' in page
        assert "24 patients train and test" in page
        assert "0 pictures train and test under different names" in page
        assert re.search(r"slice-[0-9a-f]{10} turned by -?\d+ degrees", page)


def test_a_head_trained_under_a_leaky_protocol_is_marked_wherever_it_is_shown(tmp_path, capsys):
    run = make_run(tmp_path, copies=1)
    arguments = ["svm", "--run", str(tmp_path), "--protocol", "thesis", "--C", "1e-3"]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "LEAKY protocol thesis" in shown.err
    assert "LEAKY" in shown.out
    split = Split.read(run.split_path)
    assert (split.protocol, split.leaky, split.train_fraction) == (Protocol.THESIS, True, 0.8)
    assert main(["compare", "--run", str(tmp_path), "--resamples", "100"]) == 0
    assert "LEAKY protocol thesis (slices mixed, 80% / 20%): patients stand" in capsys.readouterr().out


def test_a_run_keeps_its_protocol_until_it_is_split_anew(tmp_path):
    run = make_run(tmp_path, copies=1)
    settings = HeadSettings(grid={"C": [1e-3]})
    train_head(run, "svm", settings, split=SplitRequest(protocol="slice"))
    assert train_head(run, "softmax", settings).facts["protocol"] == "slice"
    for other in ("lenet", "patient"):
        with pytest.raises(BadSettings, match=f"has protocol slice, not {other}"):
            train_head(run, "svm", settings, split=SplitRequest(protocol=other))
    train_head(run, "svm", settings, split=SplitRequest(protocol="lenet", new=True))
    assert Split.read(run.split_path).protocol is Protocol.LENET


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--protocol", "slice", "--new-split", "--train-fraction", "0.5"], 2, "leave --train-fraction out"),
        (["--protocol", "paper", "--new-split"], 1, "--rotations paper"),
        (["--protocol", "thesis", "--new-split", "--augment"], 1, "--rotations paper"),
    ],
)
def test_a_command_that_fails_leaves_the_split_alone(tmp_path, capsys, arguments, code, told):
    run = make_run(tmp_path, copies=1)
    train_head(run, "svm", HeadSettings(grid={"C": [1e-3]}))
    before = run.split_path.read_bytes()
    assert main(["softmax", "--run", str(run), *arguments]) == code
    assert told in capsys.readouterr().err
    assert run.split_path.read_bytes() == before


def test_every_head_takes_rotations_under_the_lenet_protocol(tmp_path):
    """MLP is given the patient of each row, among them the test slices that settings are chosen on."""
    run = make_run(tmp_path)
    settings = HeadSettings(grid={"alpha": [1e-3, 1e-1]}, rotations=True)
    result = train_head(run, "mlp", settings, split=SplitRequest(protocol="lenet"))
    with open_features(run) as store:
        examples = load_examples(store, Cohort.of(run), rotations=True)
    judged = examples.judged_on_test()
    count = 7 * examples.n_train + len(examples.X_test)
    assert len(judged.patient) == len(judged.y) == len(judged.X) == count
    assert judged.patient[-1] == examples.test_rows[-1].patient
    assert judged.patient[examples.n_train] == examples.train_rows[0].patient
    assert result.facts["chosen_on_test"]
