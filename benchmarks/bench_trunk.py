"""How well the last layer of the built-in trunk tells slices with blood from others, without any training.

    make bench-trunk RUN=runs/first

All labelled slices of a run are asked; it is for runs that the trunk has not learned from. Where they have
masks it is also said how often the hottest cell lies on the bleed.
"""

import argparse
from pathlib import Path

import numpy as np

from haemo.errors import TooFewData
from haemo.features.pixels.masks import TrueMasks
from haemo.features.reading.formats import read_slice
from haemo.features.views.preprocess import Preprocessing
from haemo.models.networks.blood_cells import BloodCells, cells_of, slice_scores
from haemo.models.weights.builtin import BUILTIN_PATH
from haemo.models.weights.statefile import read_state
from haemo.pipeline.cli.figures import cell
from haemo.pipeline.evaluation.intervals import assess
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.truemasks import read_true_masks
from haemo.pipeline.segmenting.sampling import masked_rows
from haemo.pipeline.segmenting.trunk_planes import masked_planes
from haemo.pipeline.segmenting.trunk_training import answers_of, judge_trunk
from haemo.pipeline.splitting.split import classes_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=BUILTIN_PATH, help="or of 'haemo segment trunk'")
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    network = BloodCells.of(read_state(options.weights))
    run = RunDirectory(options.run)
    manifest = run.manifest()
    rows, classes = manifest.labelled, classes_of(run, manifest)
    view = Preprocessing.for_window("brain", "head", True)
    planes = np.stack([view.plane(read_slice(row.path)) for row in rows])
    figures = assess(answers_of(rows, slice_scores(cells_of(network, planes)).astype(float), classes))
    print(f"{len(rows)} slices, ROC AUC {cell(figures, 'roc_auc')}")
    try:
        masked = masked_rows(rows, TrueMasks(None, read_true_masks(run)), "labelled")
    except TooFewData:
        return
    judged = judge_trunk(network, masked_planes(masked, jobs=options.jobs))
    hit = judged["pointing"]
    print(
        f"cells: ROC AUC {judged['cells_roc_auc']:.3f}; hottest cell on the bleed over 1 cm2, of "
        f"{judged['large_bleeds']}: {hit['mean']:.2f} ({hit['low']:.2f}-{hit['high']:.2f})"
    )


if __name__ == "__main__":
    main()
