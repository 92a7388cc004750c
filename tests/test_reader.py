"""Slices whose decoder keeps Python's lock, read in other processes."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from cohorts import ct_values, dicom_dataset
from pydicom.uid import RLELossless
from stand_ins import write_slices

from haemo.errors import UnreadableSlice
from haemo.features.reading.formats import read_slice
from haemo.features.reading.reader import SliceReader
from haemo.features.reading.slice import Slice


def write_rle(path: Path, seed: int = 0, **tags: object) -> Path:
    dataset = dicom_dataset(ct_values(seed), **tags)
    dataset.compress(RLELossless)
    dataset.save_as(path, enforce_file_format=True)
    return path


def tell_process(path: Path) -> Slice:
    """A slice whose only pixel is the number of the process that read it."""
    if path.name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    return Slice(np.full((1, 1), os.getpid(), np.float64), is_hu=True)


def test_slices_are_the_same_whoever_reads_them(tmp_path):
    paths = [write_rle(tmp_path / f"{seed}.dcm", seed) for seed in range(3)]
    paths += sorted(write_slices(tmp_path / "png", 3).iterdir())
    with SliceReader(2) as reader, ThreadPoolExecutor(2) as threads:
        for path, found in zip(paths, threads.map(reader, paths), strict=True):
            expected = read_slice(path)
            np.testing.assert_array_equal(found.pixels, expected.pixels)
            assert (found.is_hu, found.mode) == (expected.is_hu, expected.mode)


def test_only_what_keeps_the_lock_goes_to_another_process(tmp_path):
    packed = write_rle(tmp_path / "packed.dcm")
    plain = tmp_path / "plain.dcm"
    dicom_dataset(ct_values(0)).save_as(plain, enforce_file_format=True)
    (picture,) = write_slices(tmp_path / "png", 1).iterdir()
    with SliceReader(1, tell_process) as reader:
        assert reader(plain).pixels == os.getpid()
        assert reader(picture).pixels == os.getpid()
        assert reader(packed).pixels != os.getpid()


def test_an_unusable_file_says_why_from_there_too(tmp_path):
    path = write_rle(tmp_path / "scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(UnreadableSlice) as here:
        read_slice(path)
    with SliceReader(1) as reader, pytest.raises(UnreadableSlice) as there:
        reader(path)
    assert str(there.value) == str(here.value)
    with SliceReader(1) as reader, pytest.raises(UnreadableSlice, match="No such file"):
        reader(tmp_path / "missing.dcm")


def test_a_decoder_that_crashes_costs_its_own_slice_only(tmp_path):
    paths = [write_rle(tmp_path / name) for name in ("a.dcm", "crash.dcm", "b.dcm", "c.dcm")]

    def attempt(path):
        try:
            return reader(path).pixels
        except UnreadableSlice as error:
            return str(error)

    with SliceReader(2, tell_process) as reader, ThreadPoolExecutor(2) as threads:
        found = list(threads.map(attempt, paths))
    assert found[1] == "its decoder crashed; the file is damaged"
    assert all(isinstance(pixels, np.ndarray) for pixels in (found[0], *found[2:]))


def do_harm(path: Path) -> Slice:
    """Never end, or take memory, as the name of the file says."""
    while path.name.startswith("hang"):
        pass
    taken = bytearray(3 << 30 if path.name.startswith("memory") else 1)
    return Slice(np.full((1, 1), len(taken), np.float32), is_hu=True)


def test_a_decoder_that_does_not_end_costs_its_own_slice_only(tmp_path):
    paths = [write_rle(tmp_path / name) for name in ("a.dcm", "hang.dcm", "b.dcm")]
    with SliceReader(2, do_harm, seconds=0.5) as reader, ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(reader, path) for path in paths]
        with pytest.raises(UnreadableSlice, match=r"its decoder took more than 0\.50. s of CPU"):
            futures[1].result()
        assert futures[0].result().pixels == futures[2].result().pixels == 1
        assert reader(paths[0]).pixels == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux bounds the address space")
def test_a_decoder_that_takes_all_memory_is_stopped(tmp_path):
    with SliceReader(1, do_harm, memory_mb=1024) as reader:
        with pytest.raises(UnreadableSlice, match="its decoder asked for more than 1024 MB of memory"):
            reader(write_rle(tmp_path / "memory.dcm"))
        assert reader(write_rle(tmp_path / "a.dcm")).pixels == 1


READ_AND_WAIT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from haemo.features.reading.reader import SliceReader
from test_reader import tell_process
print(int(SliceReader(1, tell_process)(Path(sys.argv[2])).pixels[0, 0]), flush=True)
time.sleep(60)
"""


def test_the_processes_end_with_a_parent_that_was_killed(tmp_path):
    command = [sys.executable, "-c", READ_AND_WAIT, str(Path(__file__).parent)]
    parent = subprocess.Popen(
        [*command, str(write_rle(tmp_path / "a.dcm"))], stdout=subprocess.PIPE, text=True
    )
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        assert not is_running(child)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Without an init that waits for it, an ended process stays in the table as a zombie.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
