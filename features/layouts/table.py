"""Label tables as people make them: CSV from Excel, pandas and by hand, and workbooks, read without fuss."""

import codecs
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from haemo.atomic import MOST_IN_LINE
from haemo.errors import BadDataset
from haemo.tables import rows_of_lines

__all__ = ["TABLE_SUFFIXES", "Table", "bare"]

TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", ".xlsm")

_DELIMITERS = ",;\t"
# The tables of RSNA 2019 have 4.5 million lines and 120 MB.
_MOST_BYTES = 1 << 28
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # what an .xlsx and an .xls begin with

Lines = Iterator[tuple[int, list[str]]]


@dataclass(frozen=True)
class Table:
    """A CSV file, or the sheet of an Excel workbook, with a heading line.

    Byte order marks, CRLF, blank lines, spaces around headings and values, quotes, and ``;`` or tabs in place
    of commas are taken as they come. Text is UTF-8, UTF-16 with a mark, or else Windows-1252.

    Attributes
    ----------
    path : Path
    headings : tuple of str
        As written, without surrounding spaces.
    """

    path: Path
    headings: tuple[str, ...]
    _lines: Callable[[], Lines]

    @classmethod
    def open(cls, path: Path) -> "Table":
        """Read a table and its headings.

        Raises
        ------
        BadDataset
            If the file cannot be read or decoded, is empty, or a heading stands twice.
        """
        try:
            size = Path(path).stat().st_size
            if size > _MOST_BYTES:
                raise BadDataset(f"{path} has {size / 1e6:,.0f} MB, more than any table of labels")
            data = Path(path).read_bytes()
        except OSError as error:
            raise BadDataset(f"{path} cannot be read: {error.strerror or error}") from error
        lines = _lines_of(Path(path), data)
        headings = next(lines(), (0, []))[1]
        named = [bare(heading) for heading in headings if heading]
        if not named:
            raise BadDataset(f"{path} is empty; it needs a line of headings")
        twice = next((heading for heading in headings if heading and named.count(bare(heading)) > 1), None)
        if twice is not None:
            raise BadDataset(f"{path}: the heading {twice!r} stands more than once")
        return cls(Path(path), tuple(headings), lines)

    def column(self, *names: str) -> str | None:
        """Heading of the first of `names` that is there; case, spaces, ``_`` and ``-`` do not count."""
        by_name = {bare(heading): heading for heading in self.headings if heading}
        return next((by_name[bare(name)] for name in names if bare(name) in by_name), None)

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield line number and values by heading, the values without surrounding spaces.

        Raises
        ------
        BadDataset
            If a line has more fields than there are headings, or is no CSV; the message names the line.
        """
        width = len(self.headings)
        lines = self._lines()
        next(lines)
        for number, fields in lines:
            if any(fields[width:]):
                raise BadDataset(f"{self.path}, line {number}: {len(fields)} fields under {width} headings")
            padded = fields + [""] * (width - len(fields))
            yield number, dict(zip(self.headings, padded, strict=False))


def bare(name: str) -> str:
    """A heading without what people vary: case, spaces and punctuation."""
    return "".join(character for character in name.casefold() if character.isalnum())


def _lines_of(path: Path, data: bytes) -> Callable[[], Lines]:
    """What gives the lines of a table, each with its number and fields; by content, not by suffix."""
    if data.startswith(_OLE):
        raise BadDataset(f"{path} is a workbook in Excel's old format (.xls); save it as .xlsx or as CSV")
    if data.startswith(_ZIP):
        from haemo.features.layouts.workbook import read_workbook

        return partial(iter, read_workbook(path, data))
    encoding = _encoding_of(data)
    if encoding is None:
        raise BadDataset(f"{path} is not a text file; save it as CSV in UTF-8")
    first = next((line for line in _text_lines(data, encoding) if line.strip()), "")
    return partial(_split, path, data, encoding, max(_DELIMITERS, key=first.count))


def _encoding_of(data: bytes) -> str | None:
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for start in range(0, len(data), MOST_IN_LINE):
                decoder.decode(data[start : start + MOST_IN_LINE])
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding
    return None


def _text_lines(data: bytes, encoding: str) -> Iterator[str]:
    # Not the whole text at once: in memory it is larger than the file.
    stream = io.TextIOWrapper(io.BytesIO(data), encoding, newline="")
    while line := stream.readline(MOST_IN_LINE):
        yield line


def _split(path: Path, data: bytes, encoding: str, delimiter: str) -> Lines:
    for number, fields in rows_of_lines(_text_lines(data, encoding), path, delimiter, skipinitialspace=True):
        stripped = [field.strip() for field in fields]
        if any(stripped):
            yield number, stripped
