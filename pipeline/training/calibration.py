"""Slices held out for calibration: as many folds of whole patients as probabilities and thresholds need."""

import logging
from dataclasses import replace

import numpy as np

from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.splitting.dealing import draw_folds
from haemo.pipeline.training.examples import Examples

__all__ = ["calibration_examples"]

log = logging.getLogger("haemo")

_LEAST_FOLDS = 5
_FOLDS = 10


def calibration_examples(cohort: Cohort, examples: Examples) -> Examples:
    """The same training slices in the folds whose held-out scores probabilities and the threshold come from.

    They are the folds of the search where these are five or more, or where the split is leaky; else ten of
    whole patients, or as many as a class has patients. A model of few folds has learned from much less than
    the final one, whose scores lie farther apart on new slices than those it is calibrated by: with two
    folds the log odds of 120 simulated patients had to be shrunk to 0.66 of what was said, with five to 0.84,
    with ten to 0.88.

    Returns
    -------
    Examples
        `examples` itself where the folds stay.
    """
    fold = examples.fold[: examples.n_train]
    present = len(np.unique(fold))
    if present >= _LEAST_FOLDS or cohort.split.leaky:
        return examples
    rows, y = examples.train_rows, examples.y[: examples.n_train]
    patient = np.array([row.patient for row in rows])
    fewest = min(len(set(patient[y == one])) for one in range(len(examples.classes)))
    folds = max(present, min(_FOLDS, fewest))
    if folds < _LEAST_FOLDS:
        log.warning(
            "probabilities and threshold come from %d folds only, for a class has %d training patients: "
            "probabilities of new slices will be too near to 0 and 1",
            folds,
            fewest,
        )
    if folds == present:
        return examples
    of_patient = draw_folds(list(rows), examples.classes, folds, cohort.split.seed)
    variants = len(examples.y) // examples.n_train
    return replace(examples, fold=np.tile([of_patient[name] for name in patient], variants))
