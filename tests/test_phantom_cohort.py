"""A phantom cohort on disk: what other programs, and haemo index, find there."""

import csv
import json
import warnings

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from PIL import Image

from haemo.errors import BadDataset
from haemo.features.layouts import index_dataset
from haemo.features.phantom import CohortSettings, generate_patient, write_cohort
from haemo.pipeline.cli.phantom import phantom

SMALL = {"slices": (3, 4), "size": 128, "prevalence": 0.5}


def small_cohort(out, workers=1, **settings):
    return write_cohort(out, CohortSettings(**settings), workers=workers)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return small_cohort(tmp_path_factory.mktemp("phantom") / "dicom", patients=4, seed=7, **SMALL)


def _rows(folder):
    with (folder / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def _bytes(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_labels_name_every_slice_and_each_has_a_mask(cohort):
    rows = _rows(cohort.path)
    assert list(rows[0]) == ["path", "label", "patient", "study", "position", "subtype", "seed"]
    assert {row["path"] for row in rows} == {
        str(path.relative_to(cohort.path)) for path in cohort.path.glob("P*/*.dcm")
    }
    for row in rows:
        mask = np.asarray(Image.open((cohort.path / "masks" / row["path"]).with_suffix(".png")))
        assert mask.shape == (128, 128)
        assert set(np.unique(mask)) <= {0, 255}
        assert (row["label"] == "haemorrhage") == bool(mask.any()) == bool(row["subtype"])
        assert row["seed"] == "7"


def test_dicom_is_read_back_without_warnings_and_holds_the_same_hu(cohort):
    patient = generate_patient(7, 2, slices=(3, 4), prevalence=0.5, size=128)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = [pydicom.dcmread(path) for path in sorted((cohort.path / "P0002").glob("*.dcm"))]
        stored = np.stack([file.pixel_array for file in files])
    first = files[0]
    hu = stored * float(first.RescaleSlope) + float(first.RescaleIntercept)
    padding = stored == first.get("PixelPaddingValue", -32768)
    np.testing.assert_array_equal(hu[~padding], patient.hu[~padding])
    assert first.PatientID == "P0002"
    assert {file.StudyInstanceUID for file in files} == {first.StudyInstanceUID}
    assert len({file.SOPInstanceUID for file in files}) == len(files)
    heights = [float(file.ImagePositionPatient[2]) for file in files]
    np.testing.assert_allclose(np.diff(heights), np.diff(patient.positions_mm), atol=1e-4)
    assert float(first.PixelSpacing[0]) == pytest.approx(patient.spacing_mm, abs=1e-5)
    row, column = (np.array(first.ImageOrientationPatient[i : i + 3], dtype=float) for i in (0, 3))
    assert row @ column == pytest.approx(0, abs=1e-6)
    assert np.linalg.norm(column) == pytest.approx(1, abs=1e-5)


def test_file_sizes_do_not_depend_on_the_bleed(cohort):
    sizes = {path.stat().st_size for path in cohort.path.glob("P*/*.dcm")}
    # Decimal strings differ in length by a few characters; pixels are stored as they are.
    assert max(sizes) - min(sizes) < 100


def test_index_reads_it(cohort):
    index = index_dataset(cohort.path)
    rows = _rows(cohort.path)
    assert len(index.manifest) == len(rows)
    assert {row.patient for row in index.manifest} == {row["patient"] for row in rows}
    assert {row.label for row in index.manifest} == {row["label"] for row in rows}
    assert all(row.position is not None for row in index.manifest)
    assert not index.failures


def test_workers_make_the_same_bytes_and_patients_do_not_depend_on_their_number(cohort, tmp_path):
    small_cohort(tmp_path / "two", patients=2, seed=7, workers=2, **SMALL)
    four, two = _bytes(cohort.path), _bytes(tmp_path / "two")
    shared = {name for name in two if name.parts[0] in ("P0001", "P0002") or name.parts[0] == "masks"}
    assert len(shared) >= 12
    assert all(two[name] == four[name] for name in shared)


def test_png_holds_what_the_window_shows(tmp_path):
    made = small_cohort(tmp_path / "png", patients=1, seed=7, format="png", **SMALL)
    patient = generate_patient(7, 1, slices=(3, 4), prevalence=0.5, size=128)
    centre, width = patient.parameters["scan"]["window"]
    for row, hu in zip(made.rows, patient.hu, strict=True):
        gray = np.asarray(Image.open(made.path / row.path))
        assert gray.dtype == np.uint8
        expected = np.clip((hu - (centre - width / 2)) * 255 / width, 0, 255)
        assert np.abs(gray - expected).max() <= 0.51


def test_cohort_json_holds_every_parameter(cohort):
    record = json.loads((cohort.path / "cohort.json").read_text())
    assert record["settings"]["seed"] == 7
    assert len(record["patients"]) == 4
    entry = record["patients"][1]
    same = generate_patient(7, 2, slices=(3, 4), prevalence=0.5, size=128).parameters
    assert {key: entry[key] for key in same} == json.loads(json.dumps(same))
    assert [each["label"] for each in entry["slices"]] == [
        row["label"] for row in _rows(cohort.path) if row["patient"] == "P0002"
    ]


def test_a_contact_sheet_is_there(cohort):
    with Image.open(cohort.path / "contact_sheet.png") as sheet:
        assert sheet.size[0] >= 1024


def test_a_finished_cohort_is_left_alone_and_another_refused(cohort):
    before = _bytes(cohort.path)
    again = small_cohort(cohort.path, patients=4, seed=7, **SMALL)
    assert again.rows == cohort.rows
    assert _bytes(cohort.path) == before
    with pytest.raises(BadDataset, match="not empty"):
        small_cohort(cohort.path, patients=5, seed=7, **SMALL)


def test_a_stopped_cohort_is_made_again(tmp_path):
    made = small_cohort(tmp_path / "x", patients=1, seed=7, **SMALL)
    complete = _bytes(made.path)
    (made.path / "labels.csv").unlink()
    (made.path / "P0001" / "002.dcm").unlink()
    assert small_cohort(made.path, patients=1, seed=7, **SMALL).rows == made.rows
    assert _bytes(made.path) == complete


def test_the_command_counts_what_it_wrote(tmp_path):
    arguments = [
        str(tmp_path / "x"),
        "--patients=2",
        "--slices=3",
        "--size=64",
        "--prevalence=1",
        "--workers=1",
    ]
    result = CliRunner().invoke(phantom, arguments)
    assert result.exit_code == 0, result.output
    assert "6 slices of 2 patients, 2 of whom bleed" in result.stdout
    assert f"haemo index {tmp_path / 'x'}" in result.stdout


def test_the_command_refuses_a_bad_range():
    result = CliRunner().invoke(phantom, ["x", "--slices=8-40"])
    assert result.exit_code == 2
    assert "8..40" in result.output
