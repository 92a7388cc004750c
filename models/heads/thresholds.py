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
        ``fixed``, ``youden`` (the largest sensitivity + specificity), ``sensitivity`` (the highest
        threshold whose sensitivity is still `value`) or ``specificity`` (the lowest whose specificity is).
    value : float
        The threshold itself, the sensitivity or the specificity; not used by ``youden``.
    """

    name: str
    value: float = 0.5

    def __str__(self) -> str:
        match self.name:
            case "fixed":
                return f"{self.value:g}"
            case "youden":
                return self.name
            case _:
                return f"{self.name}={self.value:g}"

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
            Just above 1 where the specificity asked for is had only by calling slices of probability 1
            negative too.
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
        match self.name:
            case "youden":
                gain = sensitivity - false_alarms
                best = int(np.flatnonzero(gain >= gain.max() - 1e-12)[-1])
            case "sensitivity":
                best = int(np.flatnonzero(sensitivity >= self.value - 1e-12)[-1])
            case _:
                specific = np.flatnonzero(1 - false_alarms >= self.value - 1e-12)
                if not len(specific):
                    return float(np.nextafter(1, 2) if values[-1] == 1 else (values[-1] + 1) / 2)
                best = int(specific[0])
        below = values[best - 1] if best else 0.0
        middle = (values[best] + below) / 2
        # Neighbouring floats have no number between them.
        return float(middle if middle > below else values[best])


def parse_threshold(text: str) -> ThresholdRule:
    """Read a rule as it is typed: ``0.5``, ``youden``, ``sensitivity=0.95`` or ``specificity=0.9``.

    Raises
    ------
    BadSettings
        If it is none of these, or its number does not lie between 0 and 1.
    """
    if text == "youden":
        return ThresholdRule("youden")
    name, equals, number = text.rpartition("=")
    others = f"threshold {text!r} is none of 0.5, youden, sensitivity=0.95, specificity=0.9"
    if name not in ("", "sensitivity", "specificity") or bool(name) != bool(equals):
        raise BadSettings(others)
    try:
        value = float(number)
    except ValueError as error:
        raise BadSettings(others) from error
    highest_allowed = value <= 1 if name else value < 1
    if not (math.isfinite(value) and value > 0 and highest_allowed):
        raise BadSettings(f"threshold {text!r}: the number must lie between 0 and 1")
    return ThresholdRule(name or "fixed", value)
