"""Fuzzing of the parsers that are written in Python, guided by the lines that an input reaches.

    make fuzz-parsers
    make fuzz-parsers ARGS="--seconds 60 --only nifti"

An input that leads through a step from one line to another that none before has taken is kept, and damaged
further. With atheris installed (pip install atheris; it has no wheels for every Python) ARGS="--atheris
--only NAME" gives one parser to libFuzzer; without it lines are followed by Python's own tracing.

A parser may give back what it likes, or refuse by the errors that it documents. Any other error, and more
than a second, is harm: it is printed and its input kept.
"""

import signal
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from pathlib import Path
from types import FrameType
from typing import Any

import click
import numpy as np
from fuzz import damaged, damaged_text

HAEMO = str(Path(__file__).resolve().parent.parent)
MOST_BYTES = 1 << 16
SECONDS_OF_ONE = 1.0


@dataclass(frozen=True)
class Parser:
    """What is fuzzed: a function of bytes, inputs that it reads, and the errors that it may raise."""

    read: Callable[[bytes], object]
    seeds: list[bytes]
    refusals: tuple[type[Exception], ...]
    is_text: bool = False


@dataclass
class Found:
    """What came of a parser."""

    runs: int = 0
    refused: int = 0
    inputs: list[bytes] = field(default_factory=list)
    steps: set[tuple[str, int, int]] = field(default_factory=set)
    harm: dict[str, bytes] = field(default_factory=dict)


# ---- the loop ----------------------------------------------------------------------------------------


def search(
    parser: Parser, seed: int, seconds: float = 1e9, most_runs: int = 1 << 62, is_guided: bool = True
) -> Found:
    """Damage inputs until time or runs are over."""
    rng, found = np.random.default_rng(seed), Found()
    for data in parser.seeds:
        _try(parser, data, found)
    if not found.inputs:
        found.inputs = list(parser.seeds)
    damage = damaged_text if parser.is_text else damaged
    end = time.monotonic() + seconds
    while found.runs < most_runs and time.monotonic() < end:
        pool = found.inputs if is_guided else parser.seeds
        data = damage(rng, pool[rng.integers(len(pool))], pool[rng.integers(len(pool))])
        _try(parser, data[:MOST_BYTES], found)
    return found


def _try(parser: Parser, data: bytes, found: Found) -> None:
    found.runs += 1
    steps: set[tuple[str, int, int]] = set()
    try:
        with _followed(steps), _one_second():
            parser.read(data)
    except parser.refusals:
        found.refused += 1
    except Exception as error:
        found.harm.setdefault(f"{type(error).__name__}: {_place_of(error)}: {error}"[:200], data)
    if not steps <= found.steps:
        found.steps |= steps
        found.inputs.append(data)


@contextmanager
def _followed(steps: set[tuple[str, int, int]]) -> Iterator[None]:
    """Note each step from a line to the next in the files of haemo."""

    def called(frame: FrameType, event: str, _: Any) -> Callable | None:
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(HAEMO):
            return None
        last = 0

        def stepped(frame: FrameType, event: str, _: Any) -> Callable:
            nonlocal last
            if event == "line":
                steps.add((file, last, frame.f_lineno))
                last = frame.f_lineno
            return stepped

        return stepped

    before = sys.gettrace()
    sys.settrace(called)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _one_second() -> Iterator[None]:
    def stop(_: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {SECONDS_OF_ONE:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_OF_ONE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _place_of(error: Exception) -> str:
    """The last line of haemo's that an error came through."""
    place, trace = "", error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(HAEMO) and not file.endswith(Path(__file__).name):
            place = f"{file.removeprefix(HAEMO)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


# ---- what is fuzzed ----------------------------------------------------------------------------------


def parsers(folder: Path) -> dict[str, Parser]:
    """The parsers by name; those of files write them into a folder."""
    import pydicom.uid as uid
    from cohorts import ct_values
    from run_files import run_files
    from small_files import SIZE, frame_of, j2k_stream, small_files

    from haemo.atomic import parse_json
    from haemo.errors import BadDataset, HaemoError, UnreadableSlice
    from haemo.features.layouts.table import Table
    from haemo.features.manifest import Manifest
    from haemo.features.reading.dicom import read_dicom_header
    from haemo.features.reading.plain import is_plain, transfer_syntax
    from haemo.features.reading.raster import decode_raster
    from haemo.features.reading.streams.deflate import inflated
    from haemo.features.reading.streams.described import Described
    from haemo.features.reading.streams.jpeg import check_jpeg, check_jpeg_ls, check_scans
    from haemo.features.reading.streams.jpeg2000 import check_jpeg2000
    from haemo.features.reading.streams.lossless_jpeg import check_lossless_head
    from haemo.features.reading.streams.rle import check_rle
    from haemo.features.reading.streams.tiff import count_pictures
    from haemo.features.reading.volumes.metaimage import open_metaimage
    from haemo.features.reading.volumes.nifti import open_nifti
    from haemo.features.reading.volumes.nrrd import open_nrrd
    from haemo.features.store.contents import Contents
    from haemo.pipeline.run.predictions import Predictions
    from haemo.pipeline.splitting.split import Split
    from haemo.tables import rows_of_lines

    small, of_run = small_files(), run_files()
    stored = ct_values(1, SIZE)
    deep, shallow = Described(*SIZE, 16, 16), Described(*SIZE, 8, 8)
    unreadable, bad = (UnreadableSlice,), (BadDataset,)

    def through_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        path = folder / name

        def from_bytes(data: bytes) -> object:
            path.write_bytes(data)
            return read(path)

        return from_bytes

    def table(path: Path) -> object:
        return list(Table.open(path).rows())

    lossless = small["DICOM JPEG lossless"]
    lossless = lossless[lossless.index(b"\xff\xd8\xff") :]
    packed = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    heads = [data for name, data in small.items() if name.startswith("DICOM")]
    pictures = [data for name, data in small.items() if not name.startswith("DICOM")]
    tiffs = [data for name, data in small.items() if "TIFF" in name]
    return {
        "plain": Parser(lambda data: (is_plain(data), transfer_syntax(data)), [*heads, *pictures], ()),
        "jpeg": Parser(lambda data: check_jpeg(data, shallow), [small["JPEG"]], unreadable),
        "jpeg scans": Parser(check_scans, [small["JPEG progressive"]], unreadable),
        "jpeg-ls": Parser(
            lambda data: check_jpeg_ls(data, deep), [frame_of(stored, uid.JPEGLSLossless)], unreadable
        ),
        "jpeg lossless": Parser(lambda data: check_lossless_head(data, SIZE), [lossless], unreadable),
        "jpeg 2000": Parser(
            lambda data: check_jpeg2000(data, deep),
            [
                frame_of(stored, uid.JPEG2000Lossless),
                j2k_stream(SIZE),
                j2k_stream(SIZE, is_high_throughput=True),
            ],
            unreadable,
        ),
        "rle": Parser(lambda data: check_rle(data, deep), [frame_of(stored, uid.RLELossless)], unreadable),
        "deflate": Parser(
            lambda data: inflated(data, 1 << 16),
            [packed.compress(stored.tobytes()) + packed.flush()],
            (UnreadableSlice, zlib.error),
        ),
        "tiff": Parser(lambda data: count_pictures(BytesIO(data)), tiffs, (struct.error, ValueError)),
        "picture": Parser(decode_raster, [small["PNG"], small["BMP"], small["BMP colour"]], unreadable),
        "dicom header": Parser(lambda data: read_dicom_header(BytesIO(data)), heads, unreadable),
        "nifti": Parser(through_file("a.nii", open_nifti), [of_run["NIfTI"]], unreadable),
        "nrrd": Parser(through_file("a.nrrd", open_nrrd), [of_run["NRRD"]], unreadable),
        "metaimage": Parser(through_file("a.mha", open_metaimage), [of_run["MetaImage"]], unreadable),
        "csv": Parser(
            lambda data: list(rows_of_lines(StringIO(data.decode("latin-1"), newline=""), Path("a.csv"))),
            [of_run["manifest.csv"]],
            bad,
            is_text=True,
        ),
        "labels": Parser(through_file("labels.csv", table), [of_run["labels.csv"]], bad, is_text=True),
        "manifest": Parser(
            through_file("manifest.csv", Manifest.read), [of_run["manifest.csv"]], (HaemoError,), is_text=True
        ),
        "predictions": Parser(
            through_file("predictions.csv", Predictions.read),
            [of_run["predictions.csv"]],
            (HaemoError,),
            is_text=True,
        ),
        "contents": Parser(
            through_file("contents.csv", Contents), [of_run["contents.csv"]], (), is_text=True
        ),
        "split": Parser(
            through_file("split.json", Split.read), [of_run["split.json"]], (HaemoError,), is_text=True
        ),
        "json": Parser(parse_json, [of_run["run.json"]], (ValueError,), is_text=True),
    }


# ---- the table ---------------------------------------------------------------------------------------


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="For each parser.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", default="", help="Part of the name of a parser.")
@click.option("--atheris", "is_atheris", is_flag=True, help="Give it to atheris, which must be installed.")
@click.option("--out", default="build/fuzz", show_default=True, type=click.Path(path_type=Path))
def main(seconds: float, seed: int, only: str, is_atheris: bool, out: Path) -> None:
    warnings.simplefilter("ignore")  # readers warn of what is odd in a file, and go on
    with tempfile.TemporaryDirectory() as folder:
        with _instrumented(is_atheris):
            wanted = {name: one for name, one in parsers(Path(folder)).items() if only.lower() in name}
        if not wanted:
            raise click.UsageError(f"no parser has {only!r} in its name")
        if is_atheris:
            _give_to_atheris(next(iter(wanted.values())), seconds, seed)
        kept = []
        click.echo(f"{'parser':16}{'inputs':>10}{'refused':>10}{'kept':>8}{'steps':>8}{'harm':>8}")
        for name, parser in wanted.items():
            found = search(parser, seed, seconds)
            counts = (found.runs, found.refused, len(found.inputs), len(found.steps), len(found.harm))
            click.echo(
                f"{name:16}" + "".join(f"{n:>{w}}" for n, w in zip(counts, (10, 10, 8, 8, 8), strict=True))
            )
            for number, (what, data) in enumerate(found.harm.items()):
                out.mkdir(parents=True, exist_ok=True)
                (out / f"parser {name} {seed}-{number}").write_bytes(data)
                kept.append(f"{out / f'parser {name} {seed}-{number}'}: {what}")
    for line in kept:
        click.echo(line)
    sys.exit(bool(kept))


def _instrumented(is_atheris: bool) -> AbstractContextManager[Any]:
    """Where haemo has to be imported for atheris to follow it."""
    if not is_atheris:
        return nullcontext()
    try:
        import atheris
    except ImportError:
        raise click.ClickException("atheris is not installed: pip install atheris") from None
    return atheris.instrument_imports(include=["haemo"])


def _give_to_atheris(parser: Parser, seconds: float, seed: int) -> None:
    import atheris

    def one(data: bytes) -> None:
        with suppress(parser.refusals):
            parser.read(data)

    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(parser.seeds):
            (Path(corpus) / str(number)).write_bytes(data)
        words = [f"-max_total_time={seconds:.0f}", f"-seed={seed + 1}", f"-max_len={MOST_BYTES}", corpus]
        atheris.Setup([sys.argv[0], *words], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
