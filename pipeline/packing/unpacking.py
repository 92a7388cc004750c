"""Models out of a file that was packed, ready to score slices; nothing in the file is believed unseen."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.errors import BadDataset, FingerprintMismatch, HaemoError
from haemo.features.reading.unit import UNITS, Unit
from haemo.features.store.fingerprint import Fingerprint
from haemo.models.weights.imagenet import NAMED
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.unit_rule import UnitRule
from haemo.pipeline.packing.bundlefile import Bundle, read_bundle
from haemo.pipeline.packing.held_out import of_bytes
from haemo.pipeline.packing.plain import refuse_swollen
from haemo.pipeline.predicting.blended_model import BlendedModel
from haemo.pipeline.predicting.trained_model import StageOne, TrainedModel
from haemo.pipeline.preparing.pooling import POOLINGS
from haemo.pipeline.trained.scope import Scope
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = ["open_bundle"]

_RULE = ("growth", "slope", "intercept", "threshold")


def open_bundle(
    path: Path, device: str = "auto", trusted: Sequence[str] = (), progress: Progress = silent
) -> "TrainedModel | BlendedModel | Segmenter":
    """Read a model that `pack` wrote.

    Parameters
    ----------
    path : Path
    device : {'auto', 'cpu', 'cuda'}
    trusted : sequence of str
        Estimators of others that a head may be made of, as for a run.
    progress : Progress

    Raises
    ------
    MissingStep
        If there is no such file.
    BadDataset
        If it is no bundle, is damaged, or holds types that are not trusted; nothing of it is run then.
    FingerprintMismatch
        If this version of haemo makes planes or embeddings in another way.
    """
    bundle = read_bundle(path)
    with _understood(bundle):
        match bundle.facts["kind"]:
            case "head":
                return replace(
                    _head(bundle, bundle.facts, "", device, trusted, progress), **_of_training(bundle)
                )
            case "blend":
                return _blend(bundle, device, trusted, progress)
            case "network":
                return _network(bundle, device)
            case "segmenter":
                return _segmenter(bundle)
            case kind:
                raise ValueError(f"it is a {kind!r}")


@contextmanager
def _understood(bundle: Bundle) -> Iterator[None]:
    """Say of a bundle whose facts are not as they should be that it is damaged."""
    try:
        yield
    except HaemoError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _unfit(bundle, error) from error


def _unfit(bundle: Bundle, error: Exception) -> BadDataset:
    return BadDataset(
        f"{bundle.path} was not packed by this version of haemo, or it is damaged "
        f"({type(error).__name__}: {error}); ask for another copy"
    )


@contextmanager
def _named(bundle: Bundle) -> Iterator[Path]:
    """A folder for members that are read by name; an error names the bundle in place of it."""
    with tempfile.TemporaryDirectory(prefix="haemo-") as scratch:
        try:
            yield Path(scratch)
        except HaemoError as error:
            told = str(error)
            if scratch in told:
                raise type(error)(f"{bundle.path}: {told.replace(scratch + '/', '')}") from error
            raise


def _blend(bundle: Bundle, device: str, trusted: Sequence[str], progress: Progress) -> BlendedModel:
    own = _skops(bundle, "head.skops", trusted)
    members = tuple(
        _head(bundle, facts, f"{number}/", device, trusted, progress)
        for number, facts in enumerate(bundle.facts["heads"], start=1)
    )
    if own.n_features_in_ != len(members):
        raise ValueError(f"its blend joins {own.n_features_in_} heads, and it has {len(members)}")
    return BlendedModel(bundle.facts["name"], own, members, **_of_training(bundle))


def _of_training(bundle: Bundle) -> dict[str, Any]:
    """What is kept of the training of a model: rules for studies, and what was held out."""
    classes = tuple(map(str, bundle.facts["classes"]))
    points = {str(name): float(value) for name, value in bundle.facts["points"].items()}
    held_out = None
    if "held_out.safetensors" in bundle:
        held_out = of_bytes(bundle.read("held_out.safetensors"), classes)
    return {"study_rule": _rules(bundle), "held_out": lambda: held_out, "points": lambda: points}


def _told_unit(facts: Mapping[str, Any]) -> Unit | None:
    unit = facts["told_unit"]
    if unit not in (None, *UNITS):
        raise ValueError(f"its numbers are {unit!r}")
    return unit


def _skops(bundle: Bundle, member: str, trusted: Sequence[str]) -> Any:
    from haemo.pipeline.trained.persistence import head_of

    data = bundle.read(member)
    refuse_swollen(data, f"{member} in {bundle.path}")
    return head_of(data, f"{member} in {bundle.path}", "ask for another copy", trusted)


def _head(
    bundle: Bundle,
    facts: Mapping[str, Any],
    folder: str,
    device: str,
    trusted: Sequence[str],
    progress: Progress,
) -> TrainedModel:
    """A head whose members lie in a folder of the bundle, which is empty but for the heads of a blend."""
    head = _skops(bundle, f"{folder}head.skops", trusted)
    first, *others = (_stage(bundle, one, device, progress) for one in facts["stages"])
    dimension = sum(one.extractor.dimension for one in (first, *others))
    context = int(facts["context"])
    if context < 0 or head.n_features_in_ != dimension * (2 * context + 1):
        raise ValueError(f"its head takes {head.n_features_in_} numbers and its network makes {dimension}")
    scope = None
    if f"{folder}scope.safetensors" in bundle:
        scope = Scope.of_bytes(bundle.read(f"{folder}scope.safetensors"))
        if scope.known.shape[1:] != (dimension,):
            raise ValueError("its scope is of another network")
    if facts["pooled"] not in (None, *POOLINGS):
        raise ValueError(f"it pools slices by {facts['pooled']!r}")
    average = f"{folder}average.safetensors"
    return TrainedModel(
        facts["name"],
        head,
        first.extractor,
        first.preprocessing,
        first.stored_as,
        scope,
        context=context,
        smooth=bool(facts["smooth"]),
        others=tuple(others),
        average_row=partial(_average, bundle, average, head.n_features_in_) if average in bundle else None,
        pooled_by=facts["pooled"],
        told_unit=_told_unit(facts),
    )


def _stage(bundle: Bundle, facts: Mapping[str, Any], device: str, progress: Progress) -> StageOne:
    """How slices become the features of one set, once it is known to be what they were made by."""
    from haemo.pipeline.preparing.extraction import ExtractionSettings, embedding_fingerprint, load_stage_one

    known = {one.name for one in fields(ExtractionSettings)} - {"device"}
    made = dict(facts["stage_one"])
    described = made.pop("preprocessing", None)
    if set(made) - known:
        raise ValueError(f"unknown settings {', '.join(sorted(set(made) - known))}")
    fingerprint = Fingerprint(facts["fingerprint"])
    settings = replace(ExtractionSettings(**made), device=device, precision=fingerprint.facts["precision"])
    with _named(bundle) as scratch:
        if "network_in" in facts:
            data = bundle.read(facts["network_in"])
            settings = replace(settings, weights=_weights(data, settings.network, described, scratch))
        elif settings.weights not in NAMED:
            raise ValueError("it names weights of its own and holds none")
        extractor, preprocessing = load_stage_one(settings, facts["notes"], progress=progress)
    found = embedding_fingerprint(extractor, preprocessing, fingerprint.facts["stored_as"])
    fingerprint.require(
        found, str(bundle.path), "It needs another version of haemo, or the weights that it was packed with"
    )
    return StageOne(extractor, preprocessing, fingerprint.facts["stored_as"])


def _average(bundle: Bundle, member: str, columns: int) -> np.ndarray:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load(bundle.read(member))["average"]
    except (SafetensorError, KeyError) as error:
        raise _unfit(bundle, error) from error
    if found.shape != (columns,):
        raise _unfit(bundle, ValueError(f"{member} is of another head"))
    return found


def _weights(data: bytes, network: str, described: Any, scratch: Path) -> str:
    """Write the weights where stage one can read them."""
    if network != "cnn":
        (scratch / "network.safetensors").write_bytes(data)
        return str(scratch / "network.safetensors")
    _write_network(scratch, data, described)
    return str(scratch)


def _write_network(folder: Path, data: bytes, preprocessing: Any) -> None:
    (folder / "model.safetensors").write_bytes(data)
    (folder / "settings.json").write_text(json.dumps({"preprocessing": preprocessing}), encoding="utf-8")


def _network(bundle: Bundle, device: str) -> TrainedModel:
    from haemo.models.networks.engine import resolve_device
    from haemo.pipeline.trained.networkfolder import NetworkFolder

    with _named(bundle) as scratch:
        _write_network(scratch, bundle.read("network.safetensors"), bundle.facts["preprocessing"])
        folder = NetworkFolder(scratch)
        try:
            preprocessing = folder.preprocessing()
        except FingerprintMismatch as error:
            raise FingerprintMismatch(
                f"{bundle.path} holds a network that was trained on planes which this version of haemo makes "
                "in another way; use the version that packed it, or have it trained and packed again"
            ) from error
        network = folder.network(resolve_device(device))
    scope = Scope.of_bytes(bundle.read("scope.safetensors")) if "scope.safetensors" in bundle else None
    return TrainedModel(
        bundle.facts["name"],
        network.head(),
        network,
        preprocessing,
        scope=scope,
        told_unit=_told_unit(bundle.facts),
        **_of_training(bundle),
    )


def _segmenter(bundle: Bundle) -> "Segmenter":
    from haemo.pipeline.segmenting.segmenter import Segmenter

    with _named(bundle) as scratch:
        (scratch / "segmenter.safetensors").write_bytes(bundle.read("segmenter.safetensors"))
        found = Segmenter.read(scratch / "segmenter.safetensors")
    kept = _of_training(bundle)
    facts = {**found.facts, "points": kept["points"]()}
    return replace(found, facts=facts, told_unit=_told_unit(bundle.facts), held_out=kept["held_out"])


def _rules(bundle: Bundle) -> Callable[[Aggregation], UnitRule | None]:
    rules = {
        Aggregation(how): UnitRule("study", Aggregation(how), **{key: float(own[key]) for key in _RULE})
        for how, own in bundle.facts["study_rules"].items()
    }
    return rules.get
