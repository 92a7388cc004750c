"""CSV, the one way it is written and read: whole or not at all, and safe to open in a spreadsheet.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-``, ``@`` or a control character, and names of
files and labels come from strangers. Such a cell is written behind an apostrophe and read without it; numbers
stay as they are. What a person or another program wrote without the apostrophe is read as it stands.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from haemo.atomic import MOST_IN_LINE, lines_of, write_text
from haemo.errors import BadDataset

__all__ = [
    "Records",
    "csv_line",
    "decoded",
    "encoded",
    "fields_of_line",
    "read_rows",
    "rows_of_lines",
    "write_csv",
    "write_table",
]

# Full-width signs count as the others in spreadsheets of East Asia, and spaces before a sign are passed over.
_RUN = re.compile(r"'*(\s*[=+\-@＝＋－＠]|[\t\r\n])")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-](inf|nan)", re.ASCII)


def encoded(text: str) -> str:
    """The text of a cell that no spreadsheet runs: behind an apostrophe, where it would."""
    return f"'{text}" if _is_run(text) else text


def decoded(cell: str) -> str:
    """The text that `encoded` made the cell of; any other cell is given back as it is."""
    return cell[1:] if cell.startswith("'") and _is_run(cell) else cell


def _is_run(text: str) -> bool:
    # Apostrophes before a sign count too: what begins with one already gets another, and so reads back.
    return bool(_RUN.match(text)) and not _NUMBER.fullmatch(text.lstrip("'"))


class Records:
    """The rows of a CSV file that haemo or another program wrote, by heading.

    Attributes
    ----------
    path : Path
    headings : tuple of str
    line : int
        Of the row that was given last.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self._rows = read_rows(self.path)
        self.line, headings = next(self._rows, (0, []))
        self.headings = tuple(headings)

    def require(self, names: Iterable[str], remedy: str = "") -> "Records":
        """Refuse the file if a heading is missing.

        Raises
        ------
        BadDataset
            It names the file and the heading.
        """
        missing = next((name for name in names if name not in self.headings), None)
        if missing is not None:
            raise BadDataset(f"{self.path}: no column {missing!r}{remedy and f'; {remedy}'}")
        return self

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Yield values by heading.

        Raises
        ------
        BadDataset
            If a line has more or fewer fields than there are headings, or is no CSV; it names the line.
        """
        for fields in self._fields():
            yield dict(zip(self.headings, fields, strict=True))

    def blocks(self, rows: int = 10_000) -> Iterator[dict[str, tuple[str, ...]]]:
        """Yield columns by heading, of at most so many rows at a time; errors as of single rows."""
        while some := list(islice(self._fields(), rows)):
            yield dict(zip(self.headings, zip(*some, strict=True), strict=True))

    def _fields(self) -> Iterator[list[str]]:
        width = len(self.headings)
        for line, fields in self._rows:
            self.line = line
            if len(fields) != width:
                raise BadDataset(
                    f"{self.path}, line {line}: wrong number of fields, {len(fields)} under {width} headings"
                )
            yield fields


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read a CSV file, as UTF-8: line number and fields of each row, those of the heading first.

    Raises
    ------
    BadDataset
        If it is no CSV; the message names the line.
    """
    return rows_of_lines(lines_of(path), path)


def rows_of_lines(
    lines: Iterable[str], path: Path, delimiter: str = ",", skipinitialspace: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Read CSV out of lines with their ends, as `read_rows` does; `path` is for the message alone."""
    reader = csv.reader(_bounded(lines), delimiter=delimiter, skipinitialspace=skipinitialspace)
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, [decoded(one) if one[:1] == "'" else one for one in fields]
    except csv.Error as error:
        raise BadDataset(f"{path}, line {reader.line_num}: {error}") from error


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if len(line) >= MOST_IN_LINE:
            raise csv.Error(f"a line of more than {MOST_IN_LINE:,} characters")
        yield line


def fields_of_line(line: str) -> list[str]:
    """Read one line, without its end, that `csv_line` wrote.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        return [decoded(field) for field in next(csv.reader([line]), [])]
    except csv.Error as error:
        raise ValueError(f"no line of CSV: {error}") from error


def csv_line(fields: Iterable[object]) -> str:
    """Write one row, without an end; a field with a line feed or carriage return is quoted and keeps it."""
    stream = io.StringIO()
    # With this line end the csv module quotes both characters; with a line feed alone, 3.11 leaves one bare.
    csv.writer(stream, lineterminator="\r\n").writerow(map(_cell, fields))
    return stream.getvalue().removesuffix("\r\n")


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write `rows` as CSV to `path`, atomically.

    A row with a carriage return is quoted throughout: the csv module of Python 3.11 and 3.12 leaves it bare
    where lines end with a line feed, and would read it back as the end of the line.
    """
    stream = io.StringIO()
    plain = csv.writer(stream, lineterminator="\n")
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        writer = quoted if any("\r" in str(field) for field in row) else plain
        writer.writerow(map(_cell, row))
    write_text(path, stream.getvalue())


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with the same keys as `write_csv` does, under a heading of the keys of the first one."""
    write_csv(path, [list(rows[0]), *([row[name] for name in rows[0]] for row in rows)])


def _cell(field: object) -> object:
    return encoded(field) if isinstance(field, str) else field
