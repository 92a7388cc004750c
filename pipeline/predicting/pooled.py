"""What a head of whole studies says of new ones: a score a study, and none a slice."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from haemo.features.failures import Failure
from haemo.features.reading.address import file_of
from haemo.pipeline.predicting.slice_scores import SliceScores
from haemo.pipeline.predicting.studies import StudyKey, study_names
from haemo.pipeline.predicting.trained_model import TrainedModel
from haemo.pipeline.preparing.pooling import pool

__all__ = ["study_scores"]


def study_scores(
    model: TrainedModel,
    paths: Sequence[Path],
    studies: Sequence[StudyKey],
    embeddings: Sequence[np.ndarray],
    failures: Sequence[Failure],
) -> SliceScores:
    """Pool the embeddings of each study and score it.

    Parameters
    ----------
    model : TrainedModel
        With a way of pooling.
    paths, studies : sequence
        Of each slice.
    embeddings : sequence of ndarray of shape (slices, dimension)
        Of the same slices, in batches.
    failures : sequence of Failure

    Returns
    -------
    SliceScores
        A row a study, whose path is the folder that holds its slices; none where there was no slice.
    """
    found = list(dict.fromkeys(studies))
    names = study_names(found)
    members: dict[StudyKey, list[int]] = {study: [] for study in found}
    for number, study in enumerate(studies):
        members[study].append(number)
    two = len(model.classes) == 2
    scores, outside = np.empty((0,) if two else (0, len(model.classes))), tuple[str, ...]()
    if found:
        slices = np.concatenate(embeddings)
        pooled = np.stack([pool(slices[members[study]], str(model.pooled_by)) for study in found])
        scores = model.head.decision_function(pooled)
        outside = ("",) * len(found)
        if model.scope is not None:
            outside = tuple(map(model.scope.reason, model.scope.distances(pooled)))
    chances = model.head.probabilities(scores)
    return SliceScores(
        paths=tuple(_folder_of([paths[number] for number in members[study]]) for study in found),
        studies=tuple(names[study] for study in found),
        positions=(None,) * len(found),
        outside=outside,
        classes=model.classes,
        threshold=float(model.head.threshold),
        scores=scores,
        probabilities=chances[:, 1] if two else chances,
        predicted=model.head.classes_[model.head.choose(chances)],
        failures=tuple(failures),
        distance_checked=model.scope is not None,
        of_studies=True,
    )


def _folder_of(paths: Sequence[Path]) -> Path:
    files = {file_of(path) for path in paths}
    return files.pop() if len(files) == 1 else Path(os.path.commonpath([file.parent for file in files]))
