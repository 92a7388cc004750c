"""`haemo index`: what it writes, prints and exits with."""

import json
import shutil
from pathlib import Path

import pytest
from cohorts import class_folders, dicom_tree, gray_picture, head_ct, write_csv
from PIL import Image

from haemo.features.failures import read_failures
from haemo.features.manifest import Manifest
from haemo.pipeline.cli import main
from haemo.pipeline.preparing.indexing import index_run
from haemo.pipeline.run.directory import RunDirectory


@pytest.fixture
def haemo(capsys):
    """Run a command line; give exit code, the lines of standard output that are not empty, standard error."""

    def run(*arguments: object) -> tuple[int, list[str], str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        lines = [line.rstrip() for line in captured.out.splitlines()]
        return code, [line for line in lines if line], captured.err

    return run


def test_a_sound_data_set(haemo, tmp_path):
    data = class_folders(tmp_path / "data", patients=6, slices=2, split=True)
    code, lines, said = haemo("index", data, "--run", tmp_path / "run")
    assert code == 0
    assert lines == [
        "layout: class-folders",
        "patients: folders below the class folders",
        "  class                    slices   patients   train   test",
        " ───────────────────────────────────────────────────────────",
        "  normal                        6          3       4      2",
        "  haemorrhage (positive)        6          3       4      2",
        "  all                          12          6       8      4",
        "sizes: 64x64 (12)",
        "modes: PNG L (12)",
        f"12 slices indexed, 0 unusable -> {tmp_path}/run/manifest.csv",
        f"next: haemo features --run {tmp_path}/run",
    ]
    assert said == "classes by folder: haemorrhage, normal\n"
    assert not (tmp_path / "run" / "failures.csv").exists()


def test_bad_files_are_named_and_the_rest_is_done(haemo, tmp_path):
    data = class_folders(tmp_path / "data", patients=2, slices=2)
    (data / "normal" / "empty.png").write_bytes(b"")
    (data / "normal" / "text.jpg").write_text("no picture")
    (data / "normal" / "moving.gif").write_bytes(b"GIF89a")
    (data / "stray.png").write_bytes((data / "normal" / "p001" / "000.png").read_bytes())
    (data / "README.txt").write_text("about this data")
    frames = [Image.fromarray(gray_picture(seed)) for seed in (1, 2)]
    frames[0].save(data / "normal" / "pages.tif", save_all=True, append_images=frames[1:])
    code, lines, _ = haemo("index", data, "--run", tmp_path / "run")
    assert code == 3
    assert lines[-9:] == [
        "other files, left aside: 1 (README.txt)",
        f"cannot use {data}/normal/empty.png: the file is empty",
        f"cannot use {data}/normal/moving.gif: files of type .gif are not read; save each slice as PNG, "
        "JPEG, TIFF, BMP, DICOM, NIfTI, NRRD or MetaImage",
        f"cannot use {data}/normal/pages.tif: holds 2 pictures; save each slice as a file of its own",
        f"cannot use {data}/normal/text.jpg: not a picture: the content is text",
        f"cannot use {data}/stray.png: lies in no class folder, so it has no label",
        f"failures: {tmp_path}/run/failures.csv",
        f"4 slices indexed, 5 unusable -> {tmp_path}/run/manifest.csv",
        f"next: haemo features --run {tmp_path}/run",
    ]
    failures = read_failures(tmp_path / "run" / "failures.csv")
    assert [Path(failure.path).name for failure in failures] == [
        "empty.png",
        "moving.gif",
        "pages.tif",
        "text.jpg",
        "stray.png",
    ]
    assert {failure.stage for failure in failures} == {"index"}
    # Mended and indexed again, the run forgets them.
    for failure in failures:
        Path(failure.path).unlink()
    assert haemo("index", data, "--run", tmp_path / "run")[0] == 0
    assert read_failures(tmp_path / "run" / "failures.csv") == []


def test_the_run_remembers_what_was_indexed(tmp_path):
    run = RunDirectory(tmp_path / "run")
    index = index_run(head_ct(tmp_path / "data"), run)
    assert Manifest.read(run.manifest_path) == index.manifest
    step = json.loads(run.record_path.read_text())["steps"]["index"]
    assert step["layout"] == "head-ct"
    assert step["classes"] == ["normal", "haemorrhage"]
    assert step["positive"] == "haemorrhage"
    assert step["slices_of_class"] == {"haemorrhage": 3, "normal": 3}
    assert step["patients_from"] is None
    assert (step["slices"], step["patients"], step["failed"]) == (6, 6, 0)


def test_the_same_data_give_the_same_bytes(tmp_path):
    data = class_folders(tmp_path / "data", patients=4)
    manifests = []
    for name in ("one", "two"):
        index_run(data, RunDirectory(tmp_path / name))
        manifests.append((tmp_path / name / "manifest.csv").read_bytes())
    assert manifests[0] == manifests[1]


def test_the_positive_class_can_be_named(haemo, tmp_path):
    data = class_folders(tmp_path / "data", patients=2)
    _, lines, _ = haemo("index", data, "--run", tmp_path / "run", "--positive", "normal")
    assert any(line.startswith("  normal (positive)") for line in lines)
    code, _, said = haemo("index", data, "--run", tmp_path / "run", "--positive", "bleed")
    assert code == 2
    assert said.endswith("error: the positive class 'bleed' is none of the classes (haemorrhage, normal)\n")


@pytest.mark.parametrize(
    ("prepare", "options", "code", "message"),
    [
        (lambda root: root / "none", [], 1, "none is not there"),
        (class_folders, ["--layout", "folders"], 2, "Did you mean class-folders? There are: auto, rsna"),
        (lambda root: head_ct(root), ["--label", "grade"], 2, "has no column 'grade'; it has id, hemorrhage"),
        (lambda root: head_ct(root), ["--labels", "no.csv"], 1, "no.csv cannot be read"),
    ],
)
def test_what_cannot_be_done_is_an_error_without_a_trace(haemo, tmp_path, prepare, options, code, message):
    result, lines, said = haemo("index", prepare(tmp_path / "data"), "--run", tmp_path / "run", *options)
    assert result == code
    assert lines == []
    assert message in said
    assert not (tmp_path / "run").exists()


def test_what_stands_in_the_way_of_training_is_said(haemo, tmp_path):
    unlabelled = haemo("index", dicom_tree(tmp_path / "tree"), "--run", tmp_path / "run")
    assert "warning: no slice has a label" in unlabelled[2]
    assert any(line.startswith("  (no label)") for line in unlabelled[1])
    one = class_folders(tmp_path / "one", patients=1, slices=2)
    assert "warning: all labels are 'haemorrhage'" in haemo("index", one, "--run", tmp_path / "run")[2]
    published = head_ct(tmp_path / "head_ct")
    said = haemo("index", published, "--run", tmp_path / "run")[2]
    assert "warning: no patient ids: each slice stands as its own patient" in said
    rows = [("path", "label", "patient"), ("000", "a", "p"), ("001", "A", "p"), ("002", "b", "p")]
    write_csv(published / "labels.csv", rows)
    said = haemo("index", published, "--run", tmp_path / "run", "--positive", "b")[2]
    assert "warning: all slices are of one patient" in said
    assert "warning: classes that differ in nothing but case: A, a" in said
    assert "warning: there are 3 classes, so none is the positive one" in said


def test_a_class_with_too_few_patients_to_train_on_is_named_with_the_remedy(haemo, tmp_path):
    enough = class_folders(tmp_path / "enough", patients=6)
    assert "too few" not in haemo("index", enough, "--run", tmp_path / "run")[2]
    two = class_folders(tmp_path / "two", patients=4)
    assert haemo("index", two, "--run", tmp_path / "run")[2].endswith(
        "warning: too few patients of class 'haemorrhage' (2), 'normal' (2): nothing can be trained on whole "
        "patients until there are 3; add patients and index again\n"
    )
    rare = tmp_path / "enough" / "subdural" / "p100"
    rare.mkdir(parents=True)
    Image.fromarray(gray_picture(9)).save(rare / "0.png")
    said = haemo("index", enough, "--run", tmp_path / "run")[2]
    assert "too few patients of class 'subdural' (1): nothing can be trained" in said
    assert "or leave the slices of this class out of labels.csv or give them another class there" in said


def test_where_sides_are_published_training_patients_count(haemo, tmp_path):
    data = class_folders(tmp_path / "data", patients=6, split=True)
    assert "too few" not in haemo("index", data, "--run", tmp_path / "run")[2]
    shutil.rmtree(next((data / "train" / "normal").iterdir()))
    assert haemo("index", data, "--run", tmp_path / "run")[2].endswith(
        "warning: too few training patients of class 'normal' (1): nothing can be trained on whole patients "
        "until there are 2; add patients and index again\n"
    )


def test_many_sizes_are_shown_as_a_range(haemo, tmp_path):
    for number in range(8):
        path = tmp_path / "data" / ("normal", "bleed")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(gray_picture(number, (10 + number, 20 + number))).save(path)
    _, lines, _ = haemo("index", tmp_path / "data", "--run", tmp_path / "run")
    assert "sizes: 8 different, from 20x10 to 27x17" in lines
