"""Slices that need a decoder, read in processes with limits: no file costs more than itself."""

import os
import platform
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cohorts import ct_values, dicom_dataset
from PIL import Image
from pydicom.uid import RLELossless
from small_files import small_files
from stand_ins import write_slices

from haemo.errors import BrokenInstallation, UnreadableSlice
from haemo.features.failures import read_failures
from haemo.features.pixels.masks import read_mask
from haemo.features.reading.formats import read_slice
from haemo.features.reading.plain import START_BYTES, is_plain
from haemo.features.reading.reader import SliceReader, end_processes, read_guarded, read_header_guarded
from haemo.features.reading.slice import Slice
from haemo.pipeline.cli import main


def write_rle(path: Path, seed: int = 0, **tags: object) -> Path:
    dataset = dicom_dataset(ct_values(seed), **tags)
    dataset.compress(RLELossless)
    dataset.save_as(path, enforce_file_format=True)
    return path


def tell_process(path: Path) -> Slice:
    """A slice whose only pixel is the number of the process that read it."""
    if path.name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    return Slice(np.full((1, 1), os.getpid(), np.float32), is_hu=True)


def test_slices_are_the_same_whoever_reads_them(tmp_path):
    paths = [write_rle(tmp_path / f"{seed}.dcm", seed) for seed in range(3)]
    paths += sorted(write_slices(tmp_path / "png", 3).iterdir())
    with SliceReader(2) as reader, ThreadPoolExecutor(2) as threads:
        for path, found in zip(paths, threads.map(reader, paths), strict=True):
            expected = read_slice(path)
            np.testing.assert_array_equal(found.pixels, expected.pixels)
            assert (found.is_hu, found.mode) == (expected.is_hu, expected.mode)


HERE = ["PNG", "PNG 16 bit", "PNG with alpha", "PNG palette", "JPEG", "JPEG colour"]
HERE += ["DICOM Explicit VR Little Endian", "DICOM Implicit VR Little Endian", "DICOM Explicit VR Big Endian"]


def test_all_but_plain_files_are_decoded_in_another_process(tmp_path):
    here = []
    with SliceReader(1, tell_process) as reader:
        for name, data in small_files().items():
            path = tmp_path / name.replace("/", " ")
            path.write_bytes(data)
            if reader(path).pixels == os.getpid():
                here.append(name)
    assert here == HERE


def test_a_file_read_there_is_as_one_read_here(tmp_path):
    for name, data in small_files().items():
        path = tmp_path / "file"
        path.write_bytes(data)
        here, there = read_slice(path), read_guarded(path)
        np.testing.assert_array_equal(there.pixels, here.pixels, err_msg=name)
        assert there.pixels.dtype == np.float32
        assert replace(there, pixels=None) == replace(here, pixels=None), name


def test_a_large_slice_goes_through_the_pipe(tmp_path):
    Image.fromarray(np.arange(2100 * 2200, dtype=np.uint16).reshape(2100, 2200)).save(tmp_path / "large.tif")
    np.testing.assert_array_equal(
        read_guarded(tmp_path / "large.tif").pixels, read_slice(tmp_path / "large.tif").pixels
    )


def with_meta(syntax: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """The head of a DICOM file whose group 2 holds a transfer syntax among other elements."""
    element = b"\x02\x00\x10\x00UI" + len(syntax).to_bytes(2, "little") + syntax
    return bytes(128) + b"DICM" + before + element + after + b"\x08\x00\x08\x00CS\0\0"


PLAIN, J2K = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.90"
PRIVATE = b"\x02\x00\x02\x01OB\0\0"


@pytest.mark.parametrize(
    ("start", "plain"),
    [
        (with_meta(PLAIN), True),
        (with_meta(J2K), False),
        (with_meta(J2K, after=b"\x02\x00\x10\x00UI\x14\x00" + PLAIN), True),
        (with_meta(PLAIN, after=b"\x02\x00\x10\x00UI\x16\x00" + J2K), False),
        (with_meta(J2K, PRIVATE + (28).to_bytes(4, "little") + b"\x02\x00\x10\x00UI\x14\x00" + PLAIN), False),
        (with_meta(PLAIN, PRIVATE + (5000).to_bytes(4, "little") + bytes(5000)), False),
        (with_meta(PLAIN, PRIVATE + b"\xff\xff\xff\xff"), False),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 2048, 2048, 8, 0, 0, 0, 0), True),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 2049, 2048, 8, 0, 0, 0, 0), False),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1), False),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(4), False),
        (b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HHB", 512, 512, 1), True),
        (b"\xff\xd8\xff\xc2\x00\x11\x08" + struct.pack(">HHB", 512, 512, 1), False),
        (b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HHB", 65535, 512, 1), False),
        (b"\xff\xd8\xff\xc0\x00\x11\x0c" + struct.pack(">HHB", 512, 512, 1), False),
        (b"\xff\xd8\xff\xe0\xff\xff" + bytes(100), False),
        (b"", False),
    ],
)
def test_what_is_plain_is_told_as_the_decoders_tell_it(start, plain):
    assert is_plain(start[:START_BYTES]) == plain


@pytest.mark.parametrize(("before", "syntaxes"), [(b"", (J2K, PLAIN)), (b"", (PLAIN, J2K))])
def test_pydicom_too_takes_the_last_transfer_syntax(before, syntaxes):
    """The oracle of two of the rows above."""
    elements = [b"\x02\x00\x10\x00UI" + len(one).to_bytes(2, "little") + one for one in syntaxes]
    meta = before + b"".join(elements)
    group = b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little")
    read = pydicom.dcmread(BytesIO(bytes(128) + b"DICM" + group + meta), stop_before_pixels=True)
    assert read.file_meta.TransferSyntaxUID == syntaxes[-1].rstrip(b"\0").decode()


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


_LEFT = []


def do_harm(path: Path) -> Slice:
    """Never end, or take memory, as the name of the file says."""
    while path.name.startswith("hang"):
        pass
    if path.name.startswith("wait"):
        time.sleep(60)
    if path.name.startswith("abort"):
        os.abort()
    if path.name.startswith("leak"):
        _LEFT.append(bytearray(400 << 20))
    if path.name.startswith("odd"):
        raise KeyError("odd")
    if path.name.startswith("lie"):
        return Slice(np.zeros((0, 5), np.float32), is_hu=True)
    taken = bytearray(3 << 30 if path.name.startswith("memory") else 1)
    return Slice(np.full((1, 1), len(taken), np.float32), is_hu=True)


def test_a_decoder_that_does_not_end_costs_its_own_slice_only(tmp_path):
    paths = [write_rle(tmp_path / name) for name in ("a.dcm", "hang.dcm", "b.dcm")]
    with SliceReader(2, do_harm, seconds=0.5) as reader, ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(reader, path) for path in paths]
        with pytest.raises(UnreadableSlice, match=r"its decoder took more than 0\.5 s of CPU; the file"):
            futures[1].result()
        assert futures[0].result().pixels == futures[2].result().pixels == 1
        assert reader(paths[0]).pixels == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux bounds the address space")
def test_a_decoder_that_takes_all_memory_is_stopped(tmp_path):
    with SliceReader(1, do_harm, memory_mb=1024) as reader:
        with pytest.raises(UnreadableSlice, match="its decoder asked for more than 1024 MB of memory"):
            reader(write_rle(tmp_path / "memory.dcm"))
        assert reader(write_rle(tmp_path / "a.dcm")).pixels == 1


def test_a_decoder_that_waits_for_ever_is_stopped_by_the_clock(tmp_path):
    with SliceReader(1, do_harm, seconds=0.2) as reader:
        with pytest.raises(UnreadableSlice, match=r"its decoder took more than 2 s$"):
            reader(write_rle(tmp_path / "wait.dcm"))
        assert reader(write_rle(tmp_path / "a.dcm")).pixels == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("abort.dcm", "its decoder crashed; the file is damaged"),
        ("odd.dcm", "its decoder failed (KeyError: 'odd')"),
        ("lie.dcm", "its decoder crashed; the file is damaged"),
    ],
)
def test_what_else_a_decoder_does_is_said_of_its_file(tmp_path, name, reason):
    with SliceReader(1, do_harm) as reader:
        with pytest.raises(UnreadableSlice) as caught:
            reader(write_rle(tmp_path / name))
        assert str(caught.value) == reason
        assert reader(write_rle(tmp_path / "a.dcm")).pixels == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux bounds the address space")
def test_memory_that_other_files_left_is_no_fault_of_this_one(tmp_path):
    with SliceReader(1, do_harm, memory_mb=1000) as reader:
        for number in range(4):
            assert reader(write_rle(tmp_path / f"leak{number}.dcm")).pixels == 1


def test_a_process_that_others_ended_is_replaced(tmp_path):
    with SliceReader(1, tell_process) as reader:
        first = int(reader(write_rle(tmp_path / "a.dcm")).pixels[0, 0])
        os.kill(first, signal.SIGKILL)
        second = int(reader(write_rle(tmp_path / "b.dcm")).pixels[0, 0])
        assert second not in (first, os.getpid())


def test_a_process_that_cannot_start_is_no_fault_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    end_processes()
    with SliceReader(1) as reader, pytest.raises(BrokenInstallation, match=r"cannot start \(exit code 1\)"):
        reader(write_rle(tmp_path / "a.dcm"))


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there is no shared memory to do without")
def test_without_shared_memory_slices_come_through_the_pipe(tmp_path, monkeypatch):
    def full(name):
        raise OSError("no more")

    monkeypatch.setattr(os, "memfd_create", full)
    end_processes()
    path = write_rle(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_guarded(path).pixels, read_slice(path).pixels)
    end_processes()


def test_a_folder_with_files_that_crash_is_done_but_for_them(tmp_path, monkeypatch, capsys):
    """What a user sees: the command ends, exit code 3, and failures.csv says which and why."""
    slices = write_slices(tmp_path / "data" / "normal", 3)
    for number, path in enumerate(sorted(slices.iterdir())):
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()
        if number == 1:
            path.with_suffix(".tif").write_bytes(path.with_suffix(".tif").read_bytes() + b"harm")
    site = tmp_path / "site"
    site.mkdir()
    (site / "crashing.py").write_text(
        "import os\nfrom haemo.features.reading import formats\n"
        "def read(path):\n"
        "    if path.read_bytes().endswith(b'harm'): os.abort()\n"
        "    return formats.read_slice(path)\n"
    )
    monkeypatch.syspath_prepend(str(site))
    import crashing

    monkeypatch.setattr(SliceReader.__init__, "__defaults__", (crashing.read,))
    run = str(tmp_path / "run")
    assert main(["-q", "index", str(tmp_path / "data"), "--run", run]) == 0
    weights = ["--weights", "random", "--layer", "pool5", "--device", "cpu"]
    assert main(["-q", "features", "--run", run, *weights]) == 3
    (failure,) = read_failures(tmp_path / "run" / "failures.csv")
    assert failure.reason == "its decoder crashed; the file is damaged"
    assert failure.path.endswith(".tif")


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


FAULTS = """
import resource, sys
from pathlib import Path
from haemo.features.extraction.decoding import Decoder
from haemo.features.reading.reader import SliceReader
from haemo.features.views.preprocess import Preprocessing
decode = Decoder(Preprocessing(), lambda content: (0,), SliceReader(1))
faults = []
for _ in range(30):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    decode(Path(sys.argv[1]))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[15])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep what they keep")
@pytest.mark.parametrize("told", [{}, {"MALLOC_TRIM_THRESHOLD_": "65536"}], ids=["alone", "under Dask"])
def test_the_memory_of_one_slice_serves_the_next(tmp_path, told):
    path = tmp_path / "slice.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)).save(path)
    found = subprocess.run(
        [sys.executable, "-c", FAULTS, path], capture_output=True, check=True, env=os.environ | told
    )
    assert int(found.stdout) < 100  # pages of 4 kB; a slice takes over 600


def test_what_index_decodes_to_learn_a_unit_is_decoded_apart_too(tmp_path, monkeypatch):
    deep = Image.fromarray(np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16))
    (tmp_path / "data").mkdir()
    deep.save(tmp_path / "data" / "a.tif", compression="tiff_lzw")
    write_rle(tmp_path / "data" / "b.dcm", Modality="OT")
    # In this process alone.
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", lambda _: os.abort())
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.as_array", lambda *_, **__: os.abort())
    modes = {path.name: read_header_guarded(path).mode for path in (tmp_path / "data").iterdir()}
    assert modes["a.tif"] == "TIFF I;16, gray"
    assert modes["b.dcm"].startswith("DICOM int16 RLE Lossless")


def test_a_mask_is_decoded_apart_where_it_is_not_plain(tmp_path, monkeypatch):
    blood = np.zeros((40, 36), np.uint8)
    blood[3:9, 4:7] = 1
    Image.fromarray(blood).save(tmp_path / "mask.png", "TIFF", compression="tiff_lzw")
    Image.new("L", (9000, 9000)).save(tmp_path / "giant.png")
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n")
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", lambda _: os.abort())
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", blood.shape), blood > 0)
    with pytest.raises(UnreadableSlice, match="too many for one slice"):
        read_mask(tmp_path / "giant.png", (9000, 9000))
    with pytest.raises(UnreadableSlice, match="cannot identify image file"):
        read_mask(tmp_path / "script.png", (4, 4))
