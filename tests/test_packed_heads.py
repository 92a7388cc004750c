"""Heads on several sets of features, on neighbours, and blends: packed they say what their run says."""

import json
import zipfile

import numpy as np
import pytest
from cohorts import write_csv
from pictured import picture, trained_run
from PIL import Image

from haemo.errors import BadDataset, BadSettings, TooFewData
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.explaining.explanation import explain_slices
from haemo.pipeline.exporting.export import export_model
from haemo.pipeline.judging.judgement import judge
from haemo.pipeline.judging.sides import JudgingSettings
from haemo.pipeline.packing.bundlefile import read_bundle, write_bundle
from haemo.pipeline.packing.held_out import as_bytes, of_bytes
from haemo.pipeline.packing.packing import pack
from haemo.pipeline.packing.unpacking import open_bundle
from haemo.pipeline.predicting.prediction import predict, score_slices
from haemo.pipeline.preparing.pooling import pool_studies
from haemo.pipeline.training.blend import train_blend
from haemo.pipeline.training.head import HeadSettings, train_head

C = {"C": [1e-4]}
NAMES = ("svm-cut", "svm-both", "svm-beside", "blend")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Heads on a second set, on two side by side, on neighbours, and a blend."""
    made = trained_run(tmp_path_factory.mktemp("several"), slices=3)
    cut = ["--crop", "head", "--layer", "pool3", "--weights", "random", "--precision", "float32"]
    assert main(["-q", "features", "--run", str(made), "--name", "cut", *cut]) == 0
    train_head(made, "svm", HeadSettings(grid=C, features=("cut",)))
    train_head(made, "svm", HeadSettings(grid=C, features=("default", "cut")), called="svm-both")
    train_head(made, "svm", HeadSettings(grid=C, context=1, smooth=True), called="svm-beside")
    train_blend(made)
    return made


@pytest.fixture(scope="module")
def packed(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("several-packed")
    return {name: pack(run, name, folder / f"{name}.haemo").path for name in NAMES}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Three scans of four slices, whose names end in their order."""
    folder, random = tmp_path_factory.mktemp("scans"), np.random.default_rng(5)
    for number in range(12):
        path = folder / f"scan{number // 4}" / f"{number % 4}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(random, number // 4 % 2)).save(path)
    return folder


@pytest.fixture(scope="module")
def said(run, scans):
    """What the run says of the scans."""
    return {name: predict(run, name, [scans], device="cpu") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_says_of_new_slices_what_the_run_says(packed, scans, said, name):
    own = said[name]
    found = score_slices(open_bundle(packed[name], "cpu"), [scans])
    assert found.paths == own.paths
    assert found.probabilities.tolist() == own.probabilities.tolist()
    assert found.predicted.tolist() == own.predicted.tolist()
    assert found.outside == own.outside
    assert found.study_rows() == own.study_rows()
    assert found.points == own.points
    assert set(own.points) == {"youden", "sensitivity=0.9", "specificity=0.9"}


def test_evaluate_judges_what_predict_says_by_run_and_by_bundle(run, packed, scans, said, tmp_path):
    """One slice has no label: it is not judged, and is a neighbour all the same."""
    rows = [("path", "label", "study", "patient", "position")]
    for path in sorted(scans.rglob("*.png")):
        label = ("normal", "haemorrhage")[path.parent.name == "scan1"] if path.stem != "2" else ""
        rows.append((str(path.relative_to(scans)), label, *[path.parent.name] * 2, path.stem))
    labels = write_csv(tmp_path / "labels.csv", rows)
    names = [one for name in NAMES for one in (str(run.model_path(name)), str(packed[name]))]
    settings = JudgingSettings(resampling=Resampling(100), index={"labels": labels})
    found = judge(names, scans, tmp_path / "out", settings)
    for name in NAMES:
        own = said[name]
        expected = dict(zip((str(path.relative_to(scans)) for path in own.paths), own.scores, strict=True))
        for judged in (f"run-{name}", f"{packed[name].parent.name}-{name}"):
            answers = found.answers[judged]
            assert len(answers) == 9
            assert answers.scores.tolist() == [expected[str(one)] for one in answers.slice_id]
            assert "why_not" not in found.shift[judged]["outside"]
            assert "distance" in found.shift[judged]["scores"]["all"]
            assert set(found.comparison.points[judged]) == {
                "own",
                "0.5",
                "sensitivity=0.9",
                "specificity=0.9",
            }


def test_each_network_is_kept_once_and_the_same_run_gives_the_same_bytes(run, packed, tmp_path):
    with zipfile.ZipFile(packed["blend"]) as archive:
        names = archive.namelist()
        told = json.loads(archive.read("haemo.json"))
    assert [name for name in names if name.startswith("network")] == ["network.safetensors"]
    assert [head["name"] for head in told["heads"]] == ["svm", "svm-beside", "svm-both", "svm-cut"]
    assert {f"{number}/head.skops" for number in (1, 2, 3, 4)} < set(names)
    again = pack(run, "blend", tmp_path / "again.haemo")
    assert again.path.read_bytes() == packed["blend"].read_bytes()


def test_the_unit_that_was_told_is_packed_used_and_said(run, packed, tmp_path, caplog):
    bundle = read_bundle(packed["svm-cut"])
    assert bundle.facts["told_unit"] is None
    members = {name: bundle.read(name) for name in bundle.facts["members"]}
    write_bundle(tmp_path / "told.haemo", {**bundle.facts, "told_unit": "hu+1024"}, members)
    path = tmp_path / "open.png"
    values = np.random.default_rng(0).integers(3000, 3400, (64, 64), dtype=np.uint16)
    Image.fromarray(values).save(path)
    with pytest.raises(TooFewData, match="--unit"):
        score_slices(open_bundle(packed["svm-cut"], "cpu"), [path])
    with caplog.at_level("INFO", "haemo"):
        found = score_slices(open_bundle(tmp_path / "told.haemo", "cpu"), [path])
    assert len(found) == 1
    assert "numbers of files that do not say what they are: hu+1024, as svm-cut was trained on" in caplog.text


def test_a_head_of_whole_studies_is_packed_and_not_judged_by_slice(run, scans, tmp_path, capsys):
    studies = pool_studies(run).run
    train_head(studies, "svm", HeadSettings(grid=C))
    path = pack(studies, "svm", tmp_path / "studies.haemo").path
    own = predict(studies, "svm", [scans], device="cpu")
    found = score_slices(open_bundle(path, "cpu"), [scans])
    assert found.of_studies
    assert found.studies == own.studies
    assert found.probabilities.tolist() == own.probabilities.tolist()
    assert main(["evaluate", str(path), str(scans), "--out", str(tmp_path / "out")]) == 2
    assert "judges whole studies" in capsys.readouterr().err


def test_its_evidence_is_drawn_with_its_neighbours_held(run, packed, scans, tmp_path):
    for name in ("svm-both", "svm-beside", "blend"):
        model = open_bundle(packed[name], "cpu")
        result = score_slices(model, [scans / "scan1"])
        drawn = explain_slices(model, result, tmp_path / name, chosen=range(1))
        assert drawn[0].picture.is_file()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"context": 2}, "its head takes"),
        ({"stages": []}, "not enough values"),
        ({"pooled": "median"}, "pools slices by 'median'"),
        ({"told_unit": "furlong"}, "its numbers are 'furlong'"),
        ({"points": {"youden": "high"}}, "could not convert"),
        ({"classes": ["a", "b", "c"]}, "what was held out is no table"),
    ],
)
def test_a_bundle_whose_facts_do_not_fit_is_refused(packed, tmp_path, change, told):
    bundle = read_bundle(packed["svm-beside"])
    members = {name: bundle.read(name) for name in bundle.facts["members"]}
    odd = tmp_path / "odd.haemo"
    write_bundle(odd, {**bundle.facts, **change}, members)
    with pytest.raises(BadDataset, match=told):
        open_bundle(odd, "cpu")


def test_what_was_held_out_comes_back_without_names(run):
    own = run.predictions("svm-both").of_part("cv")
    found = of_bytes(as_bytes(own), own.classes)
    assert sorted(found.scores) == sorted(own.scores)
    assert len(set(found.patient)) == len(set(own.patient))
    truth = sorted(zip(own.scores, own.probabilities, own.label, strict=True))
    assert sorted(zip(found.scores, found.probabilities, found.label, strict=True)) == truth
    assert not set(found.patient) & set(own.patient)
    with pytest.raises(ValueError, match="what was held out is no table"):
        of_bytes(as_bytes(own), ("a", "b", "c"))


def test_sets_of_one_slice_are_exported_and_others_are_refused_with_what_to_do(run, scans, tmp_path):
    path = tmp_path / "both.onnx"
    made = export_model(run, "svm-both", path)
    assert made.difference < 1e-6
    assert main(["-q", "predict", "--model", str(path), str(scans), "--out", str(tmp_path / "a.csv")]) == 0
    assert main(["-q", "export", "--run", str(run), "--head", "svm-cut", str(tmp_path / "cut.onnx")]) == 0
    for name, told in (("svm-beside", "needs the slices beside"), ("blend", "joins what several heads say")):
        with pytest.raises(BadSettings, match=told) as refused:
            export_model(run, name, path)
        assert f"haemo pack --run {run} --head {name}" in str(refused.value)


def test_an_exported_head_on_two_sets_says_what_the_run_says(run, scans, said, tmp_path):
    from haemo.pipeline.exporting.runtime import OnnxModel

    export_model(run, "svm-both", tmp_path / "both.onnx")
    own = said["svm-both"]
    found = score_slices(OnnxModel.load(tmp_path / "both.onnx"), [scans])
    np.testing.assert_allclose(found.probabilities, own.probabilities, atol=1e-6)
    assert found.points == own.points
