"""What heads trained on phantom slices alone say about real slices.

    haemo phantom phantom --patients 120 --slices 8 --seed 0
    python benchmarks/phantom_transfer.py phantom REAL [--patients COLUMN]

REAL is a folder that `haemo index` reads; its labels are used once, by the ROC AUC that is printed here, and
decide nothing. Features are pool5 of AlexNet in float32. Heads see the phantom's training patients only.
"""

import tempfile
from pathlib import Path

import click
import numpy as np

from features.labels import order_classes
from features.store import FeatureStore
from pipeline.classification import train_head
from pipeline.extraction import ExtractionSettings, make_features
from pipeline.headfolder import HeadFolder
from pipeline.indexing import index_run
from pipeline.intervals import assess
from pipeline.predictions import Predictions
from pipeline.run import RunDirectory

HEADS = ("svm", "softmax")


def features_of(data: Path, run: RunDirectory, weights: str, patient_column: str | None) -> None:
    index_run(data, run, patient_column=patient_column)
    settings = ExtractionSettings(layer="pool5", weights=weights, precision="float32")
    make_features(run, settings)


def judged(head_run: RunDirectory, name: str, real: RunDirectory) -> dict:
    """Figures of a head of one run on all slices of another."""
    rows = list(real.manifest().labelled)
    with FeatureStore(real.store_path) as store:
        embeddings = store.embeddings([row.slice_id for row in rows])
    folder = HeadFolder(head_run.model_path(name))
    head, classes = folder.head(), folder.predictions().classes
    # Both sets name their classes as they like; the second is the positive one.
    named = dict(zip(order_classes(row.label for row in rows), classes, strict=True))
    probability = head.predict_proba(embeddings)[:, 1]
    return assess(
        Predictions(
            slice_id=np.array([row.slice_id for row in rows]),
            patient=np.array([row.patient for row in rows]),
            study=np.array([row.study for row in rows]),
            label=np.array([named[row.label] for row in rows]),
            part=np.full(len(rows), "test"),
            fold=np.full(len(rows), -1),
            scores=head.decision_function(embeddings),
            probabilities=probability,
            predicted=np.where(probability >= 0.5, classes[1], classes[0]),
            classes=classes,
        )
    )


def shown(figures: dict) -> str:
    interval = figures["intervals"]["roc_auc"]
    return f"{figures['roc_auc']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


@click.command()
@click.argument("phantom", type=click.Path(path_type=Path, exists=True))
@click.argument("real", type=click.Path(path_type=Path, exists=True))
@click.option("--patients", "patient_column", help="Column of REAL's labels file that names the patient.")
@click.option("--weights", default="trunk", show_default=True, help="As for haemo features.")
def main(phantom: Path, real: Path, patient_column: str | None, weights: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = RunDirectory(Path(folder, "phantom")), RunDirectory(Path(folder, "real"))
        features_of(phantom, runs[0], weights, None)
        features_of(real, runs[1], weights, patient_column)
        print("ROC AUC [95 % interval, bootstrap over patients]")
        for name in HEADS:
            own = train_head(runs[0], name)
            print(f"{name}: phantom, test patients {shown(assess(own.predictions.of_part('test')))}")
            print(f"{name}: real slices {shown(judged(runs[0], name, runs[1]))}", flush=True)


if __name__ == "__main__":
    main()
