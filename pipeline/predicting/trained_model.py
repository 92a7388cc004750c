"""A trained head or network, ready to score new slices and to be explained."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.errors import BadSettings, MissingStep, UnreadableSlice
from haemo.features.reading.reader import read_guarded
from haemo.features.reading.unit import Unit
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.unit_rule import UnitRule
from haemo.pipeline.predicting.studies import Place
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.trained.scope import Scope

if TYPE_CHECKING:
    from haemo.features.views.preprocess import Preprocessing, View
    from haemo.models.evidence.explain import ExplainedModel

__all__ = ["Planes", "StageOne", "TrainedModel"]

log = logging.getLogger("haemo")

Planes = tuple[np.ndarray, ...]

_FEWEST_REFERENCES = 8


@dataclass(frozen=True, eq=False)
class StageOne:
    """How slices become the features of one set.

    Attributes
    ----------
    extractor, preprocessing, stored_as
        As of `TrainedModel`.
    """

    extractor: Any
    preprocessing: "Preprocessing"
    stored_as: str

    def rounded(self, embeddings: np.ndarray) -> np.ndarray:
        """New embeddings as cached ones are: rounded alike."""
        return embeddings.astype(self.stored_as).astype(np.float32)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What it takes to score a slice.

    Attributes
    ----------
    name : str
    head : CalibratedHead or LogitHead
        Embeddings or logits to scores, probabilities and classes.
    extractor : Extractor, CNNExtractor or TrainedNetwork
        Planes to embeddings; an end-to-end network's logits stand in for them.
    preprocessing : Preprocessing
    stored_as : str
        Type that the head's features were cached in: new ones are rounded alike.
    scope : Scope or None
        What the training slices were like; None where there were too few of them to tell, and for a network
        of a version of haemo that did not keep it.
    training_paths : callable
        Gives the paths of some of the slices it was trained on, evenly drawn; they may have gone since.
    study_rule : callable, optional
        Gives the rule by which studies are judged, or None, for a way of joining slices.
    context : int
        How many slices on either side of a slice its features are joined with.
    smooth : bool
        Whether scores are smoothed over the slices beside each in its study.
    others : tuple of StageOne
        Where the head stands on several sets of features side by side: those after the first.
    average_row : callable, optional
        Gives the average of what the head was trained on, for one whose rows hold more than an embedding.
    known_places : callable
        Gives the study and position of the slices of the run, by their paths.
    pooled_by : str, optional
        How embeddings of slices are pooled, where the head knows studies alone.
    told_unit : {'hu', 'hu+1024', 'gray'}, optional
        What the numbers are in files that do not say it, where its training slices were told to be so.
    held_out : callable
        Gives what it said of slices held out of its training, or None where nothing of that is known.
    points : callable
        Gives thresholds of operating points by name, as chosen on what was held out.
    """

    name: str
    head: Any
    extractor: Any
    preprocessing: "Preprocessing"
    stored_as: str = "float32"
    scope: Scope | None = None
    training_paths: Callable[[], Sequence[Path]] = tuple
    study_rule: Callable[[Aggregation], UnitRule | None] | None = None
    context: int = 0
    smooth: bool = False
    others: tuple[StageOne, ...] = ()
    average_row: Callable[[], np.ndarray] | None = None
    known_places: Callable[[], Mapping[Path, Place]] = dict
    pooled_by: str | None = None
    told_unit: Unit | None = None
    held_out: Callable[[], Predictions | None] = lambda: None
    points: Callable[[], Mapping[str, float]] = dict

    @property
    def needs_places(self) -> bool:
        """Whether what it says of a slice depends on those beside it."""
        return self.smooth or self.context > 0

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; of two the second is the positive one."""
        return tuple(str(name) for name in self.head.classes_)

    @property
    def dimension(self) -> int:
        """Numbers of a slice, of all sets."""
        return self.extractor.dimension + sum(one.extractor.dimension for one in self.others)

    @property
    def stages(self) -> tuple[StageOne, ...]:
        """How slices become the features of each set."""
        return (StageOne(self.extractor, self.preprocessing, self.stored_as), *self.others)

    @property
    def preprocessings(self) -> tuple["Preprocessing", ...]:
        """How a slice is seen for each set."""
        return (self.preprocessing, *(one.preprocessing for one in self.others))

    @property
    def batch(self) -> int:
        """Slices that are embedded at a time."""
        return min(self.extractor.batch, *(one.extractor.batch for one in self.others), self.extractor.batch)

    def score(self, batches: Iterable[Planes]) -> Iterator[tuple[np.ndarray, list[str]]]:
        """Scores of batches of planes, and for each slice why it is outside the scope, or an empty text."""
        for inputs, embeddings in self.embedded(batches):
            yield self.head.decision_function(inputs), self.reasons(embeddings)

    def reasons(self, embeddings: np.ndarray) -> list[str]:
        """For each slice why it is outside the scope, or an empty text."""
        if self.scope is None:
            return [""] * len(embeddings)
        return [self.scope.reason(one) for one in self.scope.distances(embeddings)]

    def embedded(self, batches: Iterable[Planes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What the head makes scores of, and what the scope knows slices by.

        Parameters
        ----------
        batches : iterable of tuple of ndarray of shape (n, size, size) or (n, 3, size, size), uint8
            Of the same slices for each of `preprocessings`.
        """
        from haemo.models.training.trained import TrainedNetwork

        first = (planes[0] for planes in batches)
        if isinstance(self.extractor, TrainedNetwork):
            yield from map(self.extractor.logits_and_activations, first)
        elif not self.others:
            for raw in self.extractor.stream(first):
                embeddings = self.stages[0].rounded(raw)
                yield embeddings, embeddings
        else:
            for planes in batches:
                parts = [
                    one.rounded(one.extractor(own)) for one, own in zip(self.stages, planes, strict=True)
                ]
                embeddings = np.hstack(parts)
                yield embeddings, embeddings

    def on_slice(self, network: "ExplainedModel", evidence: np.ndarray, view: "View") -> np.ndarray:
        """Put one map of `network` where it lies on the slice of a view; 0 on what was never seen.

        Returns
        -------
        ndarray of the slice's shape, float32
        """
        return view.paste(network.on_slice(evidence, view.box.height, view.box.width))

    def explained(self, method: str | None = None) -> tuple["ExplainedModel", str]:
        """The model cut at its last convolution, for maps of evidence, and by which method to draw them.

        Parameters
        ----------
        method : str, optional
            One of `evidence.maps.METHODS`; by default ``contrast``, or ``hirescam`` where too few of the
            training slices can still be read, or ``occlusion`` for a head without gradients.

        Raises
        ------
        MissingStep
            If ``contrast`` is asked for and too few training slices can be read.
        """
        if self.pooled_by is not None:
            raise BadSettings(
                f"{self.name} judges studies by pooled embeddings, and has no map of a slice; outline blood "
                "with: haemo segment predict PATH --out DIR"
            )
        from haemo.models.evidence.explain import explain_extractor, explain_network
        from haemo.models.training.trained import TrainedNetwork

        if isinstance(self.extractor, TrainedNetwork):
            network = explain_network(self.extractor)
        else:
            network = explain_extractor(self.extractor, self.head, *self._own_columns())
        if method is None and not network.has_gradients:
            return network, "occlusion"
        if method not in (None, "contrast") or not network.has_gradients:
            return network, method
        paths = self.training_paths()
        planes = self._training_planes(paths)
        if len(planes) >= _FEWEST_REFERENCES:
            network.references = np.stack(planes)
            return network, "contrast"
        gone = (
            f"only {len(planes)} of the training slices of {self.name} can be read, too few to set a slice "
            f"against their average"
        )
        if not paths:
            gone = (
                f"{self.name} comes without its training slices, against whose average contrast sets a slice"
            )
        if method == "contrast" and not paths:
            raise MissingStep(f"{gone}; take --method hirescam")
        if method == "contrast":
            raise MissingStep(f"{gone}; put them back where manifest.csv says, or take --method hirescam")
        log.warning("%s: maps are drawn by hirescam", gone)
        return network, "hirescam"

    def _own_columns(self) -> tuple[np.ndarray | None, slice]:
        """What is held fixed while a slice is explained, and the columns of its own features."""
        if self.average_row is None:
            return None, slice(None)
        held = [
            *(["its neighbours"] if self.context else []),
            *(["the sets of features after the first"] if self.others else []),
        ]
        log.info(
            "%s: maps show what the slice itself says; %s are held at the average of training slices",
            self.name,
            " and ".join(held),
        )
        return self.average_row(), slice(0, self.extractor.dimension)

    def _training_planes(self, paths: Sequence[Path]) -> list[np.ndarray]:
        planes = []
        for path in paths:
            try:
                planes.append(self.preprocessing.plane(read_guarded(path)))
            except UnreadableSlice as error:
                log.debug("%s: %s", path, error)
        return planes
