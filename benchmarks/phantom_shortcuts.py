"""What tells a phantom's label without looking at its brain: nothing may.

    haemo phantom phantom --patients 120 --slices 8 --seed 0
    python benchmarks/phantom_shortcuts.py phantom

Each fact alone ranks the slices; `pixels outside the brain` are the slice with all within the skull painted
out, 32 x 32, judged by a logistic regression on patients left out. Intervals are a bootstrap over patients.
"""

import csv
import json
from pathlib import Path

import click
import numpy as np
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from haemo.features.reading.formats import read_slice

BONE_HU, SIDE, RESAMPLES = 300, 32, 1000


def without_brain(hu: np.ndarray) -> np.ndarray:
    """The slice with what bone encloses painted out, as 32 x 32 means of the brain window."""
    bone = ndimage.binary_closing(hu > BONE_HU, iterations=2)
    within = ndimage.binary_fill_holes(bone) & ~(hu > BONE_HU)
    within = ndimage.binary_dilation(within, iterations=2)
    shown = np.where(within, 40, np.clip(hu, 0, 80))
    step = len(hu) // SIDE
    return shown.reshape(SIDE, step, SIDE, step).mean(axis=(1, 3))


def interval(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(patients == name) for name in np.unique(patients)]
    areas = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        areas.append(roc_auc_score(labels[drawn], scores[drawn]))
    return roc_auc_score(labels, scores), *np.percentile(areas, [2.5, 97.5])


@click.command()
@click.argument("phantom", type=click.Path(path_type=Path, exists=True))
def main(phantom: Path) -> None:
    with (phantom / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    record = json.loads((phantom / "cohort.json").read_text())
    scans = {entry["patient"]: entry["scan"] for entry in record["patients"]}
    labels = np.array([row["label"] == "haemorrhage" for row in rows])
    patients = np.array([row["patient"] for row in rows])
    facts: dict[str, list[float]] = {}
    outside = []
    for row in rows:
        pixels = read_slice(phantom / row["path"]).pixels
        outside.append(without_brain(pixels).ravel())
        scan = scans[row["patient"]]
        slice_facts = {
            "file size": (phantom / row["path"]).stat().st_size,
            "image size": pixels.size,
            "mean gray": np.clip(pixels, 0, 80).mean(),
            "table height": scan["table_mm"],
            "slice position": float(row["position"]) + scan["low_mm"],
            "slices of the study": scan["slices"],
            "field of view": scan["field_mm"],
            "noise": scan["noise_hu"],
        }
        for name, value in slice_facts.items():
            facts.setdefault(name, []).append(value)
    scores = np.empty(len(rows))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000))
    for train, test in GroupKFold(5, shuffle=True, random_state=0).split(outside, labels, patients):
        fitted = model.fit(np.array(outside)[train], labels[train])
        scores[test] = fitted.decision_function(np.array(outside)[test])
    facts["pixels outside the brain"] = list(scores)
    print(f"{len(rows)} slices, {labels.sum()} with blood, {len(scans)} patients")
    for name, values in facts.items():
        area, low, high = interval(labels, np.array(values), patients)
        print(f"{name:26} ROC AUC {area:.3f} [{low:.3f}, {high:.3f}] {'' if low <= 0.5 <= high else '  <-'}")


if __name__ == "__main__":
    main()
