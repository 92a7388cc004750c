"""The shortcut control: what is known of a slice without looking at the brain must not tell its label."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import TooFewData, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow
from haemo.features.reading.address import file_of
from haemo.features.reading.reader import read_guarded
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.metrics import evaluate
from haemo.pipeline.evaluation.permuted_labels import p_values
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.dealing import draw_folds
from haemo.progress import Progress, silent

__all__ = ["ALPHA", "SHORTCUTS", "SliceFacts", "read_facts", "shortcut_control"]

_FILE = ("width", "height", "bytes", "bytes a pixel", "width / height")
_BORDER = tuple(f"{side} {what}" for side in ("top", "bottom", "left", "right") for what in ("mean", "sd"))
ALL_SHORTCUTS = "file, gray and border"
SHORTCUTS = {
    "width, height and file size": _FILE,
    "mean gray": ("mean gray",),
    "border pixels": _BORDER,
    ALL_SHORTCUTS: (*_FILE, "mean gray", *_BORDER),
}
"""Each control and the facts that it may use."""

ALPHA = 0.05
"""A control tells the label if its p-value is at most this."""

_BORDER_SHARE = 0.05  # of the shorter side: outside the head in nearly every slice
_TREES = 100
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class SliceFacts:
    """What is known of slices without looking at the brain.

    Attributes
    ----------
    rows : tuple of ManifestRow
        The slices that could be read.
    values : ndarray of shape (n, n_facts), float64
        Gray values are HU or 0..255, as the file has them.
    names : tuple of str
    failures : tuple of Failure
        The slices that could not be read.
    """

    rows: tuple[ManifestRow, ...]
    values: np.ndarray
    names: tuple[str, ...]
    failures: tuple[Failure, ...]


def read_facts(rows: Sequence[ManifestRow], progress: Progress = silent) -> SliceFacts:
    """Read every slice once, for its shape, size on disk, mean gray and border."""
    kept, values, failures = [], [], []
    for row in progress(rows, total=len(rows), label="slices read for the shortcut control"):
        try:
            values.append(_facts(row.path))
            kept.append(row)
        except (UnreadableSlice, OSError) as error:
            failures.append(Failure(str(row.path), "leakage", str(error)))
    names = SHORTCUTS[ALL_SHORTCUTS]
    return SliceFacts(tuple(kept), np.array(values).reshape(len(kept), len(names)), names, tuple(failures))


def _facts(path: Path) -> list[float]:
    pixels = read_guarded(path).pixels
    height, width = pixels.shape
    size = file_of(path).stat().st_size
    ring = max(1, round(_BORDER_SHARE * min(height, width)))
    sides = (pixels[:ring], pixels[-ring:], pixels[:, :ring], pixels[:, -ring:])
    border = [float(number) for side in sides for number in (side.mean(), side.std())]
    return [width, height, size, size / (width * height), width / height, float(pixels.mean()), *border]


def shortcut_control(
    facts: SliceFacts, classes: tuple[str, ...], resampling: Resampling, progress: Progress = silent
) -> list[dict[str, Any]]:
    """How well each shortcut alone tells the label, by cross-validation of a random forest.

    Whether that is more than chance is asked of labels that are permuted between patients, for all controls
    at once (`pipeline.evaluation.permuted_labels`).

    Parameters
    ----------
    facts : SliceFacts
    classes : tuple of str
    resampling : Resampling
        Its seed draws folds, trees and permutations; there are no resamples.
    progress : Progress

    Returns
    -------
    list of dict
        For each of `SHORTCUTS`: ``name``; ``patient``, what `pipeline.evaluation.metrics.evaluate` gives
        with patients kept whole; ``slice``, accuracy and ROC AUC with slices mixed; ``p``, corrected for the
        number of controls.

    Raises
    ------
    TooFewData
        If a class has fewer than two patients.
    """
    rows, seed = facts.rows, resampling.seed
    fold = draw_folds(list(rows), classes, _FOLDS, seed)
    whole, mixed = np.array([fold[row.patient] for row in rows]), _mixed_folds(rows, classes, seed)
    controls = {
        name: facts.values[:, [facts.names.index(fact) for fact in used]] for name, used in SHORTCUTS.items()
    }
    chances = p_values(controls, rows, classes, seed)
    results = []
    for (name, columns), p in zip(
        progress(controls.items(), total=len(controls), label="shortcuts"), chances, strict=True
    ):
        honest = evaluate(_cross_validated(columns, rows, classes, whole, seed))
        leaky = evaluate(_cross_validated(columns, rows, classes, mixed, seed))
        kept = {key: leaky[key] for key in ("accuracy", "roc_auc") if key in leaky}
        results.append({"name": name, "patient": honest, "slice": kept, "p": p})
    return results


def _mixed_folds(rows: Sequence[ManifestRow], classes: tuple[str, ...], seed: int) -> np.ndarray:
    labels = np.array([row.label for row in rows])
    folds = np.empty(len(rows), dtype=int)
    rng = np.random.default_rng(seed)
    for name in classes:
        own = np.flatnonzero(labels == name)
        if len(own) < 2:
            raise TooFewData(
                f"class {name!r} has too few readable slices ({len(own)}) for the shortcut control"
            )
        folds[rng.permutation(own)] = np.arange(len(own)) % _FOLDS
    return folds


def _cross_validated(
    columns: np.ndarray, rows: Sequence[ManifestRow], classes: tuple[str, ...], folds: np.ndarray, seed: int
) -> Predictions:
    from sklearn.ensemble import RandomForestClassifier

    numbers = np.array([classes.index(row.label) for row in rows])
    chances = np.zeros((len(rows), len(classes)))
    for fold in np.unique(folds):
        held_out = folds == fold
        forest = RandomForestClassifier(
            _TREES, min_samples_leaf=2, class_weight="balanced", random_state=seed, n_jobs=1
        )
        forest.fit(columns[~held_out], numbers[~held_out])
        chances[np.ix_(held_out, forest.classes_)] = forest.predict_proba(columns[held_out])
    two = len(classes) == 2
    return Predictions.of_rows(
        rows,
        part=np.full(len(rows), "cv"),
        fold=folds,
        scores=chances[:, 1] if two else chances,
        probabilities=chances[:, 1] if two else chances,
        predicted=np.array(classes)[chances.argmax(axis=1)],
        classes=classes,
    )
