"""A short stretch of make torture: what was disturbed ends with the same bytes."""

import sys
from pathlib import Path

import click
import numpy as np
import pytest
from forked import start_server

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import torture


@pytest.fixture
def bench(tmp_path, monkeypatch):
    start_server("torch", "skops.io", "torture", "haemo.pipeline.cli.heads", "haemo.pipeline.training.head")
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "kept").mkdir()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torture.cohort(work)
    return torture.Torture(torture.Machine(work), np.random.default_rng(0), tmp_path / "kept")


def test_commands_that_are_killed_or_under_a_fault_end_with_the_same_bytes(bench, monkeypatch):
    monkeypatch.setattr(torture, "FAULTS", ("disk full", "no locks", "two at once"))
    for step, kills, faults in (("index", 3, True), ("features", 0, False), ("svm rbf", 3, False)):
        bench.step(step, kills, faults, lambda line: None)
    assert [harm for row in bench.rows.values() for harm in row.harm] == []
    assert sum(row.done for row in bench.rows.values()) == 3 + 2 * 3 + 3


def test_what_a_kill_damages_is_found(bench, monkeypatch):
    """The oracle of the harness: a command that goes on from where a kill left it, and forgets a file."""
    run = torture.Machine.run

    def forgetful(machine, step, fault="", size=0):
        found = run(machine, step, fault, size)
        if bench.rows:
            (machine.work / "run" / "manifest.csv").write_text("lost")
        return found

    monkeypatch.setattr(torture.Machine, "run", forgetful)
    bench.step("index", 1, False, lambda line: None)
    assert bench.rows["index", "SIGKILL"].harm == [
        bench.rows["index", "SIGKILL"].harm[0].partition(", then")[0]
        + ", then undisturbed: run/manifest.csv differs"
    ]


def test_a_command_that_fails_by_itself_is_no_base_to_compare_with(bench):
    with pytest.raises(click.ClickException, match="features fails undisturbed"):
        bench.step("features", 1, False, lambda line: None)
