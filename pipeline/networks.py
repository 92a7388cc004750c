"""An end-to-end network trained on a run: same slices, same split, same predictions file as the heads."""

import csv
import hashlib
import io
import json
import logging
import time
from dataclasses import astuple, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from features.atomic import write_text
from features.failures import Failure
from features.manifest import Manifest, ManifestRow
from models.errors import BadSettings, TooFewData, WeightsUnavailable
from models.progress import Progress, silent
from models.recipes import Recipe, TrainingSettings, build, recipe_for
from pipeline.metrics import evaluate
from pipeline.planes import decode_planes
from pipeline.predictions import Predictions
from pipeline.run import RunDirectory
from pipeline.splits import Split, classes_of, load_or_make_split

if TYPE_CHECKING:
    from torch import nn

    from features.preprocess import Preprocessing
    from models.trained import TrainedNetwork
    from models.training import Epoch
    from models.weights import Weights

__all__ = ["NetworkResult", "load_network", "train_network"]

log = logging.getLogger("haemo")

_CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class NetworkResult:
    """What training a network came to.

    Attributes
    ----------
    name : str
    predictions : Predictions
        Validation slices as part ``cv``, fold 0; test slices as part ``test``.
    metrics : dict
        ``cv`` and ``test``, each from `pipeline.metrics.evaluate`.
    history : list of Epoch
    best_epoch : int
    failures : list of Failure
        Slices that could not be read.
    """

    name: str
    predictions: Predictions
    metrics: dict[str, Any]
    history: "list[Epoch]"
    best_epoch: int
    failures: list[Failure]


@dataclass(frozen=True)
class _Data:
    """The slices of a run as a network takes them; fit, validation and test are row numbers."""

    rows: tuple[ManifestRow, ...]
    planes: np.ndarray
    targets: np.ndarray
    fit: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def hash(self) -> str:
        digest = hashlib.sha256()
        for array in (self.planes, self.targets, self.fit, self.validation):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_network(run: RunDirectory, name: str, device: str = "cpu") -> "TrainedNetwork":
    """The trained network `name` of a run; MissingStep if it has not been trained."""
    from models.trained import TrainedNetwork

    return TrainedNetwork.load(run.model_path(name) / "model.safetensors", device)


def train_network(
    run: RunDirectory,
    name: str,
    *,
    preprocessing: "Preprocessing | None" = None,
    weights: str = "auto",
    freeze_below: str = "",
    device: str = "auto",
    workers: int = 2,
    train_fraction: float | None = None,
    new_split: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> NetworkResult:
    """Train one network, predict its validation and test slices once, and keep all of it in the run.

    The first fold of the run's split is held out to choose the epoch by; the other training patients are
    learned from; the test patients are not looked at before the weights are final.

    Parameters
    ----------
    run : RunDirectory
    name : str
        ``cnn``, ``finetune``, ``lenet`` or ``tinyvgg``.
    preprocessing : Preprocessing, optional
        The window; its size gives way to that of the network. Default: the brain window.
    weights : str
        For ``finetune``: as in `models.weights.resolve_weights`.
    freeze_below : str
        For ``finetune``: the layers below this one stay as they are; empty trains all.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    workers : int
        Threads that decode.
    train_fraction, new_split
        As in `pipeline.splits.load_or_make_split`.
    progress : Progress
    **options
        Fields of `TrainingSettings`; None leaves the network's own default.

    Raises
    ------
    MissingStep
        If the run has not been indexed.
    TooFewData
        If a class has no slice to learn from, or there is nothing to validate on.
    TrainingDiverged
        If the loss is no longer finite.
    BadSettings, WeightsUnavailable
        If a setting is not allowed, or pretrained weights cannot be had.
    """
    from features.preprocess import Preprocessing

    began = time.monotonic()
    recipe = recipe_for(name)
    settings = recipe.settings.with_options(**options)
    if name != "finetune" and (freeze_below or weights != "auto"):
        raise BadSettings(f"{name} starts from random weights; pretrained ones are for finetune")
    manifest = run.manifest()
    classes = classes_of(run, manifest)
    split = load_or_make_split(run, manifest, train_fraction=train_fraction, new=new_split)
    network, origin = _initial(name, len(classes), settings, weights, freeze_below, progress)
    planes = replace(preprocessing or Preprocessing(), size=recipe.plane_size(settings.augment))
    folder = run.model_path(name)
    folder.mkdir(parents=True, exist_ok=True)
    data, failures = _read(run, name, manifest, classes, split, planes, workers, progress)
    facts = {
        "network": name,
        "classes": list(classes),
        "trunk": getattr(network, "trunk", False),
        "freeze_below": freeze_below,
        "weights": origin,
        "split": split.hash,
        "preprocessing": planes.describe(),
        "settings": settings.describe(),
    }
    trained, history = _train(run, recipe, network, data, settings, facts, device, progress)
    best = min(history, key=lambda epoch: epoch.validation_loss).epoch
    predictions = _predict(trained, data, progress)
    metrics = {part: evaluate(predictions.of_part(part)) for part in ("cv", "test")}
    # The predictions are written last: a folder that has them is complete.
    trained.write(folder / "model.safetensors")
    write_text(folder / "settings.json", _json(trained.facts))
    write_text(folder / "history.csv", _history_csv(history))
    write_text(folder / "metrics.json", _json(metrics))
    predictions.write(folder / "predictions.csv")
    (folder / _CHECKPOINT).unlink(missing_ok=True)
    run.replace_failures(name, failures)
    run.record(
        name,
        **trained.facts,
        device=trained.device,
        epochs=len(history),
        best_epoch=best,
        slices={part: len(getattr(data, part)) for part in ("fit", "validation", "test")},
        failures=len(failures),
        seconds=round(time.monotonic() - began, 1),
    )
    return NetworkResult(name, predictions, metrics, history, best, failures)


def _initial(
    name: str, classes: int, settings: TrainingSettings, weights: str, freeze_below: str, progress: Progress
) -> "tuple[nn.Module, dict[str, str]]":
    """The network before training, and where its weights are from."""
    if name != "finetune":
        return build(name, classes, seed=settings.seed), {
            "origin": f"random, seed {settings.seed}",
            "sha256": "",
        }
    from models.finetune import freeze_below as freeze
    from models.finetune import load_pretrained

    found = _pretrained(weights, settings.seed, progress)
    trunk = found.layer == "pool5"
    network = build(name, classes, seed=settings.seed, trunk=trunk)
    load_pretrained(network, found.state_dict)
    if freeze_below:
        freeze(network, freeze_below)
    return network, {"origin": found.origin, "sha256": found.sha256}


def _pretrained(source: str, seed: int, progress: Progress) -> "Weights":
    from models.weights import resolve_weights

    try:
        return resolve_weights(source, seed, need="fc7", progress=progress)
    except WeightsUnavailable as error:
        try:
            found = resolve_weights(source, seed, need="pool5", progress=progress)
        except WeightsUnavailable:
            raise error from None
    log.warning(
        "finetune: only the convolutional trunk of AlexNet is to be had. conv1..conv5 start from it; a new "
        "layer of 256 units stands in place of fc6 and fc7, so this is not quite the paper's network"
    )
    return found


def _read(
    run: RunDirectory,
    name: str,
    manifest: Manifest,
    classes: tuple[str, ...],
    split: Split,
    preprocessing: "Preprocessing",
    workers: int,
    progress: Progress,
) -> tuple[_Data, list[Failure]]:
    rows = manifest.labelled.rows
    planes, usable, failures = decode_planes(
        rows, preprocessing, stage=name, scratch=run.path, workers=workers, progress=progress
    )
    if failures:
        log.warning("%s: %d slices cannot be read; see %s", name, len(failures), run.failures_path)
    parts, folds = split.parts(rows), split.fold_numbers(rows)
    data = _Data(
        rows=rows,
        planes=planes,
        targets=np.array([classes.index(row.label) for row in rows]),
        fit=np.flatnonzero(usable & (parts == "train") & (folds != 0)),
        validation=np.flatnonzero(usable & (parts == "train") & (folds == 0)),
        test=np.flatnonzero(usable & (parts == "test")),
    )
    for part, what in (("fit", "to learn from"), ("validation", "to validate on"), ("test", "to test on")):
        counts = np.bincount(data.targets[getattr(data, part)], minlength=len(classes))
        if not counts.any() or (part == "fit" and not counts.all()):
            lacking = classes[int(np.argmin(counts))] if counts.any() else "readable"
            raise TooFewData(f"{name}: there is no {lacking} slice {what}; index more patients")
    return data, failures


def _train(
    run: RunDirectory,
    recipe: Recipe,
    network: "nn.Module",
    data: _Data,
    settings: TrainingSettings,
    facts: dict[str, Any],
    device: str,
    progress: Progress,
) -> "tuple[TrainedNetwork, list[Epoch]]":
    import torch

    from models.batches import Batches
    from models.checkpoint import Checkpoint
    from models.trained import TrainedNetwork
    from models.training import train

    place, precision = _engine(device, settings.precision)
    trained = TrainedNetwork(
        network, recipe, tuple(facts["classes"]), {**facts, "precision": precision}, place
    )
    depends = {**trained.facts, "data": data.hash(), "device": place, "torch": torch.__version__}
    key = hashlib.sha256(_json(depends).encode()).hexdigest()
    log.info(
        "%s: %d slices to learn from, %d to validate on, %d to test on; %s, %s",
        recipe.name,
        len(data.fit),
        len(data.validation),
        len(data.test),
        place,
        precision,
    )
    history = train(
        network,
        Batches(data.planes, recipe, settings.augment, place),
        data.targets,
        classes=len(trained.classes),
        fit=data.fit,
        validation=data.validation,
        settings=settings,
        precision=precision,
        checkpoint=Checkpoint(run.model_path(recipe.name) / _CHECKPOINT, key),
        progress=progress,
        label=recipe.name,
    )
    return trained, history


def _engine(device: str, precision: str) -> tuple[str, str]:
    """Device and precision of the training."""
    from models.engine import resolve_device, resolve_precision

    device = resolve_device(device)
    precision = resolve_precision(precision, device)
    # Gradients in float16 would need their loss scaled; a GPU without bfloat16 trains in float32.
    return device, "float32" if precision == "float16" else precision


def _predict(trained: "TrainedNetwork", data: _Data, progress: Progress) -> Predictions:
    chosen = np.concatenate([data.validation, data.test])
    logits = trained.logits(data.planes, chosen, progress)
    rows = [data.rows[position] for position in chosen]
    is_test = np.arange(len(chosen)) >= len(data.validation)
    return Predictions(
        slice_id=np.array([row.slice_id for row in rows]),
        patient=np.array([row.patient for row in rows]),
        study=np.array([row.study for row in rows]),
        label=np.array([row.label for row in rows]),
        part=np.where(is_test, "test", "cv"),
        fold=np.where(is_test, -1, 0),
        scores=trained.scores(logits),
        probabilities=trained.probabilities(logits),
        predicted=np.array(trained.classes)[logits.argmax(axis=1)],
        classes=trained.classes,
    )


def _history_csv(history: "list[Epoch]") -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(field.name for field in fields(history[0]))
    writer.writerows(astuple(epoch) for epoch in history)
    return stream.getvalue()


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
