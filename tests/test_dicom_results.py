"""`haemo predict --dicom`: reports and segmentations that refer to the images, and that others accept."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_studies import write_study
from PIL import Image
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from haemo.errors import BadSettings, MissingExtra
from haemo.features.layouts import index_dataset
from haemo.features.pixels.packed import PackedMask
from haemo.pipeline.cli import main
from haemo.pipeline.dicom_results import results
from haemo.pipeline.dicom_results.outlines import outline_positive, require_bleed
from haemo.pipeline.segmenting.outlining import outline_slices
from haemo.pipeline.segmenting.segmenter import builtin_segmenter


def predict(out: Path, *paths: Path, code: int = 0, more: tuple[str, ...] = ()) -> None:
    arguments = ["predict", "--model", "builtin", "--dicom", str(out), *more]
    assert main([*arguments, *map(str, paths)]) == code


def items(node: pydicom.Dataset):
    """All content items of a report, with the depth first."""
    for child in node.get("ContentSequence", []):
        yield child
        yield from items(child)


def named(node: pydicom.Dataset, meaning: str) -> list[pydicom.Dataset]:
    return [
        item
        for item in items(node)
        if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


def number(item: pydicom.Dataset) -> float:
    return float(item.MeasuredValueSequence[0].NumericValue)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    write_study(root / "bleeds", 1, bleeds=True)
    write_study(root / "quiet", 2, bleeds=False)
    return root


@pytest.fixture(scope="module")
def written(data, tmp_path_factory):
    """What one call says of a study that bleeds and of one that does not."""
    out = tmp_path_factory.mktemp("results") / "out"
    script = "import sys; from haemo.pipeline.cli import main; main(sys.argv[1:])"
    arguments = ["predict", "--model", "builtin", "--json", "--dicom", out, data]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    assert "2 reports, 1 segmentation as DICOM" in done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def bleeding(written):
    own = next(one for one in written["dicom"] if one["outlines"])
    return pydicom.dcmread(own["report"]), pydicom.dcmread(own["outlines"][0])


@pytest.fixture(scope="module")
def quiet(written):
    return pydicom.dcmread(next(one for one in written["dicom"] if not one["outlines"])["report"])


def test_a_segmentation_is_read_back_as_it_was_written(data, bleeding, tmp_path):
    """By what reads outlines of others; what haemo drew itself is no truth, so another maker is said."""
    shutil.copytree(data / "bleeds", tmp_path / "study")
    _, outlines = bleeding
    outlines.save_as(tmp_path / "study" / "own.dcm")
    assert not index_dataset(tmp_path / "study").masks
    other = copy.deepcopy(outlines)
    other.Manufacturer = "somebody"
    other.save_as(tmp_path / "study" / "own.dcm")
    index = index_dataset(tmp_path / "study")
    frames = other.PerFrameFunctionalGroupsSequence
    drawn = {
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID: mask > 0
        for frame, mask in zip(
            frames, np.atleast_3d(other.pixel_array).reshape(len(frames), other.Rows, -1), strict=True
        )
    }
    assert drawn
    for slice_id, mask in index.masks.items():
        np.testing.assert_array_equal(mask.unpack(), drawn.get(slice_id, np.zeros(mask.shape, bool)))
    assert {row.slice_id for row in index.manifest if row.label == "haemorrhage"} == set(drawn)


class TestReport:
    def test_it_says_what_the_table_says(self, bleeding, written):
        report, _ = bleeding
        said = next(one for one in written["studies"] if one["predicted"] == "haemorrhage")
        answer = next(item for item in items(report) if named(item, "Threshold Value"))
        assert report.SOPClassUID == Comprehensive3DSRStorage
        group = named(report, "Measurement Group")[0]
        assert number(named(group, "Probability")[0]) == pytest.approx(said["probability"], abs=1e-6)
        assert number(named(group, "Threshold Value")[0]) == pytest.approx(said["threshold"], abs=1e-6)
        assert named(group, "Intracranial hemorrhage")[0].ConceptCodeSequence[0].CodeMeaning == "Present"
        assert named(group, "Finding")[0].ConceptCodeSequence[0].CodeValue == "1386000"
        assert named(group, "Algorithm Name")[0].TextValue == "haemo segment (built-in)"
        assert named(group, "Algorithm Version")[0].TextValue.startswith("0.")
        comment = named(group, "Comment")[0].TextValue
        assert "Research use only" in comment
        assert "trained on synthetic heads only, not validated" in comment
        assert answer

    def test_key_images_are_the_slices_of_highest_probability(self, bleeding, written, data):
        report, _ = bleeding
        groups = [g for g in named(report, "Measurement Group") if named(g, "Source of Measurement")]
        by_uid = {pydicom.dcmread(row["path"]).SOPInstanceUID: row for row in written["slices"]}
        assert len(groups) == 2
        chances = []
        for group in groups:
            source = (
                named(group, "Source of Measurement")[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            )
            chances.append(number(named(group, "Probability")[0]))
            assert chances[-1] == pytest.approx(by_uid[source]["probability"], abs=1e-6)
        assert chances == sorted(chances, reverse=True)
        assert chances[0] == pytest.approx(max(row["probability"] for row in written["slices"]), abs=1e-6)

    def test_a_study_without_a_bleed_says_so_and_names_no_finding(self, quiet):
        group = named(quiet, "Measurement Group")
        assert len(group) == 1
        assert named(quiet, "Intracranial hemorrhage")[0].ConceptCodeSequence[0].CodeMeaning == "Absent"
        assert not named(quiet, "Finding")
        assert "no haemorrhage found" in named(quiet, "Comment")[0].TextValue
        assert not named(quiet, "Volume")

    def test_patient_and_study_are_those_of_the_images_and_identifiers_are_new(self, bleeding, data):
        image = pydicom.dcmread(data / "bleeds" / "1-0.dcm")
        for result in bleeding:
            for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"):
                assert result[keyword].value == image[keyword].value, keyword
            assert result.StudyInstanceUID == image.StudyInstanceUID
            assert result.SeriesInstanceUID != image.SeriesInstanceUID
            assert result.SeriesDescription.startswith("AI ")
            assert "research use only" in result.SeriesDescription
            assert str(result.PatientName) == "Müller^Erika^1"
        assert bleeding[0].SeriesInstanceUID != bleeding[1].SeriesInstanceUID

    def test_every_image_is_in_the_evidence(self, bleeding, data):
        report, outlines = bleeding
        referenced = {
            each.ReferencedSOPInstanceUID
            for name in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
            for study in report.get(name, [])
            for series in study.ReferencedSeriesSequence
            for each in series.ReferencedSOPSequence
        }
        images = {pydicom.dcmread(path).SOPInstanceUID for path in (data / "bleeds").iterdir()}
        assert referenced == images | {outlines.SOPInstanceUID}


class TestSegmentation:
    def test_each_frame_is_the_outline_on_the_image_that_it_refers_to(self, bleeding, data):
        _, outlines = bleeding
        assert outlines.SOPClassUID == SegmentationStorage
        drawn = outline_slices(builtin_segmenter(), [data / "bleeds"])
        masks = {pydicom.dcmread(path).SOPInstanceUID: (path, mask) for path, mask in drawn.masks.items()}
        frames = outlines.pixel_array.reshape(-1, outlines.Rows, outlines.Columns)
        assert len(frames) == len(masks) == 2
        for frame, own in zip(frames, outlines.PerFrameFunctionalGroupsSequence, strict=True):
            source = own.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            path, mask = masks[source]
            assert np.array_equal(frame.astype(bool), mask.unpack())
            place = own.PlanePositionSequence[0].ImagePositionPatient
            assert place == pydicom.dcmread(path).ImagePositionPatient

    def test_viewers_find_frame_of_reference_spacing_and_code(self, bleeding, data):
        _, outlines = bleeding
        image = pydicom.dcmread(data / "bleeds" / "1-0.dcm")
        assert outlines.FrameOfReferenceUID == image.FrameOfReferenceUID
        shared = outlines.SharedFunctionalGroupsSequence[0]
        assert shared.PixelMeasuresSequence[0].PixelSpacing == image.PixelSpacing
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == image.ImageOrientationPatient
        segment = outlines.SegmentSequence[0]
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "1386000"
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "SCT"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"

    def test_the_report_has_its_volume_and_refers_to_it(self, bleeding, data):
        report, outlines = bleeding
        volume = named(report, "Volume")[0]
        pixels = outlines.pixel_array.sum() * 1.25**2 * 5 / 1000
        assert number(volume) == pytest.approx(pixels, rel=1e-4)
        assert volume.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "mL"
        segment = named(report, "Referenced Segment")[0].ReferencedSOPSequence[0]
        assert segment.ReferencedSOPInstanceUID == outlines.SOPInstanceUID
        tracked = outlines.SegmentSequence[0].TrackingUID
        assert tracked in {item.UID for item in named(report, "Tracking Unique Identifier")}


@pytest.mark.debian("dicom3tools", "dcmtk")
class TestOtherPrograms:
    def test_the_validator_finds_no_error(self, written):
        paths = [path for one in written["dicom"] for path in (one["report"], *one["outlines"])]
        assert len(paths) == 3
        for path in paths:
            said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
            assert "Error" not in said.stdout + said.stderr, said.stderr
            assert said.returncode == 0

    def test_the_report_can_be_read(self, written):
        for one in written["dicom"]:
            said = subprocess.run(["dsrdump", "+Pl", one["report"]], capture_output=True, check=True)
            assert not said.stderr
            assert b"Research use only" in said.stdout


class TestWhatGetsNone:
    def test_pictures_are_named(self, data, tmp_path, capsys):
        picture = tmp_path / "brain.png"
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(picture)
        predict(tmp_path / "out", data / "quiet", picture, code=3)
        said = capsys.readouterr()
        assert f"{picture}: no DICOM result can refer to it: it is no DICOM file" in said.err
        assert "1 report, 0 segmentations as DICOM" in said.out

    def test_images_without_proper_identifiers_are_named(self, tmp_path, capsys):
        write_study(tmp_path / "in", 3, bleeds=True, StudyInstanceUID="ID_0a1b")
        predict(tmp_path / "out", tmp_path / "in", code=3)
        assert "its StudyInstanceUID is missing or no proper one (and 2 more" in capsys.readouterr().err
        assert not list((tmp_path / "out").iterdir())

    @pytest.mark.parametrize(
        ("tags", "why"),
        [
            ({"FrameOfReferenceUID": None}, "an image has no proper FrameOfReferenceUID"),
            ({"PixelSpacing": ["nan", "1"]}, "an image has no proper PixelSpacing"),
            ({"ImagePositionPatient": [0, 0, 5]}, "several images lie at the same place"),
        ],
    )
    def test_without_a_place_in_space_there_is_a_report_but_no_segmentation(
        self, tmp_path, capsys, tags, why
    ):
        write_study(tmp_path / "in", 1, bleeds=True, **tags)
        predict(tmp_path / "out", tmp_path / "in")
        assert "1 report, 0 segmentations" in capsys.readouterr().out
        report = pydicom.dcmread(next((tmp_path / "out").rglob("report.dcm")))
        assert f"not kept as a segmentation: {why}" in named(report, "Comment")[0].TextValue

    def test_what_is_improper_of_the_patient_is_left_empty_and_not_quoted(self, tmp_path, capsys):
        write_study(tmp_path / "in", 2, bleeds=False, PatientBirthDate="Jan 5th", PatientSex="secret")
        predict(tmp_path / "out", tmp_path / "in")
        said = capsys.readouterr()
        assert "left empty in results" in said.err
        assert "PatientBirthDate, PatientSex" in said.err
        assert "secret" not in said.err + said.out
        report = pydicom.dcmread(next((tmp_path / "out").rglob("report.dcm")))
        assert (report.PatientBirthDate, report.PatientSex) == ("", "")

    def test_a_model_that_does_not_tell_bleeds(self):
        for classes in (("haemorrhage", "normal"), ("bleed", "fracture", "normal"), ("a", "b")):
            with pytest.raises(BadSettings, match="a model of two classes whose positive one is a bleed"):
                require_bleed(classes)
        require_bleed(("normal", "subdural"))

    def test_a_folder_with_something_in_it_is_left_alone(self, data, tmp_path, capsys):
        (tmp_path / "mine.txt").write_text("keep")
        predict(tmp_path, data / "quiet", code=2)
        assert "is not empty; name another folder" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_without_highdicom_the_extra_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "highdicom", None)
        with pytest.raises(MissingExtra, match=r"pip install 'haemo\[pacs\]'"):
            results.prepare(tmp_path / "out")


def test_two_series_of_a_study_make_one_report(tmp_path):
    write_study(tmp_path / "in", 4, bleeds=True, series=1)
    write_study(tmp_path / "in", 4, bleeds=False, series=2)
    predict(tmp_path / "out", tmp_path / "in", more=("--series", "all"))
    report = pydicom.dcmread(next((tmp_path / "out").rglob("report.dcm")))
    said = [item.ConceptCodeSequence[0].CodeMeaning for item in named(report, "Intracranial hemorrhage")]
    assert said == ["Present", "Absent"]
    assert len(list((tmp_path / "out").rglob("outlines-*.dcm"))) == 1


def test_only_what_was_called_positive_is_outlined(data):
    found = outline_slices(builtin_segmenter(), [data])
    again = outline_positive(found.scores, "max", builtin_segmenter())
    assert {path.parent.name for path in again.masks} == {"bleeds"}
    assert outline_positive(outline_slices(builtin_segmenter(), [data / "quiet"]).scores, "max", None) is None


def test_a_mask_comes_back_as_it_was():
    mask = np.random.default_rng(0).random((37, 53)) < 0.3
    assert np.array_equal(PackedMask.of(mask).unpack(), mask)
