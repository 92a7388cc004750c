"""Processes that are killed at any moment, and what the next one makes of what they left."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import CONTEXT, start_server
from stand_ins import Network, extract, folder_manifest, write_slices

from haemo.errors import MissingStep
from haemo.features.extraction import extract as extract_module
from haemo.features.store.verify import verify_store
from haemo.pipeline.cli import main
from haemo.pipeline.run.claim import claim

SLICES = 200


@pytest.fixture(scope="module", autouse=True)
def _server():
    start_server()


def extract_in_parts(slices: Path, run: Path, pause: float = 0.0) -> None:
    extract_module._PART_BYTES = 0
    with claim(run):
        extract(slices, run, Network(pause=pause))


def state(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in ("features.h5", "contents.csv")}


@pytest.mark.parametrize("seed", range(3))
def test_an_extraction_killed_again_and_again_ends_with_the_same_bytes(tmp_path, seed):
    slices, run = write_slices(tmp_path / "slices", SLICES), tmp_path / "run"
    run.mkdir()
    extract(slices, tmp_path / "undisturbed")
    rng = random.Random(seed)
    kills = 0
    while True:
        process = CONTEXT.Process(target=extract_in_parts, args=(slices, run, 0.002))
        process.start()
        process.join(rng.uniform(0, 0.04) * 1.25**kills)
        if process.exitcode is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
        # A reader finds no store or a whole one.
        try:
            assert verify_store(run / "features.h5").sound
        except MissingStep:
            assert not (run / "features.h5").exists()
    assert process.exitcode == 0
    assert kills
    assert state(run) == state(tmp_path / "undisturbed")
    assert sorted(path.name for path in run.iterdir()) == [".features.claim", "contents.csv", "features.h5"]


def die_at(step: int, slices: Path, run: Path) -> None:
    """Extract, and be killed right before the given one of the calls that make or remove a file."""
    left = iter(range(step))

    def guarded(call):
        def guard(*arguments, **options):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return guard

    for owner, name in ((os, "fsync"), (os, "unlink"), (os, "rmdir"), (os, "rename"), (os, "replace")):
        setattr(owner, name, guarded(getattr(owner, name)))
    for name in ("mkdir", "unlink", "replace"):
        setattr(Path, name, guarded(getattr(Path, name)))
    extract_in_parts(slices, run)


def test_an_extraction_killed_at_each_step_on_disk_ends_with_the_same_bytes(tmp_path):
    slices, run = write_slices(tmp_path / "slices", 130), tmp_path / "run"
    run.mkdir()
    extract(slices, tmp_path / "undisturbed")
    step = 0
    while True:
        process = CONTEXT.Process(target=die_at, args=(step, slices, run))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        step += 1
        if step % 3 == 0:
            # Every third time, see what would become of it without another kill.
            extract(slices, run)
            assert state(run) == state(tmp_path / "undisturbed")
            for path in run.iterdir():
                path.unlink()
    assert step > 10
    assert state(run) == state(tmp_path / "undisturbed")


OPTIONS = ("--weights", "random", "--layer", "pool5", "--precision", "float32", "--batch-size", "4")
REAL_COMMAND = """
import signal, sys
# Where these tests are started in the background of a shell, children are told to ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
from haemo.features.extraction import extract
from haemo.pipeline.cli import main
extract._PART_BYTES = 0  # a part is finished after 64 slices
sys.exit(main(sys.argv[1:]))
"""


def start_command(run: Path) -> subprocess.Popen[str]:
    """Start the real command, with the real network."""
    return subprocess.Popen(
        [sys.executable, "-c", REAL_COMMAND, "features", "--run", str(run), *OPTIONS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, error = process.communicate()
    return process.returncode, out, error


def parts(run: Path) -> int:
    return len(list((run / "features.parts").glob("part-*.h5")))


def test_the_real_command_killed_and_stopped_goes_on_with_what_was_finished(tmp_path, monkeypatch):
    slices, run, undisturbed = (tmp_path / name for name in ("slices", "run", "undisturbed"))
    write_slices(slices, 200)
    for folder in (run, undisturbed):
        folder.mkdir()
        folder_manifest(slices).write(folder / "manifest.csv")
    monkeypatch.setattr(extract_module, "_PART_BYTES", 0)
    assert main(["features", "--run", str(undisturbed), *OPTIONS]) == 0

    for signal_number in (signal.SIGKILL, signal.SIGINT):
        before = parts(run)
        process = start_command(run)
        while parts(run) == before and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal_number)
        code, _, said = finish(process)
        assert not (run / "features.h5").exists()
        if signal_number == signal.SIGINT:
            assert code == 130
            assert "what was finished is kept" in said
    code, said, _ = finish(start_command(run))
    cached = int(said.split()[0])
    assert (code, said) == (0, f"{cached} cached, {200 - cached} new, 0 failed\n")
    assert cached >= 128
    assert state(run) == state(undisturbed)
