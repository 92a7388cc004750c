"""What a model says of the slices of a manifest: what is finished is kept, so that a second call goes on."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.errors import TooFewData, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.neighbours import neighbours_of_rows, smoothed
from haemo.features.store.contents import Contents
from haemo.features.store.store import FeatureStore, contents_path
from haemo.features.store.table import FeatureTable
from haemo.pipeline.judging.judged_model import JudgedModel
from haemo.pipeline.predicting.blended_model import BlendedModel
from haemo.pipeline.predicting.prediction import UNPLACED
from haemo.pipeline.predicting.trained_model import StageOne, TrainedModel
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.predictions import Predictions
from haemo.progress import Progress, silent
from haemo.tables import csv_line, fields_of_line

if TYPE_CHECKING:
    from haemo.models.training.trained import TrainedNetwork
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = ["STAGE", "Answered", "answer"]

log = logging.getLogger("haemo")

STAGE = "evaluate"
"""Name of this step in failures.csv."""

_WORKERS = 2
_AHEAD = 8


@dataclass(frozen=True, eq=False)
class Answered:
    """What one model said.

    Attributes
    ----------
    predictions : Predictions
        Of the slices that could be used, in the order of their rows.
    failures : list of Failure
    distances : ndarray of shape (n,), float64, or None
        From the nearest training slice (`pipeline.trained.scope.Scope`); None where that cannot be told.
    limit : float or None
        Distance from which on a slice is outside what the model knows.
    seen : list of str or None
        Slices whose pixels it was trained on; None where that cannot be told.
    """

    predictions: Predictions
    failures: list[Failure]
    distances: np.ndarray | None
    limit: float | None
    seen: list[str] | None


def answer(
    model: JudgedModel,
    rows: Sequence[ManifestRow],
    folder: Path,
    progress: Progress = silent,
    *,
    beside: Sequence[ManifestRow] = (),
) -> Answered:
    """Have a model score slices; embeddings, or scores of a segmenter, are kept in `folder`.

    Parameters
    ----------
    model : JudgedModel
    rows : sequence of ManifestRow
        With the model's own classes as labels.
    folder : Path
        Made if it is not there. What is kept is bound to the model's fingerprint and to the pixels.
    progress : Progress
    beside : sequence of ManifestRow
        All slices of the data, those without a label too: a model that looks at neighbours sees them.

    Raises
    ------
    TooFewData
        If not one slice could be used.
    """
    if isinstance(model.model, TrainedModel):
        return _by_embeddings(model, model.model, rows, folder / "embeddings", progress, beside)
    if isinstance(model.model, BlendedModel):
        return _by_members(model, model.model, rows, folder, progress, beside)
    return _by_maps(model, model.model, rows, folder / "maps", progress)


def _by_embeddings(
    judged: JudgedModel,
    model: TrainedModel,
    rows: Sequence[ManifestRow],
    folder: Path,
    progress: Progress,
    beside: Sequence[ManifestRow],
) -> Answered:
    from haemo.models.training.trained import TrainedNetwork

    outputs = len(model.classes) if isinstance(model.extractor, TrainedNetwork) else 0
    wanted = {str(row.path) for row in rows}
    failures: list[Failure] = []
    if model.needs_places:
        failures = [Failure(str(row.path), STAGE, UNPLACED) for row in rows if row.position is None]
        rows = [row for row in rows if row.position is not None]
    own = {row.slice_id for row in rows}
    others = [row for row in beside if row.slice_id not in own and row.position is not None]
    seen = [*rows, *(others if model.needs_places else ())]
    with ExitStack() as held:
        stores = {}
        for number, stage in enumerate(model.stages):
            if outputs:
                stage = replace(stage, extractor=_NetworkOutputs(stage.extractor, judged.key))
            path, failed = _embedded(judged.name, stage, seen, folder, progress)
            stores[str(number)] = held.enter_context(FeatureStore(path))
            gone = {one.path for one in failed}
            failures += [one for one in failed if one.path in wanted]
            seen = [row for row in seen if str(row.path) not in gone]
        kept = [row for row in seen if row.slice_id in own]
        if not kept:
            raise TooFewData(_nothing(judged, failures))
        table = FeatureTable(stores, seen, model.context)
        scored = seen if model.smooth else kept
        scores, distances = [], []
        for block in table.blocks([row.slice_id for row in scored]):
            inputs, embeddings = block[:, : outputs or None], block[:, outputs : table.own_dimension]
            scores.append(model.head.decision_function(inputs))
            if model.scope is not None:
                distances.append(model.scope.distances(embeddings))
        contents, known = Contents(contents_path(stores["0"].path)), None
        if judged.known:
            known = [row.slice_id for row in kept if contents.content_of(row.slice_id) in judged.known]
    joined = np.concatenate(scores)
    if model.smooth:
        joined = smoothed(joined, neighbours_of_rows(scored))
    asked = np.array([row.slice_id in own for row in scored])
    far = np.concatenate(distances)[asked] if distances else None
    predictions = _predictions(judged, model.head, kept, joined[asked])
    return Answered(predictions, failures, far, model.scope.limit if model.scope else None, known)


def _embedded(
    name: str, stage: StageOne, rows: Sequence[ManifestRow], folder: Path, progress: Progress
) -> tuple[Path, list[Failure]]:
    """Where the features of slices for one set lie, and what could not be embedded.

    There is one folder a way of embedding: models that share it share what is kept.
    """
    from haemo.features.extraction.extract import ExtractionRequest, embedding_fingerprint, extract_features

    fingerprint = embedding_fingerprint(stage.extractor, stage.preprocessing, stage.stored_as)
    place = folder / fingerprint.hash[:12]
    place.mkdir(parents=True, exist_ok=True)
    path = place / "features.h5"
    with claim(place):
        report = extract_features(
            Manifest(rows),
            path,
            stage.extractor,
            stage.preprocessing,
            ExtractionRequest(dtype=stage.stored_as),
            progress=progress,
        )
    log.info("%s: %d slices embedded before, %d now", name, report.cached, report.computed)
    return path, [Failure(one.path, STAGE, one.reason) for one in report.failures]


def _predictions(
    judged: JudgedModel, head: Any, rows: Sequence[ManifestRow], scores: np.ndarray
) -> Predictions:
    chances, two = head.probabilities(scores), len(judged.classes) == 2
    return Predictions.of_rows(
        rows,
        part=np.full(len(rows), "test"),
        fold=np.full(len(rows), -1),
        scores=scores,
        probabilities=chances[:, 1] if two else chances,
        predicted=head.classes_[head.choose(chances)].astype(str),
        classes=judged.classes,
        thresholds=np.full(len(rows), judged.threshold) if two else None,
    )


def _by_members(
    judged: JudgedModel,
    blend: BlendedModel,
    rows: Sequence[ManifestRow],
    folder: Path,
    progress: Progress,
    beside: Sequence[ManifestRow],
) -> Answered:
    """What the heads of a blend say, joined for the slices that all of them could score.

    A slice is as far out as in the eyes of the head that finds it farthest, in units of that head's limit.
    """
    from haemo.models.heads.blending import log_odds_of

    members = [replace(judged, name=f"{judged.name}, {one.name}", model=one) for one in blend.members]
    said = [answer(one, rows, folder, progress, beside=beside) for one in members]
    at = [{name: place for place, name in enumerate(one.predictions.slice_id.tolist())} for one in said]
    kept = [row for row in rows if all(row.slice_id in own for own in at)]
    failures = list({one.path: one for own in said for one in own.failures}.values())
    if not kept:
        raise TooFewData(_nothing(judged, failures))
    places = [[own[row.slice_id] for row in kept] for own in at]
    chances = [one.predictions.probabilities[own] for one, own in zip(said, places, strict=True)]
    scores = blend.head.decision_function(log_odds_of(np.column_stack(chances)))
    ratios = [
        one.distances[own] / one.limit
        for one, own in zip(said, places, strict=True)
        if one.distances is not None and one.limit
    ]
    far = np.max(ratios, axis=0) if len(ratios) == len(said) else None
    predictions = _predictions(judged, blend.head, kept, scores)
    return Answered(predictions, failures, far, None if far is None else 1.0, said[0].seen)


class _NetworkOutputs:
    """An end-to-end network as something that embeds: its logits, and what its last layer is given."""

    def __init__(self, network: "TrainedNetwork", key: str):
        self.network, self.key = network, key
        self.batch = network.batch
        self.engine = f"{network.device} float32"
        self.dimension = len(network.classes) + self._units()

    def _units(self) -> int:
        size = self.network.plane_size
        _, activations = self.network.logits_and_activations(np.zeros((1, size, size), dtype=np.uint8))
        return activations.shape[1]

    def describe(self) -> dict[str, Any]:
        return {
            "network": self.network.recipe.name,
            "layer": "logits and last activations",
            "weights": self.key,
            "precision": "float32",
        }

    def stream(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for planes in batches:
            yield np.hstack(self.network.logits_and_activations(planes))


def _by_maps(
    judged: JudgedModel, segmenter: "Segmenter", rows: Sequence[ManifestRow], folder: Path, progress: Progress
) -> Answered:
    from haemo.features.extraction.decoding import in_order
    from haemo.features.reading.reader import SliceReader

    folder.mkdir(parents=True, exist_ok=True)
    failures: list[Failure] = []
    with claim(folder), _KeptScores(folder / f"{judged.key[:12]}.csv") as kept:
        scores = {row.slice_id: found for row in rows if (found := kept.recall(row.path)) is not None}
        missing = {row.path: row for row in rows if row.slice_id not in scores}
        log.info("%s: %d slices drawn before, %d to draw", judged.name, len(scores), len(missing))
        with SliceReader(_WORKERS) as read:

            def draw(path: Path) -> float | UnreadableSlice:
                try:
                    return float(segmenter.draw(read(path)).score)
                except UnreadableSlice as error:
                    return error

            drawn = in_order(list(missing), draw, _WORKERS, _AHEAD)
            for path, found in progress(drawn, total=len(missing), label="drawing"):
                if isinstance(found, UnreadableSlice):
                    failures.append(Failure(str(path), STAGE, str(found)))
                else:
                    scores[missing[path].slice_id] = found
                    kept.add(path, found)
    used = [row for row in rows if row.slice_id in scores]
    if not used:
        raise TooFewData(_nothing(judged, failures))
    predictions = segmenter.predictions(
        used,
        [scores[row.slice_id] for row in used],
        part=np.full(len(used), "test"),
        fold=np.full(len(used), -1),
    )
    return Answered(predictions, failures, None, None, None)


class _KeptScores:
    """Scores of files that have not changed since, a line each, appended as they come in.

    It is a memory, not a source: a line that is torn costs one drawing and nothing else.
    """

    def __init__(self, path: Path):
        self.path = path
        self._known: dict[tuple[str, ...], float] = {}
        text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        for line in whole.splitlines():
            try:
                *key, score = fields_of_line(line)
                self._known[tuple(key)] = float(score)
            except ValueError:
                continue
        self._stream = path.open("a", encoding="utf-8", errors="surrogateescape", newline="")
        if text != whole:
            self._stream.write("\n")

    def __enter__(self) -> "_KeptScores":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def recall(self, path: Path) -> float | None:
        key = self._key(path)
        return None if key is None else self._known.get(key)

    def add(self, path: Path, score: float) -> None:
        key = self._key(path)
        line = "" if key is None else csv_line([*key, repr(score)])
        if line and "\n" not in line:
            self._stream.write(f"{line}\n")
            self._stream.flush()

    @staticmethod
    def _key(path: Path) -> tuple[str, ...] | None:
        try:
            about = path.stat()
        except OSError:
            return None
        return str(path), str(about.st_size), str(about.st_mtime_ns)


def _nothing(model: JudgedModel, failures: Sequence[Failure]) -> str:
    first = f"; the first: {failures[0].path}: {failures[0].reason}" if failures else ""
    return f"{model.name} could use none of the {len(failures)} labelled slices{first}"
