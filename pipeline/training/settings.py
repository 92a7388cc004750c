"""What decides what a head becomes, beside the data and the split."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from haemo.models.heads.kinds import Grid
from haemo.models.heads.spec import HeadSpec
from haemo.models.heads.thresholds import ThresholdRule, parse_threshold
from haemo.pipeline.splitting.cohort import Cohort

__all__ = ["HeadSettings"]

# Settings that heads of 0.1 did not have, and what they come to there.
_SINCE = {"estimator": None, "context": 0, "smooth": False, "features": ()}


@dataclass(frozen=True)
class HeadSettings:
    """Everything that decides what a head becomes, beside the data and the split.

    Attributes
    ----------
    grid : dict of str to list, optional
        Values to search for each parameter; None takes the head's own grid.
    kernel, class_weight
        As `models.heads.spec.HeadSpec`.
    metric : str
        What the search maximises, one of `models.search.scoring.METRICS`.
    calibration : str
        ``sigmoid``, ``isotonic`` or, where scores are log odds already, ``none``.
    threshold : float in 0..1, or str, optional
        Probability from which the positive class is predicted, or a rule by which it is chosen on
        out-of-fold probabilities: ``youden``, ``sensitivity=0.95`` or ``specificity=0.9``, see
        `models.heads.thresholds`. None takes ``youden``, or 0.5 under a published protocol, which had that,
        and where there are more than two classes.
    rotations : bool
        Train on the rotated variants of the training slices too.
    normalise, pca, nystroem, estimator
        As `models.heads.spec.HeadSpec`.
    context : int
        Join the features of so many slices on either side of each slice in its study.
    features : tuple of str
        Names of the sets of features of the run that the head stands on, side by side; empty is the default
        one.
    smooth : bool
        Smooth scores over neighbouring slices (`features.neighbours.smoothed`), before probabilities and
        the threshold are fitted.
    """

    grid: Grid | None = None
    kernel: str | None = None
    class_weight: str = "balanced"
    metric: str = "roc_auc"
    calibration: str = "sigmoid"
    threshold: float | str | None = None
    rotations: bool = False
    normalise: bool = False
    pca: int | None = None
    nystroem: int | None = None
    estimator: str | None = None
    context: int = 0
    smooth: bool = False
    features: tuple[str, ...] = ()

    @property
    def rule(self) -> ThresholdRule:
        """How the threshold is found, once it is `settled`.

        Raises
        ------
        BadSettings
            If there is no such rule.
        """
        return parse_threshold(str(self.threshold))

    def name_of(self, kind: str) -> str:
        """What a head of a kind is called unless a person says: ``svm``, or on a set ``svm-best``."""
        return "-".join((kind, *self.features))

    def settled(self, cohort: Cohort) -> "HeadSettings":
        """The same with the threshold that is the default for a cohort, where none was asked for."""
        if self.threshold is not None:
            return self
        chosen = len(cohort.classes) == 2 and not cohort.protocol.leaky
        return replace(self, threshold="youden" if chosen else 0.5)

    def spec(self, name: str, seed: int = 0) -> HeadSpec:
        """The head of this name with these settings."""
        return HeadSpec(
            name,
            self.kernel,
            self.class_weight,
            seed,
            self.normalise,
            self.pca,
            self.nystroem,
            self.estimator,
        )

    def as_facts(self) -> dict[str, Any]:
        """All of them, but for what 0.1 did not have and is as it was then: its heads are up to date."""
        facts = asdict(self)
        return {name: value for name, value in facts.items() if name not in _SINCE or value != _SINCE[name]}
