"""Label tables out of Excel workbooks, and what is refused there."""

import datetime
import zipfile
from pathlib import Path

import openpyxl
import pytest
from cohorts import gray_picture, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from haemo.errors import BadDataset
from haemo.features.layouts import index_dataset
from haemo.features.layouts.table import Table


def workbook(path: Path, **sheets: list[tuple]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def rows_of(path: Path) -> list[tuple]:
    return [tuple(values.values()) for _, values in Table.open(path).rows()]


def test_a_workbook_of_labels_is_indexed_as_the_same_table_in_csv(tmp_path):
    rows = [("path", "label", "patient"), ("007", "bleed", 12), (8, "normal", 13.0), ("9.png", None, 14)]
    for number in (7, 8, 9):
        Image.fromarray(gray_picture(number, (8, 8))).save(tmp_path / f"{number:03}.png")
    written = [tuple("" if value is None else value for value in row) for row in rows]
    csv = write_csv(tmp_path / "labels.csv", [*written[:2], (8, "normal", 13), ("009.png", "", 14)])
    expected = index_dataset(tmp_path).manifest
    csv.unlink()
    rows[3] = ("009.png", None, 14)
    workbook(tmp_path / "labels.xlsx", Tabelle1=[*rows[:1], (None, None), *rows[1:]], Tabelle2=[])
    index = index_dataset(tmp_path)
    assert index.manifest == expected
    assert index.layout == "labels-csv"


def test_two_tables_of_one_name_are_asked_about(tmp_path):
    Image.fromarray(gray_picture(1, (8, 8))).save(tmp_path / "a.png")
    workbook(tmp_path / "labels.xlsx", one=[("path", "label"), ("a", 1)])
    write_csv(tmp_path / "labels.csv", [("path", "label"), ("a", 0)])
    with pytest.raises(BadDataset, match=r"labels.csv, labels.xlsx.; choose one with --labels"):
        index_dataset(tmp_path)


def test_cells_stand_as_a_person_reads_them(tmp_path):
    day = datetime.datetime(2026, 11, 30)
    cells = [("a", "b", "c", "d", "e"), (1.0, 0.5, True, day, " x "), ("007", None, False, "=1", None)]
    path = workbook(tmp_path / "t.xlsx", labels=cells[:2])
    assert rows_of(path) == [("1", "0.5", "1", "2026-11-30", "x")]


cells = st.one_of(
    st.none(),
    st.integers(-(10**9), 10**9),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8).filter(
        lambda text: text == text.strip() and not text.startswith(("=", "#"))
    ),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(), cells, cells), max_size=4))
def test_what_stands_in_a_sheet_is_what_is_read(tmp_path_factory, rows):
    path = workbook(
        tmp_path_factory.mktemp("book") / "t.xlsx",
        sheet=[("a", "b", "c"), *[(str(key), *rest) for key, *rest in rows]],
    )
    expected = [tuple("" if cell is None else str(cell) for cell in row) for row in rows]
    assert rows_of(path) == expected


@pytest.mark.parametrize(
    ("sheets", "reason"),
    [
        (
            {"a": [("path", "label")], "b": [("path", "label")]},
            "2 sheets .a, b.; call the one with labels",
        ),
        ({"a": []}, "is empty"),
        ({"a": [("path", "label"), ("x", "=1+1")]}, "cell B2 of sheet 'a' is a formula without a value"),
        ({"a": [("path", "Path")]}, "the heading 'path' stands more than once"),
    ],
)
def test_what_no_one_table_is_says_why(tmp_path, sheets, reason):
    with pytest.raises(BadDataset, match=reason):
        Table.open(workbook(tmp_path / "t.xlsx", **sheets))


def test_of_several_sheets_the_one_called_labels_is_read(tmp_path):
    path = workbook(tmp_path / "t.xlsx", notes=[("x",), ("y",)], Labels=[("path",), ("a",)])
    assert rows_of(path) == [("a",)]


def test_damaged_old_and_bloated_workbooks_are_refused(tmp_path):
    path = workbook(tmp_path / "t.xlsx", one=[("path", "label"), ("a", 1)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadDataset, match="no workbook that can be read"):
        Table.open(path)
    path.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(512))
    with pytest.raises(BadDataset, match=r"save it as \.xlsx"):
        Table.open(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(301 * 2**20))
    with pytest.raises(BadDataset, match="unpacks to 316 MB"):
        Table.open(path)
