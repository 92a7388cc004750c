"""What a CUDA device is for, beside what people would write, in under six minutes.

    make bench-gpu
    python3 benchmarks/bench_gpu.py                # a machine with PyTorch, where haemo is not installed
    make bench-gpu ARGS="--device cpu --quick"     # the same functions where there is no such device

Stage one from planes that lie ready and from files, beside a DataLoader with a worker a processor and
torchvision's AlexNet under autocast; its agreement with float32 on the CPU; fine-tuning beside a plain loop;
the tests that need such a device; grid searches beside haemo's own on the CPU, scikit-learn's and, where it
is installed, cuML's. Weights are random: rates do not depend on them. A part whose packages are missing, or
for which no time is left, is named and not run.

Goals on a card like the H100: 20,000 slices a second from ready planes, from files what all processors can
decode, and searches 20 times sooner than on the CPU.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 330.0
SIZE = 227


@dataclass(frozen=True)
class Sizes:
    """How much is done of each; `batch` is that of stage one, None its own, `every` thins out grids."""

    ready: int
    files: int
    rotated: int
    agreeing: int
    rows: int
    dimension: int
    trained: int
    epochs: int
    batch: int | None = None
    every: int = 1


FULL = Sizes(
    ready=51_200, files=2048, rotated=512, agreeing=512, rows=4000, dimension=4096, trained=320, epochs=2
)
QUICK = Sizes(
    ready=4, files=2, rotated=1, agreeing=2, rows=60, dimension=32, trained=10, epochs=1, batch=2, every=4
)


@dataclass
class Bench:
    """What every part is told."""

    device: str
    sizes: Sizes
    folder: Path
    stop: float = field(default_factory=lambda: time.monotonic() + SECONDS)

    @property
    def precisions(self) -> list[str]:
        from haemo.models.networks.engine import resolve_precision

        if self.sizes is QUICK:
            return ["float32"]
        return list(dict.fromkeys((resolve_precision("auto", self.device), "float32")))

    @property
    def seconds_left(self) -> float:
        return self.stop - time.monotonic()


def seconds_of(work: Callable[[], Any]) -> float:
    """How long it takes; its results must be on the host when it ends."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def beside(what: str, peer: float, ours: float, unit: str = "slices/s") -> str:
    """A line of the table; a ratio above 1 speaks for haemo."""
    ratio = ours / peer if unit.endswith("/s") else peer / ours
    return f"{what:44} {peer:10,.1f} {ours:10,.1f} {ratio:8.1f}  {unit}"


def this_machine(bench: Bench) -> Iterator[str]:
    import torch

    from haemo.processors import usable_processors

    name = torch.cuda.get_device_name(0) if bench.device == "cuda" else "none"
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    yield f"card: {name}; {versions}; {usable_processors()} processors"


# ---- stage one ---------------------------------------------------------------------------------------


@cache
def extractor(device: str, precision: str, batch: int | None) -> Any:
    from peer import weights

    from haemo.models.networks.alexnet import load_extractor
    from haemo.models.networks.engine import Engine

    return load_extractor(weights(), engine=Engine(device, precision, "channels_last"), batch=batch)


@cache
def planes(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE), dtype=np.uint8)


def ready(bench: Bench) -> Iterator[str]:
    """Planes that lie ready in memory."""
    sizes = bench.sizes
    some = planes(min(sizes.ready, 4096))
    for precision in bench.precisions:
        ours = extractor(bench.device, precision, sizes.batch)
        starts = [start % len(some) for start in range(0, sizes.ready, ours.batch)]

        def embed(starts: list[int], ours: Any = ours) -> None:
            for found in ours.stream(some[start : start + ours.batch] for start in starts):
                assert len(found)

        embed(starts[:1])
        rate = len(starts) * ours.batch / seconds_of(lambda embed=embed, starts=starts: embed(starts))
        peer_ready(some[: sizes.agreeing], bench, precision)
        peer = len(some) / seconds_of(lambda precision=precision: peer_ready(some, bench, precision))
        yield beside(f"ready uint8, {precision}", peer, rate)


def peer_ready(some: np.ndarray, bench: Bench, precision: str) -> None:
    """The plain way: a DataLoader of tensors, three normalised channels, autocast."""
    import torch
    from peer import MEAN, STD, autocast, peer_network
    from torch.utils.data import DataLoader, TensorDataset

    network = peer_network(bench.device)
    mean, std = (torch.tensor(values, device=bench.device)[:, None, None] for values in (MEAN, STD))
    loader = DataLoader(TensorDataset(torch.from_numpy(some)), 256, pin_memory=bench.device == "cuda")
    with torch.inference_mode(), autocast(bench.device, precision):
        for (gray,) in loader:
            images = gray.to(bench.device, non_blocking=True)[:, None].expand(-1, 3, -1, -1) / 255
            network((images - mean) / std).float().cpu().numpy()


def from_files(bench: Bench) -> Iterator[str]:
    """Slices of 512 x 512, read, embedded and kept in an HDF5 file."""
    from peer import QUARTER, run_peer

    from haemo.processors import usable_processors

    write_files(bench)
    precision = bench.precisions[0]
    for kind, rotations in (("png", "none"), ("dicom", "none"), (QUARTER, "paper")):
        folder = bench.folder / "slices" / kind
        out = bench.folder / f"{kind}-{rotations}"
        out.mkdir()
        workers = 0 if bench.sizes is QUICK else usable_processors()
        peer = run_peer(folder, out, rotations, bench.device, precision, workers)
        ours = max(extracted(bench, folder, out, rotations, precision) for _ in range(2))
        what = "PNG, 7 rotations of each" if rotations == "paper" else kind.upper()
        yield beside(f"{what}, {precision}", peer["rate"], ours)
    paths = sorted((bench.folder / "slices" / "png").iterdir())
    yield f"decoding alone, PNG: {len(paths) / seconds_of(lambda: decoded(paths)):,.0f} slices/s"


def write_files(bench: Bench) -> None:
    from peer import QUARTER, write_slices

    sizes, folder = bench.sizes, bench.folder / "slices"
    write_slices(folder, min(sizes.files, 64))
    for kind, count in (("png", sizes.files), ("dicom", sizes.files), (QUARTER, sizes.rotated)):
        multiply(folder / kind, count)


def multiply(folder: Path, count: int) -> None:
    """Make more files of those that are there, each with another corner: of two alike one is embedded."""
    from PIL import Image

    from haemo.processors import usable_processors

    paths = sorted(folder.iterdir())

    def make(number: int) -> None:
        path, mark = paths[number % len(paths)], 1 + number // len(paths)
        other = path.with_name(f"{number:05}{path.suffix}")
        if path.suffix == ".dcm":
            other.write_bytes(path.read_bytes()[:-2] + mark.to_bytes(2, "little"))
        else:
            picture = Image.open(path)
            picture.putpixel((0, 0), mark)
            picture.save(other)

    with ThreadPoolExecutor(usable_processors()) as pool:
        list(pool.map(make, range(len(paths), count)))


def extracted(bench: Bench, folder: Path, out: Path, rotations: str, precision: str) -> float:
    from haemo.features.extraction.extract import ExtractionRequest, extract_features
    from haemo.features.manifest import Manifest, ManifestRow
    from haemo.features.views.preprocess import Preprocessing

    manifest = Manifest(ManifestRow(path.name, path, "", path.name, "") for path in sorted(folder.iterdir()))
    engine = extractor(bench.device, precision, bench.sizes.batch)
    request = ExtractionRequest(rotations=rotations, new=True)

    def work() -> None:
        report = extract_features(manifest, out / "features.h5", engine, Preprocessing(), request)
        assert report.computed == len(manifest), report

    return len(manifest) / seconds_of(work)


def decoded(paths: list[Path]) -> int:
    from haemo.features.extraction.decoding import Decoder, in_order
    from haemo.features.reading.reader import read_guarded
    from haemo.features.views.preprocess import Preprocessing
    from haemo.processors import usable_processors

    decoder = Decoder(Preprocessing(), lambda content: (0,), read_guarded)
    return sum(1 for _ in in_order(paths, decoder, usable_processors(), 256))


def agreement(bench: Bench) -> Iterator[str]:
    """Embeddings here beside those in float32 on the CPU."""
    some = planes(bench.sizes.agreeing)
    reference = extractor("cpu", "float32", bench.sizes.batch)(some)
    for precision in bench.precisions:
        ours = extractor(bench.device, precision, bench.sizes.batch)(some)
        again = extractor(bench.device, precision, bench.sizes.batch)(some[::-1])[::-1]
        lengths = np.linalg.norm(reference, axis=1)
        cosine = (ours * reference).sum(axis=1) / (np.linalg.norm(ours, axis=1) * lengths)
        apart = np.linalg.norm(ours - reference, axis=1) / lengths
        same = "yes" if np.array_equal(ours, again) else "NO: FAILED"
        yield f"agreement with float32 on the CPU, {precision}: least cosine {cosine.min():.6f}"
        yield f"  largest distance {apart.max():.1e} of the length; same bits in another order: {same}"


# ---- searches ----------------------------------------------------------------------------------------


def searches(bench: Bench) -> Iterator[str]:
    """Grids over RBF and linear SVMs, seconds of the whole grid."""
    from bench_heads import FOLDS, TASKS, build, embeddings
    from sklearn.model_selection import StratifiedGroupKFold

    X, y, patients = embeddings(bench.sizes.rows, bench.sizes.dimension)
    folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(X, y, patients))
    for task in TASKS[:2]:
        head, grid = build(task.head), {key: own[:: bench.sizes.every] for key, own in task.grid.items()}
        searched(head, {"head__C": [1e-3]}, X[:200], y[:200], 2, bench.device)
        here, ours = searched(head, grid, X, y, folds, bench.device)
        on_cpu, theirs = searched(head, grid, X, y, folds, "cpu")
        difference = np.abs(ours - theirs).max()
        yield beside(f"{task.title}, peer: on the CPU", on_cpu, here, f"s; scores differ by {difference:.0e}")
        seconds, scores = peer_search(head, grid, X, y, folds)
        difference = np.abs(ours[[0, -1], 0] - scores).max()
        note = f"s (2 settings of one fold timed); scores differ by {difference:.0e}"
        yield beside(f"{task.title}, peer: scikit-learn", seconds, here, note)
        yield f"{task.title}, {cuml_search(task.head, grid, X, y, folds)}"


def searched(head: Any, grid: dict, X, y, folds, device: str) -> tuple[float, np.ndarray]:
    """Seconds, and scores of shape (settings, folds)."""
    from haemo.models.search.grid import SharedSearchCV

    search = SharedSearchCV(head, grid, scoring="roc_auc", cv=folds, refit=False, device=device)
    seconds = seconds_of(lambda: search.fit(X, y))
    count = folds if isinstance(folds, int) else len(folds)
    scores = [search.cv_results_[f"split{fold}_test_score"] for fold in range(count)]
    return seconds, np.stack(scores, axis=1)


def peer_search(head: Any, grid: dict, X, y, folds) -> tuple[float, np.ndarray]:
    """scikit-learn's seconds for the whole grid, scaled from the first and last setting on the first fold."""
    from sklearn.model_selection import GridSearchCV, ParameterGrid

    settings = list(ParameterGrid(grid))
    chosen = [{name: [value] for name, value in one.items()} for one in (settings[0], settings[-1])]
    search = GridSearchCV(head, chosen, scoring="roc_auc", cv=folds[:1], refit=False)
    seconds = seconds_of(lambda: search.fit(X, y))
    return seconds * len(settings) * len(folds) / 2, search.cv_results_["split0_test_score"]


def cuml_search(name: str, grid: dict, X, y, folds) -> str:
    """cuML's SVM in the same pipeline, one fit after another as its users have it."""
    try:
        from cuml.svm import SVC, LinearSVC
    except ImportError:
        return "cuML is not installed"
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import ParameterGrid
    from sklearn.preprocessing import StandardScaler

    settings = list(ParameterGrid({key.removeprefix("head__"): values for key, values in grid.items()}))
    train, held_out = folds[0]
    scaler = StandardScaler().fit(X[train])
    rows, others = scaler.transform(X[train]), scaler.transform(X[held_out])
    scores = []

    def work() -> None:
        for setting in settings:
            model = SVC(kernel="rbf", **setting) if name == "svc" else LinearSVC(**setting)
            model.fit(rows, y[train])
            scores.append(roc_auc_score(y[held_out], np.asarray(model.decision_function(others)).ravel()))

    seconds = seconds_of(work) * len(folds)
    return f"cuML {seconds:.2f} s (one fold timed, and scaled), best ROC AUC of the fold {max(scores):.3f}"


# ---- training, tests ---------------------------------------------------------------------------------


def fine_tuning(bench: Bench) -> Iterator[str]:
    """Epochs of AlexNet, beside a loop that decodes each file anew."""
    from bench_training import make_slices, our_loop, plain_loop

    from haemo.processors import usable_processors

    folder = bench.folder / "training"
    folder.mkdir()
    slices = make_slices(folder, bench.sizes.trained)
    cut = len(slices) * 4 // 5
    batch = 4 if bench.sizes is QUICK else 32
    parts = (slices[:cut], slices[cut:], "random", bench.sizes.epochs, batch, 0)
    workers = 0 if bench.sizes is QUICK else usable_processors()
    for precision in bench.precisions[:1]:
        plain = plain_loop(*parts, precision, bench.device, workers)
        ours = our_loop(*parts, precision, bench.device)
        rates = [cut / statistics.median(one.seconds) for one in (plain, ours)]
        yield beside(f"fine-tuning, {precision}", *rates, "training slices/s")
        yield (
            f"  loss of the last epoch: plain {plain.train_loss[-1]:.4f}, haemo {ours.train_loss[-1]:.4f}; "
            f"haemo decoded once before, {ours.before:.1f} s"
        )


def tests(bench: Bench) -> Iterator[str]:
    """The tests that need such a device."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"]
    command += [str(ROOT / "tests" / "test_cuda.py")]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=max(bench.seconds_left - 60, 30),
        check=False,
    )
    yield from done.stdout.splitlines()[-(60 if done.returncode not in (0, 5) else 3) :]
    if done.returncode not in (0, 5):  # 5: none was run, for want of a device
        yield "tests: FAILED"


PARTS = (this_machine, ready, from_files, agreement, fine_tuning, tests, searches)


def find_haemo(folder: Path) -> None:
    """Where haemo is not installed, let it be imported from here."""
    try:
        import haemo.features  # noqa: F401
    except ImportError:
        for name in [name for name in sys.modules if name.split(".")[0] == "haemo"]:
            del sys.modules[name]
        package = folder / "source" / "haemo"
        package.mkdir(parents=True)
        for path in itertools.chain((ROOT / "haemo").iterdir(), map(ROOT.joinpath, ROOMS)):
            (package / path.name).symlink_to(path)
        about = folder / "source" / "haemo-0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: haemo\nVersion: 0\n", encoding="utf-8")
        sys.path.insert(0, str(package.parent))


ROOMS = ("features", "models", "pipeline")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a little of each, to see that it works")
    parser.add_argument("--only", nargs="+", choices=[part.__name__ for part in PARTS], help="parts to run")
    options = parser.parse_args()
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print("PyTorch finds no CUDA device here; the same on the CPU: --device cpu --quick", file=sys.stderr)
        return 1
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        find_haemo(folder)
        bench = Bench(options.device, QUICK if options.quick else FULL, folder)
        print(f"{'':44} {'peer':>10} {'haemo':>10} {'ratio':>8}")
        for part in PARTS:
            if options.only and part.__name__ not in options.only:
                continue
            if bench.seconds_left <= 0:
                print(f"{part.__name__}: not run, {SECONDS:.0f} s are over")
                continue
            start = time.perf_counter()
            try:
                for line in part(bench):
                    print(line, flush=True)
                    failed = failed or line.endswith("FAILED")
            except ImportError as error:
                print(f"{part.__name__}: not run: {error}")
            # One part that fails on a machine that was paid for shall not cost the others.
            except Exception as error:
                failed = True
                print(f"{part.__name__}: FAILED: {type(error).__name__}: {error}")
            print(f"  ({part.__name__}: {time.perf_counter() - start:.0f} s)", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
