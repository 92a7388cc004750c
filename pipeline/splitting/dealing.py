"""Patients dealt out to the parts of a split, like cards: whole, evenly, and the same for the same seed."""

import logging

import numpy as np

from haemo.errors import TooFewData
from haemo.features.manifest import ManifestRow

__all__ = ["LEAST_PATIENTS", "deal", "draw_folds", "draw_sides", "remedy"]

log = logging.getLogger("haemo")

LEAST_PATIENTS = 3
"""Patients that each class needs: two to train and validate on, one to test."""

_DRAWS = 200


def remedy(classes: int) -> str:
    """What to do about a class with too few patients, where there are so many classes."""
    if classes < 3:
        return "add patients and index again"
    return (
        "add patients, or leave the slices of this class out of labels.csv or give them another class there, "
        "and index again"
    )


def draw_sides(
    rows: list[ManifestRow], classes: tuple[str, ...], train_fraction: float, seed: int
) -> dict[str, str]:
    """Put every patient whole on one side.

    Parameters
    ----------
    rows : list of ManifestRow
        Labelled rows in an order that does not depend on that of the manifest.
    classes : tuple of str
        Of two classes the second is the positive one.
    train_fraction : float
        Share of the slices for training.
    seed : int

    Returns
    -------
    dict
        slice_id to ``train`` or ``test``.

    Raises
    ------
    TooFewData
        If a class cannot have two patients in training and one in test.
    """
    patients, counts = _count(rows, classes)
    for name, number in zip(classes, (counts > 0).sum(axis=0), strict=True):
        if number < LEAST_PATIENTS:
            raise TooFewData(
                f"class {name!r} has too few patients ({number}); training, validating and testing "
                f"on whole patients needs {LEAST_PATIENTS} or more of each class: {remedy(len(classes))}"
            )
    shares = np.array([train_fraction, 1 - train_fraction])
    parts = deal(counts, _strata(counts), shares, np.array([2, 1]), seed)
    for part, name, needed in ((0, "training", 2), (1, "test", 1)):
        patients_of_class = (counts[parts == part] > 0).sum(axis=0)
        if (patients_of_class < needed).any():
            lacking = classes[int(np.argmax(patients_of_class < needed))]
            raise TooFewData(
                f"{len(patients)} patients cannot be divided so that the {name} side has {needed} of class "
                f"{lacking!r}: {remedy(len(classes))}"
            )
    side = {patient: ("train", "test")[part] for patient, part in zip(patients, parts, strict=True)}
    return {row.slice_id: side[row.patient] for row in rows}


def draw_folds(rows: list[ManifestRow], classes: tuple[str, ...], folds: int, seed: int) -> dict[str, int]:
    """Put every training patient whole into one fold.

    Fewer folds than asked for are made, with a warning, where a class has fewer patients.

    Returns
    -------
    dict
        Patient to fold, from 0.

    Raises
    ------
    TooFewData
        If a class has fewer than two patients.
    """
    patients, counts = _count(rows, classes)
    of_class = (counts > 0).sum(axis=0)
    fewest = int(of_class.min())
    name = classes[int(of_class.argmin())]
    if fewest < 2:
        raise TooFewData(
            f"class {name!r} has too few training patients ({fewest}); cross-validation over "
            f"whole patients needs 2 or more of each class: {remedy(len(classes))}"
        )
    if fewest < folds:
        log.warning("%d folds in place of %d: class %r has %d training patients", fewest, folds, name, fewest)
        folds = fewest
    shares = np.full(folds, 1 / folds)
    parts = deal(counts, _strata(counts), shares, np.ones(folds, dtype=int), seed)
    return {patient: int(part) for patient, part in zip(patients, parts, strict=True)}


def deal(
    class_counts: np.ndarray, strata: np.ndarray, shares: np.ndarray, least: np.ndarray, seed: int
) -> np.ndarray:
    """Deal patients to parts so that every part gets its share of each class and of all slices.

    The patients of each stratum are shuffled and dealt in turns that follow the shares, so every part
    gets its share of each stratum to within a patient or two. Of many such draws the one is kept whose
    slice counts, class by class, come nearest to the shares: patients have unequal numbers of slices.
    Only counts decide, so the choice knows nothing of what a model will make of the slices.

    Parameters
    ----------
    class_counts : ndarray of shape (n_patients, n_classes), int
        Slices of each class that each patient has.
    strata : ndarray of shape (n_patients,), int
        Stratum of each patient.
    shares : ndarray of shape (n_parts,), float
        Share of the slices that each part shall get; they add up to 1.
    least : ndarray of shape (n_parts,), int
        Number of patients with slices of a class that each part needs, for each class. A draw that
        falls short of it is taken only if no draw does better.
    seed : int

    Returns
    -------
    ndarray of shape (n_patients,), int
        Part of each patient.
    """
    random = np.random.default_rng(seed)
    turns = _turns(shares, 2 * len(strata))
    best, best_cost = None, np.inf
    for _ in range(_DRAWS):
        order = np.lexsort((random.random(len(strata)), strata))
        start = random.integers(len(strata))
        parts = np.empty(len(strata), dtype=int)
        parts[order] = turns[start : start + len(strata)]
        cost = _cost(parts, class_counts, shares, least)
        if cost < best_cost:
            best, best_cost = parts, cost
    return best


def _turns(shares: np.ndarray, length: int) -> np.ndarray:
    """Whose turn it is at each step: always the part that lags furthest behind its share."""
    dealt = np.zeros(len(shares))
    turns = np.empty(length, dtype=int)
    for step in range(length):
        turns[step] = np.argmax(shares * (step + 1) - dealt)
        dealt[turns[step]] += 1
    return turns


def _cost(parts: np.ndarray, class_counts: np.ndarray, shares: np.ndarray, least: np.ndarray) -> float:
    membership = (parts[:, None] == np.arange(len(shares))).astype(float)
    slices = membership.T @ class_counts
    patients = membership.T @ (class_counts > 0)
    of_class = np.abs(slices / class_counts.sum(axis=0) - shares[:, None]).sum()
    of_all = np.abs(slices.sum(axis=1) / class_counts.sum() - shares).sum()
    lacking = np.maximum(least[:, None] - patients, 0).sum()
    return float(of_class + of_all + 1000 * lacking)


def _count(rows: list[ManifestRow], classes: tuple[str, ...]) -> tuple[list[str], np.ndarray]:
    """Patients in alphabetical order, and their number of slices of each class."""
    patients = sorted({row.patient for row in rows})
    place = {patient: number for number, patient in enumerate(patients)}
    column = {name: number for number, name in enumerate(classes)}
    counts = np.zeros((len(patients), len(classes)), dtype=int)
    for row in rows:
        counts[place[row.patient], column[row.label]] += 1
    return patients, counts


def _strata(counts: np.ndarray) -> np.ndarray:
    """Two classes: whether a patient has a positive slice. More: the rarest class that the patient has."""
    if counts.shape[1] == 2:
        return (counts[:, 1] > 0).astype(int)
    rarity = np.argsort(np.argsort((counts > 0).sum(axis=0), kind="stable"))
    return np.where(counts > 0, rarity, counts.shape[1]).min(axis=1)
