"""An end-to-end network trained on a run: same slices, same split, same predictions file as the heads."""

import hashlib
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.errors import BadSettings, TooFewData, WeightsUnavailable
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow, rows_as_bytes
from haemo.models.training.history import Epoch, best_epoch
from haemo.models.training.recipes import TrainingSettings, build, recipe_for
from haemo.pipeline.evaluation.intervals import assess
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.directory import RunDirectory, software_versions
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.splitting.protocols import SplitRequest
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.trained.modelfolder import facts_key
from haemo.pipeline.trained.networkfolder import NetworkFolder
from haemo.pipeline.trained.scope import Scope
from haemo.pipeline.training.planes import decode_planes
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from torch import nn

    from haemo.features.views.preprocess import Preprocessing
    from haemo.models.training.trained import TrainedNetwork
    from haemo.models.weights.imagenet import Weights

__all__ = ["NetworkRequest", "NetworkResult", "train_network"]

log = logging.getLogger("haemo")

_VERSIONS = ("haemo", "torch", "numpy")


@dataclass(frozen=True)
class NetworkResult:
    """What training a network came to.

    Attributes
    ----------
    name : str
    facts : dict
        What settings.json holds: settings, weights, split, preprocessing, epochs and the best one.
    metrics : dict
        For each part of the predictions what `pipeline.evaluation.intervals.assess` gives.
    predictions : Predictions
        Validation slices as part ``cv``, fold 0; test slices as part ``test``. No ``cv`` where the test
        slices themselves were validated on.
    history : list of Epoch
    failures : list of Failure
        Slices that could not be read.
    up_to_date : bool
        Whether all of it was there already, made with the same settings from the same data.
    """

    name: str
    facts: dict[str, Any]
    metrics: dict[str, Any]
    predictions: Predictions
    history: list[Epoch]
    failures: list[Failure]
    up_to_date: bool


@dataclass(frozen=True)
class _Data:
    """The slices (and copies) of a run as a network takes them; fit, validation, test are row numbers."""

    things: str
    rows: tuple[ManifestRow, ...]
    planes: np.ndarray
    targets: np.ndarray
    fit: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def hash(self) -> str:
        """sha256 of everything that a network can learn from or is tested on."""
        digest = hashlib.sha256()
        for array in (self.planes, self.targets, self.fit, self.validation, self.test):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update(rows_as_bytes(self.rows))
        return digest.hexdigest()


@dataclass(frozen=True)
class NetworkRequest:
    """What a network is trained with, beside the settings of its training.

    Attributes
    ----------
    preprocessing : Preprocessing, optional
        The window and the crop; its size gives way to that of the network. Default: the brain window on
        whole slices.
    weights : str
        For ``finetune``: as in `models.weights.imagenet.resolve_weights`.
    freeze_below : str
        For ``finetune``: the layers below this one stay as they are; empty trains all.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    workers : int, optional
        Threads that decode; by default one for each processor this process may use.
    """

    preprocessing: "Preprocessing | None" = None
    weights: str = "auto"
    freeze_below: str = ""
    device: str = "auto"
    workers: int | None = None


def train_network(
    run: RunDirectory,
    name: str,
    request: NetworkRequest | None = None,
    *,
    split: SplitRequest | None = None,
    progress: Progress = silent,
    **options: Any,
) -> NetworkResult:
    """Train one network, predict its validation and test slices once, and keep all of it in the run.

    The first fold of the run's split is held out to choose the epoch by; the other training patients are
    learned from; the test patients are not looked at before the weights are final. Under the protocol
    ``lenet`` the test slices choose the epoch, as they did where it comes from; under ``paper`` the rotated
    copies are slices like others, and none is turned again.

    Parameters
    ----------
    run : RunDirectory
    name : str
        ``cnn``, ``finetune``, ``lenet`` or ``tinyvgg``.
    request : NetworkRequest, optional
    split : SplitRequest, optional
        A new split takes the seed of the training where it asks for none.
    progress : Progress
    **options
        Fields of `TrainingSettings`; None leaves the network's own default.

    Raises
    ------
    MissingStep
        If the run has not been indexed.
    RunLocked
        If another process is training this network in this run.
    TooFewData
        If a class has no slice to learn from, or there is nothing to validate on.
    TrainingDiverged
        If the loss is no longer finite.
    BadSettings, WeightsUnavailable
        If a setting is not allowed, or pretrained weights cannot be had.
    """
    from haemo.models.training.trained import TrainedNetwork

    began = time.monotonic()
    recipe, request = recipe_for(name), request or NetworkRequest()
    settings = recipe.settings.with_options(**options)
    if name != "finetune" and (request.freeze_below or request.weights != "auto"):
        raise BadSettings(f"{name} starts from random weights; pretrained ones are for finetune")
    run.require_manifest()
    with claim(run.path, name):
        cohort = Cohort.of(run, _seeded(split or SplitRequest(), run, settings.seed))
        device, settings = _settled(settings, cohort.split, request.device)
        network, origin = _initial(name, len(cohort.classes), settings, request, progress)
        data, failures, planes = _read(name, cohort, request, recipe.plane_size(settings.augment), progress)
        cohort.keep()
        facts = {
            "network": name,
            "classes": list(cohort.classes),
            "trunk": getattr(network, "trunk", False),
            "freeze_below": request.freeze_below,
            "weights": origin,
            "preprocessing": planes.describe(),
            "settings": settings.describe(),
            **_provenance(cohort.split, data),
        }
        if settings.class_weight == "balanced":
            counts = np.bincount(data.targets[data.fit], minlength=len(cohort.classes))
            facts["class_slices"] = counts.tolist()
        facts["key"] = facts_key({**facts, "device": device})
        folder = NetworkFolder(run.model_path(name))
        if folder.is_complete(facts["key"]):
            log.info("%s is up to date: same settings, same data", folder.path)
            run.record_lost(name, **folder.facts(), failures=len(failures))
            return _kept(folder, failures)
        trained = TrainedNetwork(network, recipe, cohort.classes, facts, device)
        history = _train(folder, trained, data, settings, progress)
        predictions, scope = _predict(trained, data, progress)
        metrics = {part: assess(predictions.of_part(part)) for part in np.unique(predictions.part).tolist()}
        facts = {
            **facts,
            "device": device,
            "epochs": len(history),
            "best_epoch": best_epoch(history).epoch,
            **({"threshold": trained.head().threshold} if len(cohort.classes) == 2 else {}),
            "test_judgements": run.count_judgement(name, cohort.split.hash, facts["key"]),
            "seconds": round(time.monotonic() - began, 1),
        }
        folder.write(trained, facts, history, metrics, predictions, scope)
        run.record(name, **facts, failures=len(failures))
        return NetworkResult(name, facts, metrics, predictions, history, failures, False)


def _seeded(split: SplitRequest, run: RunDirectory, seed: int) -> SplitRequest:
    """The request, with the training's seed for a new split that asks for none.

    A split that is there keeps its own: a network may be trained with several seeds on one split.
    """
    is_new = split.new or not run.split_path.exists()
    return replace(split, seed=seed) if split.seed is None and is_new else split


def _kept(folder: NetworkFolder, failures: list[Failure]) -> NetworkResult:
    """What an earlier training of the same left behind."""
    kept = folder.facts(), folder.metrics(), folder.predictions(), folder.history()
    return NetworkResult(folder.name, *kept, failures, up_to_date=True)


def _provenance(split: Split, data: _Data) -> dict[str, Any]:
    """Which slices of which split, and the versions that results depend on."""
    versions = software_versions()
    return {
        "split": split.hash,
        "protocol": split.protocol,
        "leaky": split.leaky,
        "slices": {part: len(getattr(data, part)) for part in ("fit", "validation", "test")},
        "data": data.hash(),
        "versions": {name: versions[name] for name in _VERSIONS if name in versions},
    }


def _initial(
    name: str, classes: int, settings: TrainingSettings, request: NetworkRequest, progress: Progress
) -> "tuple[nn.Module, dict[str, str]]":
    """The network before training, and where its weights are from."""
    if name != "finetune":
        return build(name, classes, seed=settings.seed), {
            "origin": f"random, seed {settings.seed}",
            "sha256": "",
        }
    from haemo.models.networks.finetune import freeze_below as freeze
    from haemo.models.networks.finetune import load_pretrained

    found = _pretrained(request.weights, settings.seed, progress)
    trunk = found.layer == "pool5"
    network = build(name, classes, seed=settings.seed, trunk=trunk)
    load_pretrained(network, found.state_dict)
    if request.freeze_below:
        freeze(network, request.freeze_below)
    return network, {"origin": found.origin, "sha256": found.sha256}


def _pretrained(source: str, seed: int, progress: Progress) -> "Weights":
    from haemo.models.weights.imagenet import resolve_weights

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
    name: str, cohort: Cohort, request: NetworkRequest, size: int, progress: Progress
) -> "tuple[_Data, list[Failure], Preprocessing]":
    """The slices of a cohort as planes of `size`, what could not be read, and how the planes were made."""
    from haemo.features.views.preprocess import Preprocessing

    run, split = cohort.run, cohort.split
    preprocessing = replace(request.preprocessing or Preprocessing(), size=size)
    planes, usable, failures = decode_planes(
        cohort.manifest.labelled.rows,
        preprocessing,
        stage=name,
        scratch=run.path,
        rotations=split.unit == "copy",
        workers=request.workers,
        progress=progress,
    )
    if failures:
        log.warning("%s: %d slices cannot be read; see %s", name, len(failures), run.failures_path)
    run.replace_failures(name, failures)
    if not usable.any() and failures:
        remedy = run.remedy(failures) or "mend the files, or index others"
        raise TooFewData(
            f"{name}: none of the {len(failures):,} slices could be read; {failures[0].path}: "
            f"{failures[0].reason}\n{remedy}"
        )
    rows = tuple(split.dealt(cohort.manifest.labelled.rows))
    parts, folds = split.parts(rows), split.fold_numbers(rows)
    held_out = parts == "test" if cohort.protocol.chosen_on_test else folds == 0
    data = _Data(
        things=split.things,
        rows=rows,
        planes=planes,
        targets=cohort.targets(rows),
        fit=np.flatnonzero(usable & (parts == "train") & ~held_out),
        validation=np.flatnonzero(usable & held_out),
        test=np.flatnonzero(usable & (parts == "test")),
    )
    _refuse_too_few(name, data, cohort.classes)
    return data, failures, preprocessing


def _refuse_too_few(name: str, data: _Data, classes: tuple[str, ...]) -> None:
    for part, what in (("fit", "to learn from"), ("validation", "to validate on"), ("test", "to test on")):
        counts = np.bincount(data.targets[getattr(data, part)], minlength=len(classes))
        if not counts.any() or (part == "fit" and not counts.all()):
            lacking = classes[int(np.argmin(counts))] if counts.any() else "readable"
            raise TooFewData(f"{name}: there is no {lacking} slice {what}; index more patients")


def _train(
    folder: NetworkFolder,
    trained: "TrainedNetwork",
    data: _Data,
    settings: TrainingSettings,
    progress: Progress,
) -> list[Epoch]:
    from haemo.models.training.batches import Batches
    from haemo.models.training.checkpoint import Checkpoint
    from haemo.models.training.loop import TrainingData, train

    log.info(
        "%s: %d %s to learn from, %d to validate on, %d to test on; %s, %s",
        folder.name,
        len(data.fit),
        data.things,
        len(data.validation),
        len(data.test),
        trained.device,
        settings.precision,
    )
    folder.path.mkdir(parents=True, exist_ok=True)
    batches = Batches(data.planes, trained.recipe, settings.augment, trained.device)
    return train(
        trained.network,
        TrainingData(batches, data.targets, len(trained.classes), data.fit, data.validation),
        settings,
        checkpoint=Checkpoint(folder.checkpoint_path, trained.facts["key"]),
        progress=progress,
        label=folder.name,
    )


def _settled(settings: TrainingSettings, split: Split, device: str) -> tuple[str, TrainingSettings]:
    """The device, and the settings with what the split and the device decide."""
    from haemo.models.networks.engine import resolve_device, resolve_precision

    if split.unit == "copy":
        kept = tuple(drawn for drawn in settings.augment if drawn != "rotate")
        settings = settings.with_options(augment=kept)
    device = resolve_device(device)
    precision = resolve_precision(settings.precision, device)
    # Gradients in float16 would need their loss scaled; a GPU without bfloat16 trains in float32.
    precision = "float32" if precision == "float16" else precision
    return device, settings.with_options(precision=precision)


def _predict(trained: "TrainedNetwork", data: _Data, progress: Progress) -> tuple[Predictions, Scope]:
    """What the network says of validation and test slices, and what the slices that it knows are like.

    Validation slices that are the test slices are no answer of their own.
    """
    validation = data.validation if not np.isin(data.validation, data.test).any() else data.validation[:0]
    chosen = np.concatenate([validation, data.test])
    head = trained.head()
    logits, activations = trained.logits_and_activations(data.planes, chosen, progress)
    learned = trained.logits_and_activations(data.planes, Scope.sample(data.fit), progress)[1]
    scope = Scope.of_network(learned, activations[: len(validation)] if len(validation) else activations)
    scores = head.decision_function(logits)
    chances = head.probabilities(scores)
    rows = [data.rows[position] for position in chosen]
    is_test = np.arange(len(chosen)) >= len(validation)
    predictions = Predictions.of_rows(
        rows,
        part=np.where(is_test, "test", "cv"),
        fold=np.where(is_test, -1, 0),
        scores=scores,
        probabilities=chances[:, 1] if len(trained.classes) == 2 else chances,
        predicted=head.classes_[head.choose(chances)],
        classes=trained.classes,
    )
    return predictions, scope
