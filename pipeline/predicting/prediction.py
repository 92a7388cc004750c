"""What a trained model says about new slices: the same path as stage one, and so the same scores."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from haemo.errors import TooFewData, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.reading.formats import read_header
from haemo.features.reading.slice import Slice
from haemo.pipeline.predicting.slice_scores import SliceScores
from haemo.pipeline.predicting.trained_model import TrainedModel, load_model
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.trained.scope import implausible
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.features.extraction.decoding import Decoded

__all__ = ["find_slices", "predict", "score_slices"]

_STAGE = "predict"
_WORKERS = 2
_BATCHES_AHEAD = 2

_StudyKey = str | Path
"""What tells one study from another: the name that DICOM files give it, or the folder of pictures."""


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
    BadSettings, MissingStep, FingerprintMismatch
        As `pipeline.predicting.trained_model.load_model`.
    TooFewData
        If not one slice could be scored.
    """
    return score_slices(load_model(run, name, device, progress), paths, threshold, progress)


def score_slices(
    model: TrainedModel, paths: Sequence[Path], threshold: float | None = None, progress: Progress = silent
) -> SliceScores:
    """Score files and folders with a model that is loaded, slices in batches; memory stays flat.

    Parameters and errors as `predict`.
    """
    if threshold is not None:
        model.head.threshold = threshold
    files, failures = find_slices(paths)
    result = _score(model, files, progress)
    result = replace(result, failures=(*failures, *result.failures), asked_threshold=threshold)
    if not len(result):
        raise TooFewData(_nothing_scored(result.failures))
    return result


def _nothing_scored(failures: Sequence[Failure]) -> str:
    if not failures:
        return "there is nothing to score: name files or folders"
    first = f"{failures[0].path} cannot be scored: {failures[0].reason}"
    if len(failures) == 1:
        return first
    return f"none of the {len(failures)} files and folders can be scored; {first}"


def find_slices(paths: Iterable[Path]) -> tuple[list[Path], list[Failure]]:
    """Files as they are given, and what looks like a slice in folders, sorted by path; each file once.

    Returns
    -------
    files : list of Path
    failures : list of Failure
        Paths that are not there, folders without slices, images of a kind that cannot be read.
    """
    from haemo.features.layouts.folder import Folder

    files: dict[Path, None] = {}
    failures = []
    for path in paths:
        if not path.exists():
            failures.append(Failure(str(path), _STAGE, "it is not there"))
        elif path.is_dir():
            found = Folder.scan(path)
            files.update(dict.fromkeys(found.slices))
            failures += [Failure(one.path, _STAGE, one.reason) for one in found.failures]
            if not found.slices and not found.failures:
                failures.append(Failure(str(path), _STAGE, "the folder has no slices in it"))
        else:
            files[path.absolute()] = None
    return list(files), failures


def _score(model: TrainedModel, files: Sequence[Path], progress: Progress) -> SliceScores:
    kept: list[Path] = []
    failures: list[Failure] = []
    doubts: dict[Path, str] = {}
    places: dict[Path, tuple[_StudyKey, float | None]] = {}

    def batches() -> Iterator[np.ndarray]:
        planes: list[np.ndarray] = []
        decoded = _decoded(model, files, doubts, places)
        for path, result in progress(decoded, total=len(files), label=_STAGE):
            if isinstance(result, UnreadableSlice):
                failures.append(Failure(str(path), _STAGE, str(result)))
                continue
            kept.append(path)
            planes.append(result.planes[0])
            if len(planes) == model.extractor.batch:
                yield np.stack(planes)
                planes = []
        if planes:
            yield np.stack(planes)

    parts = list(model.score(batches()))
    two = len(model.classes) == 2
    scores = np.concatenate(
        [part for part, _ in parts] or [np.empty((0,) if two else (0, len(model.classes)))]
    )
    unlike = [why for _, reasons in parts for why in reasons]
    order = _by_study([places[path] for path in kept])
    # Files that failed count here, so that a name does not change when a slice is mended.
    names = _study_names({places[path][0] if path in places else _folder(path) for path in files})
    scores = scores[order]
    chances = model.head.probabilities(scores)
    return SliceScores(
        paths=tuple(kept[place] for place in order),
        studies=tuple(names[places[kept[place]][0]] for place in order),
        positions=tuple(places[kept[place]][1] for place in order),
        outside=tuple(doubts[kept[place]] or unlike[place] for place in order),
        classes=model.classes,
        threshold=float(model.head.threshold),
        scores=scores,
        probabilities=chances[:, 1] if two else chances,
        predicted=model.head.classes_[model.head.choose(chances)],
        failures=tuple(failures),
        distance_checked=model.scope is not None,
        study_rule=model.study_rule,
    )


def _decoded(
    model: TrainedModel,
    files: Sequence[Path],
    doubts: dict[Path, str],
    places: dict[Path, tuple[_StudyKey, float | None]],
) -> "Iterator[tuple[Path, Decoded | UnreadableSlice]]":
    """Planes of files, in their order; doubts about each, its study and place go to the mappings."""
    from haemo.features.extraction.decoding import Decoder, in_order
    from haemo.features.reading.reader import SliceReader

    with SliceReader(_WORKERS) as reader:

        def read(path: Path) -> Slice:
            image = reader(path)
            doubts[path] = implausible(image)
            places[path] = _study_and_position(path)
            return image

        decoder = Decoder(model.preprocessing, lambda _: (0,), read)
        yield from in_order(files, decoder, _WORKERS, _BATCHES_AHEAD * model.extractor.batch)


def _study_and_position(path: Path) -> tuple[_StudyKey, float | None]:
    """The series of a DICOM file and where the slice lies in it, in mm; the folder of a picture, and None."""
    tags = read_header(path).tags
    if tags is None:
        return _folder(path), None
    study = tags.series or tags.study or tags.patient or _folder(path)
    for position in (tags.z_mm, tags.slice_location_mm, tags.instance_number):
        if position is not None:
            return study, position
    return study, None


def _folder(path: Path) -> Path:
    """The whole path of a file's folder, without ``..``; a link keeps its own name."""
    folder = path.absolute().parent
    return folder.resolve() if ".." in folder.parts else folder


def _study_names(studies: Iterable[_StudyKey]) -> dict[_StudyKey, str]:
    """What each study is called: as DICOM calls it, or as little of its folder's path as no other study has.

    Folders ``a/049/brain``, ``a/050/brain`` and ``a/051`` are called ``049/brain``, ``050/brain`` and
    ``051``, in whatever order they come.
    """
    studies = set(studies)
    ends = {study: _ends(study) for study in studies}
    shared = Counter(end for own in ends.values() for end in own)
    return {study: next((end for end in own if shared[end] == 1), own[-1]) for study, own in ends.items()}


def _ends(study: _StudyKey) -> list[str]:
    """All trailing parts of a folder's path, the shortest first; of a DICOM name itself alone."""
    if isinstance(study, str):
        return [study]
    return [Path(*study.parts[-count:]).as_posix() for count in range(1, len(study.parts) + 1)]


def _by_study(places: Sequence[tuple[_StudyKey, float | None]]) -> list[int]:
    """Order of slices: studies as they come first; in each by position, as given where these are equal."""
    first = {study: number for number, (study, _) in reversed(list(enumerate(places)))}

    def key(number: int) -> tuple[int, float]:
        study, position = places[number]
        return first[study], math.inf if position is None else position

    return sorted(range(len(places)), key=key)
