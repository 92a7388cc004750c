"""What a trained model says about new slices: the same path as stage one, and so the same scores."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np

from haemo.errors import BadDataset, TooFewData, UnreadableSlice
from haemo.features.failures import Failure, by_volume
from haemo.features.layouts.claims import Headers
from haemo.features.neighbours import neighbours, smoothed
from haemo.features.reading.address import file_of
from haemo.features.reading.formats import slices_in
from haemo.features.reading.slice import Slice
from haemo.features.reading.unit import Unit
from haemo.pipeline.predicting.blended_model import BlendedModel, load_model
from haemo.pipeline.predicting.pooled import study_scores
from haemo.pipeline.predicting.slice_scores import SliceScores
from haemo.pipeline.predicting.studies import (
    Place,
    by_study,
    folder_of,
    place_of,
    placed,
    places_said,
    study_names,
)
from haemo.pipeline.predicting.taken import taken_of_folder, taken_of_named, unit_or_told
from haemo.pipeline.predicting.trained_model import Planes, TrainedModel
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.trained.scope import implausible
from haemo.progress import Progress, silent

__all__ = ["UNPLACED", "find_slices", "nothing_scored", "predict", "score_slices"]

_log = logging.getLogger("haemo")

_STAGE = "predict"
UNPLACED = (
    "nobody knows its place in its study, and this model looks at the slices beside it; take DICOM files, or "
    "pictures whose names end in their number"
)
"""Why a slice without a position cannot be scored by a model that looks at neighbours."""

_WORKERS = 2
_BATCHES_AHEAD = 2


def predict(
    run: RunDirectory,
    name: str,
    paths: Sequence[Path],
    *,
    threshold: float | None = None,
    device: str = "auto",
    series: str | None = None,
    unit: Unit | None = None,
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
        Image and DICOM files, volumes or single slices of them (``scan.nii.gz#12``), and folders, which are
        searched to any depth.
    threshold : float in 0..1, optional
        In place of the one that the head was trained with. Two classes only.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    series : str, optional
        Which series of each DICOM study in a folder to take, as `index` does.
    unit : {'hu', 'hu+1024', 'gray'}, optional
        What the numbers are in files that do not say it; by default as the model was told, if it was.
    progress : Progress

    Raises
    ------
    BadSettings, MissingStep, FingerprintMismatch
        As `pipeline.predicting.trained_model.load_model`.
    TooFewData
        If not one slice could be scored.
    """
    model = load_model(run, name, device, progress)
    return score_slices(model, paths, threshold, progress, series=series, unit=unit)


def score_slices(
    model: TrainedModel | BlendedModel,
    paths: Sequence[Path],
    threshold: float | None = None,
    progress: Progress = silent,
    *,
    series: str | None = None,
    unit: Unit | None = None,
) -> SliceScores:
    """Score files and folders with a model that is loaded, slices in batches; memory stays flat.

    Parameters and errors as `predict`.
    """
    if threshold is not None:
        head = copy(model.head)  # the model keeps its own
        head.threshold = threshold
        model = replace(model, head=head)
    unit = unit_or_told(unit, model.told_unit, model.name)
    headers = Headers(progress, unit)
    files, failures = find_slices(paths, series, progress, unit, headers)
    said = places_said(files, headers)
    del headers  # those of many files are large
    score = _score_blend if isinstance(model, BlendedModel) else _score
    result = score(model, files, said, progress)
    result = replace(
        result,
        failures=(*failures, *result.failures),
        asked_threshold=threshold,
        points=model.points() if len(model.classes) == 2 else {},
    )
    if not len(result):
        raise TooFewData(nothing_scored(result.failures))
    return result


def nothing_scored(failures: Sequence[Failure]) -> str:
    """Why not one slice could be used, in words."""
    if not failures:
        return "there is nothing to score: name files or folders"
    first = f"{failures[0].path} cannot be scored: {failures[0].reason}"
    if len(failures) == 1:
        return first
    return f"none of the {len(failures)} files and folders can be scored; {first}"


def find_slices(
    paths: Iterable[Path],
    series: str | None = None,
    progress: Progress = silent,
    unit: Unit | None = None,
    headers: Headers | None = None,
) -> tuple[list[Path], list[Failure]]:
    """Files as they are given, and what looks like a slice in folders, sorted by path; each file once.

    Archives are folders, unpacked in haemo's cache. Of each DICOM study in a folder the series is taken that
    `index` would take, and what is left aside is logged. Files that are named themselves are all taken,
    unless `series` says otherwise; where these are several series of one study, or no plain CT, that is
    logged. Where the user told a `unit`, it stands in the path of each slice whose file says none. Headers
    that are read, of DICOM files at least, are kept in `headers`, which has the same unit.

    Returns
    -------
    files : list of Path
    failures : list of Failure
        Paths that are not there, folders without slices, images of a kind that cannot be read.
    """
    from haemo.features.layouts.archive import is_archive
    from haemo.features.layouts.folder import Folder
    from haemo.features.series.choosing import pattern_of

    pattern_of(series)
    headers = headers or Headers(progress, unit)

    files: dict[Path, None] = {}
    failures, named = [], {}
    for path in paths:
        if not file_of(path).exists():
            failures.append(Failure(str(path), _STAGE, "it is not there"))
        elif path.is_dir() or is_archive(path):
            try:
                found = Folder.scan(path, progress=progress)
            except BadDataset as error:
                failures.append(Failure(str(path), _STAGE, str(error)))
                continue
            files.update(dict.fromkeys(taken_of_folder(found, series, headers)))
            failures += [Failure(one.path, _STAGE, one.reason) for one in found.failures]
            if not found.slices and not found.failures:
                failures.append(Failure(str(path), _STAGE, "the folder has no slices in it"))
        else:
            try:
                own = dict.fromkeys(slices_in(path.absolute()))
                named.update(own)
                files.update(own)
            except UnreadableSlice as error:
                failures.append(Failure(str(path), _STAGE, str(error)))
    chosen = taken_of_named(list(named), series, headers)
    # A slice of a folder has its unit in its path by now; one that is named as well has it only here.
    taken = (chosen.get(path, path) for path in files if path in chosen or path not in named)
    return list(dict.fromkeys(taken)), failures


def _warn_of_single_slices(places: Iterable[Place]) -> None:
    slices = Counter(place.study for place in places)
    alone = sum(count == 1 for count in slices.values())
    if alone:
        _log.warning(
            "%d of %d studies have one slice: this model looks at the slices beside each one, so give it "
            "whole studies",
            alone,
            len(slices),
        )


def _score(
    model: TrainedModel, files: Sequence[Path], said: Mapping[Path, Place], progress: Progress
) -> SliceScores:
    kept: list[Path] = []
    failures: list[Failure] = []
    doubts: dict[Path, str] = {}
    places: dict[Path, Place] = {}
    given = files
    if model.needs_places:
        places, unreadable = placed(files, model.known_places(), said)
        failures += [Failure(str(path), _STAGE, str(error)) for path, error in unreadable.items()]
        failures += [
            Failure(str(path), _STAGE, UNPLACED) for path, place in places.items() if place.position is None
        ]
        files = [path for path, place in places.items() if place.position is not None]
        _warn_of_single_slices(places[path] for path in files)

    def batches() -> Iterator[Planes]:
        planes: list[Sequence[np.ndarray]] = []
        decoded = _decoded(model, files, said, doubts, places)
        for path, result in progress(decoded, total=len(files), label=_STAGE):
            if isinstance(result, UnreadableSlice):
                failures.append(Failure(str(path), _STAGE, str(result)))
                continue
            kept.append(path)
            planes.append(result)
            if len(planes) >= model.batch:  # which may shrink
                yield tuple(map(np.stack, zip(*planes, strict=True)))
                planes = []
        if planes:
            yield tuple(map(np.stack, zip(*planes, strict=True)))

    if isinstance(model, TrainedModel) and model.pooled_by is not None:
        embeddings = [inputs for inputs, _ in model.embedded(batches())]
        studies = [places[path].study for path in kept]
        return study_scores(model, kept, studies, embeddings, by_volume(failures))
    scored = _in_context(model, batches(), kept, places) if model.context else model.score(batches())
    parts = list(scored)
    two = len(model.classes) == 2
    scores = np.concatenate([part for part, _ in parts] or [np.empty((0, *_outputs(model)))])
    unlike = [why for _, reasons in parts for why in reasons]
    order = by_study([places[path] for path in kept])
    # Files that failed count here, so that a name does not change when a slice is mended.
    names = study_names({places[path].study if path in places else folder_of(path) for path in given})
    scores = scores[order]
    if model.smooth:
        scores = smoothed(scores, _beside([places[kept[place]] for place in order], 1))
    chances = model.head.probabilities(scores)
    return SliceScores(
        paths=tuple(kept[place] for place in order),
        studies=tuple(names[places[kept[place]].study] for place in order),
        positions=tuple(places[kept[place]].position for place in order),
        outside=tuple(doubts[kept[place]] or unlike[place] for place in order),
        classes=model.classes,
        threshold=float(model.head.threshold),
        scores=scores,
        probabilities=chances[:, 1] if two else chances,
        predicted=model.head.classes_[model.head.choose(chances)],
        failures=tuple(by_volume(failures)),
        distance_checked=model.scope is not None,
        study_rule=model.study_rule,
    )


def _score_blend(
    model: BlendedModel, files: Sequence[Path], said: Mapping[Path, Place], progress: Progress
) -> SliceScores:
    """What the members say, one after the other, joined for the slices that all of them could score."""
    from haemo.models.heads.blending import log_odds_of

    said = [_score(member, files, said, progress) for member in model.members]
    first, shared = said[0], set.intersection(*(set(one.paths) for one in said))
    kept = [path for path in first.paths if path in shared]
    at = [{path: number for number, path in enumerate(one.paths)} for one in said]
    chances = [one.probabilities[[place[path] for path in kept]] for one, place in zip(said, at, strict=True)]
    scores = model.head.decision_function(log_odds_of(np.column_stack(chances)))
    joined = model.head.probabilities(scores)
    doubts = [[one.outside[place[path]] for path in kept] for one, place in zip(said, at, strict=True)]
    reasons = [next(filter(None, own), "") for own in zip(*doubts, strict=True)]
    own = [at[0][path] for path in kept]
    return SliceScores(
        paths=tuple(kept),
        studies=tuple(first.studies[number] for number in own),
        positions=tuple(first.positions[number] for number in own),
        outside=tuple(reasons),
        classes=model.classes,
        threshold=float(model.head.threshold),
        scores=scores,
        probabilities=joined[:, 1],
        predicted=model.head.classes_[model.head.choose(joined)],
        failures=tuple({failure.path: failure for one in said for failure in one.failures}.values()),
        distance_checked=all(one.distance_checked for one in said),
        study_rule=model.study_rule,
    )


def _in_context(
    model: TrainedModel, batches: Iterable[Planes], kept: Sequence[Path], places: Mapping[Path, Place]
) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Scores and reasons of slices that come study by study, with their neighbours; one study in memory."""
    rows: list[np.ndarray] = []
    done = 0
    for inputs, embeddings in model.embedded(batches):
        rows += list(inputs)
        own = [places[path] for path in kept[done : done + len(rows)]]
        # The last study may go on in the next batch.
        whole = next(number for number, place in enumerate(own) if place.study == own[-1].study)
        if whole:
            yield _joined_scores(model, rows[:whole], own[:whole]), []
            rows, done = rows[whole:], done + whole
        yield np.empty((0, *_outputs(model))), model.reasons(embeddings)
    if rows:
        yield _joined_scores(model, rows, [places[path] for path in kept[done:]]), []


def _joined_scores(model: TrainedModel, rows: Sequence[np.ndarray], places: Sequence[Place]) -> np.ndarray:
    own = np.array(rows)
    beside = _beside(places, model.context)
    return model.head.decision_function(np.hstack([own[column] for column in beside.T]))


def _beside(places: Sequence[Place], reach: int) -> np.ndarray:
    """`features.neighbours.neighbours` of slices whose places are all known."""
    return neighbours([place.study for place in places], [place.position or 0.0 for place in places], reach)


def _outputs(model: TrainedModel) -> tuple[int, ...]:
    """Shape of the scores of one slice."""
    return () if len(model.classes) == 2 else (len(model.classes),)


def _decoded(
    model: TrainedModel,
    files: Sequence[Path],
    said: Mapping[Path, Place],
    doubts: dict[Path, str],
    places: dict[Path, Place],
) -> Iterator[tuple[Path, list[np.ndarray] | UnreadableSlice]]:
    """What is seen of files, in their order; doubts about each, its study and place go to the mappings.

    Each file is read once, and gives a plane for every set of features that the model stands on.
    """
    from haemo.features.extraction.decoding import Decoder, in_order
    from haemo.features.reading.reader import SliceReader

    with SliceReader(_WORKERS) as reader:
        images: dict[Path, Slice] = {}

        def read(path: Path) -> Slice:
            image = reader(path)
            doubts[path] = implausible(image)
            if path not in places:
                places[path] = said.get(path) or place_of(path)
            images[path] = image
            return image

        first, *others = [Decoder(how, lambda _: (0,), read) for how in model.preprocessings]

        def planes_of(path: Path) -> list[np.ndarray] | UnreadableSlice:
            decoded = first(path)
            image = images.pop(path, None)
            if isinstance(decoded, UnreadableSlice) or image is None:
                return decoded if isinstance(decoded, UnreadableSlice) else UnreadableSlice("is not a slice")
            try:
                rest = [decoder.of_slice(image).planes[0] for decoder in others]
            except UnreadableSlice as error:
                return error
            return [decoded.planes[0], *rest]

        yield from in_order(files, planes_of, _WORKERS, _BATCHES_AHEAD * model.batch)
