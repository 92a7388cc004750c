"""Fresh processes, forked from a server that has imported what they need: many can be started and killed."""

import multiprocessing
import os
from multiprocessing import forkserver
from pathlib import Path

import pytest

__all__ = ["CONTEXT", "start_server"]

CONTEXT = multiprocessing.get_context("forkserver")
_TESTS = Path(__file__).resolve().parent
_IMPORTED = ("stand_ins", "h5py", "haemo.features.reading.dicom", "haemo.features.reading.raster")


def start_server(*also: str) -> None:
    """Start the server of this process, which imports modules, and others `also`.

    There is one server of a process: where it runs already, forks import for themselves what it has not.
    """
    with pytest.MonkeyPatch.context() as patch:
        # The server knows nothing of the path that pytest puts together.
        for folder in (_TESTS, _TESTS.parent / "benchmarks"):
            patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        CONTEXT.set_forkserver_preload([*_IMPORTED, *also])
        forkserver.ensure_running()
