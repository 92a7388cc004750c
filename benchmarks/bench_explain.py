"""Slices per second of prediction, alone and with overlays, beside stage one on the same files.

    make bench-explain
    make bench-explain ARGS="--slices 512 --weights trunk"

The model is a linear SVM on pool5. `predict` is to be as fast as stage one, which does the same but for the
head; `--explain` adds, for each slice it draws, a second decode, a float32 pass with gradients above the last
convolution, the outlines and a PNG. Here every slice is drawn; in use only those called positive are.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from haemo.features.manifest import Manifest, ManifestRow
from haemo.pipeline.explaining.explanation import explain_slices
from haemo.pipeline.predicting.blended_model import load_model
from haemo.pipeline.predicting.prediction import score_slices
from haemo.pipeline.preparing.extraction import ExtractionSettings, make_features
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.training.head import HeadSettings, train_head

_ROUNDS = 3


def make_slices(folder: Path, count: int) -> list[ManifestRow]:
    """Smooth 512 x 512 pictures in PNG; the patients with odd numbers have a bright patch."""
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        patient = number // 8
        picture = 90 + 400 * gaussian_filter(random.normal(0, 1, (512, 512)), 6)
        if patient % 2:
            top, left = random.integers(100, 330, 2)
            picture[top : top + 70, left : left + 70] += 60
        path = folder / f"{number:05}.png"
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(path)
        label = ("normal", "haemorrhage")[patient % 2]
        rows.append(ManifestRow(path.name, path, label, f"p{patient:03}", f"p{patient:03}"))
    return rows


def rate(work: Callable[[int], object], count: int) -> float:
    """Median slices per second over some rounds; the first is not counted."""
    seconds = []
    for number in range(_ROUNDS + 1):
        began = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - began)
    return count / statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slices", type=int, default=256)
    parser.add_argument("--weights", default="random")
    options = parser.parse_args()
    settings = ExtractionSettings(layer="pool5", weights=options.weights)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = make_slices(folder, options.slices)
        run = RunDirectory(folder / "run")
        run.create()
        Manifest(rows).write(run.manifest_path)
        paths = [row.path for row in rows]
        stage_one = rate(lambda _: make_features(run, settings, new=True), len(rows))
        train_head(run, "svm", HeadSettings(grid={"C": [1e-4]}))
        began = time.perf_counter()
        model = load_model(run, "svm")
        print(f"{'loading the model':28}{time.perf_counter() - began:8.1f} s")
        result = score_slices(model, paths)
        everything = range(len(result))
        predicting = rate(lambda _: score_slices(model, paths), len(rows))
        drawing = rate(
            lambda number: explain_slices(model, result, folder / f"overlays{number}", chosen=everything),
            len(rows),
        )
        both = 1 / (1 / predicting + 1 / drawing)
        for what, value in (("stage one", stage_one), ("predict", predicting), ("predict --explain", both)):
            print(f"{what:28}{value:8.1f} slices/s{value / stage_one:8.2f} of stage one")


if __name__ == "__main__":
    main()
