"""cells.csv: what a search has found so far, a row a setting and fold, so that a killed search goes on."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from haemo.tables import csv_line, fields_of_line

if TYPE_CHECKING:
    from haemo.models.search.cells import Cell

__all__ = ["SearchJournal"]

_COLUMNS = ("search", "setting", "fold", "score", "fit_seconds", "score_seconds")


class SearchJournal:
    """Cells of unfinished searches, appended to one file as they come in.

    A row counts only for the search with the same key, so settings of an earlier grid on the same data are
    not fitted again, and those of other data are passed over. A row that a kill cut short is dropped.

    Parameters
    ----------
    path : Path
    facts : mapping
        All that decides the score of a setting on a fold, but the setting and the fold.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]):
        self.path = Path(path)
        self._key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        self._stream: TextIO | None = None

    def cells(self, settings: Iterable[Mapping[str, Any]]) -> "list[Cell]":
        """The cells of these settings that are there already, numbered by the settings' order."""
        from haemo.models.search.cells import Cell

        if not self.path.exists():
            return []
        number = {_text(setting): place for place, setting in enumerate(settings)}
        found = []
        # What was altered is no UTF-8, no number or no CSV: that cell is fitted again.
        with self.path.open(newline="", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                with suppress(ValueError):
                    row = fields_of_line(line.removesuffix("\n")) if line.endswith("\n") else []
                    if len(row) == len(_COLUMNS) and row[0] == self._key and row[1] in number:
                        score, fit_seconds, score_seconds = map(float, row[3:])
                        found.append(Cell(number[row[1]], int(row[2]), score, fit_seconds, score_seconds))
        return found

    def add(self, setting: Mapping[str, Any], cell: "Cell") -> None:
        """Append one cell; it is with the operating system when this returns."""
        if self._stream is None:
            self._stream = self._open()
        row = (self._key, _text(setting), cell.fold, repr(float(cell.score)))
        seconds = (f"{cell.fit_seconds:.4f}", f"{cell.score_seconds:.4f}")
        self._stream.write(csv_line([*row, *seconds]) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file; what is in it stays."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def remove(self) -> None:
        """Delete the file, when the search is finished and its results are kept elsewhere."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _open(self) -> TextIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stream = self.path.open("a+b")
        # Cut off what stands after the last whole line.
        stream.seek(0)
        whole = stream.read().rfind(b"\n") + 1
        stream.truncate(whole)
        if not whole:
            stream.write((",".join(_COLUMNS) + "\n").encode())
        stream.flush()
        os.fsync(stream.fileno())
        stream.close()
        return self.path.open("a", newline="", encoding="utf-8")


def _text(setting: Mapping[str, Any]) -> str:
    return json.dumps(dict(setting), sort_keys=True)
