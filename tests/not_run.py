"""Tests that need what this machine may lack: left out where it does, and counted in the last lines.

A test says what it needs: ``@pytest.mark.debian("dcmtk")``, or ``@pytest.mark.cuda``. With
HAEMO_CUDA_TESTS_ON=cpu the latter run on the CPU, to see that they are sound where there is no such device.
"""

import os
from functools import cache

import pytest
from debian_packages import PROVIDED, missing

__all__ = ["cuda_tests_on", "leave_out"]

_CUDA = "a CUDA device"
_not_run: dict[str, list[str]] = {}


@cache
def cuda_tests_on() -> str | None:
    """The device for tests that need CUDA; None where there is none."""
    chosen = os.environ.get("HAEMO_CUDA_TESTS_ON")
    if chosen:
        return chosen
    import torch

    return "cuda" if torch.cuda.is_available() else None


def _absent(item: pytest.Item) -> list[str]:
    absent = missing(name for mark in item.iter_markers("debian") for name in mark.args)
    return [*absent, _CUDA] if item.get_closest_marker("cuda") and not cuda_tests_on() else absent


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out of `items` what needs something that is not here, and note it for the last lines."""
    kept = []
    for item in items:
        absent = _absent(item)
        if absent:
            _not_run[item.nodeid] = absent
        else:
            kept.append(item)
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in _not_run])
        items[:] = kept


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that waits for this one, where tests run in several."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["not_run"] = _not_run


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    _not_run.update(getattr(node, "workeroutput", {}).get("not_run", {}))


def pytest_terminal_summary(terminalreporter) -> None:
    packages = [name for name in PROVIDED if any(name in absent for absent in _not_run.values())]
    for number, what, remedy in (
        (
            sum(absent != [_CUDA] for absent in _not_run.values()),
            "Debian packages",
            f"apt-get install {' '.join(packages)}",
        ),
        (sum(absent == [_CUDA] for absent in _not_run.values()), _CUDA, "make bench-gpu where there is one"),
    ):
        if number:
            tests, them = ("1 test", "it") if number == 1 else (f"{number} tests", "them")
            terminalreporter.write_line(f"not run, for want of {what}: {tests}; to run {them} too: {remedy}")
