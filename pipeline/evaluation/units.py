"""Answers about studies or patients with several classes at once, as an epidural and a subdural bleed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from haemo.features.labels import says_normal
from haemo.pipeline.run.predictions import Predictions

__all__ = ["Answers", "UnitAnswers", "background_of"]


def background_of(classes: Sequence[str]) -> str | None:
    """The one class whose name says that there is no bleed (`says_normal`); None if none or several do.

    Among more than two classes only words say so, not ``F`` or ``0``.
    """
    normal = [name for name in classes if says_normal(name, in_words=len(classes) > 2)]
    return normal[0] if len(normal) == 1 else None


@dataclass(frozen=True, eq=False)
class UnitAnswers:
    """What one model says of studies or patients with a set of classes each; `Predictions` for two classes.

    Attributes
    ----------
    by : {'study', 'patient'}
        What a unit is.
    unit, patient, study : ndarray of shape (n,), str
        Name, patient and study of each unit; of a patient with several studies the first.
    has : ndarray of shape (n, n_classes), bool
        Classes that a unit is labelled with: one or more.
    named : ndarray of shape (n, n_classes), bool
        Classes that the model names: any number, and none only where no class is the background.
    scores : ndarray of shape (n, n_classes), float64
        By which units are ranked for each class against the rest.
    probabilities : ndarray of shape (n, n_classes), float64
        In 0..1, of each class by itself: a row need not sum to 1.
    classes : tuple of str
        Class names in the order of the columns.
    background : str or None
        The class that a unit has if it has no other, as normal; None where no class is that.
    """

    by: str
    unit: np.ndarray
    patient: np.ndarray
    study: np.ndarray
    has: np.ndarray
    named: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]
    background: str | None

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def positive(self) -> None:
        """No class is the positive one: each is set against the rest."""
        return None

    @property
    def meaning(self) -> str:
        """What a reader has to know of the figures, in one line."""
        line = f"a {self.by} can have several classes at once: accuracy is how often exactly these are named"
        if self.background is None:
            return line
        return f"{line}; {self.background} is what has no other class"

    def against_rest(self, name: str) -> Predictions:
        """The same units as answers to one question: does a unit have this class, or not?

        Returns
        -------
        Predictions
            Of two classes, the second of which is `name`; ``slice_id`` holds the unit's name.
        """
        one = self.classes.index(name)
        two = (f"not {name}", name)
        return Predictions(
            slice_id=self.unit,
            patient=self.patient,
            study=self.study,
            label=np.array(two)[self.has[:, one].astype(int)],
            part=np.full(len(self), "test"),
            fold=np.full(len(self), -1),
            scores=self.scores[:, one],
            probabilities=self.probabilities[:, one],
            predicted=np.array(two)[self.named[:, one].astype(int)],
            classes=two,
        )


Answers = Predictions | UnitAnswers
"""One model's answers, a row a slice or unit, with one class each or with sets of classes."""
