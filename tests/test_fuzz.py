"""A short stretch of make fuzz: whole files are read, and damaged ones are read or refused."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import fuzz
import run_files
import second_reader
from small_files import small_files

SECONDS = 120.0  # tests share a machine


@pytest.fixture(scope="module")
def seeds():
    return run_files.run_files()


@pytest.fixture(scope="module")
def found(seeds, tmp_path_factory):
    """What came of each whole file, and of several damaged ones of each kind."""
    folder = tmp_path_factory.mktemp("fuzz")
    files, kinds = [], list(seeds)
    for number in range(12 * len(kinds)):
        kind = kinds[number % len(kinds)]
        rng = np.random.default_rng([3, number])
        path = folder / str(number) / run_files.NAMES[kind]
        path.parent.mkdir()
        damage = fuzz.damaged_text if path.suffix in fuzz.TEXT else fuzz.damaged
        whole = number < len(kinds)
        path.write_bytes(seeds[kind] if whole else damage(rng, seeds[kind], seeds[kind]))
        files.append((kind, path))
    said = fuzz.outcomes(files, 300, SECONDS)
    return {(number, kind): one for number, ((kind, _), one) in enumerate(zip(files, said, strict=True))}


@pytest.mark.parametrize("kind", run_files.NAMES)
def test_files_of_a_run_do_no_harm_however_they_are_damaged(found, kind):
    own = [said for (_, known), said in found.items() if known == kind]
    assert own[0] == "read"
    assert {said.partition(":")[0] for said in own} <= {"read", "refused"}, own


def test_another_reader_finds_the_same_pixels_in_whole_files(tmp_path, seeds):
    whole = {**small_files(), **{kind: seeds[kind] for kind in second_reader.KINDS if kind in seeds}}
    files = []
    for number, (kind, data) in enumerate(whole.items()):
        path = tmp_path / str(number) / run_files.NAMES.get(kind, "file.dcm")
        path.parent.mkdir()
        path.write_bytes(data)
        files.append((kind, path))
    assert fuzz.outcomes(files, 300, SECONDS) == ["read"] * len(files)
    # The oracle of the comparison: other pixels are found out, and so is a file that the other cannot read.
    for kind, path in files[:1] + files[-1:]:
        kept = dict(np.load(path.parent / "read.npz"))
        kept["pixels"][0, 0, 0] += 2
        np.savez(path.parent / "read.npz", **kept)
        assert second_reader.compared(kind, path).startswith("wrong: ")
        path.write_bytes(b"")
        assert second_reader.compared(kind, path).startswith("alone: ")


def test_harm_is_told_from_refusal(tmp_path, monkeypatch):
    """The oracle of the harness: a reader that ends its process, hangs, or takes memory is found out."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\n"
        "from pathlib import Path\n"
        "import haemo.features.failures as module\n"
        "def read(path):\n"
        "    match path.read_text():\n"
        "        case 'crash': os.abort()\n"
        "        case 'hang': time.sleep(60)\n"
        "        case 'memory': return bytearray(b'x') * (400 << 20)\n"
        "        case 'other': raise KeyError\n"
        "module.read_failures = read\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    files = []
    for word in ("read", "crash", "hang", "memory", "other"):
        (tmp_path / word).write_text(word)
        files.append(("failures.csv", tmp_path / word))
    said = fuzz.outcomes(files, 300, 5.0)
    assert [one.partition(":")[0] for one in said] == ["read", "crash", "hang", "memory", "other"]
