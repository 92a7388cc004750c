"""What each protocol puts on the two sides."""

import numpy as np
import pytest
from runs import make_run

from features.manifest import Manifest, ManifestRow
from models.errors import BadSettings, TooFewData
from pipeline.cli import main
from pipeline.protocols import FACTS, draw_training, make_leaky_split, use_protocol
from pipeline.splits import Protocol, Split


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


def test_what_cannot_be_split_by_slice_is_refused():
    with pytest.raises(BadSettings, match="haemo leakage runs it"):
        make_leaky_split(Manifest(cohort()), CLASSES, Protocol.PAPER, seed=0, folds=5)
    rows = [*cohort(4, 1)[1:3], ManifestRow("b", "/x/b.png", "bleed", "b", "b")]
    with pytest.raises(TooFewData, match="'bleed' has 1 slices"):
        draw_training(rows, CLASSES, Protocol.SLICE, seed=0)


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
    assert "LEAKY: patients stand on both sides" in capsys.readouterr().out


def test_a_run_keeps_its_protocol_until_it_is_split_anew(tmp_path):
    run = make_run(tmp_path, copies=1)
    use_protocol(run, "slice")
    with pytest.raises(BadSettings, match="has protocol slice, not lenet"):
        use_protocol(run, "lenet")
    use_protocol(run, "lenet", new=True)
    assert Split.read(run.split_path).protocol is Protocol.LENET
