"""A short stretch of make fuzz: whole files are read, and damaged ones are read or refused."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import fuzz
import run_files

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
