"""Progress and tables as they are shown, on a terminal and elsewhere."""

import re
import sys
import threading
import time

import pytest

from haemo.pipeline.cli import cli, console, main

FIGURES = ("0.784 (0.698-0.857)", "0.912 (0.871-0.944)", "0.650 (0.512-0.731)", "0.701 (0.598-0.812)")
MODELS = ("svm", "softmax", "mlp", "finetune")
TITLE = "test, by slice: 1,204 slices of 57 patients, averages over classes; 95% intervals LEAKY split"


@pytest.fixture
def on_terminal(monkeypatch, capsys):
    """Print a table on a terminal of 80 columns and give its lines, without colours and empty ones."""

    def lines(*arguments: object) -> list[str]:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("LINES", "24")
        console.table(*arguments)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        return [line.rstrip() for line in plain.splitlines() if line.strip()]

    return lines


def test_a_long_item_does_not_look_like_a_stop(monkeypatch, capsys):
    monkeypatch.setattr(console, "_SECONDS_BETWEEN_LINES", 0.05)
    before = threading.active_count()
    for item in console.progress(["quick", "long"], label="protocols"):
        if item == "long":
            time.sleep(0.4)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert lines[-1] == "protocols: 1 of 2"
    assert threading.active_count() == before


def test_quick_work_prints_nothing(capsys):
    assert list(console.progress(iter("abc"), label="slices")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_stops_leaves_no_thread_behind():
    before = threading.active_count()
    items = console.progress(range(5), label="slices")
    next(items)
    items.close()
    assert threading.active_count() == before


def test_a_table_wider_than_the_terminal_comes_in_blocks_that_fit(on_terminal):
    lines = on_terminal(["", *MODELS], [("ROC AUC", *FIGURES), ("F1", *FIGURES)], TITLE)
    assert lines[0] == TITLE
    assert max(len(line) for line in lines[1:]) <= 80
    assert [line.split() for line in lines[1:] if "─" not in line] == [
        list(MODELS[:3]),
        ["ROC", "AUC", *" ".join(FIGURES[:3]).split()],
        ["F1", *" ".join(FIGURES[:3]).split()],
        list(MODELS[3:]),
        ["ROC", "AUC", *FIGURES[3].split()],
        ["F1", *FIGURES[3].split()],
    ]


def test_a_cell_wider_than_the_terminal_is_whole_and_its_line_is_long(on_terminal):
    path = "/data/" + "a" * 90 + "/001.dcm"
    lines = on_terminal(("slice", "class", "score"), [(path, "normal", "-1.250")])
    assert [line.split() for line in lines if "─" not in line] == [
        ["slice", "class"],
        [path, "normal"],
        ["slice", "score"],
        [path, "-1.250"],
    ]


def test_a_table_that_fits_the_terminal_is_one_block(on_terminal):
    lines = on_terminal(("model", "accuracy"), [("svm", "0.8")])
    assert lines == ["  model   accuracy", " ──────────────────", "  svm          0.8"]


def test_elsewhere_a_table_is_whole_however_wide(capsys):
    console.table(["", *MODELS * 4], [("ROC AUC", *FIGURES * 4)], TITLE)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == TITLE
    assert len(lines) == 4
    assert lines[-1].split() == ["ROC", "AUC", *" ".join(FIGURES * 4).split()]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("could not create a primitive"), RuntimeError("can't start new thread")],
)
def test_too_little_memory_is_said_without_a_traceback(monkeypatch, capsys, error):
    def starve(*_, **__):
        raise error

    monkeypatch.setattr(cli, "main", starve)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err.startswith("error: there is not enough memory for this; ")


def test_another_error_of_the_run_time_is_not_taken_for_it(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("of another kind")

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(RuntimeError, match="another kind"):
        main(["doctor"])
