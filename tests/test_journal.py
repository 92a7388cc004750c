"""The journal of a search: what a kill at any byte leaves is read back, and nothing else is."""

import math

import pytest

from haemo.models.search.cells import Cell
from haemo.pipeline.training.journal import SearchJournal

SETTINGS = [{"C": 0.1}, {"C": 1.0, "gamma": 1e-5}]
CELLS = [Cell(0, 0, 0.1 + 0.2, 1.5, 0.25), Cell(1, 3, math.nan, 0.5, 0.125)]


def written(path, facts=None):
    journal = SearchJournal(path, facts or {"data": "x"})
    for cell in CELLS:
        journal.add(SETTINGS[cell.candidate], cell)
    journal.close()
    return journal


def plain(cells):
    return [(cell.candidate, cell.fold, repr(cell.score), cell.fit_seconds) for cell in cells]


def test_cells_read_back_exactly(tmp_path):
    journal = written(tmp_path / "svm" / "cells.csv")
    assert plain(journal.cells(SETTINGS)) == plain(CELLS)
    assert all(cell.scores is None for cell in journal.cells(SETTINGS))


def test_cells_are_found_by_their_setting_not_by_their_place(tmp_path):
    journal = written(tmp_path / "cells.csv")
    (cell,) = journal.cells([{"C": 7.0}, {"gamma": 1e-5, "C": 1.0}])
    assert (cell.candidate, cell.fold) == (1, 3)


def test_another_search_finds_nothing_but_its_own(tmp_path):
    written(tmp_path / "cells.csv", {"data": "old"})
    new = written(tmp_path / "cells.csv", {"data": "new"})
    assert plain(new.cells(SETTINGS)) == plain(CELLS)
    assert SearchJournal(tmp_path / "cells.csv", {"data": "other"}).cells(SETTINGS) == []


@pytest.mark.parametrize("lost", [1, 5, 40, 10_000])
def test_a_row_that_was_cut_short_is_dropped_and_written_again(tmp_path, lost):
    path = tmp_path / "cells.csv"
    written(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - lost)])
    journal = SearchJournal(path, {"data": "x"})
    kept = journal.cells(SETTINGS)
    assert plain(kept) == plain(CELLS[: len(kept)])
    for cell in CELLS[len(kept) :]:
        journal.add(SETTINGS[cell.candidate], cell)
    journal.close()
    assert path.read_bytes() == whole


def test_a_finished_search_leaves_no_journal(tmp_path):
    journal = written(tmp_path / "cells.csv")
    journal.remove()
    assert list(tmp_path.iterdir()) == []
    journal.remove()
