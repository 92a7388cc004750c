"""Sums per patient for units that can have several classes at once: a tally a class, and whole sets."""

from collections.abc import Mapping

import numpy as np

from haemo.pipeline.evaluation.jackknife import Groups
from haemo.pipeline.evaluation.ranking import ratio
from haemo.pipeline.evaluation.tallies import CLASS_METRICS, METRICS, Tally
from haemo.pipeline.evaluation.units import Answers, UnitAnswers

__all__ = ["AnyTally", "SetTally", "tally_of"]

_ABSENT = {
    "mcc": "R_K needs one class a {thing}, and a {thing} can have several",
    "log_loss": "the probabilities of a {thing} do not sum to 1: it can have several classes",
    "calibration_error": "a {thing} has no one probability to calibrate: it can have several classes",
    "confusion": "a {thing} can have several classes, so it has no one row and column",
}


class SetTally:
    """Per-patient sums of one model's answers about units with sets of classes; to be used like a `Tally`.

    Parameters
    ----------
    answers : UnitAnswers
        With at least one row.

    Attributes
    ----------
    classes : tuple of str
    positive : None
    patients : ndarray of shape (n_patients,), str
        In the order of the columns of a weights matrix.
    patient : ndarray of shape (n,), int
        Position in `patients` of each unit.
    named : ndarray of shape (n, n_classes), bool
    right : ndarray of shape (n,), bool
        Whether exactly the classes that a unit has are named.
    confusion : None
    absent : mapping of str to str
        Figures that sets of classes do not have, with the reason.
    thing, things : str
        What is counted, in the singular and in the plural.
    meaning : str
        What a reader has to know of the figures, in one line.

    Raises
    ------
    BadDataset
        If there are no rows.
    """

    confusion = None
    positive = None

    def __init__(self, answers: UnitAnswers):
        self.classes = answers.classes
        self._each = {name: Tally(answers.against_rest(name)) for name in self.classes}
        first = self._each[self.classes[0]]
        self.patients, self.patient = first.patients, first.patient
        self.meaning = answers.meaning
        self.named = answers.named
        self.right = (answers.named == answers.has).all(axis=1)
        self._right = np.bincount(self.patient, self.right, minlength=len(self.patients))
        self._units = np.bincount(self.patient, minlength=len(self.patients))
        self.thing, self.things = answers.by, {"study": "studies", "patient": "patients"}[answers.by]
        self.absent: Mapping[str, str] = {
            name: reason.format(thing=self.thing) for name, reason in _ABSENT.items()
        }

    def figures(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Every metric for each row of patient weights; NaN where it is undefined, or in `absent`.

        Parameters
        ----------
        weights : ndarray of shape (n_resamples, n_patients), optional
            How often each patient counts; all once by default.

        Returns
        -------
        dict of str to ndarray of shape (n_resamples,)
            With the keys `METRICS`.

        Notes
        -----
        `accuracy` is the share of units whose classes are named exactly (subset accuracy). Sensitivity,
        specificity, PPV, NPV, F1, threat score, ROC AUC and average precision are the plain means over
        classes, each against the rest, and `balanced_accuracy` is that of sensitivity, as for slices of
        several classes. `mse` is the mean over units and classes of the squared error of the probability,
        `brier` its sum over classes (0..n_classes).
        """
        return self.all_figures(weights)[0]

    def all_figures(
        self, weights: np.ndarray | None = None, ranked: bool = True
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
        """What `figures` gives, and what `class_figures` gives for each class, at the price of either."""
        if weights is None:
            weights = np.ones((1, len(self.patients)))
        each = {name: tally.all_figures(weights, ranked)[0] for name, tally in self._each.items()}
        figures = {metric: np.mean([one[metric] for one in each.values()], axis=0) for metric in METRICS}
        total = weights @ self._units
        undefined = np.full(len(total), np.nan)
        figures["accuracy"] = ratio(weights @ self._right, total)
        figures["balanced_accuracy"] = figures["sensitivity"]
        figures["brier"] = figures["mse"] * len(self.classes)
        figures |= {metric: undefined for metric in METRICS if metric in self.absent}
        per_class = {name: {metric: one[metric] for metric in CLASS_METRICS} for name, one in each.items()}
        return figures, per_class

    @property
    def averaged(self) -> tuple[str, ...]:
        """Classes that figures are the mean of: all."""
        return self.classes

    def ranked_without(self, groups: Groups) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """ROC AUC and average precision of each class against the rest without each group of patients."""
        return {name: tally.ranked_without(groups)[tally.classes[1]] for name, tally in self._each.items()}

    def class_figures(self, name: str, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The metrics of one class against the rest, with keys `CLASS_METRICS`."""
        figures = self._each[name].figures(weights)
        return {metric: figures[metric] for metric in CLASS_METRICS}

    def class_tables(self, name: str) -> np.ndarray:
        """Each patient's units by whether they have a class (rows: no, yes) and whether it is named.

        Returns
        -------
        ndarray of shape (n_patients, 2, 2), float64
        """
        return self._each[name].class_tables(name)


AnyTally = Tally | SetTally
"""The tally of slices or units with one class each, or of units with sets of classes."""


def tally_of(answers: Answers, threshold: float | None = None) -> AnyTally:
    """The tally that fits the answers.

    Parameters
    ----------
    answers : Predictions or UnitAnswers
    threshold : float, optional
        See `pipeline.evaluation.tallies.decisions`; of no consequence where units have sets of classes, whose
        classes have been named before.

    Raises
    ------
    BadDataset
        As `Tally` and `SetTally`.
    """
    return SetTally(answers) if isinstance(answers, UnitAnswers) else Tally(answers, threshold)
