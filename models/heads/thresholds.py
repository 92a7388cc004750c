"""The operating point of a two-class head: from which probability on it says positive."""

import math
from dataclasses import dataclass

import numpy as np

from haemo.errors import BadSettings

__all__ = ["ThresholdRule", "parse_threshold"]


@dataclass(frozen=True)
class ThresholdRule:
    """How the threshold is found; on out-of-fold probabilities, never on test slices.

    Attributes
    ----------
    name : str
        ``fixed``, ``youden`` (the largest sensitivity + specificity) or ``sensitivity`` (the highest
        threshold whose sensitivity is still `value`).
    value : float
        The threshold itself, or the sensitivity; not used by ``youden``.
    """

    name: str
    value: float = 0.5

    def __str__(self) -> str:
        match self.name:
            case "fixed":
                return f"{self.value:g}"
            case "sensitivity":
                return f"sensitivity={self.value:g}"
            case _:
                return self.name

    def choose(self, is_positive: np.ndarray, probabilities: np.ndarray) -> float:
        """The threshold; a slice is called positive from it on.

        It lies halfway between two neighbouring probabilities, so that rounding cannot move a slice over it.

        Parameters
        ----------
        is_positive : ndarray of shape (n,), bool
        probabilities : ndarray of shape (n,), float
            Of the positive class, of slices that the model was not fitted on.

        Returns
        -------
        float in 0..1
        """
        if self.name == "fixed":
            return self.value
        is_positive = np.asarray(is_positive, dtype=bool)
        values, place = np.unique(probabilities, return_inverse=True)
        positives = np.bincount(place, weights=is_positive, minlength=len(values))
        negatives = np.bincount(place, weights=~is_positive, minlength=len(values))
        # Called positive when the threshold lies just below each value: that value and all above.
        sensitivity = positives[::-1].cumsum()[::-1] / max(1, is_positive.sum())
        false_alarms = negatives[::-1].cumsum()[::-1] / max(1, (~is_positive).sum())
        if self.name == "youden":
            gain = sensitivity - false_alarms
            best = int(np.flatnonzero(gain >= gain.max() - 1e-12)[-1])
        else:
            best = int(np.flatnonzero(sensitivity >= self.value - 1e-12)[-1])
        below = values[best - 1] if best else 0.0
        middle = (values[best] + below) / 2
        # Neighbouring floats have no number between them.
        return float(middle if middle > below else values[best])


def parse_threshold(text: str) -> ThresholdRule:
    """Read a rule as it is typed: ``0.5``, ``youden`` or ``sensitivity=0.95``.

    Raises
    ------
    BadSettings
        If it is none of these, or its number does not lie between 0 and 1.
    """
    if text == "youden":
        return ThresholdRule("youden")
    name, equals, number = text.rpartition("=")
    if name not in ("", "sensitivity") or bool(name) != bool(equals):
        raise BadSettings(f"threshold {text!r} is none of 0.5, youden, sensitivity=0.95")
    try:
        value = float(number)
    except ValueError as error:
        raise BadSettings(f"threshold {text!r} is none of 0.5, youden, sensitivity=0.95") from error
    highest_allowed = value <= 1 if name else value < 1
    if not (math.isfinite(value) and value > 0 and highest_allowed):
        raise BadSettings(f"threshold {text!r}: the number must lie between 0 and 1")
    return ThresholdRule(name or "fixed", value)
