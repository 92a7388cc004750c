"""Slices outlined a second, where the time goes, and the trees beside scikit-learn's evaluation of the same.

    make bench-segment ARGS="--slices 60"
    make bench-segment ARGS="--precision bfloat16"
    make bench-segment ARGS="--agreement path/to/slices"

Phantom slices are drawn by the built-in segmenter, as in `haemo segment predict`, and each step of one by
itself, with an overlay of every slice. Rates are by the clock and suffer from what else the machine does;
processor time a slice, of this process and those that it started, suffers less. The trees are grown anew for
the comparison; both sides answer for the same pixels on one thread, and must agree. With `--agreement`
nothing is timed: it is said how far outlines in bfloat16 are from those in float32.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from peer import measured
from threadpoolctl import threadpool_limits

from haemo.features.phantom import CohortSettings, write_cohort
from haemo.features.pixels.blood_map import BloodMap
from haemo.features.pixels.descriptors import describe
from haemo.features.reading.formats import read_slice
from haemo.features.reading.freed_memory import keep_freed_memory
from haemo.features.views.head_grid import HeadGrid
from haemo.features.views.preprocess import Preprocessing
from haemo.models.pixels.pixel_classifier import _SURELY_NOT, _trees
from haemo.models.pixels.trees import BoostedTrees
from haemo.pipeline.segmenting.cell_numbers import PRECISIONS, CellNumbers
from haemo.pipeline.segmenting.outlining import Outputs, outline_slices
from haemo.pipeline.segmenting.overlay import draw_overlay, write_picture
from haemo.pipeline.segmenting.segmenter import Segmenter, builtin_segmenter

REPEATS = 5
_TRUNK = "of that, the trunk"
Result = TypeVar("Result")


def seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)


def steps(model: Segmenter, paths: Sequence[Path], folder: Path) -> dict[str, float]:
    """Milliseconds of the processor that each step takes a slice: the least of some repetitions."""
    keep_freed_memory()
    found: dict[str, float] = defaultdict(float)

    def took(step: str, work: Callable[[], Result]) -> Result:
        times = []
        for _ in range(REPEATS):
            began = time.process_time()
            result = work()
            times.append(time.process_time() - began)
        found[step] += 1e3 * min(times) / len(paths)
        return result

    for path in paths:
        image = took("reading", lambda path=path: read_slice(path))
        grid = took("grid, inside and midline", lambda image=image: HeadGrid.of(image))
        chances = took("describing and telling pixels", lambda grid=grid: model._probability(grid))
        took(_TRUNK, lambda grid=grid: CellNumbers(grid, model.features.precision))
        blood = took("map of the slice", lambda i=image, g=grid, chances=chances: BloodMap.of(i, g, chances))
        regions = took("outlines", lambda blood=blood: model.regions(blood))
        shown = image, blood.probability, regions, Preprocessing(), [path.name]
        overlay = took("overlay", lambda shown=shown: draw_overlay(*shown))
        took("writing it as PNG", lambda overlay=overlay: write_picture(folder / "overlay.png", overlay))
        mask = np.zeros(image.shape, dtype=np.uint8)
        took("writing a mask", lambda mask=mask: write_picture(folder / "mask.png", mask))
    return dict(found)


def agreement(model: Segmenter, folder: Path) -> None:
    """Print how far what a segmenter says in bfloat16 is from what it says in float32."""
    usual, half = (outline_slices(model.with_precision(name), [folder]) for name in PRECISIONS)
    apart = np.abs(usual.scores.probabilities - half.scores.probabilities)
    changed = int((usual.scores.predicted != half.scores.predicted).sum())
    both = usual.masks.keys() & half.masks.keys()
    dices = []
    for path in both:
        one, other = usual.masks[path].unpack(), half.masks[path].unpack()
        dices.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    print(
        f"{len(apart)} slices, {changed} called otherwise; probabilities differ by {apart.mean():.4f} on "
        f"average, at most {apart.max():.4f}"
    )
    print(
        f"{len(usual.masks)} outlined in float32, {len(half.masks)} in bfloat16, {len(both)} in both, with a "
        f"mean Dice of {np.mean(dices):.4f}, at least {min(dices):.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="Of the trunk.")
    parser.add_argument("--agreement", type=Path, metavar="FOLDER", help="Compare both on these slices.")
    options = parser.parse_args()
    if options.agreement:
        agreement(builtin_segmenter(), options.agreement)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        patients = max(2, options.slices // 12)
        write_cohort(folder / "data", CohortSettings(patients=patients, slices=(12, 12), prevalence=0.5))
        paths = sorted((folder / "data").glob("P*/*.dcm"))[: options.slices]
        model = builtin_segmenter().with_precision(options.precision)
        numbers = iter(range(1000))
        for what, outputs in (
            ("scores alone", lambda: None),
            ("masks and pictures", lambda: Outputs(folder / f"out{next(numbers)}")),
        ):
            outline_slices(model, paths, outputs())  # processes start

            def work(outputs: Callable[[], Outputs | None] = outputs) -> int:
                outline_slices(model, paths, outputs())
                return len(paths)

            found = [measured(work) for _ in range(REPEATS)]
            rate, cpu = (median(own[figure] for own in found) for figure in ("rate", "cpu_ms"))
            print(f"{'segment, ' + what:32}{rate:8.1f} slices/s{cpu:8.1f} ms of the processor a slice")
        torch.set_num_threads(1)  # a second thread of the trunk's waits busily for its next turn
        with threadpool_limits(1):
            took = steps(model, paths[::3], folder)
        whole = sum(took.values()) - took[_TRUNK]
        for step, ms in [*took.items(), ("one process, every slice drawn", whole)]:
            print(f"{step:32}{ms:8.1f} ms")
        grids = [HeadGrid.of(read_slice(path)) for path in paths[:20]]
        X = np.concatenate([describe(grid) for grid in grids])
        y = np.random.default_rng(0).random(len(X)) < 1 / (1 + np.exp(-(X[:, 1] - 14) / 3))
        fitted = _trees(0).fit(X[::4], y[::4])
        own = BoostedTrees.of(fitted)
        with threadpool_limits(1):
            theirs = seconds(lambda: fitted.decision_function(X))
            ours = seconds(lambda: own.scores(X))
            early = seconds(lambda: own.scores(X, _SURELY_NOT))
        difference = float(np.abs(own.scores(X) - fitted.decision_function(X)).max())
        print(f"{len(own.splits)} trees, {len(X)} pixels, largest difference of log odds {difference:.1e}")
        print(f"{'scikit-learn, one thread':32}{theirs:8.2f} s")
        print(f"{'all trees':32}{ours:8.2f} s{theirs / ours:8.2f} times as fast")
        print(f"{'and left where surely none':32}{early:8.2f} s{theirs / early:8.2f} times as fast")


if __name__ == "__main__":
    main()
