"""A short stretch of make fuzz-parsers: what parsers of Python refuse they refuse by their own errors."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import fuzz_parsers
from fuzz_parsers import Parser, search

RUNS = 60
NAMES = (
    *(
        "plain",
        "jpeg",
        "jpeg scans",
        "jpeg-ls",
        "jpeg lossless",
        "jpeg 2000",
        "rle",
        "deflate",
        "tiff",
        "picture",
    ),
    *("dicom header", "nifti", "nrrd", "metaimage", "csv", "labels", "manifest", "predictions", "contents"),
    *("split", "json"),
)


@pytest.fixture(scope="module")
def parsers(tmp_path_factory):
    return fuzz_parsers.parsers(tmp_path_factory.mktemp("parsers"))


def test_all_parsers_are_here(parsers):
    assert tuple(parsers) == NAMES


@pytest.mark.filterwarnings("ignore")  # readers warn of what is odd in a file, and go on
@pytest.mark.parametrize("name", NAMES)
def test_a_parser_refuses_damage_by_its_own_errors(parsers, name):
    whole = search(parsers[name], 0, most_runs=len(parsers[name].seeds))
    assert (whole.refused, whole.harm) == (0, {})
    assert whole.steps
    assert search(parsers[name], 0, most_runs=RUNS).harm == {}


def hidden(data: bytes) -> None:
    """A fault that is met by who goes on from what got further."""
    if not 100 <= data[0] < 126:
        return
    if not 100 <= data[1] < 126:
        return
    if not 100 <= data[2] < 126:
        return
    if not 100 <= data[3] < 126:
        return
    if not 100 <= data[4] < 126:
        return
    raise KeyError("found")


def test_what_is_met_step_by_step_is_found_with_guidance_alone(monkeypatch):
    monkeypatch.setattr(fuzz_parsers, "HAEMO", str(Path(__file__).parent))
    parser = Parser(hidden, [bytes(8)], (IndexError,))
    assert not search(parser, 1, most_runs=3000, is_guided=False).harm
    assert "found" in next(iter(search(parser, 1, most_runs=3000).harm))


def test_a_parser_that_does_not_end_is_found_out():
    def endless(data: bytes) -> None:
        while True:
            pass

    (what,) = search(Parser(endless, [b"a"], ()), 0, most_runs=1).harm
    assert what.startswith("TimeoutError")
