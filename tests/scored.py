"""Predictions made up for tests of evaluation."""

import numpy as np

from pipeline.predictions import Predictions

__all__ = ["make_predictions"]


def make_predictions(n=60, classes=("normal", "bleed"), patients=12, seed=0, coarse=False) -> Predictions:
    """Scores that know something of the labels; `coarse` makes many ties."""
    rng = np.random.default_rng(seed)
    k = len(classes)
    truth = rng.permutation(np.arange(n) % k)
    scores = rng.normal(size=(n, k))
    scores[np.arange(n), truth] += 1
    if coarse:
        scores = np.round(scores)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    names = np.array(classes)
    predicted = names[probabilities.argmax(axis=1)]
    if k == 2:
        scores, probabilities = scores[:, 1] - scores[:, 0], probabilities[:, 1]
        predicted = names[(probabilities >= 0.5).astype(int)]
    patient = np.array([f"p{i:02d}" for i in rng.integers(patients, size=n)])
    return Predictions(
        slice_id=np.array([f"s{i:03d}" for i in range(n)]),
        patient=patient,
        study=patient,
        label=names[truth],
        part=np.full(n, "test"),
        fold=np.full(n, -1),
        scores=scores,
        probabilities=probabilities,
        predicted=predicted,
        classes=tuple(classes),
    )
