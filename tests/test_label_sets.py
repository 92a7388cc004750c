"""Labels that one class a slice cannot hold: of whole studies, and several types of bleed at once."""

from pathlib import Path

import numpy as np
import pytest
from cohorts import ct_values, dicom_dataset, dicom_tree, gray_picture, save_dicom, write_csv
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pictured import picture
from PIL import Image

from haemo.errors import MissingStep, TooFewData
from haemo.features.layouts import index_dataset
from haemo.features.layouts.label_sets import types_of
from haemo.features.manifest import Manifest
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import FeatureStore, create_store
from haemo.pipeline.cli import main
from haemo.pipeline.predicting.prediction import predict
from haemo.pipeline.preparing.extraction import ExtractionSettings, make_features
from haemo.pipeline.preparing.indexing import index_run
from haemo.pipeline.preparing.pooling import POOLINGS, pool, pool_studies
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.training.head import HeadSettings
from haemo.pipeline.training.types import train_types

SETTINGS = HeadSettings(grid={"C": [1e-4]})
TYPES = ("epidural", "subdural", "epidural+subdural", "none")


def of_studies(root: Path, patients: int = 18) -> Path:
    """Scans of three slices in class-blind folders, with a table of labels by study; one slice bleeds."""
    random = np.random.default_rng(0)
    rows = [("study", "label")]
    for patient in range(patients):
        bleeds = patient % 2
        for number in range(3):
            values = picture(random, int(bleeds and number == 1)) / 255 * 80 + 1024
            dataset = dicom_dataset(
                values.astype(np.int16),
                SOPInstanceUID=f"1.2.{patient}.{number}",
                PatientID=f"P{patient}",
                StudyInstanceUID=f"1.2.{patient}",
                InstanceNumber=number,
            )
            path = root / f"scan{patient:02d}" / f"{number}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_dicom(dataset, path)
        rows.append((f"1.2.{patient}", "bleed" if bleeds else "normal"))
    write_csv(root / "labels.csv", rows)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose labels are of studies, with features."""
    root = tmp_path_factory.mktemp("studies")
    run = RunDirectory(root / "run")
    index_run(of_studies(root / "data"), run)
    make_features(run, ExtractionSettings(weights="random", layer="pool5", precision="float32"))
    return run


def test_labels_of_studies_are_no_labels_of_slices(tmp_path, capsys):
    write_csv(
        dicom_tree(tmp_path / "data") / "labels.csv",
        [("study", "label"), ("1.2.0", "bleed"), ("1.2.1", "no")],
    )
    assert main(["index", str(tmp_path / "data"), "--run", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    assert "labels are of studies, not of slices: 2 studies (bleed 1, no 1)" in said.out
    assert "then: haemo pool --run" in said.out
    assert "labels are of studies and of no slice" in said.err
    assert {row.label for row in Manifest.read(tmp_path / "run" / "manifest.csv")} == {""}
    assert (tmp_path / "run" / "studies.csv").read_text() == (
        "study,patient,label\n1.2.0,P0,bleed\n1.2.1,P1,no\n"
    )
    (tmp_path / "data" / "labels.csv").unlink()
    assert main(["index", str(tmp_path / "data"), "--run", str(tmp_path / "run")]) == 0
    assert not (tmp_path / "run" / "studies.csv").exists()


def test_two_things_said_of_a_study_leave_it_without_a_label(tmp_path, caplog):
    for number in range(2):
        dataset = dicom_dataset(
            ct_values(number), SOPInstanceUID=f"1.{number}", PatientID=f"P{number}", StudyInstanceUID="1.9"
        )
        save_dicom(dataset, tmp_path / f"{number}.dcm")
    write_csv(tmp_path / "labels.csv", [("patient", "label"), ("P0", "bleed"), ("P1", "normal")])
    assert not index_dataset(tmp_path).study_labels
    assert "two things are said, left without a label: 1.9" in caplog.text


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 9), st.integers(1, 5)), elements=st.floats(-9, 9, width=32)
    )
)
def test_pooling_is_what_it_is_called(slices):
    np.testing.assert_allclose(pool(slices, "mean"), slices.mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(pool(slices, "max"), [max(column) for column in slices.T])
    count = max(1, round(len(slices) / 4))
    expected = [np.mean(sorted(column)[-count:]) for column in slices.T]
    np.testing.assert_allclose(pool(slices, "top"), expected, atol=1e-5)


def test_heads_learn_from_pooled_studies_and_predict_studies(run, capsys):
    assert main(["pool", "--run", str(run.path)]) == 0
    assert "54 slices pooled by mean into 18 studies" in capsys.readouterr().out
    studies = RunDirectory(run.path / "studies")
    assert main(["svm", "--run", str(studies.path), "--grid", "C=1e-4"]) == 0
    predictions = Predictions.read(studies.path / "svm" / "predictions.csv")
    assert set(predictions.slice_id) == {f"1.2.{patient}" for patient in range(18)}
    assert main(["compare", "--run", str(studies.path)]) == 0
    capsys.readouterr()
    data = run.path.parent / "data"
    code = main(["predict", "--run", str(studies.path), str(data / "scan00"), str(data / "scan01")])
    said = capsys.readouterr().out
    assert code == 0
    assert "2 studies scored, 0 failed" in said
    assert "studies by predicted class" in said
    # The score of a study of the run is that of its pooled embedding, bit for bit.
    result = predict(studies, "svm", [data], device="cpu")
    assert len(result) == 18
    test = predictions.of_part("test")
    own = dict(zip(result.studies, result.scores, strict=True))
    uid = {f"1.2.{patient}": name for patient, name in enumerate(result.studies)}
    assert [own[uid[name]] for name in test.slice_id] == test.scores.tolist()
    assert main(["explain", "--run", str(studies.path), str(data / "scan00")]) == 2
    assert "judges studies by pooled embeddings" in capsys.readouterr().err


def test_every_way_of_pooling_makes_a_store_of_its_own(run):
    hashes = set()
    for by in POOLINGS:
        made = pool_studies(run, by)
        with FeatureStore(made.run.store_path) as store:
            hashes.add(store.fingerprint.hash)
            assert store.fingerprint.facts["pooled"] == by
    assert len(hashes) == len(POOLINGS)


def test_studies_of_labelled_slices_bleed_if_a_slice_does(tmp_path):
    rows, random = [("path", "label", "study")], np.random.default_rng(1)
    for number in range(8):
        Image.fromarray(picture(random, number % 4 == 1)).save(tmp_path / f"{number}.png")
        rows.append((f"{number}.png", "bleed" if number % 4 == 1 else "normal", f"s{number // 2}"))
    write_csv(tmp_path / "labels.csv", rows)
    run = RunDirectory(tmp_path / "run")
    index_run(tmp_path, run)
    with pytest.raises(MissingStep, match="make it first"):
        pool_studies(run)
    make_features(run, ExtractionSettings(weights="random", layer="pool5", precision="float32"))
    made = pool_studies(run, "mean")
    assert {row.study: row.label for row in made.run.manifest()} == {
        "s0": "bleed",
        "s1": "normal",
        "s2": "bleed",
        "s3": "normal",
    }


def test_studies_without_any_label_are_refused(tmp_path):
    run = RunDirectory(tmp_path / "run")
    index_run(dicom_tree(tmp_path / "data"), run)
    with pytest.raises(TooFewData, match=r"no study of .* has a label"):
        pool_studies(run)


@pytest.mark.parametrize(
    ("label", "types"),
    [
        ("epidural+subdural", ("epidural", "subdural")),
        ("subdural", ("subdural",)),
        ("acute subdural + epidural", ("acute subdural", "epidural")),
        ("normal", ()),
        ("", ()),
        ("A+", ()),
        ("A+B", ()),
        ("epidural+", ()),
    ],
)
def test_sets_of_types_are_told_from_names_with_a_plus(label, types):
    assert types_of(label) == types


def of_types(root: Path, patients: int = 36) -> Path:
    random = np.random.default_rng(0)
    rows = [("path", "patient", "label", "subtype")]
    for number in range(patients):
        kind = TYPES[number % 4]
        values = np.maximum(picture(random, int("epi" in kind)), picture(random, 2 if "sub" in kind else 0))
        root.mkdir(exist_ok=True)
        Image.fromarray(values).save(root / f"{number}.png")
        rows.append(
            (f"{number}.png", f"P{number}", "normal" if kind == "none" else "bleed", kind.replace("none", ""))
        )
    write_csv(root / "labels.csv", rows)
    return root


def embedded(run: RunDirectory) -> RunDirectory:
    """The run with embeddings that know each type by a number of their own."""
    random = np.random.default_rng(0)
    rows = list(run.manifest())
    embeddings = random.normal(size=(len(rows), 8)).astype(np.float32)
    for place, row in enumerate(rows):
        kind = TYPES[int(row.path.stem) % 4]
        embeddings[place, :2] += 6 * np.array(["epidural" in kind, "subdural" in kind])
    create_store(
        run.store_path, [row.slice_id for row in rows], embeddings, Fingerprint({"made": "for a test"})
    )
    return run


def test_several_types_a_slice_get_a_head_each_and_no_class_of_their_own(tmp_path, capsys):
    run = RunDirectory(tmp_path / "run")
    data = of_types(tmp_path / "data")
    assert main(["index", str(data), "--run", str(run.path), "--label", "subtype"]) == 0
    said = capsys.readouterr().out
    assert "types of bleed, several a slice: epidural 18, subdural 18" in said
    assert run.manifest().classes == ("haemorrhage", "normal")
    embedded(run)
    found = {one.type: one for one in train_types(run, "svm", SETTINGS)}
    assert list(found) == ["any", "epidural", "subdural"]
    assert (found["any"].slices, found["epidural"].slices) == (27, 18)
    epidural = RunDirectory(run.path / "types" / "epidural")
    assert epidural.manifest().classes == ("epidural", "no epidural")
    has = {row.slice_id for row in epidural.manifest() if row.label == "epidural"}
    assert has == {f"{number}.png" for number in range(36) if number % 4 in (0, 2)}
    assert found["epidural"].result.metrics["test"]["roc_auc"] > 0.9
    assert main(["types", "--run", str(run.path)]) == 0  # with the head's own grid
    table = capsys.readouterr().out
    assert "svm by type of bleed, one against the rest" in table
    assert "3 heads trained" in table
    assert main(["compare", "--run", str(epidural.path)]) == 0


def test_a_rare_type_is_named_and_the_others_are_trained(tmp_path, capsys):
    run = RunDirectory(tmp_path / "run")
    data = of_types(tmp_path / "data")
    table = (
        (data / "labels.csv")
        .read_text()
        .replace("0.png,P0,bleed,epidural", "0.png,P0,bleed,epidural+subarachnoid")
    )
    (data / "labels.csv").write_text(table)
    index_run(data, run, label="subtype")
    embedded(run)
    assert main(["types", "--run", str(run.path)]) == 3
    said = capsys.readouterr()
    assert "subarachnoid: not trained, " in said.err
    assert "3 heads trained" in said.out


def test_one_type_a_slice_is_a_class_as_before(tmp_path):
    for number in range(3):
        Image.fromarray(gray_picture(number, (8, 8))).save(tmp_path / f"{number}.png")
    rows = [("path", "label"), ("0.png", "epidural"), ("1.png", "subdural"), ("2.png", "normal")]
    write_csv(tmp_path / "labels.csv", rows)
    run = RunDirectory(tmp_path / "run")
    index = index_run(tmp_path, run)
    assert index.manifest.classes == ("epidural", "normal", "subdural")
    with pytest.raises(MissingStep, match="no slices with several types"):
        list(train_types(run, "svm"))
