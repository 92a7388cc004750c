"""A blend of heads, ready to score new slices: each head says what it says, and the blend joins it."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.errors import FingerprintMismatch
from haemo.features.reading.unit import Unit
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.unit_rule import UnitRule, unit_rule
from haemo.pipeline.predicting.loading import held_out_of, load_single, points_of
from haemo.pipeline.predicting.trained_model import TrainedModel
from haemo.pipeline.run.directory import RunDirectory, train_command
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.splitfile import refuse_model_of_other_split
from haemo.pipeline.trained.headfolder import HeadFolder
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.features.views.preprocess import Preprocessing, View
    from haemo.models.evidence.explain import ExplainedModel

__all__ = ["BlendedModel", "load_model"]

log = logging.getLogger("haemo")


@dataclass(frozen=True, eq=False)
class BlendedModel:
    """What it takes to score a slice with a blend.

    Attributes
    ----------
    name : str
    head : CalibratedHead
        The members' log odds to scores, probabilities and classes.
    members : tuple of TrainedModel
    study_rule : callable
        Gives the rule by which studies are judged, or None, for a way of joining slices.
    held_out, points : callable
        As of `TrainedModel`.
    """

    name: str
    head: Any
    members: tuple[TrainedModel, ...]
    study_rule: Callable[[Aggregation], UnitRule | None]
    held_out: Callable[[], Predictions | None] = lambda: None
    points: Callable[[], Mapping[str, float]] = dict

    @property
    def told_unit(self) -> Unit | None:
        """As of `TrainedModel`: that of its members, which are of one run."""
        return self.members[0].told_unit

    @property
    def pooled_by(self) -> str | None:
        """As of `TrainedModel`: that of a member which knows studies alone."""
        return next((one.pooled_by for one in self.members if one.pooled_by), None)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; the second is the positive one."""
        return tuple(str(name) for name in self.head.classes_)

    @property
    def preprocessing(self) -> "Preprocessing":
        """How slices are seen by the member that is explained."""
        return self._strongest.preprocessing

    @property
    def _strongest(self) -> TrainedModel:
        return self.members[int(np.argmax(self.head.estimator_.coef_))]

    def on_slice(self, network: "ExplainedModel", evidence: np.ndarray, view: "View") -> np.ndarray:
        """As `TrainedModel.on_slice`."""
        return self._strongest.on_slice(network, evidence, view)

    def explained(self, method: str | None = None) -> tuple["ExplainedModel", str]:
        """The member that weighs most, as `TrainedModel.explained`; that it alone is explained is said."""
        log.info("%s: maps are those of %s, which weighs most in it", self.name, self._strongest.name)
        return self._strongest.explained(method)


def load_model(
    run: RunDirectory, name: str, device: str = "auto", progress: Progress = silent
) -> TrainedModel | BlendedModel:
    """Load a head with stage one as it was for its features, a network, or a blend of heads.

    Raises
    ------
    BadSettings, MissingStep
        As `load_single`.
    FingerprintMismatch
        As `load_single`, and if a member of a blend has been trained anew since.
    """
    facts = run.settings(name)
    if "blend" not in facts:
        return load_single(run, name, device, progress)
    folder = HeadFolder(run.model_path(name))
    changed = [one for one, key in facts["members"].items() if run.settings(one).get("key") != key]
    if changed:
        raise FingerprintMismatch(
            f"{folder.path} was made of another {', '.join(changed)} than there is now; make it again: "
            f"{train_command(folder.path)}"
        )
    refuse_model_of_other_split(facts, run, name)
    members = tuple(load_single(run, one, device, progress) for one in facts["blend"])
    return BlendedModel(
        name,
        folder.head(run.trusted),
        members,
        partial(unit_rule, run, name, "study"),
        partial(held_out_of, run, name),
        cache(partial(points_of, run, name)),
    )
