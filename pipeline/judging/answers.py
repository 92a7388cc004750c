"""What a model says of the slices of a manifest: what is finished is kept, so that a second call goes on."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.errors import TooFewData, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.store.contents import Contents
from haemo.features.store.store import FeatureStore, contents_path
from haemo.pipeline.judging.judged_model import JudgedModel
from haemo.pipeline.predicting.trained_model import TrainedModel
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
    seen : list of str
        Slices whose pixels it was trained on.
    """

    predictions: Predictions
    failures: list[Failure]
    distances: np.ndarray | None
    limit: float | None
    seen: list[str]


def answer(
    model: JudgedModel, rows: Sequence[ManifestRow], folder: Path, progress: Progress = silent
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

    Raises
    ------
    TooFewData
        If not one slice could be used.
    """
    if isinstance(model.model, TrainedModel):
        return _by_embeddings(model, model.model, rows, folder / "embeddings", progress)
    return _by_maps(model, model.model, rows, folder / "maps", progress)


def _by_embeddings(
    judged: JudgedModel, model: TrainedModel, rows: Sequence[ManifestRow], folder: Path, progress: Progress
) -> Answered:
    from haemo.features.extraction.extract import ExtractionRequest, embedding_fingerprint, extract_features
    from haemo.models.training.trained import TrainedNetwork

    is_network = isinstance(model.extractor, TrainedNetwork)
    extractor: Any = _NetworkOutputs(model.extractor, judged.key) if is_network else model.extractor
    dtype = model.stored_as
    fingerprint = embedding_fingerprint(extractor, model.preprocessing, dtype)
    # One folder a way of embedding: models that share it share what is kept.
    place = folder / fingerprint.hash[:12]
    place.mkdir(parents=True, exist_ok=True)
    store_path = place / "features.h5"
    with claim(place):
        report = extract_features(
            Manifest(rows),
            store_path,
            extractor,
            model.preprocessing,
            ExtractionRequest(dtype=dtype),
            progress=progress,
        )
    log.info("%s: %d slices embedded before, %d now", judged.name, report.cached, report.computed)
    failures = [Failure(one.path, STAGE, one.reason) for one in report.failures]
    failed = {one.path for one in failures}
    kept = [row for row in rows if str(row.path) not in failed]
    if not kept:
        raise TooFewData(_nothing(judged, failures))
    scores, distances = [], []
    outputs = len(model.classes) if is_network else 0
    with FeatureStore(store_path) as store:
        for block in store.blocks([row.slice_id for row in kept]):
            inputs, embeddings = (block[:, :outputs], block[:, outputs:]) if outputs else (block, block)
            scores.append(model.head.decision_function(inputs))
            if model.scope is not None:
                distances.append(model.scope.distances(embeddings))
    contents = Contents(contents_path(store_path))
    seen = [row.slice_id for row in kept if contents.content_of(row.slice_id) in judged.known]
    joined = np.concatenate(scores)
    chances = model.head.probabilities(joined)
    predictions = Predictions.of_rows(
        kept,
        part=np.full(len(kept), "test"),
        fold=np.full(len(kept), -1),
        scores=joined,
        probabilities=chances[:, 1] if len(model.classes) == 2 else chances,
        predicted=model.head.classes_[model.head.choose(chances)].astype(str),
        classes=model.classes,
        thresholds=np.full(len(kept), judged.threshold) if len(model.classes) == 2 else None,
    )
    far = np.concatenate(distances) if distances else None
    return Answered(predictions, failures, far, model.scope.limit if model.scope else None, seen)


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
    return Answered(predictions, failures, None, None, [])


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
