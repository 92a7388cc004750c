"""An exported model on ONNX Runtime beside the same model on PyTorch in float32: planes to probabilities.

Both have the same planes and cores, in turns, in one process; answers are compared, ratios are of medians.

    python benchmarks/bench_onnx.py --run RUN --head svm
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from haemo.pipeline.exporting.export import _in_float32, export_model
from haemo.pipeline.exporting.runtime import OnnxModel
from haemo.pipeline.predicting.loading import load_single
from haemo.pipeline.run.directory import RunDirectory
from haemo.progress import silent


def main() -> None:
    """Print slices a second of both, and the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, type=Path, help="a run with the model")
    parser.add_argument("--head", default="svm")
    parser.add_argument("--slices", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    run = RunDirectory(asked.run)
    torch_model = _in_float32(run, load_single(run, asked.head), silent)
    with tempfile.TemporaryDirectory() as scratch:
        exported = export_model(run, asked.head, Path(scratch) / "model.onnx")
        onnx_model = OnnxModel.load(exported.path)
    shape = torch_model.preprocessing.plane_shape
    planes = np.random.default_rng(0).integers(0, 256, (asked.slices, *shape), dtype=np.uint8)
    seconds: dict[str, list[float]] = {"PyTorch float32": [], "ONNX Runtime": []}
    said = {}
    for _ in range(asked.repeats + 1):
        for name, model in zip(seconds, (torch_model, onnx_model), strict=True):
            parts = [planes[start : start + model.batch] for start in range(0, len(planes), model.batch)]
            start = time.perf_counter()
            scores = np.concatenate([scores for scores, _ in model.score((part,) for part in parts)])
            said[name] = model.head.probabilities(scores)
            seconds[name].append(time.perf_counter() - start)
    rates = {name: asked.slices / np.median(own[1:]) for name, own in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:16} {rate:7.1f} slices a second")
    first, second = said.values()
    print(
        f"ratio {rates['ONNX Runtime'] / rates['PyTorch float32']:.2f}; largest difference of a probability ",
        end="",
    )
    print(f"{np.abs(first - second).max():.1e}")


if __name__ == "__main__":
    main()
