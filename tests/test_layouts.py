"""Data sets as they lie on disk become manifests: every layout, every dialect, every kind of mistake."""

import logging
import shutil
from pathlib import Path

import pytest
from cohorts import (
    class_folders,
    ct_ich,
    ct_values,
    dicom_dataset,
    dicom_tree,
    gray_picture,
    head_ct,
    rsna,
    save_dicom,
    write_csv,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from haemo.errors import BadDataset, BadSettings
from haemo.features.layouts import LAYOUTS, Index, index_dataset

NO_BLEED = dict.fromkeys(
    ("any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"), 0
)


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(gray_picture(seed, (8, 8))).save(path)
    return path


def labels_of(index: Index) -> dict[str, str]:
    return {row.slice_id: row.label for row in index.manifest}


def patients_of(index: Index) -> dict[str, str]:
    return {row.slice_id: row.patient for row in index.manifest}


def reasons(index: Index) -> str:
    return "\n".join(f"{failure.path}: {failure.reason}" for failure in index.failures)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="haemo")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


# Class folders


def test_class_folders_with_patients_below(tmp_path):
    index = index_dataset(class_folders(tmp_path, patients=4, slices=2))
    assert index.layout == "class-folders"
    assert index.classes == ("normal", "haemorrhage")
    assert labels_of(index)["haemorrhage/p000/001.png"] == "haemorrhage"
    assert patients_of(index)["normal/p003/000.png"] == "p003"
    assert index.patients_from == "folders below the class folders"
    assert index.modes == {"PNG L": 8}
    assert index.sizes == {(64, 64): 8}
    assert not index.failures


def test_flat_class_folders_have_no_patients(tmp_path):
    for name in ("normal/1.png", "normal/2.png", "bleed/1.jpg", "bleed/2.JPG"):
        picture(tmp_path / name)
    index = index_dataset(tmp_path)
    assert not index.manifest.patients_known
    assert index.patients_from == ""
    assert patients_of(index)["bleed/2.JPG"] == "bleed/2.JPG"


def test_one_folder_of_pictures_below_each_class_is_no_patient(tmp_path):
    for name in ("normal/images/1.png", "bleed/images/1.png"):
        picture(tmp_path / name)
    assert not index_dataset(tmp_path).manifest.patients_known


@pytest.mark.parametrize("wrapper", ["", "download", "download/v2"])
def test_published_parts_are_kept(tmp_path, wrapper):
    class_folders(tmp_path / wrapper, patients=6, slices=1, split=True)
    index = index_dataset(tmp_path)
    parts = {row.patient: row.part for row in index.manifest}
    assert parts == {
        "p000": "train",
        "p001": "train",
        "p002": "train",
        "p003": "train",
        "p004": "test",
        "p005": "test",
    }
    assert index.manifest.classes == ("haemorrhage", "normal")


@pytest.mark.parametrize(("other", "becomes"), [("test", "train"), ("train", "test")])
def test_a_validation_part_counts_as_what_it_was_used_for(tmp_path, said, other, becomes):
    for part in ("valid", other):
        for name in ("normal", "bleed"):
            picture(tmp_path / part / name / "1.png")
    parts = {row.slice_id: row.part for row in index_dataset(tmp_path).manifest}
    assert parts["valid/bleed/1.png"] == becomes
    assert parts[f"{other}/bleed/1.png"] == other
    assert f"validation part counts as {becomes}" in said()


def test_pictures_beside_the_class_folders_are_named(tmp_path):
    class_folders(tmp_path, patients=2, slices=1)
    picture(tmp_path / "stray.png")
    index = index_dataset(tmp_path)
    assert len(index.manifest) == 2
    assert "stray.png: lies in no class folder" in reasons(index)


def test_too_many_folders_are_not_taken_for_classes(tmp_path):
    for number in range(11):
        picture(tmp_path / f"scan{number:02}" / "1.png")
    with pytest.raises(BadDataset, match=r"11 folders .scan00, scan01, scan02 .* too many to be classes"):
        index_dataset(tmp_path)


def test_dicom_files_in_class_folders_keep_their_patients(tmp_path):
    for number, name in enumerate(("Normal", "Normal", "Hemorrhage")):
        path = tmp_path / name / f"{number}.dcm"
        path.parent.mkdir(exist_ok=True)
        dataset = dicom_dataset(
            ct_values(number), PatientID=f"P{number // 2}", SOPInstanceUID=f"1.2.{number}"
        )
        save_dicom(dataset, path)
    index = index_dataset(tmp_path)
    assert index.layout == "class-folders"
    assert patients_of(index) == {"Normal/0.dcm": "P0", "Normal/1.dcm": "P0", "Hemorrhage/2.dcm": "P1"}
    assert index.patients_from == "DICOM PatientID"


# Tables of labels


def table_cohort(root: Path, rows: list[tuple], headings: tuple = ("path", "label")) -> Path:
    for name in ("a", "b", "c"):
        picture(root / "slices" / f"{name}.png", ord(name))
    write_csv(root / "labels.csv", [headings, *rows])
    return root


@settings(max_examples=60, deadline=None)
@given(
    mark=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    ending=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from([",", ";", "\t"]),
    quote=st.sampled_from(["", '"']),
    spaces=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    headings=st.sampled_from(
        [("path", "label", "patient"), ("File Name", "LABEL", "Patient-ID"), ("image", "Class", "subject")]
    ),
    blank=st.booleans(),
    last=st.booleans(),
)
def test_every_dialect_of_csv_says_the_same(
    tmp_path_factory, mark, ending, delimiter, quote, spaces, headings, blank, last
):
    root = tmp_path_factory.getbasetemp() / "dialects"
    if not root.exists():
        table_cohort(root, [])
    rows = [
        headings,
        ("slices/a.png", "Blutung ä", "p 1"),
        ("slices/b.png", "normal", "p2"),
        ("slices/c.png", "normal", "p2"),
    ]
    before, after = " " * spaces[0], " " * spaces[1]
    lines = [
        delimiter.join(f"{before}{quote}{cell}{quote}{after if not quote else ''}" for cell in row)
        for row in rows
    ]
    text = (ending * (1 + blank)).join(lines) + (ending if last else "")
    (root / "labels.csv").write_bytes(text.encode(mark))
    index = index_dataset(root)
    assert labels_of(index) == {
        "slices/a.png": "Blutung ä",
        "slices/b.png": "normal",
        "slices/c.png": "normal",
    }
    assert list(patients_of(index).values()) == ["p 1", "p2", "p2"]


def test_windows_1252_from_old_spreadsheets_is_read(tmp_path):
    table_cohort(tmp_path, [])
    (tmp_path / "labels.csv").write_bytes("path;label\r\nslices/a.png;Blutung ä\r\n".encode("cp1252"))
    assert labels_of(index_dataset(tmp_path)) == {"slices/a.png": "Blutung ä"}


@pytest.mark.parametrize(
    "key", ["slices/a.png", "slices\\a.png", "a.png", "A.PNG", "a", "./slices/a.png", "/slices/a.png"]
)
def test_a_file_is_found_by_whatever_names_it(tmp_path, key):
    index = index_dataset(table_cohort(tmp_path, [(key, "bleed"), ("b", "normal")]))
    assert labels_of(index) == {"slices/a.png": "bleed", "slices/b.png": "normal"}


def test_absolute_paths_and_files_elsewhere_are_found(tmp_path):
    elsewhere = picture(tmp_path / "elsewhere" / "z.png")
    root = table_cohort(tmp_path / "set", [("slices/a.png", "bleed"), (str(elsewhere), "normal")])
    assert labels_of(index_dataset(root)) == {"slices/a.png": "bleed", elsewhere.as_posix(): "normal"}


def test_numbers_find_zero_padded_names(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number:03}.png")
    write_csv(tmp_path / "labels.csv", [("id", "label"), (0, 1), (1, 0), ("002", 0)])
    assert labels_of(index_dataset(tmp_path)) == {"000.png": "1", "001.png": "0", "002.png": "0"}


def test_patient_study_position_and_part_are_taken_from_the_table(tmp_path):
    headings = ("path", "label", "patient", "study", "position", "split", "comment")
    rows = [("a", "1", "p1", "s1", "2.5", "training", "x"), ("b", "0", "p1", "s2", "", "test", "y")]
    first, second = index_dataset(table_cohort(tmp_path, rows, headings)).manifest
    assert (first.patient, first.study, first.position, first.part) == ("p1", "s1", 2.5, "train")
    assert (second.patient, second.study, second.position, second.part) == ("p1", "s2", None, "test")


def test_a_study_stands_in_for_an_unknown_patient(tmp_path):
    index = index_dataset(
        table_cohort(tmp_path, [("a", 1, "s1"), ("b", 0, "s1")], ("path", "label", "study"))
    )
    assert set(patients_of(index).values()) == {"s1"}
    assert index.patients_from == "column 'study' of labels.csv"


def test_columns_can_be_named(tmp_path):
    headings = ("path", "label", "subtype", "cluster")
    root = table_cohort(tmp_path, [("a", 1, "epidural", "k1"), ("b", 0, "none", "k1")], headings)
    index = index_dataset(root, label="Subtype", patient_column="cluster")
    assert labels_of(index) == {"slices/a.png": "epidural", "slices/b.png": "none"}
    assert set(patients_of(index).values()) == {"k1"}
    with pytest.raises(BadSettings, match="no column 'sex'; it has path, label, subtype, cluster"):
        index_dataset(root, patient_column="sex")


@pytest.mark.parametrize("group", ["group", "heuristic_group", "Patient ID", "subject", "case"])
def test_patient_columns_are_recognised(tmp_path, group):
    index = index_dataset(table_cohort(tmp_path, [("a", 1, "g1"), ("b", 0, "g1")], ("path", "label", group)))
    assert index.patients_from == f"column '{group}' of labels.csv"
    assert set(patients_of(index).values()) == {"g1"}


def test_rows_that_name_no_file_are_failures_and_the_rest_goes_on(tmp_path):
    rows = [("a", 1), ("gone.png", 0), ("", 1), ("b", 0)]
    index = index_dataset(table_cohort(tmp_path, rows))
    assert len(index.manifest) == 2
    assert "gone.png: labels.csv, line 3: 'gone.png' is not there" in reasons(index)
    assert "labels.csv, line 4: names no slice" in reasons(index)


def test_a_name_that_fits_several_files_is_a_failure(tmp_path):
    root = table_cohort(tmp_path, [("a", 1), ("b", 0)])
    picture(root / "more" / "a.png")
    index = index_dataset(root)
    assert list(labels_of(index)) == ["slices/b.png"]
    assert "'a' fits 2 files; give the path" in reasons(index)


def test_contradicting_rows_leave_the_slice_out(tmp_path, said):
    rows = [("a", 1), ("slices/a.png", 0), ("b", 0), ("b.png", 0), ("c", 1)]
    index = index_dataset(table_cohort(tmp_path, rows))
    assert labels_of(index) == {"slices/b.png": "0", "slices/c.png": "1"}
    assert "the table contradicts itself: label 1 (line 2), 0 (line 3)" in reasons(index)
    assert "rows of labels.csv that repeat another: 2" in said()


def test_files_without_a_row_are_left_out_and_counted(tmp_path, said):
    index = index_dataset(table_cohort(tmp_path, [("a", 1), ("b", 0)]))
    assert "slices/c.png" not in labels_of(index)
    assert "files without a row in labels.csv, left out: 1 (slices/c.png)" in said()


@pytest.mark.parametrize("empty", ["", "nan", "NA", " "])
def test_an_empty_label_is_no_class(tmp_path, empty):
    index = index_dataset(table_cohort(tmp_path, [("a", "bleed"), ("b", "normal"), ("c", empty)]))
    assert index.manifest.classes == ("bleed", "normal")
    assert labels_of(index)["slices/c.png"] == ""


def test_masks_are_no_slices(tmp_path, said):
    root = table_cohort(tmp_path, [("a", 1), ("b", 0), ("c", 0)])
    picture(root / "masks" / "slices" / "a.png")
    index = index_dataset(root)
    assert len(index.manifest) == 3
    assert not index.failures
    assert "masks, which are no slices: 1" in said()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("path,label\na,1,2,3\n", "line 2: 4 fields under 2 headings"),
        ("path,label,Label\na,1,2\n", "the heading 'label' stands more than once"),
        ("path,label,position\na,1,high\n", "line 2: position 'high' is not a number"),
        ("path,grade\na,1\n", "no label column among path, grade; name it with --label"),
        ("file no,label\na,1\n", "no column path, id, SOPInstanceUID, study or patient among file no, label"),
        ("\n\n", "is empty"),
        ("path,label\nx,1\ny,0\n", "names a file that is there .first: x"),
        ('path,label\n"a,1\n' + "x" * 200000, "field larger than field limit"),
    ],
)
def test_a_table_that_is_none_is_refused_with_the_place(tmp_path, content, reason):
    table_cohort(tmp_path, [])
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(BadDataset, match=reason):
        index_dataset(tmp_path)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (("", "subdural", "epidural", ""), ["normal", "subdural", "epidural", ""]),
        # Several types are no class of their own: each slice bleeds, and its types are kept aside.
        (("", "subdural", "epidural+subdural", ""), ["normal", "haemorrhage", "haemorrhage", ""]),
        (
            ("", "good", "poor", ""),
            ["", "good", "poor", ""],
        ),  # no types of bleed: nothing follows from the label
    ],
)
def test_a_normal_slice_has_no_type_of_bleed_and_is_normal(tmp_path, types, expected):
    verdicts = ("normal", "haemorrhage", "haemorrhage", "haemorrhage")
    rows = list(zip("abcd", verdicts, types, strict=True))
    root = table_cohort(tmp_path, rows, ("path", "label", "subtype"))
    picture(root / "slices" / "d.png", 9)
    found = {row.path.stem: row.label for row in index_dataset(root, label="subtype").manifest}
    assert [found[name] for name in "abcd"] == expected
    assert {row.label for row in index_dataset(root).manifest} == {"normal", "haemorrhage"}


READS = ("name", "Category", "R1:ICH", "R1:IPH", "R2:ICH", "R3:ICH")


@pytest.mark.parametrize(
    ("headings", "rows", "reason"),
    [
        (
            READS,
            [("P0", "B1", 0, 0, 0, 0), ("P1", "B2", 1, 1, 0, 1)],
            r"'Category' may hold the labels, or something else; name the column with --label: "
            r"'Category' .B1, B2., 'R1:ICH' .0, 1., 'R1:IPH' .0, 1., 'R3:ICH' .0, 1.\. If none",
        ),
        (
            ("patient", "diagnosis", "ich"),
            [("P0", "stroke", 0), ("P1", "trauma", 1)],
            r"'diagnosis' or 'ich' may hold .* 'diagnosis' .stroke, trauma., 'ich' .0, 1.",
        ),
    ],
)
def test_a_label_column_that_is_a_guess_is_asked_about(tmp_path, headings, rows, reason):
    write_csv(dicom_tree(tmp_path) / "reads.csv", [headings, *rows])
    with pytest.raises(BadDataset, match=reason):
        index_dataset(tmp_path)


def test_a_column_that_was_named_is_taken(tmp_path):
    write_csv(dicom_tree(tmp_path) / "reads.csv", [READS, ("P0", "B1", 0, 0, 0, 0), ("P1", "B1", 1, 1, 0, 1)])
    assert index_dataset(tmp_path, label="R1:ICH").study_labels == {"1.2.0": "0", "1.2.1": "1"}


def test_label_goes_before_other_columns_that_may_be_it(tmp_path):
    headings = ("path", "category", "diagnosis", "label")
    root = table_cohort(tmp_path, [("a", "B1", "d", 1), ("b", "B2", "e", 0)], headings)
    assert list(labels_of(index_dataset(root)).values()) == ["1", "0"]


def test_a_table_without_labels_beside_dicom_files_is_left_aside_and_said(tmp_path, said):
    write_csv(dicom_tree(tmp_path) / "ages.csv", [("patient", "age"), ("P0", 3), ("P1", 4)])
    assert set(labels_of(index_dataset(tmp_path)).values()) == {""}
    assert "tables without a column of labels, left aside: 1 (ages.csv)" in said()


def test_of_several_tables_one_must_be_chosen(tmp_path):
    root = table_cohort(tmp_path, [])
    (root / "labels.csv").unlink()
    write_csv(root / "one.csv", [("path", "label"), ("a", 1), ("b", 0)])
    write_csv(root / "notes.csv", [("author", "year")])
    assert len(index_dataset(root).manifest) == 2
    write_csv(root / "two.csv", [("path", "label"), ("a", 1), ("c", 0)])
    with pytest.raises(BadDataset, match=r"one\.csv, two\.csv.* --labels"):
        index_dataset(root)
    assert "slices/c.png" in labels_of(index_dataset(root, labels=root / "two.csv"))


def test_a_named_column_makes_a_table_one_of_labels(tmp_path):
    root = table_cohort(tmp_path, [])
    (root / "labels.csv").unlink()
    write_csv(root / "reading.csv", [("path", "opinion"), ("a", "bleed"), ("b", "normal")])
    with pytest.raises(BadDataset, match="no labels that could be found"):
        index_dataset(root)
    assert index_dataset(root, label="opinion").classes == ("normal", "bleed")


def test_the_published_head_ct_set_is_recognised(tmp_path, said):
    index = index_dataset(head_ct(tmp_path))
    assert index.layout == "head-ct"
    assert labels_of(index)["000.png"] == "haemorrhage"
    assert labels_of(index)["005.png"] == "normal"
    assert index.classes == ("normal", "haemorrhage")
    assert not index.manifest.patients_known
    assert "not one slice a person" in said()
    nested = tmp_path.parent / "nested"
    shutil.copytree(tmp_path, nested / "head_ct" / "head_ct")
    shutil.move(nested / "head_ct" / "head_ct" / "labels.csv", nested / "labels.csv")
    assert len(index_dataset(nested).manifest) == 6


# DICOM trees


def test_a_dicom_tree_without_labels_is_indexed_for_prediction(tmp_path):
    index = index_dataset(dicom_tree(tmp_path))
    assert index.layout == "dicom-tree"
    assert index.manifest.classes == ()
    assert patients_of(index)["1.2.0.1"] == "P0"
    assert {row.study for row in index.manifest} == {"1.2.0", "1.2.1"}
    heights = {row.slice_id: row.position for row in index.manifest}
    assert [heights[f"1.2.0.{number}"] for number in (1, 2, 3)] == [50, 45, 40]


@pytest.mark.parametrize(
    ("headings", "rows"),
    [
        (("SOPInstanceUID", "label"), [(f"1.2.0.{n}", "bleed") for n in (1, 2, 3)]),
        (("id", "label"), [(f"1.2.0.{n}", "bleed") for n in (1, 2, 3)]),
        (("path", "label"), [(f"folder0/IM_{n}", "bleed") for n in (0, 1, 2)]),
        (("study_instance_uid", "label"), [("1.2.0", "bleed")]),
        (("PatientID", "label"), [("P0", "bleed")]),
        (("id", "label"), [("P0", "bleed")]),
    ],
)
def test_labels_come_by_instance_file_study_or_patient(tmp_path, said, headings, rows):
    write_csv(dicom_tree(tmp_path) / "labels.csv", [headings, *rows])
    index = index_dataset(tmp_path)
    labels = labels_of(index)
    if len(rows) == 1:  # of the study, and so of none of its slices
        assert index.study_labels == {"1.2.0": "bleed"}
        labels |= dict.fromkeys((f"1.2.0.{n}" for n in (1, 2, 3) if not labels[f"1.2.0.{n}"]), "bleed")
    assert [labels[f"1.2.0.{n}"] for n in (1, 2, 3)] == ["bleed"] * 3
    assert [labels[f"1.2.1.{n}"] for n in (1, 2, 3)] == [""] * 3
    assert patients_of(index)["1.2.1.1"] == "P1"
    assert "DICOM files without a label in labels.csv: 3 of 6" in said()


def test_entries_that_fit_no_dicom_file_are_counted_or_refused(tmp_path, said):
    table = dicom_tree(tmp_path) / "labels.csv"
    write_csv(table, [("PatientID", "label"), ("P0", "bleed"), ("P1", "normal"), ("P7", "normal")])
    index_dataset(tmp_path)
    assert "entries of labels.csv that fit no file here: 1 of 3 (first: P7)" in said()
    write_csv(table, [("PatientID", "label"), ("P7", "normal")])
    with pytest.raises(BadDataset, match="fits a DICOM file here"):
        index_dataset(tmp_path)


def test_a_patient_with_contradicting_labels_is_left_out(tmp_path):
    rows = [("PatientID", "label"), ("P0", "bleed"), ("P0", "normal"), ("P1", "normal")]
    write_csv(dicom_tree(tmp_path) / "labels.csv", rows)
    index = index_dataset(tmp_path)
    assert {row.patient for row in index.manifest} == {"P1"}
    assert reasons(index).count("label bleed (line 2), normal (line 3)") == 3


def test_a_copy_of_an_instance_is_left_out(tmp_path):
    dicom_tree(tmp_path, patients=1, slices=2)
    shutil.copy(tmp_path / "folder0" / "IM_0", tmp_path / "folder0" / "IM_9")
    index = index_dataset(tmp_path)
    assert sorted(labels_of(index)) == ["1.2.0.1", "1.2.0.2"]
    assert f"IM_9: has the same SOPInstanceUID as {tmp_path / 'folder0' / 'IM_0'}" in reasons(index)


def test_copies_with_different_labels_are_both_left_out(tmp_path):
    dicom_tree(tmp_path, patients=1, slices=2)
    shutil.copy(tmp_path / "folder0" / "IM_0", tmp_path / "folder0" / "IM_9")
    rows = [("path", "label"), ("IM_0", "bleed"), ("IM_1", "normal"), ("IM_9", "normal")]
    write_csv(tmp_path / "labels.csv", rows)
    index = index_dataset(tmp_path)
    assert labels_of(index) == {"1.2.0.2": "normal"}
    assert reasons(index).count("with another label") == 2


def test_series_of_one_study_are_kept_apart_where_all_are_taken(tmp_path):
    for series in ("thin", "thick"):
        for number in range(2):
            dataset = dicom_dataset(
                ct_values(number),
                SOPInstanceUID=f"1.{len(series)}.{number}",
                StudyInstanceUID="1.9",
                SeriesInstanceUID=f"1.9.{len(series)}",
                InstanceNumber=number + 1,
            )
            save_dicom(dataset, tmp_path / f"{series}{number}.dcm")
    rows = list(index_dataset(tmp_path, series="all").manifest)
    assert {row.study for row in rows} == {"1.9.4", "1.9.5"}
    assert {row.patient for row in rows} == {"1.9"}
    assert [row.position for row in rows] == [1, 2, 1, 2]


def test_positions_of_a_study_come_from_one_tag(tmp_path):
    for number, position in enumerate(([0, 0, 700.0], None)):
        dataset = dicom_dataset(
            ct_values(number),
            SOPInstanceUID=f"1.{number}",
            StudyInstanceUID="1.9",
            ImagePositionPatient=position,
            InstanceNumber=number + 1,
        )
        save_dicom(dataset, tmp_path / f"{number}.dcm")
    assert [row.position for row in index_dataset(tmp_path).manifest] == [1, 2]


# Published sets


def test_ct_ich_is_indexed_in_its_brain_window(tmp_path, said):
    slices = [(49, 1, ""), (49, 2, "Epidural"), (50, 1, "Subdural"), (50, 2, "")]
    index = index_dataset(ct_ich(tmp_path, slices))
    assert index.layout == "ct-ich"
    assert labels_of(index) == {
        "Patients_CT/049/brain/1.jpg": "normal",
        "Patients_CT/049/brain/2.jpg": "haemorrhage",
        "Patients_CT/050/brain/1.jpg": "haemorrhage",
        "Patients_CT/050/brain/2.jpg": "normal",
    }
    assert set(patients_of(index).values()) == {"049", "050"}
    assert [row.position for row in index.manifest] == [1, 2, 1, 2]
    assert index.classes == ("normal", "haemorrhage")
    assert "bone-window pictures and outlines left aside: 6" in said()
    epidural = index_dataset(tmp_path, label="epidural")
    assert epidural.classes == ("no epidural", "epidural")
    assert list(labels_of(epidural).values()).count("epidural") == 1
    with pytest.raises(BadSettings, match="CT-ICH has any, epidural"):
        index_dataset(tmp_path, label="stroke")


def test_ct_ich_names_what_is_missing_or_contradicts_itself(tmp_path):
    ct_ich(tmp_path, [(49, 1, ""), (49, 2, "Epidural"), (50, 3, "")])
    table = tmp_path / "hemorrhage_diagnosis.csv"
    lines = table.read_text().splitlines()
    lines[3] = "50,3,0,0,0,1,0,1,0"
    table.write_text("\n".join([*lines, "51,1,0,0,0,0,0,1,0"]))
    index = index_dataset(tmp_path)
    assert len(index.manifest) == 2
    assert "3.jpg: hemorrhage_diagnosis.csv contradicts itself about patient 050, slice 3" in reasons(index)
    assert "patient 051, slice 1: named in hemorrhage_diagnosis.csv, but it is not there" in reasons(index)


def test_rsna_takes_whatever_part_is_present(tmp_path, said):
    slices = {
        "ID_00a": {**NO_BLEED, "any": 1, "subdural": 1},
        "ID_00b": NO_BLEED,
        "ID_00c": {**NO_BLEED, "any": 1, "epidural": 1},
        "ID_00d": NO_BLEED,
    }
    index = index_dataset(rsna(tmp_path, slices, present=("ID_00a", "ID_00b", "ID_00c")))
    assert index.layout == "rsna"
    assert labels_of(index) == {"ID_00a": "haemorrhage", "ID_00b": "normal", "ID_00c": "haemorrhage"}
    assert patients_of(index) == {"ID_00a": "ID_p0", "ID_00b": "ID_p0", "ID_00c": "ID_p1"}
    assert "labelled slices that are not here: 1" in said()
    subdural = index_dataset(tmp_path, label="subdural")
    assert subdural.classes == ("no subdural", "subdural")
    assert labels_of(subdural) == {"ID_00a": "subdural", "ID_00b": "no subdural", "ID_00c": "no subdural"}
    with pytest.raises(BadSettings, match="RSNA 2019 has any, epidural"):
        index_dataset(tmp_path, label="stroke")


def test_rsna_with_repeated_ids(tmp_path):
    rsna(tmp_path, {"ID_00a": NO_BLEED, "ID_00b": NO_BLEED, "ID_00c": {**NO_BLEED, "any": 1}})
    with (tmp_path / "stage_2_train.csv").open("a") as stream:
        stream.write("ID_00a_any,0\nID_00b_any,1\n")
    index = index_dataset(tmp_path)
    assert labels_of(index) == {"ID_00a": "normal", "ID_00c": "haemorrhage"}
    assert "stage_2_train.csv says both 0 and 1 about ID_00b" in reasons(index)


# Any layout


def test_every_layout_can_be_asked_for_by_name(tmp_path):
    root = class_folders(tmp_path, patients=2, slices=1)
    write_csv(
        root / "labels.csv",
        [("path", "label"), ("normal/p001/000.png", "0"), ("haemorrhage/p000/000.png", "1")],
    )
    assert index_dataset(root).layout == "labels-csv"
    assert index_dataset(root, "class-folders").manifest.classes == ("haemorrhage", "normal")
    assert set(LAYOUTS.names()) == {
        "rsna",
        "ct-ich",
        "cq500",
        "masked-volumes",
        "head-ct",
        "labels-csv",
        "class-folders",
        "dicom-tree",
    }
    near = r"there is no layout 'folders'\. Did you mean class-folders\? There are: auto, rsna, ct-ich"
    with pytest.raises(BadSettings, match=near):
        index_dataset(root, "folders")
    for layout in ("rsna", "ct-ich"):
        with pytest.raises(BadDataset, match="holds no"):
            index_dataset(root, layout)


def test_an_option_without_meaning_is_refused(tmp_path):
    root = class_folders(tmp_path, patients=2, slices=1)
    with pytest.raises(BadSettings, match="--patient-column has no meaning with class folders"):
        index_dataset(root, patient_column="patient")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda root: root / "none", "is not there"),
        (
            lambda root: root,
            "holds no PNG, JPEG, TIFF, BMP, DICOM, NIfTI, NRRD or MetaImage files; it is empty",
        ),
        (lambda root: picture(root / "a.png"), "is a file, not a folder"),
        (lambda root: picture(root / "a.png").parent, "has no labels that could be found"),
        (lambda root: picture(root / "a.gif").parent, "only other files: 1"),
    ],
)
def test_a_folder_without_a_data_set_is_an_error(tmp_path, make, reason):
    with pytest.raises(BadDataset, match=reason):
        index_dataset(make(tmp_path))


def test_a_folder_of_nothing_but_broken_files_is_an_error(tmp_path):
    for name in ("normal/1.png", "bleed/1.png"):
        picture(tmp_path / name).write_bytes(b"")
    with pytest.raises(
        BadDataset, match=r"no slice that can be used; the first: .*1\.png: the file is empty"
    ):
        index_dataset(tmp_path)


def test_hidden_and_linked_files(tmp_path):
    root = class_folders(tmp_path / "set", patients=2, slices=1)
    picture(root / "normal" / "._a.png")
    picture(root / ".cache" / "b.png")
    picture(root / "__MACOSX" / "normal" / "c.png")
    (root / "normal" / "more").symlink_to(picture(tmp_path / "elsewhere" / "d.png").parent)
    (root / "normal" / "loop").symlink_to(root)
    names = set(labels_of(index_dataset(root)))
    assert names == {"haemorrhage/p000/000.png", "normal/p001/000.png", "normal/more/d.png"}


def test_a_broken_link_is_named(tmp_path):
    root = class_folders(tmp_path / "set", patients=2, slices=1)
    (root / "normal" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    index = index_dataset(root)
    assert [(Path(failure.path).name, failure.reason) for failure in index.failures] == [
        ("gone.png", "a link that leads nowhere")
    ]
    assert len(index.manifest) == 2
