"""How well the last layer of the built-in trunk tells slices with blood from others, without any training.

    make bench-trunk RUN=runs/first
    make bench-trunk RUN=runs/phantom ARGS="--join runs/other"

All labelled slices of a run are asked; it is for runs that the trunk has not learned from. Where they have
masks it is also said how often the hottest cell lies on the bleed. With --join the score is joined to that of
the built-in segmenter by a logistic regression, which is fitted on the slices of the other run.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from haemo.errors import TooFewData
from haemo.features.pixels.masks import TrueMasks
from haemo.features.reading.formats import read_slice
from haemo.features.views.preprocess import Preprocessing
from haemo.models.networks.blood_cells import BloodCells, cells_of, slice_scores
from haemo.models.weights.builtin import BUILTIN_PATH
from haemo.models.weights.statefile import read_state
from haemo.pipeline.evaluation.comparison import compare_predictions
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.run.truemasks import read_true_masks
from haemo.pipeline.segmenting.sampling import drawn_slices, masked_rows
from haemo.pipeline.segmenting.segmenter import builtin_segmenter
from haemo.pipeline.segmenting.trunk_planes import masked_planes
from haemo.pipeline.segmenting.trunk_training import answers_of, judge_trunk
from haemo.pipeline.splitting.split import classes_of


class Asked:
    """The slices of a run, and what the trunk and, if wanted, the segmenter say of them."""

    def __init__(self, run: RunDirectory, network: BloodCells, segmenter, jobs: int | None):
        self.run, self.manifest = run, run.manifest()
        self.rows = self.manifest.labelled
        self.classes = classes_of(run, self.manifest)
        view = Preprocessing.for_window("brain", "head", True)
        planes = np.stack([view.plane(read_slice(row.path)) for row in self.rows])
        self.columns = {"trunk": slice_scores(cells_of(network, planes)).astype(float)}
        if segmenter is not None:
            drawn, failures = drawn_slices(segmenter, [(row, None) for row in self.rows], (), jobs)
            if failures:
                raise SystemExit(f"{failures[0].path}: {failures[0].reason}")
            self.columns["segmenter"] = segmenter.log_odds(np.array([one.score for one in drawn]))

    @property
    def X(self) -> np.ndarray:
        return np.column_stack([*self.columns.values()])

    @property
    def y(self) -> np.ndarray:
        return np.array([row.label == self.classes[1] for row in self.rows])

    def answers(self, scores: np.ndarray) -> Predictions:
        return answers_of(self.rows, scores, self.classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=BUILTIN_PATH, help="or of 'haemo segment trunk'")
    parser.add_argument("--join", type=Path, help="a run that the joined score is fitted on")
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    network = BloodCells.of(read_state(options.weights))
    segmenter = builtin_segmenter() if options.join else None
    asked = Asked(RunDirectory(options.run), network, segmenter, options.jobs)
    said = {name: asked.answers(scores) for name, scores in asked.columns.items()}
    if options.join:
        other = Asked(RunDirectory(options.join), network, segmenter, options.jobs)
        fitted = LogisticRegression(C=1e6).fit(other.X, other.y)
        weights = zip(other.columns, fitted.coef_[0], strict=True)
        print("joined: " + ", ".join(f"{name} {weight:.3f}" for name, weight in weights))
        said["joined"] = asked.answers(fitted.decision_function(asked.X))
    found = compare_predictions(said)
    for name, figures in found.models.items():
        print(f"{name:10} {len(asked.rows)} slices, ROC AUC {interval(figures)}")
    for pair in found.pairs:
        own = pair["differences"]["roc_auc"]
        ends = f" ({own['low']:+.3f} to {own['high']:+.3f})" if "low" in own else ""
        print(f"{pair['first']} less {pair['second']}: {own['difference']:+.3f}{ends}")
    try:
        masked = masked_rows(asked.rows, TrueMasks(None, read_true_masks(asked.run)), "labelled")
    except TooFewData:
        return
    judged = judge_trunk(network, masked_planes(masked, jobs=options.jobs))
    hit = judged["pointing"]
    print(
        f"cells: ROC AUC {judged['cells_roc_auc']:.3f}; hottest cell on the bleed over 1 cm2, of "
        f"{judged['large_bleeds']}: {hit['mean']:.2f} ({hit['low']:.2f}-{hit['high']:.2f})"
    )


def interval(figures) -> str:
    own = figures["intervals"].get("roc_auc")
    return f"{figures['roc_auc']:.3f}" + (f" ({own['low']:.3f}-{own['high']:.3f})" if own else "")


if __name__ == "__main__":
    main()
