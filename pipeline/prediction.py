"""What a trained head says about new slices: the same path as stage one, and so the same scores."""

import csv
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.atomic import write_text
from features.failures import Failure
from features.fingerprint import Fingerprint
from features.store import FeatureStore
from models.errors import TooFewData, UnreadableSlice
from models.progress import Progress, silent
from pipeline.headfolder import HeadFolder
from pipeline.run import NETWORKS, RunDirectory

if TYPE_CHECKING:
    from features.decoding import Decoded
    from features.preprocess import Preprocessing
    from models.alexnet import Extractor

__all__ = ["SliceScores", "find_slices", "predict", "score_slices"]

log = logging.getLogger("haemo")

_STAGE = "predict"
_WORKERS = 2
_BATCHES_AHEAD = 2


@dataclass(frozen=True, eq=False)
class SliceScores:
    """Scores of new slices, in the order they were given.

    Attributes
    ----------
    paths : tuple of Path
    classes : tuple of str
        Of two classes the second is the positive one.
    threshold : float
        Probability from which the positive class is predicted; with more classes the most probable one is.
    scores : ndarray of shape (n,) or (n, n_classes), float64
        Decision scores; one column, of the positive class, where there are two classes.
    probabilities : ndarray of the same shape, float64
        Calibrated, in 0..1.
    predicted : ndarray of shape (n,), str
    failures : tuple of Failure
        Files that could not be scored.
    """

    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    threshold: float
    scores: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    failures: tuple[Failure, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary a slice: path, predicted, score, probability, threshold.

        With more than two classes there are a score and a probability a class, and no threshold.
        """
        rows = []
        for number, path in enumerate(self.paths):
            row: dict[str, Any] = {"path": str(path), "predicted": str(self.predicted[number])}
            if len(self.classes) == 2:
                row["score"] = float(self.scores[number])
                row["probability"] = float(self.probabilities[number])
                row["threshold"] = self.threshold
            else:
                for kind, values in (("score", self.scores), ("probability", self.probabilities)):
                    for column, name in enumerate(self.classes):
                        row[f"{kind}_{name}"] = float(values[number, column])
            rows.append(row)
        return rows

    def write_csv(self, path: Path) -> None:
        """Write `rows` as CSV, atomically; numbers read back exactly."""
        rows = self.rows()
        stream = io.StringIO()
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(path, stream.getvalue())

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {
            "classes": list(self.classes),
            "positive": self.classes[1] if len(self.classes) == 2 else None,
            "slices": self.rows(),
            "failures": [{"path": one.path, "reason": one.reason} for one in self.failures],
        }


def predict(
    run: RunDirectory,
    name: str,
    paths: Sequence[Path],
    *,
    threshold: float | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> SliceScores:
    """Score files, and the slices in folders, with a trained head or network.

    A slice that is in the run gets the score, bit for bit, that its cached embedding gets, or that the
    network gave it after its training.

    Parameters
    ----------
    run : RunDirectory
    name : str
        ``svm``, ``softmax`` or ``mlp``; ``cnn``, ``finetune``, ``lenet`` or ``tinyvgg``.
    paths : sequence of Path
        Image and DICOM files, and folders, which are searched to any depth.
    threshold : float in 0..1, optional
        In place of the one that the head was trained with. Two classes only.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    progress : Progress

    Raises
    ------
    MissingStep
        If the head or network has not been trained.
    FingerprintMismatch
        If the head was trained on other features than the run has now, or the weights of the network are
        not the ones that the features were made with.
    TooFewData
        If not one slice could be scored.
    """
    load = _load_network if name in NETWORKS else _load_head
    scorer = load(run, name, device, progress)
    if threshold is not None:
        scorer["head"].threshold = threshold
    files, failures = find_slices(paths)
    result = score_slices(files=files, progress=progress, **scorer)
    result = replace(result, failures=(*failures, *result.failures))
    if not result.paths:
        first = result.failures[0]
        raise TooFewData(
            f"none of the {len(result.failures)} files could be scored; {first.path}: {first.reason}"
        )
    return result


def _load_head(run: RunDirectory, name: str, device: str, progress: Progress) -> dict[str, Any]:
    """What `score_slices` needs for a head: the head itself, and stage one as it was for its features."""
    from pipeline.extraction import stage_one_of

    folder = HeadFolder(run.model_path(name))
    facts, head = folder.facts(), folder.head()
    with FeatureStore(run.store_path) as store:
        fingerprint = store.fingerprint
    Fingerprint(facts["fingerprint"]).require(
        fingerprint, str(folder.path), f"Train it on the features there are now: haemo {name} --run {run}"
    )
    extractor, preprocessing = stage_one_of(run, device, progress)
    return {
        "head": head,
        "extractor": extractor,
        "preprocessing": preprocessing,
        "stored_as": fingerprint.facts["stored_as"],
    }


def _load_network(run: RunDirectory, name: str, device: str, progress: Progress) -> dict[str, Any]:
    """What `score_slices` needs for a network: its logits stand in for embeddings."""
    from models.engine import resolve_device
    from pipeline.networkfolder import NetworkFolder

    del progress
    folder = NetworkFolder(run.model_path(name))
    preprocessing = folder.preprocessing()
    network = folder.network(resolve_device(device))
    return {"head": network.head(), "extractor": network, "preprocessing": preprocessing}


def find_slices(paths: Iterable[Path]) -> tuple[list[Path], list[Failure]]:
    """Files as they are given, and what looks like a slice in folders, sorted by path; each file once.

    Returns
    -------
    files : list of Path
    failures : list of Failure
        Paths that are not there, folders without slices, images of a kind that cannot be read.
    """
    from features.layouts.folder import Folder

    files: dict[Path, None] = {}
    failures = []
    for path in paths:
        if not path.exists():
            failures.append(Failure(str(path), _STAGE, "is not there"))
        elif path.is_dir():
            found = Folder.scan(path)
            files.update(dict.fromkeys(found.slices))
            failures += [Failure(one.path, _STAGE, one.reason) for one in found.failures]
            if not found.slices and not found.failures:
                failures.append(Failure(str(path), _STAGE, "has no slices in it"))
        else:
            files[path.absolute()] = None
    return list(files), failures


def score_slices(
    head: Any,
    files: Sequence[Path],
    extractor: "Extractor",
    preprocessing: "Preprocessing",
    *,
    stored_as: str = "float32",
    progress: Progress = silent,
) -> SliceScores:
    """Score files with a head, the network loaded once and slices in batches; memory stays flat.

    Parameters
    ----------
    head : CalibratedHead or LogitHead
    files : sequence of Path
    extractor, preprocessing
        Those that the head's features were made with, or a network and what it takes.
    stored_as : str
        Type that the features were cached in: new ones are rounded alike.
    progress : Progress
    """
    kept: list[Path] = []
    failures: list[Failure] = []

    def batches() -> Iterator[np.ndarray]:
        planes: list[np.ndarray] = []
        for path, result in progress(
            _decoded(files, preprocessing, extractor.batch), total=len(files), label=_STAGE
        ):
            if isinstance(result, UnreadableSlice):
                failures.append(Failure(str(path), _STAGE, str(result)))
                continue
            kept.append(path)
            planes.append(result.planes[0])
            if len(planes) == extractor.batch:
                yield np.stack(planes)
                planes = []
        if planes:
            yield np.stack(planes)

    scores = [
        head.decision_function(embeddings.astype(stored_as).astype(np.float32))
        for embeddings in extractor.stream(batches())
    ]
    classes = tuple(str(name) for name in head.classes_)
    two = len(classes) == 2
    joined = np.concatenate(scores) if scores else np.empty((0,) if two else (0, len(classes)))
    chances = head.probabilities(joined)
    return SliceScores(
        paths=tuple(kept),
        classes=classes,
        threshold=float(head.threshold),
        scores=joined,
        probabilities=chances[:, 1] if two else chances,
        predicted=head.classes_[head.choose(chances)],
        failures=tuple(failures),
    )


def _decoded(
    files: Sequence[Path], preprocessing: "Preprocessing", batch: int
) -> "Iterator[tuple[Path, Decoded | UnreadableSlice]]":
    from features.decoding import Decoder, in_order
    from features.reader import SliceReader

    with SliceReader(_WORKERS) as read:
        decoder = Decoder(preprocessing, lambda _: (0,), read)
        yield from in_order(files, decoder, _WORKERS, _BATCHES_AHEAD * batch)
