"""Progress as it is shown: plain lines by the clock where there is no terminal."""

import threading
import time

from pipeline.cli import console


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
