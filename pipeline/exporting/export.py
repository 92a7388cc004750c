"""A model of a run written as ONNX, and held against itself on the test slices."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from haemo.atomic import replacing
from haemo.errors import BadSettings, ExportDiffers, MissingExtra, TooFewData, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow
from haemo.features.reading.reader import read_guarded
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.exporting.runtime import SCHEMA, OnnxModel, planes_name
from haemo.pipeline.predicting.loading import load_single
from haemo.pipeline.predicting.trained_model import Planes, TrainedModel
from haemo.pipeline.run.directory import RunDirectory, software_versions
from haemo.pipeline.run.shown import shown
from haemo.pipeline.splitting.split import Split
from haemo.progress import Progress, silent

__all__ = ["LARGEST_DIFFERENCE", "Exported", "export_model"]

LARGEST_DIFFERENCE = 1e-4
"""Of a probability, from the model in float32: more is an error."""

_RULE = ("growth", "slope", "intercept", "threshold")


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes
    ----------
    path : Path
    size : int
        In bytes.
    slices : int
        Test slices on which the file was held against the model.
    difference : float
        The largest of a probability there, from the model in float32.
    from_run : float or None
        The largest from what the run says of these slices, where its network was run with less precision.
    failures : tuple of Failure
        Test slices that cannot be read any more.
    """

    path: Path
    size: int
    slices: int
    difference: float
    from_run: float | None
    failures: tuple[Failure, ...]


def export_model(run: RunDirectory, name: str, path: Path, progress: Progress = silent) -> Exported:
    """Write a head with the network before it, or an end-to-end network, as one ONNX file.

    The file takes ``planes`` (n, size, size), or (n, 3, size, size) of three windows, uint8; for a head on
    several sets of features also ``planes_2`` and on, the same slices as the next set sees them. It gives
    ``score`` and ``probability``, float64, of the positive class (n,) or of each (n, classes), and
    ``distance`` (n,) from the training slices where these are known. Weights are float32, the head is
    float64.

    Parameters
    ----------
    run : RunDirectory
    name : str
        Of the model.
    path : Path
        Gives way to the new file.
    progress : Progress

    Raises
    ------
    BadSettings
        If a part of the model cannot be written in ONNX; it is named.
    MissingExtra
        If onnx or onnxruntime is not installed.
    TooFewData
        If not one test slice can be read to check the file on.
    ExportDiffers
        If a probability differs by more than 1e-4; nothing is written then.
    """
    model = _of_one_slice(run, name, progress)
    reference = _in_float32(run, model, progress)
    data = _written(reference, _facts(run, model))
    exported = OnnxModel.of_bytes(data, str(path))
    rows = _test_rows(run)
    failures: list[Failure] = []
    difference, seen, said = 0.0, 0, {}
    for some, planes in _batches(rows, reference, failures, progress):
        ((scores, _),), ((_, chances, _),) = reference.score([planes]), exported.answers([planes])
        wanted = np.asarray(reference.head.probabilities(scores))
        difference = max(difference, float(np.abs(wanted - chances).max()))
        said |= {row.slice_id: own for row, own in zip(some, chances, strict=True)}
        seen += len(some)
    if not seen:
        raise TooFewData(f"not one test slice of {run} can be read, to check the file on; put them back")
    if not difference <= LARGEST_DIFFERENCE:
        raise ExportDiffers(
            f"{name} as ONNX gives a probability that is {difference:.2g} from its own on a test slice; "
            f"{path} was not written. It cannot be exported with these versions of onnx and onnxruntime"
        )
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    from_run = None if reference is model else _from_run(run, name, said)
    return Exported(path, len(data), seen, difference, from_run, tuple(failures))


def _of_one_slice(run: RunDirectory, name: str, progress: Progress) -> TrainedModel:
    """Load a model that says of a slice what it says of that slice alone.

    Raises
    ------
    BadSettings
        If it is another, or as `load_single`.
    MissingStep, FingerprintMismatch
        As `load_single`.
    """
    packed = f"pack it in place: haemo pack --run {run} --head {name} {name}.haemo"
    heads = run.settings(name).get("blend")
    if heads:
        raise BadSettings(
            f"{name} is a blend, which joins what several heads say; export each ({', '.join(heads)}), or "
            f"{packed}"
        )
    model = load_single(run, name, progress=progress)
    if model.needs_places:
        raise BadSettings(
            f"{name} needs the slices beside each slice (--context, --smooth), and an ONNX file is given one "
            f"at a time; {packed}"
        )
    if model.pooled_by is not None:
        raise BadSettings(f"{name} judges whole studies, and an ONNX file is given one slice; {packed}")
    return model


def _in_float32(run: RunDirectory, model: TrainedModel, progress: Progress) -> TrainedModel:
    """The model with its networks in float32, as the file has them."""
    from haemo.models.training.trained import TrainedNetwork
    from haemo.pipeline.preparing.extraction import ExtractionSettings, load_stage_one

    if isinstance(model.extractor, TrainedNetwork):
        return model
    sets = tuple(run.settings(model.name).get("features", ())) or (run.features,)
    first, *others = model.stages
    changed = []
    for name, stage in zip(sets, (first, *others), strict=True):
        if stage.extractor.describe()["precision"] != "float32":
            source = run.on(name)
            made = source.read_record()["steps"][source.features_step]["settings"]
            settings = replace(ExtractionSettings(**made), precision="float32", device="cpu")
            stage = replace(stage, extractor=load_stage_one(settings, progress=progress)[0])
        changed.append(stage)
    if tuple(changed) == model.stages:
        return model
    return replace(model, extractor=changed[0].extractor, others=tuple(changed[1:]))


def _facts(run: RunDirectory, model: TrainedModel) -> dict[str, Any]:
    """What the file says of itself: all that it takes to use it, and no name or path."""
    rules = {str(how): model.study_rule(how) if model.study_rule else None for how in Aggregation}
    facts = {
        "schema": SCHEMA,
        "name": model.name,
        "made_by": f"haemo {software_versions()['haemo']}",
        "classes": list(model.classes),
        "threshold": float(model.head.threshold),
        "preprocessing": model.preprocessing.describe(),
        "others": [one.preprocessing.describe() for one in model.others],
        "told_unit": model.told_unit,
        "points": dict(model.points()),
        "limit": None if model.scope is None else model.scope.limit,
        "study_rules": {
            how: {key: float(getattr(rule, key)) for key in _RULE} for how, rule in rules.items() if rule
        },
        "fingerprint": run.settings(model.name).get("fingerprint", {}),
    }
    return shown(facts)[0]


def _written(model: TrainedModel, facts: dict[str, Any]) -> bytes:
    """The model as an ONNX file."""
    try:
        from haemo.pipeline.exporting.graph import Graph
    except ImportError as error:
        raise MissingExtra(
            f"haemo export needs onnx, which is not installed ({error}): pip install 'haemo[export]'"
        ) from error
    from haemo.models.training.trained import TrainedNetwork
    from haemo.pipeline.exporting.decisions import write_probabilities, write_scores
    from haemo.pipeline.exporting.layers import write_extractor, write_network

    described = (facts["preprocessing"], *facts["others"])
    if [one["size"] for one in described] != [how.size for how in model.preprocessings]:
        raise BadSettings(f"{model.name} is given planes of a size of its own and cannot be exported")
    inputs: dict[str, tuple[str, list[Any]]] = {
        planes_name(number): ("uint8", ["n", *how.plane_shape])
        for number, how in enumerate(model.preprocessings)
    }
    graph, count = Graph(), len(model.classes)
    if isinstance(model.extractor, TrainedNetwork):
        logits, embeddings = write_network(graph, "planes", model.extractor)
        scores = graph.cast(logits, "float64")
        if count == 2:
            scores = graph.op("MatMul", scores, graph.constant([[-1.0], [1.0]]))
        calibrators = [model.head.prior] if model.head.prior else []
    else:
        parts = []
        for planes, stage in zip(inputs, model.stages, strict=True):
            is_gray = not stage.preprocessing.other_windows_hu
            part = write_extractor(graph, planes, stage.extractor, is_gray)
            if stage.stored_as != "float32":
                part = graph.cast(graph.cast(part, stage.stored_as), "float32")
            parts.append(part)
        embeddings = graph.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
        scores = write_scores(graph, embeddings, model.head)
        calibrators = model.head.calibrators_
    chances = write_probabilities(graph, scores, count, calibrators)
    ends = {"score": scores, "probability": chances}
    for name, value in ends.items():
        if count == 2:
            graph.op("Squeeze", value, graph.constant([1], "int64"), name=name)
        else:
            graph.op("Identity", value, name=name)
    shape: list[Any] = ["n"] if count == 2 else ["n", count]
    outputs: dict[str, tuple[str, list[Any]]] = dict.fromkeys(ends, ("float64", shape))
    if model.scope is not None:
        _write_distance(graph, embeddings, model.scope.known)
        outputs["distance"] = ("float32", ["n"])
    return graph.model(
        inputs, outputs, {"haemo": json.dumps(facts, sort_keys=True)}, facts["made_by"]
    ).SerializeToString(deterministic=True)


def _write_distance(graph: Any, embeddings: str, known: np.ndarray) -> None:
    """One less the cosine to the nearest training slice, as `Scope.distances` has it."""
    lengths = graph.op("ReduceL2", embeddings, axes=[1], keepdims=1)
    tiny = graph.constant([np.finfo(np.float32).tiny], "float32")
    unit = graph.op("Div", embeddings, graph.op("Max", lengths, tiny))
    cosines = graph.op("MatMul", unit, graph.constant(known.T, "float32"))
    nearest = graph.op("ReduceMax", cosines, axes=[1], keepdims=0)
    graph.op("Sub", graph.constant([1.0], "float32"), nearest, name="distance")


def _test_rows(run: RunDirectory) -> list[ManifestRow]:
    rows = sorted(run.manifest().labelled, key=lambda row: row.slice_id)
    parts = Split.read(run.split_path).parts(rows)
    return [row for row, part in zip(rows, parts, strict=True) if part == "test"]


def _batches(
    rows: list[ManifestRow], model: TrainedModel, failures: list[Failure], progress: Progress
) -> Iterator[tuple[list[ManifestRow], Planes]]:
    some: list[ManifestRow] = []
    planes: list[list[np.ndarray]] = []
    for row in progress(rows, total=len(rows), label="export: checking"):
        try:
            image = read_guarded(row.path)
            planes.append([how.plane(image) for how in model.preprocessings])
        except UnreadableSlice as error:
            failures.append(Failure(str(row.path), "export", str(error)))
            continue
        some.append(row)
        if len(some) >= model.batch:  # which may shrink
            yield some, tuple(map(np.stack, zip(*planes, strict=True)))
            some, planes = [], []
    if some:
        yield some, tuple(map(np.stack, zip(*planes, strict=True)))


def _from_run(run: RunDirectory, name: str, said: dict[str, np.ndarray]) -> float:
    """The largest difference from what stands in predictions.csv."""
    found = run.predictions(name).of_part("test")
    own: Callable[[np.ndarray], np.ndarray] = (lambda row: row[1]) if found.positive else (lambda row: row)
    return max(
        float(np.abs(own(said[slice_id]) - chance).max())
        for slice_id, chance in zip(found.slice_id.tolist(), found.probabilities, strict=True)
        if slice_id in said
    )
