"""CSV: what is written reads back, whatever it holds, and no cell of it is run by a spreadsheet."""

import csv
import io
import os
import unicodedata
from pathlib import Path

import pytest
from cohorts import class_folders, ct_values, dicom_dataset, save_dicom
from hypothesis import given
from hypothesis import strategies as st

from haemo.atomic import read_text
from haemo.errors import BadDataset
from haemo.features.failures import Failure, read_failures, replace_failures
from haemo.features.layouts.table import Table
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.store.contents import Contents, KnownFile
from haemo.pipeline.cli import main
from haemo.tables import (
    Records,
    csv_line,
    decoded,
    encoded,
    fields_of_line,
    rows_of_lines,
    write_csv,
    write_table,
)

# What a spreadsheet takes for a formula at the start of a cell, and what stands near it in names.
SIGNS = "=+-@\t\r\n＝＋－＠"
texts = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.text("=+-@'\t\r\n \",;0１5.einfa＝", max_size=8),
    st.sampled_from(["-5", "'-5", "+1e-3", "-inf", "=1+1", "'=1+1", "''=x", "-", "- 5", "-5 ", "", "'"]),
)


def runs(cell: str) -> bool:
    """Whether a spreadsheet would run a cell, said the slow way: by its first character, numbers apart."""
    if cell[:1] in ("-", "+"):
        try:
            float(cell)
            return "_" in cell
        except ValueError:
            return True
    return bool(cell) and (cell[0] in SIGNS or cell.lstrip()[:1] in tuple(SIGNS))


@given(texts)
def test_a_cell_reads_back_and_does_not_run(text):
    cell = encoded(text)
    assert decoded(cell) == text
    assert not runs(cell)
    assert cell in (text, "'" + text)


@given(st.integers() | st.floats(allow_nan=False))
def test_numbers_are_written_as_they_are(number):
    assert encoded(repr(number)) == repr(number)


@given(st.lists(st.lists(texts, min_size=2, max_size=4), min_size=1, max_size=4))
def test_a_file_and_a_line_read_back_whatever_they_hold(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "table.csv"
    write_csv(path, rows)
    text = read_text(path)
    assert [fields for _, fields in rows_of_lines(io.StringIO(text, newline=""), path)] == rows
    assert not any(runs(cell) for line in csv.reader(io.StringIO(text, newline="")) for cell in line)
    for row in rows:
        if not any("\n" in field for field in row):
            assert fields_of_line(csv_line(row)) == row


@given(st.lists(st.tuples(texts, texts), max_size=7), st.integers(1, 8))
def test_columns_in_blocks_are_those_of_the_rows(tmp_path_factory, rows, size):
    path = tmp_path_factory.getbasetemp() / "blocks.csv"
    write_csv(path, [("first", "second"), *rows])
    blocks = list(Records(path).blocks(size))
    assert [len(block["first"]) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    joined = [pair for block in blocks for pair in zip(block["first"], block["second"], strict=True)]
    assert joined == [(row["first"], row["second"]) for row in Records(path)] == rows


def test_a_table_reads_back_whatever_its_fields_hold(tmp_path):
    path = tmp_path / "table.csv"
    rows = [{"=path": "a\rb, c.png", "score": -0.1}, {"score": 1e-17, "=path": 'quoted " name'}]
    write_table(path, rows)
    assert [(row["=path"], float(row["score"])) for row in Records(path)] == [
        (row["=path"], row["score"]) for row in rows
    ]


def test_every_list_of_a_run_keeps_names_that_look_like_formulas(tmp_path):
    row = ManifestRow("=cmd|' /C calc'!A0.png", tmp_path / "-1+1.png", "+bleed", "@P1", "\tS1", -1.5, "train")
    Manifest([row]).write(tmp_path / "manifest.csv")
    assert ",-1.5,train" in (tmp_path / "manifest.csv").read_text()
    assert Manifest.read(tmp_path / "manifest.csv").rows == (row,)
    failure = Failure("=a.png", "-1+1", "@ reason")
    replace_failures(tmp_path / "failures.csv", "x", [failure])
    assert read_failures(tmp_path / "failures.csv") == [failure]
    known = KnownFile("=a", "/data/=a", 1, 2, "0" * 64)
    contents = Contents(tmp_path / "contents.csv")
    contents.append([known])
    assert list(Contents(contents.path)) == [known]
    for path in tmp_path.glob("*.csv"):
        with path.open(newline="") as stream:
            assert not any(runs(cell) for line in csv.reader(stream) for cell in line), path


@given(st.text(st.characters(exclude_categories=())))
def test_reasons_of_failures_show_every_character_and_paths_are_kept(text):
    failure = Failure(text, "index", f"says {text}")
    assert failure.path == text
    assert not set(map(unicodedata.category, failure.reason)) & {"Cc", "Cf", "Zl", "Zp"}
    assert Failure("", "index", failure.reason).reason == failure.reason, "read back it stays as it is"
    if text.isprintable():
        assert failure.reason == f"says {text}"


def test_control_characters_of_a_hostile_header_are_seen_and_command_nothing(tmp_path, capsys):
    data = tmp_path / os.fsdecode(b"caf\xe9\x1b[1m")
    data.mkdir()
    save_dicom(dicom_dataset(ct_values(0)), data / "sound.dcm")
    save_dicom(dicom_dataset(ct_values(1), SOPClassUID=None, Modality="ABCDEFGHIJ"), data / "hostile.dcm")
    whole = (data / "hostile.dcm").read_bytes()
    (data / "hostile.dcm").write_bytes(whole.replace(b"ABCDEFGHIJ", b"\x1b[2J\x07\r\nOK "))
    run = tmp_path / "run"
    assert main(["index", str(data), "--run", str(run)]) in (1, 3)
    (failure,) = read_failures(run / "failures.csv")
    assert failure.reason == r"modality \x1b[2J\x07\r\nOK is not CT"
    assert Path(failure.path).read_bytes() != whole, "found again by its odd path"
    assert b"\x1b[2J" not in (run / "failures.csv").read_bytes()
    said = capsys.readouterr()
    assert "\x1b[2J" not in said.out + said.err


def test_lists_written_without_apostrophes_are_read_as_they_stand(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("slice_id,path,label,patient,study,position,part\n=a,/=a.png,-b,+P,@S,,\n")
    (row,) = Manifest.read(path)
    assert (row.slice_id, row.label, row.patient, row.study) == ("=a", "-b", "+P", "@S")


def test_a_table_of_a_person_may_hold_them_either_way(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("path;label;patient\n=a.png; -b ;'+P\n'@c.png;1;-5\n")
    assert [list(row.values()) for _, row in Table.open(path).rows()] == [
        ["=a.png", "-b", "+P"],
        ["@c.png", "1", "-5"],
    ]


def test_index_takes_and_writes_such_names(tmp_path, capsys):
    data = class_folders(tmp_path / "data", patients=2, slices=1)
    for place, folder in enumerate(sorted(data.iterdir())):
        folder.rename(data / f"{'=-'[place]}{folder.name}")
    assert main(["-q", "index", str(data), "--run", str(tmp_path / "run")]) == 0
    text = (tmp_path / "run" / "manifest.csv").read_text()
    assert {row.label[0] for row in Manifest.read(tmp_path / "run" / "manifest.csv")} == {"=", "-"}
    assert not any(runs(cell) for line in csv.reader(text.splitlines()) for cell in line)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path,stage\na,b\n", "no column 'reason'"),
        ("path,stage,reason\na,b\n", "line 2: wrong number of fields, 2 under 3 headings"),
        ("path,stage,reason\na,b," + "c" * 200_000 + "\n", "line 2: field larger than field limit"),
        ("", "no column 'path'"),
    ],
)
def test_what_is_no_such_table_is_named_with_its_line(tmp_path, text, reason):
    path = tmp_path / "failures.csv"
    path.write_text(text)
    with pytest.raises(BadDataset, match=reason) as caught:
        read_failures(path)
    assert str(path) in str(caught.value)
