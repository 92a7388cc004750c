"""A trained head or network of a run, loaded to score new slices."""

from functools import cache, partial
from pathlib import Path

import numpy as np

from haemo.errors import BadSettings
from haemo.extensions import unknown
from haemo.features.store.fingerprint import Fingerprint
from haemo.pipeline.evaluation.operating import chosen_points
from haemo.pipeline.evaluation.unit_rule import unit_rule
from haemo.pipeline.predicting.studies import Place
from haemo.pipeline.predicting.trained_model import StageOne, TrainedModel
from haemo.pipeline.run.directory import HEADS, NETWORKS, SEGMENTER, RunDirectory, train_command
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.splitting.splitfile import refuse_model_of_other_split
from haemo.pipeline.trained.headfolder import HeadFolder
from haemo.pipeline.trained.scope import Scope, evenly
from haemo.progress import Progress, silent

__all__ = ["held_out_of", "load_single", "points_of"]

_MOST_REFERENCES = 128


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
        told_unit=source_of(run, of_studies).told_unit(),
        held_out=partial(held_out_of, run, name),
        points=cache(partial(points_of, run, name)),
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
        told_unit=run.told_unit(),
        held_out=partial(held_out_of, run, name),
        points=cache(partial(points_of, run, name)),
    )


def held_out_of(run: RunDirectory, name: str) -> Predictions | None:
    """What a model of a run said of slices held out of its training; None where it has no such answers."""
    if not (run.model_path(name) / "predictions.csv").exists():
        return None
    found = run.predictions(name).of_part("cv")
    return found if len(found) else None


def points_of(run: RunDirectory, name: str) -> dict[str, float]:
    """Thresholds of operating points of a model of a run, chosen on what was held out of its training."""
    return chosen_points(held_out_of(run, name))


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
