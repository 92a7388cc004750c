"""Classifiers of pixels beside each other, on phantom patients that none of them has seen.

    make bench-pixels ARGS="--patients 60 --slices 5"

What pixels are described by (anatomy and HU; cells of the trunk that comes with haemo; hypercolumns of
AlexNet, frozen or further trained on the same masks; or anatomy and one of these) times how they are told
apart (logistic regression, linear SVM, boosted trees). All learn from the same pixels of the same slices, and
the threshold of pixels is chosen on patients held out. Every second pixel of every second row of the test
slices is asked, but for the time a slice, which is that of a whole one.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_limits

from haemo.features.phantom import CohortSettings, write_cohort
from haemo.features.pixels.descriptors import DESCRIPTORS, describe
from haemo.features.pixels.masks import LARGE_MM2, TrueMasks, read_mask
from haemo.features.reading.formats import read_slice
from haemo.features.views.head_grid import HeadGrid
from haemo.models.pixels.pixel_classifier import KINDS
from haemo.pipeline.evaluation.patient_means import means_by_patient
from haemo.pipeline.preparing.indexing import index_run
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.segmenting.pixel_features import FEATURES, PixelFeatures
from haemo.pipeline.segmenting.sampling import masked_rows, sample
from haemo.pipeline.segmenting.segmenter import Segmenter
from haemo.pipeline.segmenting.training import _fit
from haemo.pipeline.segmenting.trunk import pixel_features

ALONE = [name for name in FEATURES if "+" not in name]
THRESHOLDS = np.arange(0.1, 0.91, 0.1)


class Asked:
    """A slice on its grid of 1 mm: what is asked of it, and where its blood is."""

    def __init__(self, row, mask):
        image = read_slice(row.path)
        self.patient, self.image, self.grid = row.patient, image, HeadGrid.of(image)
        self.blood = self.grid.from_slice(read_mask(mask, image.pixels.shape)) > 0.5
        rows, columns = np.nonzero(self.grid.inside)
        self.chosen = (rows % 2 == 0) & (columns % 2 == 0)
        self.places = rows[self.chosen] // 2, columns[self.chosen] // 2
        self.truth = self.blood[self.grid.inside][self.chosen]

    def map(self, probability):
        """Probability on every second pixel of every second row, smoothed as an outline is."""
        found = np.zeros([-(-side // 2) for side in self.blood.shape], dtype=np.float32)
        found[self.places] = probability
        return found

    def hit(self, probability):
        broad = ndimage.gaussian_filter(self.map(probability), 1.5)
        row, column = np.unravel_index(broad.argmax(), broad.shape)
        return bool(self.blood[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].any())

    def dice(self, probability, threshold):
        outlined = self.map(probability)[self.places] >= threshold
        return 2 * (outlined & self.truth).sum() / max(outlined.sum() + self.truth.sum(), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--slices", type=int, default=5)
    parser.add_argument("--trunk-steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, threadpool_limits(1):
        compare(Path(name), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    number = options.slices
    settings = CohortSettings(
        patients=options.patients, slices=(number, number), prevalence=0.6, size=256, seed=options.seed
    )
    write_cohort(folder / "data", settings)
    run = RunDirectory(folder / "run")
    index_run(folder / "data", run)
    rows = masked_rows(run.manifest().labelled, TrueMasks(), "any")
    patients = sorted({row.patient for row, _ in rows})
    # Three fifths learn, a fifth chooses thresholds, a fifth tests: patients are all alike but for chance.
    fifth = {patient: place * 5 // len(patients) for place, patient in enumerate(patients)}
    train = [one for one in rows if fifth[one[0].patient] < 3]
    held, test = ([one for one in rows if fifth[one[0].patient] == part] for part in (3, 4))
    how = {"seed": options.seed, "varied": True, "looks": 1, "jobs": 1}
    learned = {name: pixel_features(name, train, steps=options.trunk_steps, **how) for name in ALONE}
    # Joined ones have the same trunks, and the same pixels.
    wide = PixelFeatures("anatomy+alexnet", learned["alexnet"].trunk)
    both = sample(train, features=wide, **how)
    own, count = both.X[:, : len(DESCRIPTORS)], len(DESCRIPTORS)
    tables = {
        "anatomy": own,
        "cells": sample(train, features=PixelFeatures("cells", wide.trunk), **how).X,
        "alexnet": both.X[:, count:],
        "trained": sample(train, features=learned["trained"], **how).X,
    }
    tables |= {
        f"anatomy+{name}": np.concatenate([own, X], axis=1) for name, X in tables.items() if X is not own
    }
    print(
        f"{len(train)} slices to learn from ({len(both.y)} pixels), {len(held)} held out, {len(test)} to test"
    )
    pixels = {name: type(both)(X, both.y, both.weights, both.patients, ()) for name, X in tables.items()}
    fitted = {(name, kind): _fit(kind, pixels[name], options.seed) for name in FEATURES for kind in KINDS}
    answers = {part: asked(some, learned, fitted) for part, some in (("held", held), ("test", test))}
    print(
        f"{'features':16}{'classifier':11}{'AUC of pixels':>14}{'pointing over 1 cm2':>26}"
        f"{'Dice over 1 cm2':>26}{'ms a slice':>12}"
    )
    image = read_slice(test[0][0].path)
    for (name, kind), classifier in fitted.items():
        trunk = learned[name.removeprefix("anatomy+")].trunk
        facts = {"classes": ["normal", "haemorrhage"]}
        line = figures(answers["held"], answers["test"], (name, kind))
        segmenter = Segmenter(classifier, facts, PixelFeatures(name, trunk))
        segmenter.draw(image)
        print(f"{name:16}{kind:11}{line}{milliseconds(segmenter, image):12.0f}")


def asked(rows, learned, fitted):
    found = []
    for row, mask in rows:
        one = Asked(row, mask)
        if one.grid.midline is None:
            continue
        anatomy = describe(one.grid)
        parts = {name: learned[name].of(one.grid, anatomy).rows(one.chosen) for name in ALONE}
        said = {}
        for name, kind in fitted:
            X = np.concatenate([parts[part] for part in name.split("+")], axis=1)
            said[name, kind] = fitted[name, kind].probability(X)
        found.append((one, said))
    return found


def figures(held, test, key) -> str:
    from sklearn.metrics import roc_auc_score

    bleeding = [(one, said[key]) for one, said in held if one.truth.any()]
    dice = [np.mean([one.dice(said, threshold) for one, said in bleeding]) for threshold in THRESHOLDS]
    threshold = THRESHOLDS[int(np.argmax(dice))]
    auc = roc_auc_score(
        np.concatenate([one.truth for one, _ in test]), np.concatenate([said[key] for _, said in test])
    )
    large = [(one, said[key]) for one, said in test if one.blood.sum() > LARGE_MM2]
    values = {
        "pointing": np.array([one.hit(said) for one, said in large], dtype=float),
        "dice": np.array([one.dice(said, threshold) for one, said in large]),
    }
    means = means_by_patient(values, np.array([one.patient for one, _ in large]))
    cells = []
    for name in values:
        own = means[name]
        ends = f" ({own['low']:.2f}-{own['high']:.2f})" if "low" in own else ""  # none where all are alike
        cells.append(f"{own['mean']:.2f}{ends}")
    return f"{auc:14.3f}{cells[0]:>26}{cells[1]:>26}"


def milliseconds(segmenter, image) -> float:
    """Of processor time, on one thread."""
    began = time.process_time()
    segmenter.draw(image)
    return 1000 * (time.process_time() - began)


if __name__ == "__main__":
    main()
