"""The answers of a model from elsewhere, put where those of a run's own models are."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from haemo.atomic import write_text
from haemo.errors import BadDataset, BadSettings
from haemo.pipeline.api.features import load_sides
from haemo.pipeline.run.directory import HEADS, NETWORKS, RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.cohort import Cohort

__all__ = ["add_model"]


def add_model(run: RunDirectory, name: str, probability: Any, out_of_fold: Any, threshold: float) -> Path:
    """Write a predictions.csv; parameters, result and errors as `haemo.Run.add_model`."""
    folder = run.model_path(name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name in (*HEADS, *NETWORKS):
        raise BadSettings(
            f"a model of your own cannot be called {name!r}; take another name, of plain letters"
        )
    if folder.exists() and not (folder / "predictions.csv").exists():
        raise BadSettings(f"{folder} is there and is no model; take another name")
    cohort = Cohort.of(run)
    sides = load_sides(cohort)
    n_train, n_test = len(sides.train_rows), len(sides.test_rows)
    rows, fold = sides.test_rows, np.full(n_test, -1)
    chances = _probabilities("test", probability, n_test, len(sides.classes))
    if out_of_fold is not None:
        rows, fold = sides.train_rows + rows, np.concatenate([sides.fold, fold])
        held_out = _probabilities("train", out_of_fold, n_train, len(sides.classes))
        chances = np.concatenate([held_out, chances])
    two = len(sides.classes) == 2
    called = (chances >= threshold).astype(int) if two else chances.argmax(axis=1)
    predictions = Predictions.of_rows(
        rows,
        part=np.where(fold < 0, "test", "cv"),
        fold=fold,
        scores=chances,
        probabilities=chances,
        predicted=np.array(sides.classes)[called],
        classes=sides.classes,
    )
    folder.mkdir(exist_ok=True)
    # As with models of the run's own: no predictions beside the settings of others.
    (folder / "predictions.csv").unlink(missing_ok=True)
    facts = {"split": cohort.split.hash, "threshold": threshold}
    write_text(folder / "settings.json", json.dumps(facts, indent=2, sort_keys=True) + "\n")
    predictions.write(folder / "predictions.csv")
    return folder / "predictions.csv"


def _probabilities(part: str, given: Any, count: int, classes: int) -> np.ndarray:
    values = np.asarray(given, dtype=np.float64)
    shape = (count,) if classes == 2 else (count, classes)
    if values.shape != shape:
        raise BadDataset(
            f"probabilities have the shape {values.shape}; those of features({part!r}) have the shape {shape}"
        )
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise BadDataset(f"a probability of features({part!r}) is none: it must lie in 0..1")
    return values
