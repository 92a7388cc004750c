"""Slices per second of prediction, alone and with overlays, beside stage one on the same files.

    make bench-explain
    make bench-explain ARGS="--slices 512 --weights trunk"

The model is a linear SVM on pool5, the slices are those of phantoms, as DICOM. `predict` is to be as fast as
stage one, which does the same but for the head; `--explain` adds, for each slice it draws, a second decode, a
float32 pass with gradients above the last convolution, the outlines of the built-in segmenter and a PNG. Here
every slice is drawn; in use only those called positive are. Rates are by the clock and suffer from what else
the machine does; processor time a slice, of this process and those that it started, suffers less.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from peer import measured

from haemo.features.phantom import CohortSettings, write_cohort
from haemo.pipeline.explaining.explanation import explain_slices
from haemo.pipeline.predicting.blended_model import load_model
from haemo.pipeline.predicting.prediction import score_slices
from haemo.pipeline.preparing.extraction import ExtractionSettings, make_features
from haemo.pipeline.preparing.indexing import index_run
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.segmenting.cell_numbers import PRECISIONS
from haemo.pipeline.segmenting.segmenter import builtin_segmenter
from haemo.pipeline.training.head import HeadSettings, train_head

_ROUNDS = 3


def rates(work: Callable[[int], object], count: int) -> tuple[float, float]:
    """Slices per second, and milliseconds of the processor a slice: medians of all rounds but the first."""

    def round_(number: int) -> int:
        work(number)
        return count

    found = [measured(lambda number=number: round_(number)) for number in range(_ROUNDS + 1)][1:]
    rate, cpu = (statistics.median(own[figure] for own in found) for figure in ("rate", "cpu_ms"))
    return rate, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slices", type=int, default=256)
    parser.add_argument("--weights", default="random")
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="Of outlines.")
    options = parser.parse_args()
    settings = ExtractionSettings(layer="pool5", weights=options.weights)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cohort(folder / "data", CohortSettings(patients=max(16, options.slices // 8), slices=(8, 8)))
        run = RunDirectory(folder / "run")
        index_run(folder / "data", run)
        paths = [row.path for row in run.manifest().labelled][: options.slices]
        count = len(paths)
        found = {
            "stage one": rates(lambda _: make_features(run, settings, new=True), len(run.manifest().labelled))
        }
        train_head(run, "svm", HeadSettings(grid={"C": [1e-4]}))
        began = time.perf_counter()
        model, segmenter = load_model(run, "svm"), builtin_segmenter().with_precision(options.precision)
        print(f"{'loading the model':28}{time.perf_counter() - began:8.1f} s")
        result = score_slices(model, paths)
        found["predict"] = rates(lambda _: score_slices(model, paths), count)

        def draw(number: int, **own: object) -> None:
            explain_slices(model, result, folder / f"overlays{number}", chosen=range(len(result)), **own)

        scoring, cpu = found["predict"]
        for what, own in (("", {"segmenter": segmenter}), (" --outline evidence", {})):
            drawing, more = rates(lambda number, own=own: draw(number, **own), count)
            found[f"predict --explain{what}"] = 1 / (1 / scoring + 1 / drawing), cpu + more
        stage_one = found["stage one"][0]
        for what, (rate, cpu) in found.items():
            share = f"{rate / stage_one:8.2f} of stage one"
            print(f"{what:38}{rate:8.1f} slices/s{share}{cpu:8.1f} ms of the processor a slice")


if __name__ == "__main__":
    main()
