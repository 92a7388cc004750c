"""What heads trained on phantom slices alone say about real slices.

    haemo phantom phantom --patients 240 --slices 8..10 --seed 0
    python benchmarks/phantom_transfer.py phantom REAL [--patients COLUMN] [--crop none]

REAL is a folder that `haemo index` reads; its labels are used once, by the ROC AUC that is printed here, and
decide nothing. Features are pool5 of AlexNet in float32, the heads those that are shipped, fitted on the
phantom's training patients.
"""

import tempfile
from pathlib import Path

import click
import numpy as np
from scipy.special import expit

from haemo.features.labels import order_classes
from haemo.features.store.store import FeatureStore
from haemo.pipeline.evaluation.intervals import assess
from haemo.pipeline.preparing.extraction import ExtractionSettings, make_features
from haemo.pipeline.preparing.indexing import index_run
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.trained.headfolder import HeadFolder
from haemo.pipeline.training.head import train_head

HEADS = ("svm", "softmax")


def indexed_and_embedded(
    data: Path, run: RunDirectory, weights: str, crop: str, patient_column: str | None
) -> None:
    index_run(data, run, patient_column=patient_column)
    make_features(run, ExtractionSettings(layer="pool5", weights=weights, precision="float32", crop=crop))


def embeddings_of(run: RunDirectory) -> np.ndarray:
    with FeatureStore(run.store_path) as store:
        return store.embeddings([row.slice_id for row in run.manifest().labelled])


def roc_auc(run: RunDirectory, scores: np.ndarray) -> str:
    """ROC AUC and its interval of scores for all labelled slices of a run."""
    rows = list(run.manifest().labelled)
    classes = order_classes(row.label for row in rows)
    predictions = Predictions(
        slice_id=np.array([row.slice_id for row in rows]),
        patient=np.array([row.patient for row in rows]),
        study=np.array([row.study for row in rows]),
        label=np.array([row.label for row in rows]),
        part=np.full(len(rows), "test"),
        fold=np.full(len(rows), -1),
        scores=scores,
        probabilities=expit(scores),
        predicted=np.where(scores > 0, classes[1], classes[0]),
        classes=classes,
    )
    return shown(assess(predictions))


def shown(figures: dict) -> str:
    interval = figures["intervals"]["roc_auc"]
    return f"{figures['roc_auc']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


@click.command()
@click.argument("phantom", type=click.Path(path_type=Path, exists=True))
@click.argument("real", type=click.Path(path_type=Path, exists=True))
@click.option("--patients", "patient_column", help="Column of REAL's labels file that names the patient.")
@click.option("--weights", default="trunk", show_default=True, help="As for haemo features.")
@click.option("--crop", default="head", show_default=True, help="As for haemo features.")
def main(phantom: Path, real: Path, patient_column: str | None, weights: str, crop: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        own, other = RunDirectory(Path(folder, "phantom")), RunDirectory(Path(folder, "real"))
        indexed_and_embedded(phantom, own, weights, crop, None)
        indexed_and_embedded(real, other, weights, crop, patient_column)
        embeddings = embeddings_of(other)
        print("ROC AUC [95 % interval, bootstrap over patients]", flush=True)
        for name in HEADS:
            tested = assess(train_head(own, name).predictions.of_part("test"))
            scores = HeadFolder(own.model_path(name)).head().decision_function(embeddings)
            print(
                f"{name}: phantom, test patients {shown(tested)}; real slices {roc_auc(other, scores)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
