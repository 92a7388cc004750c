"""Time and memory of each step as the number of slices grows, and the exponent of that growth.

    make bench-scale
    make bench-scale ARGS="--sizes 1000,10000"
    make bench-scale ARGS="--sizes 100000 --only svm,softmax --folder DIR"
    make bench-scale ARGS="--sizes 752803 --only merge,verify,svm,compare,report"
    make bench-scale ARGS="--sizes 752803 --only cluster --workers 8 --ms 1"
    make bench-scale ARGS="--sizes 12000,24000 --only svm,softmax --dimension 4096 --memory 0.18 --at 752803"

The slices are pictures of one pixel, about 40 of a patient, and what stands for their embeddings is random
numbers that know a little of the label. Manifest, parts, store, heads and reports are made by haemo's own
writers and commands, each in a process of its own: what is measured is all that grows with the number of
slices, but for decoding and the network, which `make bench-features` measures. Models are compared and
reported on with two heads at every size, svm and softmax.

Memory is that of the largest process, processor time that of all threads. Start-up is what a step takes at
`--start` slices, measured again beside every size, as a processor is slower in some minutes than in others.
It is taken off the times at the two largest sizes, and the exponent is log of their ratio over log of the
ratio of the sizes, with the ends that it has where start-up takes as much less or more as its repeats differ.
Where both ends lie above 1.1 it is marked, kernel search apart.

With `--folder` what was measured is kept there, so that steps and sizes can be run in several goes; the last
one prints all of them.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from growth import Measured, at_size, growth_of

SLICES_OF_A_PATIENT = 40
PART_ROWS = 4096  # 16 MiB of fc7 hold 1,024 rows
LIMIT = 1.1
SHORT_SECONDS = 10.0  # a step that took less is measured again


@dataclass(frozen=True)
class Step:
    """One thing that is measured.

    Attributes
    ----------
    name : str
    command : tuple of str
        Arguments of `haemo`; empty where the work is a function of this file.
    makes : tuple of str
        What it leaves in the run, removed before it is measured again.
    kernel : bool
        Whether it grows with the square of the slices by nature.
    sleeps : bool
        Whether it is measured for the time on the clock: once, and with what it says.
    """

    name: str
    command: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    kernel: bool = False
    sleeps: bool = False


STEPS = (
    Step("index", ("index", "DATA", "--run", "RUN"), ("manifest.csv",)),
    Step("cluster", makes=("features.h5", "contents.csv"), sleeps=True),
    Step("merge", makes=("features.h5",)),
    Step("cached"),
    Step("svm", ("svm", "--run", "RUN"), ("svm",)),
    Step("softmax", ("softmax", "--run", "RUN"), ("softmax",)),
    Step("compare", ("compare", "--run", "RUN"), ("compare.json",)),
    Step("report", ("report", "--run", "RUN"), ("report.html",)),
    Step("verify", ("verify", "--run", "RUN")),
    Step(
        "rbf",
        ("svm", "--run", "RUN", "--kernel", "rbf", "--grid", "C=1", "--grid", "gamma=0.01", "--name", "rbf"),
        ("rbf",),
        kernel=True,
    ),
)
NAMES = tuple(step.name for step in STEPS)
HEADS = ("svm", "softmax")
DEFAULT = ",".join(name for name in NAMES if name != "cluster")


# ---- what is measured on -----------------------------------------------------------------------------


def place_of(number: int) -> str:
    """The file of a slice below the data folder, which is its id: folders of 1,000."""
    return f"{number // 1000:03}/ID_{hashlib.sha256(str(number).encode()).hexdigest()[:9]}.png"


def label_of(number: int) -> str:
    """Two patients of five bleed, in a third of their slices."""
    patient, place = divmod(number, SLICES_OF_A_PATIENT)
    return "haemorrhage" if patient % 5 < 2 and place % 3 == 0 else "normal"


def patient_of(number: int) -> str:
    """Whose slice it is."""
    return f"P{number // SLICES_OF_A_PATIENT:06}"


def write_manifest(run: Path, data: Path | str, count: int) -> None:
    """The manifest that `haemo index` makes of the pictures, without these."""
    from haemo.features.manifest import Manifest, ManifestRow

    rows = [
        ManifestRow(place, Path(data, place), label_of(number), patient_of(number), patient_of(number))
        for number in range(count)
        for place in (place_of(number),)
    ]
    run.mkdir(exist_ok=True)
    Manifest(sorted(rows, key=lambda row: row.slice_id)).write(run / "manifest.csv")


def write_data(folder: Path, count: int) -> None:
    """One-pixel pictures and their labels."""
    folder.mkdir()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    head = b"IHDR", (1).to_bytes(4) + (1).to_bytes(4) + bytes((8, 0, 0, 0, 0))
    chunks = (head, (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b""))
    picture = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)
    with (folder / "labels.csv").open("x", encoding="utf-8") as table:
        table.write("path,label,patient\n")
        for number in range(count):
            path = folder / place_of(number)
            if number % 1000 == 0:
                path.parent.mkdir()
            path.write_bytes(picture)
            table.write(f"{place_of(number)},{label_of(number)},{patient_of(number)}\n")


def fingerprint():
    """That of the embeddings made here."""
    from haemo.features.store.fingerprint import Fingerprint

    return Fingerprint({"network": "random numbers that know a little of the label"})


def write_parts(run: Path, dimension: int) -> None:
    """Embeddings of the manifest's slices, as an extraction leaves them: sealed parts and contents.csv.

    Where there are no pictures, their sizes and times are made up.
    """
    import numpy as np

    from haemo.features.manifest import Manifest
    from haemo.features.reading.formats import stamp_of
    from haemo.features.store.contents import KnownFile
    from haemo.features.store.shards import Shards
    from haemo.features.store.storefile import RowKeys

    rows = Manifest.read(run / "manifest.csv").rows
    stamp = stamp_of if rows[0].path.exists() else lambda _: (0, 0)
    rng = np.random.default_rng(0)
    patients: dict[str, np.ndarray] = {}
    with Shards(run / "features.h5", fingerprint(), "float32", {}) as shards:
        for start in range(0, len(rows), PART_ROWS):
            some = rows[start : start + PART_ROWS]
            for row in some:
                if row.patient not in patients:
                    patients[row.patient] = rng.normal(size=dimension)
            own = np.array([patients[row.patient] for row in some])
            signal = np.array([row.label == "haemorrhage" for row in some])[:, None] * 1.2
            embeddings = (own + signal + rng.normal(size=own.shape)).astype(np.float32)
            contents = [hashlib.sha256(row.slice_id.encode()).hexdigest() for row in some]
            files = [
                KnownFile(row.slice_id, str(row.path), *stamp(row.path), content)
                for row, content in zip(some, contents, strict=True)
            ]
            keys = RowKeys([row.slice_id for row in some], contents, [0] * len(some))
            shards.put(keys, embeddings, files)
        shards.settle()


# ---- what is measured here and not as a command ------------------------------------------------------


def merge_parts(run: Path, dimension: int) -> None:
    """What `haemo features` does when the last slice is through: one store of all parts, and contents.csv."""
    from haemo.features.manifest import Manifest
    from haemo.features.store.contents import Contents
    from haemo.features.store.shards import merge, parts_of
    from haemo.features.store.store import contents_path

    del dimension
    store = run / "features.h5"
    manifest, contents = Manifest.read(run / "manifest.csv"), Contents(contents_path(store))
    files = {known.slice_id: known for known in contents}
    ordered = [files[row.slice_id] for row in manifest]
    names = {known.content: known.slice_id for known in reversed(ordered)}
    merge(store, parts_of(store), [known.content for known in ordered], True, {}, names=names)
    contents.replace(ordered)


class NoNetwork:
    """Stands for the network where all slices are cached: it is asked for nothing."""

    batch, engine = 64, "none"

    def __init__(self, dimension: int):
        self.dimension = dimension

    def describe(self) -> dict:
        """Give the facts of the fingerprint."""
        return {"network": "random numbers that know a little of the label"}

    def stream(self, batches) -> Iterator:
        """Embed nothing."""
        for _ in batches:
            raise AssertionError("a slice was not cached")
        yield from ()


def features_again(run: Path, dimension: int) -> None:
    """`haemo features` on a run that is up to date, without loading a network."""
    from haemo.features.extraction import extract
    from haemo.features.manifest import Manifest
    from haemo.features.views.preprocess import Preprocessing

    extract.embedding_fingerprint = lambda *_: fingerprint()  # that of random numbers, not of a network
    report = extract.extract_features(
        Manifest.read(run / "manifest.csv"), run / "features.h5", NoNetwork(dimension), Preprocessing()
    )
    assert report.cached == report.rows, report


def features_of_sleepers(run: Path, dimension: int, workers: int, ms: float) -> None:
    """`haemo features --cluster local:N` with workers that sleep."""
    from sleeping_workers import extract_asleep

    extract_asleep(run, dimension, workers, ms)


FUNCTIONS: dict[str, Callable[..., None]] = {
    "data": write_data,
    "manifest": write_manifest,
    "parts": write_parts,
    "merge": merge_parts,
    "cached": features_again,
    "cluster": features_of_sleepers,
}


# ---- measuring ---------------------------------------------------------------------------------------


def in_process(command: list[str]) -> Measured:
    """Run a command to its end; this process is small, so the peak is the command's own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        lines = output.read().splitlines()
    said = lines[-1] if lines else ""
    refused = process.returncode == 1 and said.startswith("error: ")
    if process.returncode not in (0, 3) and not refused:
        raise SystemExit(f"{command} ended with {process.returncode}:\n" + "\n".join(lines[-20:]))
    cpu = usage.ru_utime + usage.ru_stime
    return Measured(seconds, cpu, usage.ru_maxrss / 1024, said, refused)


def work_command(name: str, *arguments: Path | float) -> list[str]:
    """How a function of this file is run in a process of its own."""
    plain = [str(one) if isinstance(one, Path) else one for one in arguments]
    return [sys.executable, __file__, "--work", json.dumps([name, *plain])]


@contextmanager
def readied(step: Step, place: Path, dimension: int) -> Iterator[None]:
    """What a step needs for itself alone is there, and goes again."""
    run = place / "run"
    if step.name == "merge" and not (run / "features.parts").exists():
        (run / "contents.csv").unlink(missing_ok=True)
        in_process(work_command("parts", run, dimension))
    yield
    if step.name == "merge":  # as an extraction does when the store is in its place
        shutil.rmtree(run / "features.parts")
    if step.name == "rbf":  # two heads are compared, whatever was measured before
        shutil.rmtree(run / "rbf", ignore_errors=True)


def once(step: Step, place: Path, numbers: tuple[float, ...]) -> Measured:
    """One step, one time; `numbers` are for functions of this file."""
    run, places = place / "run", {"DATA": str(place / "data"), "RUN": str(place / "run")}
    command = [str(Path(sys.executable).with_name("haemo")), *(places.get(one, one) for one in step.command)]
    if not step.command:
        command = work_command(step.name, run, *numbers)
    for name in step.makes:
        if (run / name).is_dir():
            shutil.rmtree(run / name)
        else:
            (run / name).unlink(missing_ok=True)
    return in_process(command)


def measured(
    step: Step, place: Path, start: Path | None, numbers: tuple[float, ...], repeats: int
) -> Measured:
    """One step, the least of some repeats where it is short, in turn with what it takes at the `start`."""
    found, starts = [once(step, place, numbers)], []
    while len(found) < repeats and found[0].cpu < SHORT_SECONDS and not found[0].refused and not step.sleeps:
        if start:
            starts.append(once(step, start, numbers).cpu)
        found.append(once(step, place, numbers))
    while start and len(starts) < repeats and not step.sleeps:
        starts.append(once(step, start, numbers).cpu)
    times = [one.cpu for one in found]
    return replace(
        min(found, key=lambda one: one.cpu),
        spread=max(times) - min(times),
        start_up=min(starts, default=None),
    )


class Results:
    """What was measured so far, by step and number of slices; kept in a file where there is one."""

    def __init__(self, path: Path | None):
        self.path = path
        self.by_step: dict[str, dict[int, Measured]] = {name: {} for name in NAMES}
        self._recall()

    def _recall(self) -> None:
        if self.path and self.path.exists():
            for name, found in json.loads(self.path.read_text(encoding="utf-8")).items():
                self.by_step[name] |= {int(count): Measured(**one) for count, one in found.items()}

    def add(self, step: Step, count: int, result: Measured) -> None:
        """Keep one, and say it; another process may keep its own beside."""
        self._recall()
        self.by_step[step.name][count] = result
        took = f"{result.seconds:9.1f} s {result.cpu:9.2f} s CPU {result.peak_mb:8.0f} MB"
        click.echo(f"{count:9,} slices  {step.name:8} {result.said if result.refused else took}")
        if step.sleeps:
            click.echo(result.said)
        if self.path:
            kept = {
                name: {count: asdict(one) for count, one in found.items()}
                for name, found in self.by_step.items()
            }
            self.path.write_text(json.dumps(kept, indent=1), encoding="utf-8")

    def show(self, at: int | None) -> None:
        """Print a table of all, with exponents, and times at another number of slices."""
        counts = sorted({count for found in self.by_step.values() for count in found})
        heads = [f"{count:,}" for count in counts]
        click.echo(f"| step | {' | '.join(heads)} | exponent | MB at {' | '.join(heads)} |")
        click.echo("|---" * (2 + 2 * len(counts)) + "|")
        for step in STEPS:
            found = self.by_step[step.name]
            if not found:
                continue
            shown = {count: "refused" if one.refused else f"{one.cpu:.2f}" for count, one in found.items()}
            peaks = {count: f"{one.peak_mb:.0f}" for count, one in found.items() if not one.refused}
            grown = growth_of(found)
            over = grown is not None and grown.least > LIMIT and not step.kernel
            words = "" if grown is None else f"{grown}{', above 1.1' if over else ''}"
            columns = [shown.get(count, "") for count in counts]
            memory = [peaks.get(count, "") for count in counts]
            click.echo(f"| {' | '.join([step.name, *columns, words, *memory])} |")
        for name, found in self.by_step.items():
            seconds = at_size(found, at) if at else None
            if seconds is not None:
                click.echo(
                    f"{name} at {at:,} slices, by the line through the last two sizes: {seconds:,.0f} s CPU"
                )


@click.command()
@click.option("--sizes", default="1000,10000,100000", show_default=True, help="Numbers of slices.")
@click.option("--start", default=400, show_default=True, help="Slices to measure start-up at; 0: not.")
@click.option("--repeats", default=3, show_default=True, help="How often a step of under 10 s is measured.")
@click.option("--only", default=DEFAULT, show_default=True, help="Steps to measure.")
@click.option("--dimension", default=16, show_default=True, help="Numbers in an embedding.")
@click.option("--memory", metavar="GIB", help="Of svm and softmax: with more, features are read in blocks.")
@click.option("--workers", default=4, show_default=True, help="Of cluster.")
@click.option("--ms", default=1.0, show_default=True, help="That a worker of cluster sleeps for a slice.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work; kept, and gone on with.")
@click.option("--at", type=int, metavar="SLICES", help="Also give the time at so many, by a line.")
@click.option("--work", hidden=True)
def main(
    sizes: str,
    start: int,
    repeats: int,
    only: str,
    dimension: int,
    memory: str | None,
    workers: int,
    ms: float,
    folder: Path | None,
    at: int | None,
    work: str | None,
) -> None:
    """Measure every step at several numbers of slices."""
    if work:
        name, run, *numbers = json.loads(work)
        FUNCTIONS[name](Path(run), *numbers)
        return
    if not all(size.isdecimal() and int(size) for size in sizes.split(",")):
        raise click.UsageError(f"--sizes {sizes}: give whole numbers of slices, as 1000,10000")
    counts = sorted({*map(int, sizes.split(",")), start} - {0})
    chosen = only.split(",")
    if strangers := set(chosen) - set(NAMES):
        raise click.UsageError(f"no such step: {', '.join(sorted(strangers))}; there are {', '.join(NAMES)}")
    extra = {name: ("--memory", memory) for name in HEADS if memory}
    steps = [replace(step, command=step.command + extra.get(step.name, ())) for step in STEPS]
    with tempfile.TemporaryDirectory() as temporary:
        home = (folder or Path(temporary)) / f"{dimension}-numbers"
        home.mkdir(parents=True, exist_ok=True)
        results = Results(home / "measured.json" if folder else None)
        for count in counts:
            here, beside = chosen, home / str(start) if start else None
            if count == start:
                here, beside = [name for name in chosen if name != "cluster"], None
            place, of_cluster = home / str(count), (workers, ms)
            for step, result in measured_steps(
                place, beside, count, steps, here, dimension, of_cluster, repeats
            ):
                results.add(step, count, result)
        results.show(at)


def measured_steps(
    place: Path,
    start: Path | None,
    count: int,
    steps: list[Step],
    chosen: list[str],
    dimension: int,
    of_cluster: tuple[int, float],
    repeats: int,
) -> Iterator[tuple[Step, Measured]]:
    """Make what the chosen steps stand on, and measure these."""
    if not chosen:
        return
    run, data = place / "run", place / "data"
    place.mkdir(parents=True, exist_ok=True)
    if {"index", "cached"} & set(chosen) and not data.exists():
        in_process(work_command("data", data, count))
        shutil.rmtree(run, ignore_errors=True)  # it knew nothing of these files
    if "index" not in chosen and not (run / "manifest.csv").exists():
        in_process(work_command("manifest", run, data, count))
    for step in steps:
        if step.name not in chosen and not is_missing(step, run, chosen):
            continue
        numbers = (dimension, *of_cluster) if step.sleeps else (dimension,)
        beside = start if step.name in chosen else None
        with ExitStack() as needs:
            for one in {place, beside or place}:
                needs.enter_context(readied(step, one, dimension))
            result = measured(step, place, beside, numbers, repeats)
        if step.name in chosen:
            yield step, result


def is_missing(step: Step, run: Path, chosen: list[str]) -> bool:
    """Whether a step that is not to be measured has to be done all the same, for others to stand on."""
    if step.name == "merge":
        return bool(set(chosen) - {"index", "cluster"}) and not (run / "features.h5").exists()
    compared = {"compare", "report"} & set(chosen)
    return bool(compared) and step.name in HEADS and not (run / step.name / "predictions.csv").exists()


if __name__ == "__main__":
    main()
