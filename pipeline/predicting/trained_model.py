"""A trained head or network of a run, ready to score new slices and to be explained."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.errors import BadSettings, MissingStep, UnreadableSlice
from haemo.extensions import unknown
from haemo.features.reading.reader import read_guarded
from haemo.features.store.fingerprint import Fingerprint
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.unit_rule import UnitRule, unit_rule
from haemo.pipeline.predicting.studies import Place
from haemo.pipeline.run.directory import HEADS, NETWORKS, SEGMENTER, RunDirectory, train_command
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.splitting.splitfile import refuse_model_of_other_split
from haemo.pipeline.trained.headfolder import HeadFolder
from haemo.pipeline.trained.scope import Scope, evenly
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.features.views.preprocess import Preprocessing, View
    from haemo.models.evidence.explain import ExplainedModel

__all__ = ["Planes", "StageOne", "TrainedModel", "load_plain", "load_single"]

log = logging.getLogger("haemo")

Planes = tuple[np.ndarray, ...]

_MOST_REFERENCES = 128
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
        batches : iterable of tuple of ndarray of shape (n, size, size), uint8
            Of the same slices for each of `preprocessings`.
        """
        from haemo.models.training.trained import TrainedNetwork

        first = (planes[0] for planes in batches)
        if isinstance(self.extractor, TrainedNetwork):
            yield from map(self.extractor.logits_and_activations, first)
        elif not self.others:
            own = StageOne(self.extractor, self.preprocessing, self.stored_as)
            for raw in self.extractor.stream(first):
                embeddings = own.rounded(raw)
                yield embeddings, embeddings
        else:
            every = (StageOne(self.extractor, self.preprocessing, self.stored_as), *self.others)
            for planes in batches:
                parts = [one.rounded(one.extractor(own)) for one, own in zip(every, planes, strict=True)]
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


def load_plain(run: RunDirectory, name: str, done: str, progress: Progress = silent) -> TrainedModel:
    """Load a model that is one network and at most one head; only such can be `done`, as ``packed``.

    Raises
    ------
    BadSettings
        If it is another, or as `load_single`.
    MissingStep, FingerprintMismatch
        As `load_single`.
    """
    model = None if "blend" in run.settings(name) else load_single(run, name, progress=progress)
    if model is None or model.needs_places or model.others:
        raise BadSettings(
            f"{name} joins neighbouring slices, several sets of features or other heads, and cannot be "
            f"{done} yet; a head on one set of features can"
        )
    return model


def load_single(
    run: RunDirectory, name: str, device: str = "auto", progress: Progress = silent
) -> TrainedModel:
    """Load a head with stage one as it was for its features, or a network.

    Raises
    ------
    BadSettings
        If there is no head or network of that name.
    MissingStep
        If it has not been trained.
    FingerprintMismatch
        If the head was trained on other features or another split than the run has now, or the weights of
        the network are not the ones that the features were made with.
    """
    if name in NETWORKS:
        return _network(run, name, device)
    if name == SEGMENTER:
        raise BadSettings(f"a segmenter draws and has no embeddings: haemo segment predict --run {run} PATH")
    if name in HEADS or HeadFolder(run.model_path(name)).model_path.exists():
        return _head(run, name, device, progress)
    raise unknown("model", name, dict.fromkeys((*run.models(), *HEADS, *NETWORKS)))


def _head(run: RunDirectory, name: str, device: str, progress: Progress) -> TrainedModel:
    from haemo.pipeline.preparing.extraction import stage_one_of
    from haemo.pipeline.preparing.pooling import source_of

    folder = HeadFolder(run.model_path(name))
    facts, head = folder.facts(), folder.head(run.trusted)
    refuse_model_of_other_split(facts, run, name)
    sets, context = tuple(facts.get("features", ())), facts.get("context", 0)
    with open_features(run, sets) as store:
        fingerprint = store.fingerprint
        of_studies = next(iter(store.facts_of_each.values()))  # of pooled studies there is one set
        stored_as = [facts["stored_as"] for facts in store.facts_of_each.values()]
        Fingerprint(facts["fingerprint"]).require(
            fingerprint,
            str(folder.path),
            f"Train it on the features there are now: {train_command(run.model_path(name))}",
        )
        scope = Scope.of_training(store, run.manifest(), Split.read(run.split_path))
    stages = [
        StageOne(*stage_one_of(source_of(run, of_studies).on(one), device, progress), kept)
        for one, kept in zip(sets or (run.features,), stored_as, strict=True)
    ]
    first, *others = stages
    paths = partial(_training_paths, run)
    return TrainedModel(
        name,
        head,
        first.extractor,
        first.preprocessing,
        first.stored_as,
        scope,
        paths,
        study_rule=partial(unit_rule, run, name, "study"),
        context=context,
        smooth=facts.get("smooth", False),
        others=tuple(others),
        average_row=partial(_average_row, run, sets, context) if context or others else None,
        known_places=partial(_known_places, run),
        pooled_by=of_studies.get("pooled"),
    )


def _network(run: RunDirectory, name: str, device: str) -> TrainedModel:
    from haemo.models.networks.engine import resolve_device
    from haemo.pipeline.trained.networkfolder import NetworkFolder

    folder = NetworkFolder(run.model_path(name))
    preprocessing = folder.preprocessing()
    network = folder.network(resolve_device(device))
    paths = partial(_training_paths, run)
    return TrainedModel(
        name,
        network.head(),
        network,
        preprocessing,
        scope=folder.scope(),
        training_paths=paths,
        study_rule=partial(unit_rule, run, name, "study"),
    )


def _average_row(run: RunDirectory, sets: tuple[str, ...], context: int) -> np.ndarray:
    """The mean over training slices, evenly drawn, of the rows that a head stands on."""
    with open_features(run, sets, context) as table:
        rows = run.manifest().labelled.rows
        parts = Split.read(run.split_path).parts(rows)
        train = table.covers(rows) & (parts == "train")
        names = sorted(row.slice_id for row, kept in zip(rows, train, strict=True) if kept)
        drawn = [names[place] for place in evenly(len(names), _MOST_REFERENCES)]
        return table.embeddings(drawn).mean(axis=0, dtype=np.float64)


def _known_places(run: RunDirectory) -> dict[Path, Place]:
    """Where the slices of a run lie, by its manifest."""
    return {
        row.path: Place(row.study if row.study == row.patient else f"{row.patient}/{row.study}", row.position)
        for row in run.manifest()
    }


def _training_paths(run: RunDirectory) -> list[Path]:
    """Some training slices; none where the folder of a network, which is all it needs, stands alone."""
    if not (run.manifest_path.exists() and run.split_path.exists()):
        return []
    rows = sorted(run.manifest().labelled, key=lambda row: row.slice_id)
    parts = Split.read(run.split_path).parts(rows)
    train = [row.path for row, part in zip(rows, parts, strict=True) if part == "train"]
    return [train[place] for place in evenly(len(train), _MOST_REFERENCES)]
