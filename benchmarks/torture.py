"""The commands, disturbed in every way that a machine knows: what is left must be as if nothing had been.

    make torture
    make torture ARGS="--kills 1000 --seed 1"
    make torture ARGS="--only svm --kills 50 --no-faults"

A small cohort goes through the real commands. Each is killed at a random moment (SIGKILL, SIGTERM, Ctrl-C),
up to five times in a row, or works under a fault:

    disk full    no file may grow past a random size
    tmpfs full   the run lies on a small tmpfs that is full, where this user may mount one
    read-only    the run directory cannot be written
    no locks     flock says ENOLCK, as some network disks do
    64 files     open at once, at most
    memory       little address space beside what the process has
    clock back   by a day
    two at once  the same command twice on one run

Then it is typed again, undisturbed. What lies there must have the same names and bytes as after a run that
was never disturbed; only dates, and seconds that work took, are left out. A traceback on the screen is harm
too, and so is an exit code that is none of haemo's.
"""

import errno
import fcntl
import hashlib
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import click
import numpy as np

KILLS = ("SIGKILL", "SIGTERM", "SIGINT")
FAULTS = (
    "disk full",
    "tmpfs full",
    "read-only",
    "no locks",
    "64 files",
    "memory",
    "clock back",
    "two at once",
)
CODES = (0, 1, 3, 130)
DAY = 86_400.0
NOBODY = 65_534
# Fresh processes forked from a small server that has imported what is slow: a thousand can be killed.
SERVER = multiprocessing.get_context("forkserver")
IMPORTED = [
    *("torture", "torch", "sklearn.svm", "h5py", "skops.io", "PIL.PngImagePlugin", "nilearn.datasets"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "skimage.transform"),
    *("haemo.pipeline.cli.heads", "haemo.pipeline.cli.networks", "haemo.pipeline.cli.explain"),
    *("haemo.pipeline.training.head", "haemo.pipeline.training.network", "haemo.pipeline.cli.report"),
    *("haemo.pipeline.evaluation.leakage", "haemo.pipeline.report.documents"),
    *("haemo.pipeline.predicting.prediction", "haemo.pipeline.explaining.explanation"),
    *("haemo.features.extraction.extract", "haemo.features.phantom.cohort"),
]

FEATURES = ("--weights", "random", "--layer", "pool5", "--device", "cpu", "--precision", "float32")
GRID = ("--grid", "C=1,10,100", "--grid", "gamma=1e-6,1e-5")
FEW = ("--resamples", "100")
# What is typed; words in capitals are folders and files of the harness.
STEPS = {
    "index": ("index", "DATA", "--run", "RUN"),
    "features": ("features", "--run", "RUN", *FEATURES, "--batch-size", "4"),
    "svm rbf": ("svm", "--run", "RUN", "--kernel", "rbf", *GRID),
    "finetune": ("finetune", "--run", "RUN", "--weights", "TRUNK", "--epochs", "2", "--freeze-below", "fc6"),
    "leakage": ("leakage", "--run", "RUN", "--repeats", "2", *FEW),
    "report": ("report", "--run", "RUN", *FEW),
    "predict": ("predict", "--run", "RUN", "--device", "cpu", "--explain", "--out", "SCORES", "NEW"),
    "phantom": (
        "phantom",
        "PHANTOM",
        "--patients",
        "2",
        "--slices",
        "2..2",
        "--size",
        "64",
        "--workers",
        "1",
    ),
}
# How many of the kills each gets: those that take little get more.
SHARES = {"index": 30, "features": 18, "svm rbf": 18, "finetune": 1, "leakage": 1, "report": 1, "predict": 3}
SHARES["phantom"] = 2
PLACES = {"DATA": "data", "NEW": "new", "TRUNK": "trunk.safetensors"}
PLACES |= {"RUN": "run", "SCORES": "scores.csv", "PHANTOM": "phantom"}
OUTPUTS = ("run", "scores.csv", "phantom")


# ---- one command in a process of its own -----------------------------------------------------------


@dataclass
class Attempt:
    """How a command ended: exit code, what it said, seconds."""

    code: int
    said: str
    seconds: float

    def harm(self, codes: tuple[int, ...] = CODES) -> str:
        """What a user must never see; empty if it was not seen."""
        if "Traceback" in self.said:
            return "traceback: " + self.said.strip().splitlines()[-1][:150]
        return "" if self.code in codes else f"exit code {self.code}: {self.said[-150:]}"


def command(words: list[str], said: Connection, fault: str, size: int) -> None:
    """Run one command in this process, as a shell would, under a fault."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the command is what it meets
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(said.fileno(), stream)
    from haemo.pipeline.cli import main

    sys.argv = ["haemo", *words]
    under(fault, size)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(words))


def under(fault: str, size: int) -> None:
    """Put this process under a fault; `size` is drawn anew for each."""
    match fault:
        case "disk full":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        case "read-only" if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        case "no locks":

            def refuse(*_: object) -> None:
                raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

            fcntl.flock = refuse
        case "64 files":
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        case "memory":
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + size
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        case "clock back":
            now = time.time
            time.time = lambda: now() - DAY


Started = tuple["BaseProcess", Connection, float]


class Machine:
    """Where commands run: folders of the harness, and the processes it starts."""

    def __init__(self, work: Path):
        self.work = work

    def words(self, step: str) -> list[str]:
        return [str(self.work / PLACES[word]) if word in PLACES else word for word in STEPS[step]]

    def start(self, step: str, fault: str = "", size: int = 0) -> Started:
        said, output = SERVER.Pipe(duplex=False)
        process = SERVER.Process(target=command, args=(self.words(step), output, fault, size))
        process.start()
        output.close()
        return process, said, time.monotonic()

    def finish(self, started: Started) -> Attempt:
        process, said, start = started
        text = b""
        # Processes of its own may outlive a command that was killed, and hold the pipe.
        while process.is_alive() or said.poll(0):
            if said.poll(0.02):
                read = os.read(said.fileno(), 1 << 16)
                text += read
                if not read:
                    break
        said.close()
        process.join()
        code = process.exitcode or 0
        process.close()
        return Attempt(code, text.decode(errors="replace"), time.monotonic() - start)

    def run(self, step: str, fault: str = "", size: int = 0) -> Attempt:
        return self.finish(self.start(step, fault, size))

    def kill(self, step: str, after: float, number: signal.Signals) -> tuple[Attempt, bool]:
        """Kill a command after some seconds; whether it was still at work."""
        process, said, start = self.start(step)
        process.join(after)
        hit = process.exitcode is None
        if hit:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
        return self.finish((process, said, start)), hit


# ---- what lies there -------------------------------------------------------------------------------

TIMES = re.compile(
    rb'"(finished|started|created|saved|date)": "[^"]*"'
    rb'|"[a-z_]*(seconds|_s)": (\[[^\]]*\]|[-+0-9.e]+)'
    rb'|"(cached|computed|new)": \d+'  # of features: what was kept from before a kill is not done again
    rb"|\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(\+00:00|Z| UTC)?)?"
    rb"|\b[0-9][0-9.,]* (s|ms|seconds|minutes)\b"
)


def state(work: Path) -> dict[str, str]:
    """Every file that a command leaves, by name: its hash, without times."""
    found = {}
    for name in OUTPUTS:
        top = work / name
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and not path.name.endswith(".claim"):
                found[str(path.relative_to(work))] = hashlib.sha256(timeless(path)).hexdigest()
    return found


def timeless(path: Path) -> bytes:
    """The content of a file, but for dates and for seconds that work took."""
    data = path.read_bytes()
    if path.suffix == ".csv":
        rows = [line.split(b",") for line in data.split(b"\n")]
        kept = [place for place, name in enumerate(rows[0]) if not name.endswith(b"seconds")]
        return b"\n".join(b",".join(row[place] for place in kept if place < len(row)) for row in rows)
    if path.suffix in (".json", ".html", ".md", ".svg"):
        return TIMES.sub(b"", data)
    return data


def difference(found: dict[str, str], expected: dict[str, str]) -> str:
    """What is not as it should be, in a few words; empty if all is."""
    words = [f"{name} is missing" for name in expected.keys() - found.keys()]
    words += [f"{name} is left over" for name in found.keys() - expected.keys()]
    words += [f"{name} differs" for name in found.keys() & expected.keys() if found[name] != expected[name]]
    return "; ".join(sorted(words)[:3])


def restore(snapshot: Path, work: Path) -> None:
    for name in OUTPUTS:
        path = work / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
    if snapshot.is_dir():
        for source in snapshot.iterdir():
            target = work / source.name
            shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)


def keep(work: Path, snapshot: Path) -> None:
    snapshot.mkdir(parents=True)
    for name in OUTPUTS:
        path = work / name
        if path.exists():
            shutil.copytree(path, snapshot / name) if path.is_dir() else shutil.copy2(path, snapshot / name)


# ---- the table -------------------------------------------------------------------------------------


@dataclass
class Row:
    """What came of the disturbances of one kind of one command."""

    done: int = 0
    hit: int = 0
    harm: list[str] = field(default_factory=list)


class Torture:
    """Steps, one after another; each is disturbed from the state that the ones before left."""

    def __init__(self, machine: Machine, rng: np.random.Generator, kept: Path):
        self.machine = machine
        self.rng = rng
        self.kept = kept
        self.rows: dict[tuple[str, str], Row] = {}

    def step(self, step: str, kills: int, faults: bool, tell: Callable[[str], None]) -> None:
        """Disturb one command; at the end what it leaves undisturbed lies there."""
        work, before = self.machine.work, self.machine.work / "before"
        shutil.rmtree(before, ignore_errors=True)
        keep(work, before)
        ends = []
        for _ in range(2):
            restore(before, work)
            whole = self.machine.run(step)
            if whole.code != 0 or "Traceback" in whole.said:
                raise click.ClickException(f"{step} fails undisturbed: {whole.said[-2000:]}")
            ends.append(state(work))
        if odd := difference(*ends):
            raise click.ClickException(f"{step}: two undisturbed runs are not alike: {odd}")
        after = self.machine.work / "after"
        shutil.rmtree(after, ignore_errors=True)
        keep(work, after)
        tell(f"{step}: {whole.seconds:.1f} s undisturbed, {kills} kills")
        self._kill(step, kills, whole.seconds, before, ends[0])
        if faults:
            for fault in FAULTS:
                self._disturb(step, fault, whole.seconds, before, ends[0])
        restore(after, work)

    def _kill(self, step: str, kills: int, seconds: float, before: Path, end: dict[str, str]) -> None:
        done = 0
        while done < kills:
            restore(before, self.machine.work)
            log = []
            for _ in range(min(int(self.rng.integers(1, 6)), kills - done)):
                name = KILLS[done % len(KILLS)]
                after = float(self.rng.uniform(0, 1.05 * seconds))
                attempt, hit = self.machine.kill(step, after, getattr(signal, name))
                row = self.rows.setdefault((step, name), Row())
                row.done, row.hit = row.done + 1, row.hit + hit
                log.append(f"{name} after {after:.2f} s")
                done += 1
                number = int(getattr(signal, name))
                if harm := attempt.harm((*CODES, -number)):
                    self._note(row, f"{step}, {', '.join(log)}: {harm}")
            self._complete(step, row, ", ".join(log), end)

    def _disturb(self, step: str, fault: str, seconds: float, before: Path, end: dict[str, str]) -> None:
        row = self.rows.setdefault((step, fault), Row())
        for attempt in range(2):
            restore(before, self.machine.work)
            size = int(self.rng.choice((0, 100, 1 << 10, 1 << 13, 1 << 17, 1 << 22)))
            if fault == "memory":
                size = (100, 400)[attempt] << 20
            row.done += 1
            if fault == "two at once":
                first = self.machine.start(step)
                time.sleep(float(self.rng.uniform(0, seconds / 2)))
                ends = [self.machine.run(step), self.machine.finish(first)]
            elif fault == "tmpfs full":
                with small_disk(self.machine.work / "run", 1 << 20 if attempt else 1 << 16) as mounted:
                    if not mounted:
                        row.done = 0
                        return
                    ends = [self.machine.run(step)]
            elif fault == "read-only":
                with read_only(self.machine.work):
                    ends = [self.machine.run(step, fault)]
            else:
                ends = [self.machine.run(step, fault, size)]
            row.hit += any(one.code not in (0, 3) for one in ends)
            for one in ends:
                # A place for output that cannot be written is a wrong request.
                if harm := one.harm((*CODES, 2) if fault == "read-only" else CODES):
                    self._note(row, f"{step}, {fault} ({size}): {harm}")
            self._complete(step, row, f"{fault} ({size})", end)

    def _complete(self, step: str, row: Row, what: str, end: dict[str, str]) -> None:
        """Type it again, undisturbed: what it leaves must be as if nothing had been."""
        last = self.machine.run(step)
        harm = last.harm((0,)) or difference(state(self.machine.work), end)
        if harm:
            self._note(row, f"{step}, {what}, then undisturbed: {harm}")

    def _note(self, row: Row, harm: str) -> None:
        row.harm.append(harm)
        target = self.kept / f"{len(list(self.kept.glob('*'))):03}"
        if not target.exists() and len(row.harm) <= 3:
            keep(self.machine.work, target)
            (target / "what").write_text(harm)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """The folder on a tmpfs that has `size` bytes beside its content; what is there in the end stays."""
    held = folder.with_name("held")
    shutil.rmtree(held, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    shutil.copytree(folder, held)
    content = sum(path.stat().st_size + 8192 for path in held.rglob("*"))
    disk = [
        shutil.which("mount") or "false",
        "-t",
        "tmpfs",
        "-o",
        f"size={content + size},mode=777",
        "tmpfs",
        str(folder),
    ]
    if subprocess.run(disk, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        shutil.copytree(held, folder, dirs_exist_ok=True)
        yield True
        shutil.rmtree(held)
        shutil.copytree(folder, held)
    finally:
        subprocess.run([shutil.which("umount") or "umount", "-l", str(folder)], check=True)
    shutil.rmtree(folder)
    held.rename(folder)


@contextmanager
def read_only(work: Path) -> Iterator[None]:
    """Folders that this user, or for root nobody, cannot write to; they can be read."""
    folders = [work, *(path for name in OUTPUTS for path in (work / name, *(work / name).rglob("*")))]
    modes = {path: path.stat().st_mode for path in folders if path.is_dir()}
    for path in modes:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode & 0o7777)


def cohort(work: Path) -> None:
    """Slices with labels, more slices to score, and the trunk of a network."""
    from cohorts import class_folders
    from safetensors.torch import save_file

    from haemo.models.weights.imagenet import random_weights

    class_folders(work / "data", patients=12, slices=2)
    (work / "new").mkdir()
    for number, path in enumerate(sorted((work / "data").rglob("*.png"))[:3]):
        shutil.copy(path, work / "new" / f"{number}.png")
    save_file(random_weights(0, "pool5").state_dict, work / "trunk.safetensors")


@click.command()
@click.option("--kills", default=100, show_default=True, help="Kills, shared between the commands.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", default="", help="Part of the name of a command, to disturb it alone.")
@click.option("--faults/--no-faults", default=True, show_default=True)
@click.option("--out", default="build/torture", show_default=True, type=click.Path(path_type=Path))
def main(kills: int, seed: int, only: str, faults: bool, out: Path) -> None:
    names = [name for name in STEPS if only in name]
    if not names:
        raise click.UsageError(f"no command has {only!r} in its name; there are {', '.join(STEPS)}")
    last = max(list(STEPS).index(name) for name in names)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        work.mkdir()
        for above in (work.parent, work):
            above.chmod(0o755)
        os.environ["HAEMO_CACHE"] = os.environ["MPLCONFIGDIR"] = str(work / "cache")
        SERVER.set_forkserver_preload(IMPORTED)
        cohort(work)
        torture = Torture(Machine(work), np.random.default_rng(seed), out)
        drawn = [name for name in names for _ in range(SHARES[name])]
        shares = Counter(drawn[number % len(drawn)] for number in range(kills))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in the background
        with suppress(KeyboardInterrupt):  # what was done until then is shown
            for step in list(STEPS)[: last + 1]:
                wanted = step in names
                torture.step(step, shares[step], faults and wanted, lambda line: click.echo(line, err=True))
    click.echo(f"{'command':10} {'disturbance':12} {'times':>6} {'stopped':>8} {'harm':>6}")
    for (step, what), row in torture.rows.items():
        if row.done:
            click.echo(f"{step:10} {what:12} {row.done:6} {row.hit:8} {len(row.harm):6}")
    rows = torture.rows.values()
    click.echo(
        f"{'all':23} {sum(row.done for row in rows):6} {sum(row.hit for row in rows):8} "
        f"{sum(len(row.harm) for row in rows):6}"
    )
    harms = [harm for row in rows for harm in row.harm]
    for harm in harms:
        click.echo(harm)
    sys.exit(bool(harms))


if __name__ == "__main__":
    # By its own name, which the server of processes can import.
    sys.path.insert(0, str(Path(__file__).parent))
    import torture

    torture.main()
