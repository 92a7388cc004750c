"""What `index --keep` keeps aside: from tags, columns and masks; and that it never reaches a model."""

import csv

import numpy as np
import pytest
from cohorts import ct_ich, ct_values, dicom_dataset, dicom_tree, rsna, save_dicom, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from runs import make_run

from haemo.errors import BadDataset, BadSettings
from haemo.features.reading.dicom_attributes import dicom_attributes
from haemo.pipeline.cli import main
from haemo.pipeline.preparing.attributes import parse_keep
from haemo.pipeline.run.attributes import Attributes
from haemo.pipeline.training.head import HeadSettings, train_head


def kept(run):
    with (run / "attributes.csv").open(newline="") as stream:
        return {row.pop("slice_id"): row for row in csv.DictReader(stream)}


def tagged(root, **tags):
    root.mkdir(exist_ok=True)
    for number in range(2):
        save_dicom(
            dicom_dataset(ct_values(number), SOPInstanceUID=f"1.{number}", **tags), root / f"{number}.dcm"
        )
    return root


def test_tags_are_read_and_put_plainly(tmp_path):
    tagged(
        tmp_path / "data",
        PatientSex="F",
        PatientAge="045Y",
        Manufacturer="ACME ",
        ManufacturerModelName="Scan 3",
        ConvolutionKernel=["H31s", "3"],
        SliceThickness="5.0",
        InstitutionName="North\nward",
    )
    run = tmp_path / "run"
    asked = "sex,age,scanner,kernel,thickness,site"
    assert main(["index", str(tmp_path / "data"), "--run", str(run), "--keep", asked]) == 0
    expected = {"sex": "F", "age": "45", "scanner": "ACME Scan 3", "kernel": "H31s", "thickness": "5"}
    assert kept(run)["1.0"] == {**expected, "site": "North ward"}


@pytest.mark.parametrize(
    ("text", "years"), [("018M", "1"), ("010D", "0"), ("090Y", "90"), ("old", ""), ("", "")]
)
def test_ages_are_whole_years(tmp_path, text, years):
    path = tagged(tmp_path / "data", PatientAge=text) / "0.dcm"
    assert dicom_attributes(path, ["age"]) == {"age": years}


def test_what_is_not_asked_for_is_not_read(tmp_path, monkeypatch):
    path = tagged(tmp_path / "data", PatientSex="F", InstitutionName="North") / "0.dcm"
    import pydicom

    asked = []
    read = pydicom.dcmread

    def spy(*arguments, **options):
        asked.extend(options["specific_tags"])
        return read(*arguments, **options)

    monkeypatch.setattr(pydicom, "dcmread", spy)
    assert dicom_attributes(path, ["sex"]) == {"sex": "F"}
    assert asked == [0x00100040, 0x00080005]


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=400))
def test_damaged_files_say_nothing_and_harm_nothing(tmp_path_factory, data):
    from haemo.errors import UnreadableSlice

    path = tmp_path_factory.mktemp("any") / "a.dcm"
    path.write_bytes(bytes(128) + b"DICM" + data)
    try:
        found = dicom_attributes(path, ["sex", "age", "scanner"])
    except UnreadableSlice:
        return
    assert set(found) == {"sex", "age", "scanner"}


def test_columns_hold_for_slice_study_or_patient(tmp_path):
    data = dicom_tree(tmp_path / "data", patients=3, slices=2)
    write_csv(
        data / "labels.csv", [("patient", "label"), ("P0", "normal"), ("P1", "bleed"), ("P2", "normal")]
    )
    table = write_csv(
        tmp_path / "people.csv",
        [("PatientID", "Gender", "Ward"), ("P0", "f", "7"), ("P1", "m", ""), ("P1", "f", "8")],
    )
    run = tmp_path / "run"
    arguments = ["index", str(data), "--run", str(run), "--keep-from", str(table), "--keep"]
    assert main([*arguments, "sex,station=Ward"]) == 0
    found = kept(run)
    assert found["1.2.0.1"] == {"sex": "f", "station": "7"}
    assert found["1.2.1.2"] == {"sex": "", "station": "8"}
    assert found["1.2.2.1"] == {"sex": "", "station": ""}


def test_a_column_that_is_not_there_is_refused_before_anything_is_written(tmp_path, capsys):
    data = tagged(tmp_path / "data")
    run = tmp_path / "run"
    assert main(["index", str(data), "--run", str(run), "--keep", "sex,wards"]) == 2
    assert "--keep wards: no such column" in capsys.readouterr().err
    assert not run.exists()
    assert main(["index", str(data), "--run", str(run), "--keep-from", str(data / "0.dcm")]) == 2


@pytest.mark.parametrize("text", ["", "sex,,age", "sex,sex", "patient", "sex="])
def test_names_that_mean_nothing_are_refused(text):
    with pytest.raises(BadSettings, match="--keep"):
        parse_keep(text)


def test_types_of_bleed_come_from_the_published_tables(tmp_path):
    slices = [(1, 1, ""), (1, 2, "Epidural"), (2, 1, "Subdural"), (2, 2, "")]
    assert (
        main(
            ["index", str(ct_ich(tmp_path / "ich", slices)), "--run", str(tmp_path / "a"), "--keep", "bleed"]
        )
        == 0
    )
    assert sorted(row["bleed"] for row in kept(tmp_path / "a").values()) == ["", "", "epidural", "subdural"]
    types = {
        "any": 1,
        "epidural": 1,
        "intraparenchymal": 0,
        "intraventricular": 0,
        "subarachnoid": 1,
        "subdural": 0,
    }
    data = rsna(tmp_path / "rsna", {"ID_1": types, "ID_2": dict.fromkeys(types, 0)})
    assert main(["index", str(data), "--run", str(tmp_path / "b"), "--keep", "bleed"]) == 0
    assert {name: row["bleed"] for name, row in kept(tmp_path / "b").items()} == {
        "ID_1": "epidural+subarachnoid",
        "ID_2": "",
    }


def test_the_size_of_a_bleed_comes_from_its_mask(tmp_path):
    data = tagged(tmp_path / "data", PixelSpacing=[0.5, 2.0])
    (data / "masks").mkdir()
    mask = np.zeros((32, 32), np.uint8)
    mask[3:6, 4:8] = 255
    Image.fromarray(mask).save(data / "masks" / "0.png")
    Image.fromarray(mask * 0).save(data / "masks" / "1.png")
    assert main(["index", str(data), "--run", str(tmp_path / "run"), "--keep", "size"]) == 0
    assert {name: row["size"] for name, row in kept(tmp_path / "run").items()} == {"1.0": "12.0", "1.1": ""}


def test_a_new_index_without_them_leaves_none_of_other_slices(tmp_path):
    data, run = tagged(tmp_path / "data", PatientSex="F"), tmp_path / "run"
    assert main(["index", str(data), "--run", str(run), "--keep", "sex"]) == 0
    before = (run / "manifest.csv").read_bytes()
    assert main(["index", str(data), "--run", str(run)]) == 0
    assert not (run / "attributes.csv").exists()
    assert (run / "manifest.csv").read_bytes() == before


def test_they_never_reach_a_head(tmp_path):
    """The label itself, kept as an attribute, changes no byte of what is learned or said."""
    found = []
    for name in ("without", "with"):
        run = make_run(tmp_path / name, dimension=20, copies=1)
        rows = run.manifest()
        if name == "with":
            kept = {row.slice_id: {"told": row.label} for row in rows}
            Attributes(("told",), kept).write(run.attributes_path)
        train_head(run, "svm", HeadSettings(grid={"C": [1e-4, 1e-2]}))
        files = ("metrics.json", "predictions.csv")
        found.append([(run.model_path("svm") / file).read_bytes() for file in files])
    assert found[0] == found[1]


def test_only_evaluation_and_what_makes_them_read_them():
    from test_architecture import MODULES, ROOT, imported

    readers = {
        path.relative_to(ROOT).parts[:2]
        for path in MODULES
        if any("pipeline.run.attributes" in name for name in imported(path))
    }
    assert readers <= {("pipeline", "evaluation"), ("pipeline", "preparing"), ("pipeline", "judging")}


def test_a_damaged_file_is_named_with_the_remedy(tmp_path):
    path = tmp_path / "attributes.csv"
    path.write_text("slice_id,sex\na,F,1\n")
    with pytest.raises(BadDataset, match=r"attributes.csv, line 2: wrong number of fields"):
        Attributes.read(path)
    path.write_text("sex\nF\n")
    with pytest.raises(BadDataset, match=r"no column 'slice_id'.*haemo index DATA --run RUN --keep"):
        Attributes.read(path)
