"""Sums per patient from which every metric follows, for the data as they are or for any weights of patients.

A patient who is left out counts 0 times, one in a bootstrap sample 0, 1, 2 ... times. Metrics made of counts
and means are then ratios of weighted sums over patients, and ROC AUC and average precision need one sort for
all rows of weights. So one matrix of weights gives every figure without each patient at once, and the plain
figures are the case of all weights one.
"""

import numpy as np

from haemo.errors import BadDataset, BadSettings
from haemo.pipeline.evaluation.jackknife import Groups
from haemo.pipeline.evaluation.ranking import Ranking, ratio
from haemo.pipeline.run.predictions import Predictions

__all__ = [
    "CALIBRATION_BINS",
    "CLASS_METRICS",
    "METRICS",
    "Tally",
    "decisions",
    "metric_title",
    "positions",
]

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "mcc",
    "threat_score",
    "roc_auc",
    "average_precision",
    "mse",
    "brier",
    "log_loss",
    "calibration_error",
)
"""Names of the figures of a model, in the order in which they are shown."""

CLASS_METRICS = (
    "accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "mcc",
    "threat_score",
    "roc_auc",
    "average_precision",
)
"""Names of the figures of one class against all others."""

CALIBRATION_BINS = 10
"""Equal-width bins of probability for the expected calibration error."""

_TITLES = {
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "mcc": "MCC",
    "roc_auc": "ROC AUC",
    "mse": "MSE",
    "brier": "Brier score",
}


def metric_title(name: str) -> str:
    """A figure's name as people write it: ``roc_auc`` as ROC AUC, ``log_loss`` as log loss."""
    return _TITLES.get(name, name.replace("_", " "))


def decisions(predictions: Predictions, threshold: float | None = None) -> np.ndarray:
    """Predicted classes as positions in `predictions.classes`, at a threshold or as the file has them.

    Parameters
    ----------
    predictions : Predictions
    threshold : float, optional
        For two classes: the positive class is predicted from this probability up. None takes the
        column ``predicted``.

    Returns
    -------
    ndarray of shape (n,), int

    Raises
    ------
    BadSettings
        If a threshold is given for more than two classes.
    """
    if threshold is None:
        return positions(predictions.predicted, predictions.classes, "predicted")
    if predictions.positive is None:
        raise BadSettings(f"a threshold needs two classes; here there are {len(predictions.classes)}")
    return (predictions.probabilities >= threshold).astype(int)


class Tally:
    """Per-patient sums of one model's predictions.

    Parameters
    ----------
    predictions : Predictions
        With at least one row; every label must be one of its classes.
    threshold : float, optional
        See `decisions`.

    Attributes
    ----------
    patients : ndarray of shape (n_patients,), str
        In the order of the columns of a weights matrix.
    patient : ndarray of shape (n,), int
        Position in `patients` of each slice.
    confusion : ndarray of shape (n_patients, n_classes, n_classes), float64
        Slices by true class (rows) and predicted class (columns).
    named : ndarray of shape (n,), int
        Predicted class of each slice, as its position in `classes`.
    right : ndarray of shape (n,), bool
        Whether that is the true class.
    absent : mapping of str to str
        Figures that these answers do not have, with the reason: the calibration error of probabilities that
        are not calibrated.
    thing, things : str
        What a row is called in a reason, in the singular and in the plural.
    meaning : str
        What a reader has to know of figures of this kind: nothing.

    Raises
    ------
    BadDataset
        If there are no rows, or a label is none of the classes.
    """

    thing, things = "slice", "slices"
    meaning = ""

    def __init__(self, predictions: Predictions, threshold: float | None = None):
        if not len(predictions):
            raise BadDataset("there are no predictions to evaluate")
        self.classes, self.positive = predictions.classes, predictions.positive
        self.absent = {"calibration_error": predictions.uncalibrated} if predictions.uncalibrated else {}
        self.patients, self.patient = np.unique(predictions.patient, return_inverse=True)
        self._truth = positions(predictions.label, self.classes, "label")
        self.named = decisions(predictions, threshold)
        self.right = self.named == self._truth
        k = len(self.classes)
        cell = (self.patient * k + self._truth) * k + self.named
        counts = np.bincount(cell, minlength=len(self.patients) * k * k)
        self.confusion = counts.reshape(-1, k, k).astype(float)

        columns = predictions.probabilities
        if predictions.positive is not None:
            columns = np.column_stack([1 - columns, columns])
        self._rankings = {
            name: (predictions.scores if predictions.positive is not None else predictions.scores[:, i])
            for i, name in enumerate(self.classes)
        }
        if predictions.positive is not None:
            self._rankings[self.classes[0]] = -predictions.scores
        self._sums = self._patient_sums(columns)

    def _patient_sums(self, probabilities: np.ndarray) -> np.ndarray:
        """Sums over each patient's slices: squared error, log loss, then two columns a calibration bin."""
        rows = np.arange(len(self._truth))
        wanted = np.zeros_like(probabilities)
        wanted[rows, self._truth] = 1
        squared = ((probabilities - wanted) ** 2).sum(axis=1)
        # Clipped as scikit-learn does, so that one certain error costs much but not everything.
        tiny = np.finfo(float).eps
        total = probabilities.sum(axis=1)
        logs = -np.log(np.clip(probabilities[rows, self._truth], tiny, 1 - tiny) / total)
        if len(self.classes) == 2:
            confidence, hit = probabilities[:, 1], self._truth
        else:
            confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == self._truth
        bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        self._single_variances = np.bincount(bins, confidence * (1 - confidence), CALIBRATION_BINS)
        gaps = np.zeros((len(rows), CALIBRATION_BINS))
        gaps[rows, bins] = hit - confidence
        values = np.column_stack([squared, logs, gaps])
        sums = np.zeros((len(self.patients), values.shape[1]))
        np.add.at(sums, self.patient, values)
        return sums

    def figures(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Every metric for each row of patient weights; NaN where it is undefined.

        With more than two classes sensitivity, specificity, PPV, NPV, F1, threat score, ROC AUC and
        average precision are the plain means over classes, each against all others (macro).

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
        MCC is Gorodkin's R_K for several classes (Comput. Biol. Chem. 28, 2004). `mse` is the mean over
        slices and classes of the squared error of the probability; `brier` is the same number for two
        classes and Brier's sum over classes (0..2) for more. `calibration_error` is the mean over slices
        of |observed - predicted| in `CALIBRATION_BINS` equal-width bins: of the positive class's
        probability for two classes, of the largest probability for more.
        """
        each = [self.class_figures(name, weights) for name in self.averaged]
        return self._overall(self._weights(weights), each)

    def all_figures(
        self, weights: np.ndarray | None = None, ranked: bool = True
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
        """What `figures` gives, and what `class_figures` gives for each class, at the price of the latter."""
        each = {name: self.class_figures(name, weights, ranked) for name in self.classes}
        return self._overall(self._weights(weights), [each[name] for name in self.averaged]), each

    @property
    def averaged(self) -> tuple[str, ...]:
        """Classes that figures of one class are taken from: the positive one of two, or the mean of all."""
        return self.classes[1:] if len(self.classes) == 2 else self.classes

    def ranked_without(self, groups: Groups) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """ROC AUC and average precision of each class without each group of patients."""
        return {name: self._ranking(name).without(groups.group) for name in self.classes}

    def _overall(self, weights: np.ndarray, each: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        table = np.einsum("bp,pij->bij", weights, self.confusion, optimize=True)
        figures = {name: np.mean([one[name] for one in each], axis=0) for name in CLASS_METRICS}
        total = table.sum(axis=(1, 2))
        figures["accuracy"] = ratio(np.trace(table, axis1=1, axis2=2), total)
        recalls = ratio(np.diagonal(table, axis1=1, axis2=2), table.sum(axis=2))
        figures["balanced_accuracy"] = recalls.mean(axis=1)
        figures["mcc"] = _matthews(table)
        sums = weights @ self._sums
        squared = ratio(sums[:, 0], total)
        figures["mse"] = squared / len(self.classes)
        figures["brier"] = squared / 2 if len(self.classes) == 2 else squared
        figures["log_loss"] = ratio(sums[:, 1], total)
        figures["calibration_error"] = ratio(np.abs(sums[:, 2:]).sum(axis=1), total)
        figures |= {name: np.full_like(total, np.nan) for name in self.absent}
        return {name: figures[name] for name in METRICS}

    def class_figures(
        self, name: str, weights: np.ndarray | None = None, ranked: bool = True
    ) -> dict[str, np.ndarray]:
        """The metrics of one class against all others, as `figures` gives them, with keys `CLASS_METRICS`.

        Without `ranked`, ROC AUC and average precision are NaN, for who has them from `ranked_without`.
        """
        weights = self._weights(weights)
        if ranked:
            roc_auc, average_precision = self._ranking(name).weighted(weights)
        else:
            roc_auc = average_precision = np.full(len(weights), np.nan)
        decided = self.decided_figures(name, weights)
        return {**decided, "roc_auc": roc_auc, "average_precision": average_precision}

    def decided_figures(self, name: str, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Those of `class_figures` that follow from what is predicted alone, without a sort of the scores."""
        weights = self._weights(weights)
        one = self.classes.index(name)
        table = np.einsum("bp,pij->bij", weights, self.confusion, optimize=True)
        tp = table[:, one, one]
        fn = table[:, one].sum(axis=1) - tp
        fp = table[:, :, one].sum(axis=1) - tp
        tn = table.sum(axis=(1, 2)) - tp - fn - fp
        binary = np.stack([tn, fp, fn, tp], axis=1).reshape(-1, 2, 2)
        return {
            "accuracy": ratio(tp + tn, tp + tn + fp + fn),
            "sensitivity": ratio(tp, tp + fn),
            "specificity": ratio(tn, tn + fp),
            "ppv": ratio(tp, tp + fp),
            "npv": ratio(tn, tn + fn),
            "f1": ratio(2 * tp, 2 * tp + fp + fn),
            "mcc": _matthews(binary),
            "threat_score": ratio(tp, tp + fp + fn),
        }

    def class_tables(self, name: str) -> np.ndarray:
        """Each patient's slices by whether they are of a class (rows: no, yes) and predicted as it (columns).

        Returns
        -------
        ndarray of shape (n_patients, 2, 2), float64
        """
        one = self.classes.index(name)
        tp = self.confusion[:, one, one]
        fn = self.confusion[:, one].sum(axis=1) - tp
        fp = self.confusion[:, :, one].sum(axis=1) - tp
        tn = self.confusion.sum(axis=(1, 2)) - tp - fn - fp
        return np.stack([tn, fp, fn, tp], axis=1).reshape(-1, 2, 2)

    def calibration_errors_by_chance(self, draws: int = 10_000) -> np.ndarray:
        """Calibration errors that chance alone gives a model whose probabilities are right.

        The sums of observed - predicted in the bins are drawn from the normal distribution with mean 0 and
        the covariance that patients have about 0, so that slices of one patient may err together; in no bin
        with less variance than single slices would have.

        Returns
        -------
        ndarray of shape (draws,), float64
        """
        sums = self._sums[:, 2:]
        covariance = sums.T @ sums
        covariance += np.diag(np.maximum(self._single_variances - np.diag(covariance), 0))
        variances, axes = np.linalg.eigh(covariance)
        noise = np.random.default_rng(0).normal(size=(draws, CALIBRATION_BINS))
        return np.abs(noise * np.sqrt(np.maximum(variances, 0)) @ axes.T).sum(axis=1) / len(self.patient)

    def _ranking(self, name: str) -> Ranking:
        return Ranking(self._rankings[name], self._truth == self.classes.index(name), self.patient)

    def _weights(self, weights: np.ndarray | None) -> np.ndarray:
        return np.ones((1, len(self.patients))) if weights is None else np.asarray(weights, dtype=float)


def _matthews(table: np.ndarray) -> np.ndarray:
    """Matthews correlation of confusion matrices (n, k, k); NaN where a margin has one class only."""
    total = table.sum(axis=(1, 2))
    truth, named = table.sum(axis=2), table.sum(axis=1)
    covariance = np.trace(table, axis1=1, axis2=2) * total - (truth * named).sum(axis=1)
    spread = (total**2 - (truth**2).sum(axis=1)) * (total**2 - (named**2).sum(axis=1))
    return ratio(covariance, np.sqrt(spread))


def positions(names: np.ndarray, classes: tuple[str, ...], column: str) -> np.ndarray:
    """Positions of class names in `classes`.

    Parameters
    ----------
    names : ndarray of shape (n,), str
    classes : tuple of str
    column : str
        Where the names stand, for the message.

    Returns
    -------
    ndarray of shape (n,), int

    Raises
    ------
    BadDataset
        If a name is none of the classes.
    """
    found = np.full(len(names), -1)
    for place, name in enumerate(classes):
        found[names == name] = place
    if (found < 0).any():
        stranger = names[np.argmax(found < 0)]
        raise BadDataset(f"column {column}: {str(stranger)!r} is none of the classes {', '.join(classes)}")
    return found
