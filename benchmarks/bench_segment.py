"""Slices outlined a second, and the segmenter's trees beside scikit-learn's evaluation of the same ones.

    make bench-segment ARGS="--slices 60"

Phantom slices are drawn by the built-in segmenter, as in `haemo segment predict`. The trees are
grown anew for the comparison; both sides answer for the same pixels on one thread, and must agree.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

from haemo.features.phantom import CohortSettings, write_cohort
from haemo.features.pixels.descriptors import describe
from haemo.features.reading.formats import read_slice
from haemo.features.views.head_grid import HeadGrid
from haemo.models.pixels.pixel_classifier import _SURELY_NOT, _trees
from haemo.models.pixels.trees import BoostedTrees
from haemo.pipeline.segmenting.outlining import Outputs, outline_slices
from haemo.pipeline.segmenting.segmenter import builtin_segmenter

REPEATS = 5


def seconds(work) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slices", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        patients = max(2, options.slices // 12)
        write_cohort(folder / "data", CohortSettings(patients=patients, slices=(12, 12), prevalence=0.5))
        paths = sorted((folder / "data").glob("P*/*.dcm"))[: options.slices]
        model = builtin_segmenter()
        numbers = iter(range(1000))
        for what, outputs in (
            ("scores alone", lambda: None),
            ("masks and pictures", lambda: Outputs(folder / f"out{next(numbers)}")),
        ):
            took = seconds(lambda outputs=outputs: outline_slices(model, paths, outputs()))
            print(f"{'segment, ' + what:32}{len(paths) / took:8.1f} slices/s")
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
