"""Excel workbooks (.xlsx) as lines of text, as they would stand in a CSV file."""

import datetime
import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.errors import BadDataset

if TYPE_CHECKING:
    from openpyxl.workbook.workbook import Workbook

__all__ = ["read_workbook"]

# A table of 100,000 slices unpacks to some 20 MB; a bomb of a few KB to gigabytes.
_MOST_BYTES = 1 << 26
# Each takes some 150 bytes; empty ones beside them take time alone.
_MOST_CELLS = 1_000_000
_MOST_WITH_EMPTY = 10 * _MOST_CELLS
_SHEET = "labels"


def read_workbook(path: Path, data: bytes) -> list[tuple[int, list[str]]]:
    """Read the one sheet that holds anything, or the one called ``labels``.

    Parameters
    ----------
    path : Path
        For messages.
    data : bytes
        The whole file.

    Returns
    -------
    list of (int, list of str)
        Number and fields of every row that is not empty. Whole numbers stand without decimals, days as
        2026-11-30, TRUE and FALSE as 1 and 0.

    Raises
    ------
    BadDataset
        If it is no workbook or too large, several sheets hold something, or a formula has no value.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MOST_BYTES:
            raise BadDataset(
                f"{path} unpacks to {size / 1e6:,.0f} MB, more than any table of labels; save it as CSV"
            )
        with warnings.catch_warnings():
            # openpyxl warns of styles and drop-down lists that it leaves out; nothing of them is read here.
            warnings.simplefilter("ignore")
            return _read(path, data)
    except BadDataset:
        raise
    # What parses a damaged workbook raises whatever its bytes lead to; each means the same here.
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise BadDataset(f"{path} is no workbook that can be read ({said}); save it as CSV") from error


def _read(path: Path, data: bytes) -> list[tuple[int, list[str]]]:
    import openpyxl

    values = openpyxl.load_workbook(BytesIO(data), read_only=True, data_only=True)
    name = _sheet_of(path, values)
    formulas = openpyxl.load_workbook(BytesIO(data), read_only=True)
    lines = []
    filled = cells = 0
    rows = zip(
        values[name].iter_rows(values_only=True), formulas[name].iter_rows(values_only=True), strict=True
    )
    for number, (row, written) in enumerate(rows, 1):
        for column, (value, source) in enumerate(zip(row, written, strict=True), 1):
            if value is None and source is not None:
                cell = f"{openpyxl.utils.get_column_letter(column)}{number}"
                raise BadDataset(
                    f"{path}: cell {cell} of sheet {name!r} is a formula without a value; open the file in "
                    "Excel and save it again, or save it as CSV"
                )
        fields = [_text(value) for value in row]
        while fields and not fields[-1]:
            fields.pop()
        if fields:
            lines.append((number, fields))
        filled += len(fields)
        cells += 1 + len(row)
        if filled + len(lines) > _MOST_CELLS or cells > _MOST_WITH_EMPTY:
            raise BadDataset(f"{path} has more than {_MOST_CELLS:,} cells; save it as CSV")
    return lines


def _sheet_of(path: Path, workbook: "Workbook") -> str:
    filled = [
        sheet.title
        for sheet in workbook.worksheets
        if any(value is not None for row in sheet.iter_rows(values_only=True) for value in row)
    ]
    named = [title for title in filled if title.strip().casefold() == _SHEET]
    if len(named) != 1 and len(filled) > 1:
        raise BadDataset(
            f"{path} has {len(filled)} sheets ({', '.join(filled)}); call the one with labels {_SHEET!r}, "
            "or save it as CSV"
        )
    if not filled:
        raise BadDataset(f"{path} is empty; it needs a line of headings")
    return (named or filled)[0]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value).strip()
