"""Stage one of a run: from its manifest to its feature store."""

import errno
import logging
import shlex
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.errors import BadDataset, BadSettings, HaemoError, MissingStep, TooFewData
from haemo.features.cluster.connection import Cluster, connected
from haemo.features.extraction.extract import (
    ExtractionReport,
    ExtractionRequest,
    embedding_fingerprint,
    extract_features,
    fill_store,
)
from haemo.features.manifest import Manifest
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.shards import parts_of
from haemo.features.store.store import FeatureStore
from haemo.features.views.preprocess import Preprocessing
from haemo.pipeline.preparing.outcome import counted, nothing_usable, say
from haemo.pipeline.preparing.recipes import in_words, recipe_of
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.directory import DEFAULT_SET, RunDirectory
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.splitting.splitfile import refuse_features_of_other_patients
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.models.networks.engine import Engine
    from haemo.models.networks.frozen import Embedder

__all__ = [
    "ExtractionSettings",
    "command_anew",
    "load_stage_one",
    "make_features",
    "settings_so_far",
    "stage_one_of",
]

_LOG = logging.getLogger("haemo")


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings:
    """How embeddings are made.

    Attributes
    ----------
    network : str
        Of `models.networks.table`: ``alexnet``, ``torchvision:NAME``, one of a plug-in, or ``cnn``, the
        scratch CNN as `haemo cnn` trained it.
    layer : str, optional
        ``fc7``, ``fc6``, ``pool5``, ``pool4`` or ``pool3`` of AlexNet; of others any module, or
        ``penultimate``; the scratch CNN gives its hidden layer. None takes
        `models.networks.table.default_layer`.
    weights : str
        ``auto``, ``random`` or a file, of AlexNet also ``trunk`` and ``builtin``; for the scratch CNN its
        folder in a run.
    seed : int
        Of random weights.
    precision : {'auto', 'float32', 'bfloat16', 'float16'}
    device : {'auto', 'cpu', 'cuda'}
    window : str
        ``brain``, ``subdural``, ``bone`` or ``WIDTH/CENTRE`` in HU.
    windows : str, optional
        Three of these with commas, one for each channel of the network; `window` is then not looked at.
    crop : {'none', 'head'}
        The whole slice, or the box of the head in it.
    upright : bool
        Whether slices are turned by the midline of the head first.
    mirror : bool
        Whether the network sees the mirror image of each slice too (`models.networks.mirrored`).
    dtype : {'float32', 'float16'}
        How embeddings are kept.
    """

    network: str = "alexnet"
    layer: str | None = None
    weights: str = "auto"
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    window: str = "brain"
    windows: str | None = None
    crop: str = "none"
    upright: bool = False
    mirror: bool = False
    dtype: str = "float32"


def load_stage_one(
    settings: ExtractionSettings,
    notes: dict[str, str] | None = None,
    batch: int | None = None,
    progress: Progress = silent,
) -> tuple["Embedder", Preprocessing]:
    """Make the network and the preprocessing, and say out loud which device, weights and precision are used.

    Parameters
    ----------
    settings : ExtractionSettings
    notes : dict of str to str, optional
        Of the store that is carried on: the same engine and batch give the same bits.
    batch : int, optional
        Slices per pass of the network.
    progress : Progress
    """
    from haemo.models.networks.engine import Engine, resolve_device, resolve_precision
    from haemo.models.networks.frozen import NetworkRequest
    from haemo.models.networks.table import default_layer, frozen_network

    network = frozen_network(settings.network)
    if settings.windows and not network.takes_windows:
        raise BadSettings(f"the network {settings.network} takes one window; leave windows out")
    if network.size is None:
        from haemo.pipeline.trained.networkfolder import NetworkFolder

        preprocessing = NetworkFolder(Path(settings.weights)).preprocessing()
    else:
        made = Preprocessing.for_windows if settings.windows else Preprocessing.for_window
        seen = made(settings.windows or settings.window, settings.crop, settings.upright)
        preprocessing = replace(seen, size=network.size)
    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    engine = None
    if notes and "engine" in notes:
        noted = Engine.parse(notes["engine"])
        if (noted.device, noted.precision) == (device, precision):
            engine, batch = noted, batch or int(notes["batch"])
    layer = settings.layer or default_layer(settings.network)
    extractor = network.load(
        NetworkRequest(
            name=settings.network,
            layer=layer,
            weights=settings.weights,
            seed=settings.seed,
            precision=precision,
            device=device,
            engine=engine,
            batch=batch,
            progress=progress,
        )
    )
    if settings.mirror:
        from haemo.models.networks.mirrored import MirroredExtractor

        extractor = MirroredExtractor(extractor)
    _LOG.info(
        "network: %s to %s (%d numbers a slice) on %s",
        settings.network,
        layer,
        extractor.dimension,
        extractor.engine,
    )
    return extractor, preprocessing


def make_features(
    run: RunDirectory,
    settings: ExtractionSettings,
    *,
    rotations: str = "none",
    batch: int | None = None,
    workers: int | None = None,
    new: bool = False,
    cluster: Cluster | None = None,
    progress: Progress = silent,
) -> ExtractionReport:
    """Embed the slices of a run that are not embedded yet, and write features.h5, failures.csv and run.json.

    Parameters
    ----------
    run : RunDirectory
    settings : ExtractionSettings
    rotations : {'none', 'paper'}
    batch, workers, new
        As for `load_stage_one` and `extract_features`.
    cluster : Cluster, optional
        Whose workers read and embed, in place of this process.
    progress : Progress

    Raises
    ------
    MissingStep
        If the run has not been indexed.
    RunLocked
        If another process is making features for this run.
    TooFewData
        If not one slice could be used.
    FingerprintMismatch
        If the network was trained on another split than the run's.
    MissingExtra, ClusterFailed
        If there is no such cluster, or its workers cannot do it.
    HaemoError, OSError
        As `extract_features` raises them.
    """
    manifest = run.manifest()
    start = time.monotonic()
    request = ExtractionRequest(
        rotations=rotations, dtype=settings.dtype, workers=workers, new=new, anew=command_anew(run)
    )
    with claim(run.path, run.features_step):
        run.store_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if cluster:
                made_by, report = _embed_elsewhere(run, manifest, settings, batch, request, cluster, progress)
            else:
                made_by, report = _embed_here(run, manifest, settings, batch, request, progress)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                _LOG.warning(
                    "the disk is full; make room, and the same command goes on from what was finished"
                )
            raise
        run.replace_failures(run.features_step, report.failures)
        made = asdict(_lasting(settings))
        recipe = recipe_of(made)
        if settings.network != "cnn":
            words, digits = in_words(made), report.fingerprint.hash[:12]
            _LOG.info("recipe: %s (%s); fingerprint %s", recipe or "no name", words, digits)
        say(run, report)
        if not report.cached + report.computed:
            raise TooFewData(nothing_usable(run, report))
        run.record(
            run.features_step,
            settings=made,
            recipe=recipe,
            rotations=rotations,
            **made_by,
            **counted(report),
            seconds=round(time.monotonic() - start, 3),
        )
    return report


def _embed_here(
    run: RunDirectory,
    manifest: Manifest,
    settings: ExtractionSettings,
    batch: int | None,
    request: ExtractionRequest,
    progress: Progress,
) -> tuple[dict[str, Any], ExtractionReport]:
    """Embed in this process; what run.json says of the network comes first."""
    extractor, preprocessing = load_stage_one(settings, _carried_on(run, request.new)[0], batch, progress)
    _refuse_other_split(run, extractor.describe(), extractor.weights.origin)
    report = extract_features(manifest, run.store_path, extractor, preprocessing, request, progress=progress)
    return _made_by(extractor.weights.origin, extractor.engine, extractor.batch), report


def _embed_elsewhere(
    run: RunDirectory,
    manifest: Manifest,
    settings: ExtractionSettings,
    batch: int | None,
    request: ExtractionRequest,
    cluster: Cluster,
    progress: Progress,
) -> tuple[dict[str, Any], ExtractionReport]:
    """Embed on the workers of a cluster; what run.json says of the network comes first."""
    from haemo.features.cluster.elsewhere import Elsewhere

    notes, fingerprint = _carried_on(run, request.new)
    load = partial(load_stage_one, _lasting(settings), batch=batch)
    with (
        connected(cluster) as client,
        Elsewhere(
            client,
            load,
            manifest,
            run.store_path,
            request,
            notes=notes,
            fingerprint=fingerprint,
            patience=cluster.seconds_without_workers,
            most=cluster.most,
        ) as elsewhere,
    ):
        card = elsewhere.card
        _refuse_other_split(run, card.facts, card.origin)
        report = fill_store(
            manifest,
            run.store_path,
            elsewhere.fingerprint,
            elsewhere.notes,
            request,
            partial(elsewhere.embed, progress=progress),
            progress=progress,
        )
    return _made_by(card.origin, card.engine, card.batch), report


def _made_by(origin: str, engine: "Engine", batch: int) -> dict[str, Any]:
    return {"weights": origin, "device": engine.device, "engine": str(engine), "batch": batch}


def settings_so_far(run: RunDirectory) -> dict[str, Any]:
    """The settings, rotations too, that the present features of a run were made with; empty without any.

    The device is not among them: it may be another machine by now.
    """
    recorded = run.read_record().get("steps", {}).get(run.features_step, {})
    if not run.store_path.exists() or "settings" not in recorded:
        return {}
    settings = {name: value for name, value in recorded["settings"].items() if name != "device"}
    return {**settings, "rotations": recorded["rotations"]}


def command_anew(run: RunDirectory) -> str:
    """What to type to make the features of a run anew as they were made, by run.json."""
    named = [] if run.features == DEFAULT_SET else ["--name", run.features]
    command = ["haemo", "features", "--run", str(run.path), *named, "--new"]
    with suppress(BadDataset):  # a run.json that is damaged says nothing
        recorded = run.read_record().get("steps", {}).get(run.features_step, {})
        if "imported" in recorded:
            command += ["--import", recorded["imported"]]
        made = settings_so_far(run)
        default = {**asdict(_lasting(ExtractionSettings())), "rotations": "none"}
        own = {"layer", "window", "windows", "crop", "upright", "precision", "seed"}
        of_alexnet = own if made.get("network") == "cnn" else ()
        for name, value in made.items():
            if name not in of_alexnet and value != default.get(name):
                command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(command)


def stage_one_of(
    run: RunDirectory, device: str = "auto", progress: Progress = silent
) -> tuple["Embedder", Preprocessing]:
    """Make again the network and preprocessing that a run's features came from, to embed new slices alike.

    Raises
    ------
    MissingStep
        If the run has no features, or they were imported.
    FingerprintMismatch
        If the weights at hand are not the ones the features were made with.
    """
    with FeatureStore(run.store_path) as store:
        fingerprint, notes, dtype = store.fingerprint, store.notes, store.dtype
    steps = run.read_record().get("steps", {})
    recorded: dict[str, Any] = steps.get(run.features_step, {}).get("settings", {})
    if not recorded:
        raise MissingStep(
            f"{run.record_path} does not say how {run.store_path} was made, as with imported features; "
            f"new slices can only be embedded in a run made by: {run.features_command}"
        )
    settings = replace(
        ExtractionSettings(**recorded), device=device, precision=fingerprint.facts["precision"]
    )
    extractor, preprocessing = load_stage_one(settings, notes, progress=progress)
    fingerprint.require(
        embedding_fingerprint(extractor, preprocessing, dtype),
        str(run.store_path),
        "New slices cannot be scored with other features; bring back the weights the run was made with",
    )
    return extractor, preprocessing


def _carried_on(run: RunDirectory, new: bool) -> tuple[dict[str, str], Fingerprint | None]:
    """Notes and fingerprint of what will be carried on: the store or, where it is begun, its first part."""
    for path in [*([] if new else [run.store_path]), *parts_of(run.store_path)]:
        try:
            with FeatureStore(path) as store:
                return store.notes, store.fingerprint
        except HaemoError:
            continue  # not there, or damaged: the extraction deals with it
    return {}, None


def _refuse_other_split(run: RunDirectory, facts: dict[str, Any], origin: str) -> None:
    if "split" in facts:
        if not run.split_path.exists():
            raise MissingStep(
                f"{run.split_path} is not there, so nobody knows which patients {origin} "
                f"has seen; train the network in this run: haemo cnn --run {run}"
            )
        refuse_features_of_other_patients(facts, Split.read(run.split_path), origin)


def _lasting(settings: ExtractionSettings) -> ExtractionSettings:
    """Settings that mean the same from every working directory, and whatever the default layer is."""
    from haemo.models.networks.table import default_layer

    settings = replace(settings, layer=settings.layer or default_layer(settings.network))
    path = Path(settings.weights)
    is_path = path.is_file() or settings.network == "cnn"
    return replace(settings, weights=str(path.resolve())) if is_path else settings
