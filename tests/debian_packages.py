"""Debian packages whose programs some tests hold results against; without them these are named, not run.

A test says which it needs: ``@pytest.mark.debian("dcmtk")``. Run as a script, this prints all of them.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

__all__ = ["PROVIDED", "missing"]

# Package -> the program or file by which it is known to be there.
PROVIDED = {
    "dicom3tools": "dciodvfy",
    "dcmtk": "dsrdump",
    "chromium": "chromium",
    "orthanc": "Orthanc",
    "orthanc-dicomweb": "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",
    "openssl": "openssl",
}

_not_run: dict[str, list[str]] = {}


def missing(packages: Iterable[str]) -> list[str]:
    """Those of `packages` that are not installed here."""
    return [name for name in packages if not (shutil.which(PROVIDED[name]) or Path(PROVIDED[name]).is_file())]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = []
    for item in items:
        needed = [name for mark in item.iter_markers("debian") for name in mark.args]
        absent = missing(needed)
        if absent:
            _not_run[item.nodeid] = absent
        else:
            kept.append(item)
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
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
    if _not_run:
        packages = [name for name in PROVIDED if any(name in absent for absent in _not_run.values())]
        tests, them = ("1 test", "it") if len(_not_run) == 1 else (f"{len(_not_run)} tests", "them")
        terminalreporter.write_line(
            f"not run, for want of Debian packages: {tests}; to run {them} too: "
            f"apt-get install {' '.join(packages)}"
        )


if __name__ == "__main__":
    print(*PROVIDED)
