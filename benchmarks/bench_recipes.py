"""What the recipe `best` costs of stage one's speed, option by option, and what its mirror image could save.

    make bench-recipes ARGS="--slices 96"

The same phantom slices are embedded with random weights; rates do not depend on these. A mirrored plane gives
conv1 the mirrored map of mirrored kernels: both are timed on the same planes. Rates are by the clock and
suffer from what else the machine does; processor time a slice suffers less.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from peer import measured

from haemo.features.phantom import CohortSettings, write_cohort
from haemo.models.networks.alexnet import SIZE
from haemo.models.networks.gray import GrayConv
from haemo.models.networks.mirrored import mirrored
from haemo.models.weights.imagenet import random_weights
from haemo.pipeline.preparing.extraction import ExtractionSettings, make_features
from haemo.pipeline.preparing.indexing import index_run
from haemo.pipeline.run.directory import RunDirectory

STEPS = {
    "whole slice, pool3": {},
    "--crop head": {"crop": "head"},
    "--crop head --mirror": {"crop": "head", "mirror": True},
    "best: --crop head --upright --mirror": {"crop": "head", "upright": True, "mirror": True},
    "--windows brain,subdural,bone": {"windows": "brain,subdural,bone"},
}
PLANES, REPEATS = 32, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slices", type=int, default=96)
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cohort(folder / "data", CohortSettings(patients=max(1, options.slices // 12), slices=(12, 12)))
        run = RunDirectory(folder / "run")
        index_run(folder / "data", run)
        count = len(run.manifest().labelled)
        first = None
        for what, own in (("", {}), *STEPS.items()):  # the first pays for set-up
            settings = ExtractionSettings(layer="pool3", weights="random", precision=options.precision, **own)

            def work(settings=settings) -> int:
                make_features(run, settings, new=True)
                return count

            found = measured(work)
            if what:
                first = first or found["rate"]
                print(
                    f"{what:38}{found['rate']:8.1f} slices/s{100 * found['rate'] / first:6.0f} %"
                    f"{found['cpu_ms']:9.1f} ms of processor time a slice"
                )
    first_layer()


def first_layer() -> None:
    state = random_weights(0, "pool3").state_dict
    weight, bias = state["features.0.weight"], state["features.0.bias"]
    twice = torch.cat([weight, weight.flip(-1)]), torch.cat([bias, bias])
    both = GrayConv(*twice, SIZE)
    one = GrayConv(weight, bias, SIZE)
    planes = np.random.default_rng(0).integers(0, 256, (PLANES, SIZE, SIZE), dtype=np.uint8)
    there, back = torch.from_numpy(planes), torch.from_numpy(mirrored(planes))
    with torch.no_grad():
        difference = float((both(there)[:, 64:].flip(-1) - one(back)).abs().max())
        plain = seconds(lambda: (one(there), one(back)))
        other = seconds(lambda: both(there)[:, 64:].flip(-1))
    print(
        f"conv1 of a plane and its mirror image: {1000 * plain / PLANES:.2f} ms a slice; by mirrored kernels "
        f"{1000 * other / PLANES:.2f} ms, answers differ by up to {difference:.0e}"
    )


def seconds(work) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


if __name__ == "__main__":
    main()
