import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_heads import as_picture
from drawn_heads import head as head_of
from pictured import picture, trained_run
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from haemo.errors import FingerprintMismatch, MissingStep, TooFewData
from haemo.features.layouts import claims
from haemo.features.reading.address import file_of
from haemo.features.reading.formats import read_slice
from haemo.features.reading.reader import read_header_guarded
from haemo.features.reading.slice import Slice
from haemo.features.store.store import FeatureStore
from haemo.models.evidence.explain import explain_extractor
from haemo.pipeline.cli import main
from haemo.pipeline.evaluation.unit_rule import unit_rule
from haemo.pipeline.predicting import studies
from haemo.pipeline.predicting.blended_model import load_model
from haemo.pipeline.predicting.prediction import find_slices, predict
from haemo.pipeline.run.predictions import Predictions


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def cropped(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("cropped"), crop="head")


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("several"), kinds=3)


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    root = tmp_path_factory.mktemp("best")
    return trained_run(root, crop="head", upright=True, mirror=True, layer="pool4")


@pytest.fixture
def files(run):
    return slices_of(run)


def slices_of(run):
    return sorted((run.path.parent / "slices").glob("*.png"))


def by_name(names, result):
    """Score and probability of each slice, by its name."""
    pairs = zip(result.scores.tolist(), result.probabilities.tolist(), strict=True)
    return dict(zip(names, pairs, strict=True))


def stored(run):
    predictions = Predictions.read(run.model_path("svm") / "predictions.csv").of_part("test")
    return by_name(predictions.slice_id, predictions)


@pytest.mark.numerical
def test_a_slice_of_the_run_gets_the_score_of_its_cached_embedding_bit_for_bit(run, files):
    expected = stored(run)
    tested = [path for path in files if path.name in expected]
    for paths in (tested[::-1], [run.path.parent / "slices"], tested[:1]):
        result = predict(run, "svm", paths, device="cpu")
        found = by_name([path.name for path in result.paths], result)
        both = found.keys() & expected.keys()
        assert both
        assert {name: found[name] for name in both} == {name: expected[name] for name in both}


def test_half_precision_features_are_rounded_alike(tmp_path):
    run = trained_run(tmp_path, kinds=3, dtype="float16")
    expected = stored(run)
    result = predict(run, "svm", [tmp_path / "slices"], device="cpu")
    assert result.scores.shape == (36, 3)
    assert result.classes == ("haemorrhage", "normal", "other")
    for path, scores in zip(result.paths, result.scores, strict=True):
        if path.name in expected:
            assert scores.tolist() == expected[path.name][0]
    assert set(result.rows()[0]) == {
        "path",
        "study",
        "position",
        "predicted",
        "outside",
        *(f"{kind}_{name}" for kind in ("score", "probability") for name in result.classes),
    }


class TestCroppedToTheHead:
    def test_a_slice_gets_the_score_of_its_cached_embedding(self, cropped):
        files = slices_of(cropped)
        expected = stored(cropped)
        tested = [path for path in files if path.name in expected]
        result = predict(cropped, "svm", tested, device="cpu")
        assert by_name([path.name for path in result.paths], result) == expected

    def test_the_same_head_with_more_air_around_it_is_scored_alike(self, cropped, tmp_path):
        files = slices_of(cropped)
        pixels = np.asarray(Image.open(files[0])) * np.uint8(1)
        pixels[pixels < 45] = 0
        wide = np.zeros((160, 140), dtype=np.uint8)
        wide[70:150, 5:75] = pixels
        for name, picture_ in (("close.png", pixels), ("wide.png", wide)):
            Image.fromarray(picture_).save(tmp_path / name)
        close, far = predict(
            cropped, "svm", [tmp_path / "close.png", tmp_path / "wide.png"], device="cpu"
        ).scores
        scores = predict(cropped, "svm", files, device="cpu").scores
        assert abs(close - far) < 0.1 * np.std(scores)

    def test_evidence_lies_on_the_head_and_nowhere_else(self, cropped, monkeypatch):
        monkeypatch.setattr("haemo.models.evidence.explain._OCCLUDER_STEP", 32)
        model = load_model(cropped, "svm", "cpu")
        image = read_slice(slices_of(cropped)[2])
        wide = Slice(np.pad(image.pixels, ((60, 20), (10, 30))), image.is_hu)
        network = explain_extractor(model.extractor, model.head)
        box = model.preprocessing.view(wide).box
        assert np.abs(np.subtract(box, (70, 131, 15, 76))).max() <= 3
        (evidence,) = network.maps(model.preprocessing.plane(wide)[None], "occlusion")
        placed = model.on_slice(network, evidence, model.preprocessing.view(wide))
        assert placed.shape == wide.pixels.shape
        outside = np.ones(placed.shape, dtype=bool)
        outside[box.top : box.bottom, box.left : box.right] = False
        assert not placed[outside].any()
        seen = model.on_slice(
            network, model.preprocessing.plane(wide).astype(np.float32), model.preprocessing.view(wide)
        )
        inside = wide.pixels[box.top : box.bottom, box.left : box.right]
        again = seen[box.top : box.bottom, box.left : box.right]
        assert np.abs(again - inside).mean() < 0.05 * np.ptp(inside), "what was seen lies where it was seen"

    def test_pictures_and_report_follow(self, cropped, capsys, tmp_path):
        command = ["predict", "--run", str(cropped), *map(str, slices_of(cropped)[:4]), "--explain"]
        assert main([*command, "--overlays", str(tmp_path)]) == 0
        assert main(["compare", "--run", str(cropped)]) == 0
        assert main(["report", "--run", str(cropped)]) == 0
        claims = "".join(path.read_text() for path in cropped.path.rglob("CLAIM.md"))
        assert "window 80/40 HU; pictures: gray levels as they are; cropped to the head, resized to" in claims


class TestUprightAndMirrored:
    """Slices turned upright, cropped and seen with their mirror images."""

    def test_a_slice_gets_the_score_of_its_cached_embedding_bit_for_bit(self, best):
        expected = stored(best)
        tested = [path for path in slices_of(best) if path.name in expected]
        for paths in (tested, tested[3:4]):
            result = predict(best, "svm", paths, device="cpu")
            found = by_name([path.name for path in result.paths], result)
            assert found == {path.name: expected[path.name] for path in paths}
        with FeatureStore(best.store_path) as store:
            assert store.dimension == 2 * 9216

    def test_left_and_right_may_change_places(self, best, tmp_path):
        for source in slices_of(best)[:6]:
            Image.fromarray(np.asarray(Image.open(source))[:, ::-1]).save(tmp_path / source.name)
        as_is = predict(best, "svm", slices_of(best)[:6], device="cpu").scores
        spread = np.std(predict(best, "svm", slices_of(best), device="cpu").scores)
        assert np.abs(predict(best, "svm", [tmp_path], device="cpu").scores - as_is).max() < 0.2 * spread

    def test_evidence_is_put_back_through_the_turn(self, best, monkeypatch):
        monkeypatch.setattr("haemo.models.evidence.explain._OCCLUDER_STEP", 32)
        model = load_model(best, "svm", "cpu")
        hu, _ = head_of(5, blood_mm=12, turn_deg=15)
        image = Slice(as_picture(hu).astype(np.float32), False)
        view = model.preprocessing.view(image)
        assert view.turn.angle_deg == pytest.approx(-15, abs=2)
        network, method = model.explained()
        assert method == "contrast"
        planes = model.preprocessing.plane(image)[None]
        expected = model.head.decision_function(model.extractor(planes))
        np.testing.assert_allclose(network.scores(planes), expected, rtol=1e-3)
        for name in ("contrast", "occlusion"):
            evidence = model.on_slice(network, network.maps(planes, name)[0], model.preprocessing.view(image))
            assert evidence.shape == image.pixels.shape
            assert evidence.any()
        seen = model.on_slice(network, planes[0].astype(np.float32), model.preprocessing.view(image))
        assert np.abs(seen - image.pixels).mean() < 0.05 * np.ptp(image.pixels), "it lies where it was seen"

    def test_the_other_commands_follow(self, best, capsys, tmp_path, monkeypatch):
        monkeypatch.setattr("haemo.pipeline.evaluation.shortcuts._TREES", 5)
        command = ["predict", "--run", str(best), *map(str, slices_of(best)[:4]), "--explain"]
        assert main([*command, "--overlays", str(tmp_path)]) == 0
        for step in (
            ["verify"],
            ["compare"],
            ["compare", "--cv", "3x2"],
            ["report"],
            ["leakage", "--repeats", "2", "--resamples", "100"],
            ["features"],
        ):
            assert main([*step, "--run", str(best)]) == 0
        claims = "".join(path.read_text() for path in best.path.rglob("CLAIM.md"))
        assert (
            "turned upright, cropped to the head, resized to 227 x 227, seen as they are and mirrored"
            in claims
        )


def write_dicom(path, values, study=None, z_mm=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientID = "CT", "p"
    data.StudyInstanceUID = data.SeriesInstanceUID = study or generate_uid()
    if z_mm is not None:
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, z_mm], [1, 0, 0, 0, 1, 0]
    data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = values.astype("<i2").tobytes()
    data.save_as(path)


def test_a_dicom_folder_is_scored_and_what_cannot_be_is_named(run, tmp_path):
    random = np.random.default_rng(1)
    for number in range(3):
        # HU 0..80, the brain window, as stored integers.
        write_dicom(tmp_path / "study" / f"{number}.dcm", picture(random, 1) / 255 * 80 + 1024)
    (tmp_path / "study" / "9.dcm").write_bytes(b"not DICOM at all")
    (tmp_path / "study" / "notes.txt").write_text("left aside")
    (tmp_path / "empty").mkdir()
    result = predict(
        run, "svm", [tmp_path / "study", tmp_path / "empty", tmp_path / "gone.png"], device="cpu"
    )
    assert [path.name for path in result.paths] == ["0.dcm", "1.dcm", "2.dcm"]
    assert [(Path(one.path).name, one.stage) for one in result.failures] == [
        ("empty", "predict"),
        ("gone.png", "predict"),
        ("9.dcm", "predict"),
    ]


def head(random, kind):
    """The picture as HU: brain window, in a skull."""
    hu = picture(random, kind) / 255 * 80
    y, x = np.mgrid[:80, :70]
    radius = np.hypot(y - 40, x - 35)
    hu[(radius > 28) & (radius < 33)] = 900
    return hu + 1024


def test_a_study_of_several_classes_gets_one_answer_with_all_its_classes(several, tmp_path, capsys):
    for number, path in enumerate(slices_of(several)):
        kind = number // 2 % 3  # normal, haemorrhage, other
        for study in {0: ("clear", "bleeding", "both"), 1: ("bleeding", "both"), 2: ("both",)}[kind]:
            (tmp_path / "new" / study).mkdir(parents=True, exist_ok=True)
            (tmp_path / "new" / study / path.name).write_bytes(path.read_bytes())
    command = ["predict", "--run", str(several), "--device", "cpu", str(tmp_path / "new")]
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    found = {row["study"]: row["predicted"] for row in answer["studies"]}
    assert found == {"clear": "normal", "bleeding": "haemorrhage", "both": "haemorrhage+other"}
    assert main([*command, "--aggregate", "noisy-or"]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    title = "studies, slices joined by noisy-or: probability of each class (slices predicted as it)"
    assert title in " ".join(out.split())
    heading = ["study", "slices", "outside", "classes", "haemorrhage", "normal", "other"]
    (both,) = [line for line in lines[lines.index(heading) :] if line[:2] == ["both", "36"]]
    own = next(row for row in answer["studies"] if row["study"] == "both")
    assert both[3] == "haemorrhage+other"
    assert both[5] == f"({own['slices_predicted_haemorrhage']})"


def test_slices_of_a_study_stand_in_order_and_make_one_answer(run, tmp_path):
    random = np.random.default_rng(2)
    studies = [generate_uid(), generate_uid()]
    for number, z_mm in enumerate((30, 10, 20, 5)):
        path = tmp_path / "s" / f"{number}.dcm"
        write_dicom(path, head(random, int(number == 0)), studies[number % 2], z_mm)
    result = predict(run, "svm", [tmp_path / "s"], device="cpu")
    assert [path.name for path in result.paths] == ["2.dcm", "0.dcm", "3.dcm", "1.dcm"]
    assert result.positions == (20, 30, 5, 10)
    alone = predict(run, "svm", [tmp_path / "s" / "0.dcm"], device="cpu")
    assert result.scores[1] == alone.scores[0]
    first, second = result.study_rows()
    assert (first["study"], second["study"]) == tuple(studies)
    assert first["slices"] == 2
    one_of_two = unit_rule(run, "svm", "study", "max")
    assert first["score"] == result.scores[:2].max() - one_of_two.growth * np.log(2)
    plain = replace(result, study_rule=None)  # as where no studies were held out
    assert plain.study_rows()[0]["probability"] == result.probabilities[:2].max()
    mean = plain.study_rows("mean-top")[0]
    assert mean["probability"] == pytest.approx(result.probabilities[:2].mean())


@pytest.mark.parametrize("unit", [None, "hu"])
def test_each_header_is_read_once(run, tmp_path, monkeypatch, unit):
    random = np.random.default_rng(6)
    for number in range(4):
        path = tmp_path / "s" / f"{number}.dcm"
        write_dicom(path, head(random, 0), f"1.2.{number % 2}", 5.0 - number)
        if unit:  # its numbers are of a unit that the file does not say
            data = dcmread(path)
            del data.RescaleSlope, data.RescaleIntercept
            data.save_as(path)
    headers = {path: read_header_guarded(path) for path in (tmp_path / "s").glob("*.dcm")}
    read = []

    def header_of(path):
        read.append(file_of(path))
        return read_header_guarded(path)

    for module in (claims, studies):
        monkeypatch.setattr(module, "read_header_guarded", header_of)
    result = predict(run, "svm", [tmp_path / "s"], device="cpu", unit=unit)
    assert sorted(read) == sorted(headers)
    assert len(set(result.paths) & set(headers)) == (0 if unit else 4), "a told unit stands in the path"
    assert [file_of(path).name for path in result.paths] == ["2.dcm", "0.dcm", "3.dcm", "1.dcm"]
    tags = [headers[file_of(path)].tags for path in result.paths]
    assert result.positions == tuple(one.z_mm for one in tags)
    assert result.studies == tuple(one.series for one in tags)


def put(path, source):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read_bytes())
    return path


class TestFoldersOfPictures:
    """Each folder is a study, whatever it is called; it is shown by the end of its path."""

    def test_folders_of_one_name_stay_apart_in_whatever_order_they_come(self, run, files, tmp_path):
        chosen = dict(zip(("049/brain", "050/brain", "051/bone", "brain"), (0, 2, 4, 6), strict=True))
        for folder, number in chosen.items():
            for source in files[number : number + 2]:
                put(tmp_path / folder / source.name, source)
        expected = {
            "049/brain": [0, 1],
            "050/brain": [2, 3],
            "bone": [4, 5],
            f"{tmp_path.name}/brain": [6, 7],
        }
        folders = [tmp_path / name for name in ("049", "050", "051", "brain")]
        for given in (folders, folders[::-1], [tmp_path]):
            result = predict(run, "svm", given, device="cpu")
            found = {}
            for study, path in zip(result.studies, result.paths, strict=True):
                found.setdefault(study, []).append([one.name for one in files].index(path.name))
            assert found == expected
            assert {row["study"]: row["slices"] for row in result.study_rows()} == dict.fromkeys(expected, 2)
        assert predict(run, "svm", folders[:1], device="cpu").studies == ("brain", "brain")

    def test_a_folder_is_one_study_however_its_path_is_written(self, run, files, tmp_path, monkeypatch):
        for source in files[:2]:
            put(tmp_path / "a" / "brain" / source.name, source)
        put(tmp_path / "b" / "brain" / "x.png", files[2])
        monkeypatch.chdir(tmp_path / "a" / "brain")
        given = [Path(files[0].name), Path("../../a/brain") / files[1].name, Path("../../b/brain/x.png")]
        assert predict(run, "svm", given, device="cpu").studies == ("a/brain", "a/brain", "b/brain")

    def test_a_slice_that_cannot_be_read_does_not_rename_a_study(self, run, files, tmp_path):
        put(tmp_path / "049" / "brain" / "1.png", files[0])
        bad = put(tmp_path / "050" / "brain" / "1.png", files[2])
        bad.write_text("not a picture")
        assert predict(run, "svm", [tmp_path], device="cpu").studies == ("049/brain",)

    def test_a_folder_called_like_a_series_is_not_taken_for_it(self, run, files, tmp_path):
        write_dicom(tmp_path / "scan" / "1.dcm", head(np.random.default_rng(4), 0), study="1.2.3")
        put(tmp_path / "049" / "1.2.3" / "1.png", files[0])
        studies = predict(run, "svm", [tmp_path / "scan", tmp_path / "049"], device="cpu").studies
        assert studies == ("1.2.3", "049/1.2.3")

    def test_dicom_files_that_name_no_study_are_told_apart_by_their_folders(self, run, tmp_path):
        for patient in ("049", "050"):
            path = tmp_path / patient / "brain" / "1.dcm"
            write_dicom(path, head(np.random.default_rng(5), 0), z_mm=5)
            data = dcmread(path)
            del data.PatientID, data.StudyInstanceUID, data.SeriesInstanceUID
            data.save_as(path)
        assert predict(run, "svm", [tmp_path], device="cpu").studies == ("049/brain", "050/brain")

    def test_table_json_csv_and_outlines_use_the_same_names(self, run, files, tmp_path, capsys):
        for patient, number in (("049", 2), ("050", 6)):
            for source in files[number : number + 2]:
                put(tmp_path / "new" / patient / "brain" / source.name, source)
        command = [
            "predict",
            "--run",
            str(run),
            "--device",
            "cpu",
            "--threshold",
            "0.01",
            str(tmp_path / "new"),
        ]
        out, overlays = tmp_path / "scores.csv", tmp_path / "overlays"
        assert main([*command, "--out", str(out), "--json", "--overlays", str(overlays), "--names"]) == 0
        answer = json.loads(capsys.readouterr().out)
        names = ["049/brain", "050/brain"]
        assert [row["study"] for row in answer["studies"]] == names
        own = {row["path"]: row["study"] for row in answer["slices"]}
        assert list(own.values()) == [names[0]] * 2 + [names[1]] * 2
        with out.open() as stream:
            assert {row["path"]: row["study"] for row in csv.DictReader(stream)} == own
        outlines = json.loads((overlays / "regions.geojson").read_text())["features"]
        said = {one["properties"]["slice"]: one["properties"]["study"] for one in outlines}
        assert said == own
        assert len({Path(picture).name for picture in answer["overlays"]}) == 4
        assert main(command) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert [line[:2] for line in lines if line[:1] in ([names[0]], [names[1]])] == [
            [n, "2"] for n in names
        ]


def test_what_the_model_does_not_know_is_flagged_and_scored_all_the_same(run, files, tmp_path):
    random = np.random.default_rng(3)
    Image.fromarray(random.integers(0, 256, (80, 70), dtype=np.uint8)).save(tmp_path / "noise.png")
    write_dicom(tmp_path / "no_bone.dcm", np.full((80, 70), 1064.0))
    result = predict(run, "svm", [*files[:4], tmp_path / "noise.png", tmp_path / "no_bone.dcm"], device="cpu")
    assert result.outside[:4] == ("",) * 4
    assert "unlike the training slices" in result.outside[4]
    assert "no bone" in result.outside[5]
    assert np.isfinite(result.scores).all()
    assert result.row(4)["outside"] == result.outside[4]


def test_files_are_scored_once_and_in_the_order_given(files):
    found, failures = find_slices([files[3], files[0].parent, files[1]])
    assert found == [files[3], *(path for path in files if path != files[3])]
    assert failures == []


def test_a_threshold_of_ones_own_changes_the_class_and_not_the_score(run, files):
    low, high = (predict(run, "svm", files[:6], threshold=t, device="cpu") for t in (0.01, 0.99))
    np.testing.assert_array_equal(low.scores, high.scores)
    assert (low.predicted == "haemorrhage").sum() > (high.predicted == "haemorrhage").sum()


def test_other_weights_are_refused(run, files):
    original = run.record_path.read_text()
    record = json.loads(original)
    record["steps"]["features"]["settings"]["seed"] = 1
    run.record_path.write_text(json.dumps(record))
    try:
        with pytest.raises(FingerprintMismatch, match="weights is "):
            predict(run, "svm", files[:1], device="cpu")
    finally:
        run.record_path.write_text(original)


def test_a_head_trained_on_other_features_is_refused(run, files):
    path = run.model_path("svm") / "settings.json"
    original = path.read_text()
    facts = json.loads(original)
    facts["fingerprint"]["layer"] = "fc7"
    path.write_text(json.dumps(facts))
    try:
        with pytest.raises(FingerprintMismatch, match=r"layer is 'fc7'.*haemo svm --run"):
            predict(run, "svm", files[:1], device="cpu")
    finally:
        path.write_text(original)


def test_a_head_that_is_not_trained_names_the_command(run, files):
    with pytest.raises(MissingStep, match="haemo mlp --run"):
        predict(run, "mlp", files[:1])


def test_nothing_that_can_be_scored_is_an_error(run, tmp_path):
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(TooFewData, match=r"a\.png cannot be scored: not a picture: "):
        predict(run, "svm", [tmp_path / "a.png"], device="cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TooFewData, match=r"empty cannot be scored: the folder has no slices in it$"):
        predict(run, "svm", [tmp_path / "empty"], device="cpu")
    with pytest.raises(TooFewData, match=r"none of the 2 files and folders can be scored; .*empty cannot be"):
        predict(run, "svm", [tmp_path / "a.png", tmp_path / "empty"], device="cpu")
    with pytest.raises(TooFewData, match="there is nothing to score: name files or folders"):
        predict(run, "svm", [], device="cpu")


class TestCommand:
    def test_it_prints_a_row_a_slice_and_a_last_line_that_counts(self, run, files, capsys):
        command = ["predict", "--run", str(run), "--device", "cpu"]
        assert main([*command, str(files[0]), str(files[3])]) == 0
        lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        assert lines[0] == f"haemorrhage from a probability of {run.settings('svm')['threshold']:g}"
        assert any(line.startswith(str(files[3])) for line in lines)
        assert lines[-1] == "2 slices scored, 0 failed"

    def test_one_slice_and_one_overlay_are_counted_as_such(self, run, files, tmp_path, capsys):
        options = ["--device", "cpu", "--threshold", "0.001", "--overlays", str(tmp_path)]
        assert main(["predict", "--run", str(run), *options, str(files[0])]) == 0
        *_, overlays, last = capsys.readouterr().out.splitlines()
        assert overlays == f"1 overlay, outlines in {tmp_path}/regions.geojson"
        assert last == "1 slice scored, 0 failed"

    def test_csv_json_and_exit_code_3(self, run, files, tmp_path, capsys):
        (tmp_path / "bad.png").write_text("not a picture")
        out = tmp_path / "scores.csv"
        arguments = [str(files[0]), str(files[3]), str(tmp_path / "bad.png"), "--out", str(out), "--json"]
        assert main(["predict", "--run", str(run), "--device", "cpu", *arguments]) == 3
        printed = capsys.readouterr()
        answer = json.loads(printed.out)
        assert answer["positive"] == "haemorrhage"
        assert [Path(one["path"]).name for one in answer["failures"]] == ["bad.png"]
        assert printed.err.splitlines()[-1] == f"2 slices scored, 1 failed -> {out}"
        with out.open() as stream:
            table = list(csv.DictReader(stream))
        assert [(row["path"], float(row["score"]), float(row["probability"])) for row in table] == [
            (one["path"], one["score"], one["probability"]) for one in answer["slices"]
        ]
        assert {float(row["threshold"]) for row in table} == {run.settings("svm")["threshold"]}

    def test_explain_draws_the_slices_called_positive(self, run, files, tmp_path, capsys):
        overlays = tmp_path / "overlays"
        arguments = ["--run", str(run), "--device", "cpu", "--overlays", str(overlays), "--json"]
        assert main(["predict", *arguments, *map(str, files[:8])]) == 0
        answer = json.loads(capsys.readouterr().out)
        positive = [one for one in answer["slices"] if one["predicted"] == "haemorrhage"]
        assert positive
        assert len(answer["overlays"]) == len(positive) == len(list(overlays.glob("*.png")))
        collection = json.loads((overlays / "regions.geojson").read_text())
        assert {one["properties"]["slice"] + ".png" for one in collection["features"]} == {
            answer["overlay_of"][one["path"]] for one in positive
        }
        assert answer["studies"][0]["slices"] == 8

    def test_another_precision_of_outlines_is_said_and_refused_where_none_are_drawn(
        self, run, files, tmp_path, capsys
    ):
        arguments = ["predict", "--run", str(run), "--device", "cpu", *map(str, files[:4])]
        half = ["--precision", "bfloat16"]
        assert main([*arguments, *half, "--overlays", str(tmp_path)]) == 0
        assert "outlined with the trunk in bfloat16" in capsys.readouterr().out
        for more, why in (
            ([], "none are drawn; add --explain"),
            (["--explain", "--outline", "evidence"], "not for --dicom or --outline evidence"),
            (["--dicom", str(tmp_path / "dicom")], "not for --dicom"),
        ):
            assert main([*arguments, *half, *more]) == 2
            assert why in " ".join(capsys.readouterr().err.split())

    def test_of_several_classes_slices_called_normal_are_not_drawn(self, several, tmp_path, capsys):
        arguments = ["--run", str(several), "--device", "cpu", "--overlays", str(tmp_path), "--json"]
        assert main(["predict", *arguments, *map(str, slices_of(several))]) == 0
        answer = json.loads(capsys.readouterr().out)
        called = [Path(one["path"]).stem for one in answer["slices"] if one["predicted"] != "normal"]
        assert 0 < len(called) < len(answer["slices"])
        assert [Path(name).stem for name in answer["overlays"]] == [
            f"{place:04d}" for place in range(1, len(called) + 1)
        ]
        assert [Path(path).stem for path in answer["overlay_of"]] == called

    def test_of_several_classes_the_least_probably_normal_test_slices_are_drawn(
        self, several, tmp_path, capsys
    ):
        tested = Predictions.read(several.model_path("svm") / "predictions.csv").of_part("test")
        bleeding = tested.predicted != "normal"
        assert {"haemorrhage", "other"} <= set(tested.predicted)
        arguments = [
            "--slices",
            str(bleeding.sum()),
            "--overlays",
            str(tmp_path),
            "--device",
            "cpu",
            "--names",
        ]
        assert main(["explain", "--run", str(several), *arguments]) == 0
        drawn = {path.stem.split("-")[1] for path in tmp_path.glob("*.png")}
        assert drawn == {Path(name).stem for name in tested.slice_id[bleeding]}

    def test_a_path_that_is_not_there_is_wrong_usage(self, run):
        assert main(["predict", "--run", str(run), "/nowhere.png"]) == 2
