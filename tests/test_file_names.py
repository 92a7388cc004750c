"""The whole command line on slices whose names are anything that a file system allows."""

import csv
import io
import os
from pathlib import Path

import pytest
from cohorts import class_folders
from hypothesis import given
from hypothesis import strategies as st

from haemo.atomic import read_text
from haemo.features.reading.address import SliceAddress, place_in_order
from haemo.pipeline.cli import main

NAMES = (b"caf\xe9.png", b"a\nb.png", b"a\rb.png", b'a,"b\\n" $\\x$.png')

PARTS = st.text("aB!#&-.0 \n\\\xe9\udce9", min_size=1, max_size=4).filter(
    lambda part: part not in (".", "..")
)
VOLUMES = st.builds("{}.nii#{}".format, PARTS, st.integers(1, 12))


@given(st.lists(st.tuples(st.lists(PARTS, max_size=3), PARTS | VOLUMES), max_size=12))
def test_slices_stand_in_the_order_of_their_paths(names):
    paths = [Path("/", *folders, name) for folders, name in names]
    addresses = sorted(map(SliceAddress.of, paths), key=lambda one: (one.file, one.number or 0))
    assert [SliceAddress.of(path) for path in sorted(paths, key=place_in_order)] == addresses


@pytest.fixture
def data(tmp_path) -> Path:
    """Every patient has a slice of one of those names; every second patient and a class are called so too."""
    root = class_folders(tmp_path / "data", patients=12, slices=3)
    for number, folder in enumerate(sorted(root.glob("*/*"))):
        (folder / "001.png").rename(folder / os.fsdecode(NAMES[number % 4]))
        if number % 2:
            folder.rename(folder.with_name(os.fsdecode(folder.name.encode() + NAMES[number // 2 % 4])))
    (root / "haemorrhage").rename(root / os.fsdecode(b'bleed\xe9\n\r,"\\n" $\\x$'))
    return root


def test_every_step_takes_any_file_name(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("haemo.pipeline.evaluation.shortcuts._TREES", 5)
    run, out = str(tmp_path / "run"), tmp_path / "scores.csv"
    few = ["--resamples", "100"]
    for command, *options in (
        ["index", str(data)],
        ["features", "--weights", "random", "--layer", "pool5"],
        ["svm", "--C", "1e-4,1e-2"],
        ["softmax", "--C", "1e-4"],
        ["tinyvgg", "--epochs", "1"],
        ["compare", *few],
        ["leakage", "--repeats", "2", *few],
        ["report", *few],
        ["verify"],
        ["predict", "--explain", "--out", str(out), str(data)],
        ["predict", "--head", "tinyvgg", "--json", str(data)],
        ["explain", "--slices", "4"],
        ["plot", "samples"],
    ):
        assert main([command, *options, "--run", run]) == 0, command
    assert "left out" not in capsys.readouterr().err
    slices = {str(path) for path in data.glob("*/*/*.png")}
    rows = csv.DictReader(io.StringIO(read_text(out), newline=""))
    assert {row["path"] for row in rows} == slices
    for model in ("svm", "softmax", "tinyvgg"):
        found = csv.DictReader(
            io.StringIO(read_text(tmp_path / "run" / model / "predictions.csv"), newline="")
        )
        assert {str(data / row["slice_id"]) for row in found} <= slices
