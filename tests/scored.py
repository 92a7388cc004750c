"""Predictions made up for tests of evaluation."""

import numpy as np

from haemo.pipeline.run.predictions import Predictions

__all__ = ["make_predictions", "make_several"]


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


def make_several(
    patients=24, slices=4, classes=("epidural", "normal", "subdural"), seed=0, noise=1.0, noise_seed=0
) -> Predictions:
    """Patients with two studies and no, one or both kinds of bleed, each on some of their slices.

    `seed` makes the patients and `noise_seed` the scores, so that models can differ on the same patients.
    """
    rng = np.random.default_rng(seed)
    kinds = [one for one, name in enumerate(classes) if name != "normal"]
    none = [classes.index("normal")] if "normal" in classes else []
    truth, patient, study = [], [], []
    for number in range(patients):
        own = [one for one in kinds if rng.random() < 0.4] or none or kinds[:1]
        for place in range(2 * slices):
            truth.append(rng.choice(own + none))
            patient.append(f"p{number:02d}")
            study.append(f"scan{place // slices}")
    n, truth = len(truth), np.array(truth)
    scores = np.random.default_rng(noise_seed).normal(size=(n, len(classes))) * noise
    scores[np.arange(n), truth] += 2
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    names = np.array(classes)
    return Predictions(
        slice_id=np.array([f"s{i:04d}" for i in range(n)]),
        patient=np.array(patient),
        study=np.array(study),
        label=names[truth],
        part=np.full(n, "test"),
        fold=np.full(n, -1),
        scores=scores,
        probabilities=probabilities,
        predicted=names[probabilities.argmax(axis=1)],
        classes=tuple(classes),
    )
