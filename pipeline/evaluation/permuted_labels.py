"""Whether facts beside the picture tell the label at all: the same is asked of labels that belong to others.

Fitted with their own labels and with labels permuted between patients, held-out scores of a ridge regression
differ in the labels alone: one matrix of the facts and the folds gives the scores for all permutations at
once, so that every permutation is fitted anew and none is resampled from scores that are taken as fixed.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from haemo.features.manifest import ManifestRow
from haemo.pipeline.evaluation.inflation import donors_by_patient

__all__ = ["p_values"]

_PERMUTATIONS = 499  # (1 + 499) * 0.05 is whole: a test at 5 % errs in 5 % exactly
_FOLDS = 5
_LANDMARKS = 200
_WIDTH = 0.25  # of the kernel, in shares of the slices, each fact by its rank
_RIDGE = 0.1
_COLUMNS_AT_ONCE = 2_000_000


def p_values(
    controls: Mapping[str, np.ndarray], rows: Sequence[ManifestRow], classes: tuple[str, ...], seed: int
) -> list[float]:
    """For each control, how often any control tells permuted labels as well as it tells the true ones.

    The statistic is the ROC AUC of held-out slices, patients kept whole (a mean over classes against the
    rest, where there are several). Each permutation counts with its best control, so the p-values hold for
    all controls at once (Westfall and Young, Resampling-Based Multiple Testing, 1993).

    Parameters
    ----------
    controls : mapping of str to ndarray of shape (n, n_facts), float
        What each control may know of each slice.
    rows : sequence of ManifestRow
        n labelled slices.
    classes : tuple of str
    seed : int
        Draws folds, landmarks and permutations.

    Returns
    -------
    list of float
        From 1 / 500 to 1, in the order of the controls.
    """
    rng = np.random.default_rng(seed)
    truth = np.array([classes.index(row.label) for row in rows])
    labels = np.stack([truth, *(truth[donors_by_patient(rows, rng)] for _ in range(_PERMUTATIONS))], axis=1)
    patients, patient = np.unique([row.patient for row in rows], return_inverse=True)
    # Dealt without a look at the labels, so that the true ones have no better folds than the permuted ones.
    fold = (rng.permutation(len(patients)) % _FOLDS)[patient]
    wanted = [1] if len(classes) == 2 else range(len(classes))
    areas = np.zeros((len(controls), labels.shape[1]))
    for number, facts in enumerate(controls.values()):
        features = _landmark_features(facts, rng)
        for one in wanted:
            areas[number] += _held_out_areas(features, labels == one, fold) / len(wanted)
    best = areas[:, 1:].max(axis=0)
    return [float((1 + np.sum(best >= own - 1e-12)) / (1 + _PERMUTATIONS)) for own in areas[:, 0]]


def _landmark_features(facts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Likeness of each slice to some of them, by the ranks of its facts, after a Gaussian kernel."""
    from scipy.stats import rankdata

    shares = rankdata(facts, axis=0) / len(facts)
    landmarks = np.unique(shares, axis=0)
    if len(landmarks) > _LANDMARKS:
        landmarks = landmarks[rng.permutation(len(landmarks))[:_LANDMARKS]]
    apart = np.stack([((landmarks - own) ** 2).mean(axis=1) for own in shares])
    return np.exp(-apart / (2 * _WIDTH**2))


def _held_out_areas(features: np.ndarray, targets: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """ROC AUC of held-out slices for each column of targets (n, n_columns), bool; 0.5 where undefined."""
    areas = np.empty(targets.shape[1])
    step = max(1, _COLUMNS_AT_ONCE // len(targets))
    for start in range(0, targets.shape[1], step):
        own = targets[:, start : start + step]
        scores = np.empty(own.shape)
        for one in np.unique(fold):
            held_out = fold == one
            trained = features[~held_out]
            centre = trained.mean(axis=0)
            gram = (trained - centre).T @ (trained - centre)
            gram[np.diag_indices_from(gram)] += _RIDGE * max(np.trace(gram) / len(gram), 1e-9)
            # The share of positives is left out: folds with more of them would have less in training.
            weights = np.linalg.solve(gram, (trained - centre).T @ own[~held_out])
            scores[held_out] = (features[held_out] - centre) @ weights
        areas[start : start + step] = _areas(scores, own)
    return areas


def _areas(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    # Rounded, so that slices with the same facts tie whatever the last bits of a product are.
    ranks = rankdata(np.round(scores, 9), axis=0)
    m = positive.sum(axis=0)
    n = len(positive) - m
    above = (ranks * positive).sum(axis=0) - m * (m + 1) / 2
    return np.divide(above, m * n, out=np.full(len(m), 0.5), where=m * n > 0)
