"""Models out of a file that was packed, ready to score slices; nothing in the file is believed unseen."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.errors import BadDataset, FingerprintMismatch, HaemoError
from haemo.features.store.fingerprint import Fingerprint
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.unit_rule import UnitRule
from haemo.pipeline.packing.bundlefile import Bundle, read_bundle
from haemo.pipeline.packing.plain import refuse_swollen
from haemo.pipeline.predicting.trained_model import TrainedModel
from haemo.pipeline.trained.scope import Scope
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = ["open_bundle"]

_RULE = ("growth", "slope", "intercept", "threshold")


def open_bundle(
    path: Path, device: str = "auto", trusted: Sequence[str] = (), progress: Progress = silent
) -> "TrainedModel | Segmenter":
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
                return _head(bundle, device, trusted, progress)
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
        raise BadDataset(
            f"{bundle.path} was not packed by this version of haemo, or it is damaged "
            f"({type(error).__name__}: {error}); ask for another copy"
        ) from error


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


def _head(bundle: Bundle, device: str, trusted: Sequence[str], progress: Progress) -> TrainedModel:
    from haemo.pipeline.preparing.extraction import ExtractionSettings, embedding_fingerprint, load_stage_one
    from haemo.pipeline.trained.persistence import head_of

    data = bundle.read("head.skops")
    refuse_swollen(data, f"head.skops in {bundle.path}")
    head = head_of(data, f"head.skops in {bundle.path}", "ask for another copy", trusted)
    known = {one.name for one in fields(ExtractionSettings)} - {"device"}
    made = dict(bundle.facts["stage_one"])
    described = made.pop("preprocessing", None)
    if set(made) - known:
        raise ValueError(f"unknown settings {', '.join(sorted(set(made) - known))}")
    fingerprint = Fingerprint(bundle.facts["fingerprint"])
    settings = replace(ExtractionSettings(**made), device=device, precision=fingerprint.facts["precision"])
    with _named(bundle) as scratch:
        if "network.safetensors" in bundle:
            settings = replace(settings, weights=_weights(bundle, settings.network, described, scratch))
        elif settings.weights not in ("auto", "trunk", "random"):
            raise ValueError("it names weights of its own and holds none")
        extractor, preprocessing = load_stage_one(settings, bundle.facts["notes"], progress=progress)
    found = embedding_fingerprint(extractor, preprocessing, fingerprint.facts["stored_as"])
    fingerprint.require(
        found, str(bundle.path), "It needs another version of haemo, or the weights that it was packed with"
    )
    if head.n_features_in_ != extractor.dimension:
        raise ValueError(
            f"its head takes {head.n_features_in_} numbers and its network makes {extractor.dimension}"
        )
    scope = Scope.of_bytes(bundle.read("scope.safetensors")) if "scope.safetensors" in bundle else None
    if scope is not None and scope.known.shape[1:] != (extractor.dimension,):
        raise ValueError("its scope is of another network")
    return TrainedModel(
        bundle.facts["name"],
        head,
        extractor,
        preprocessing,
        fingerprint.facts["stored_as"],
        scope,
        study_rule=_rules(bundle),
    )


def _weights(bundle: Bundle, network: str, described: Any, scratch: Path) -> str:
    """Write the weights where stage one can read them."""
    data = bundle.read("network.safetensors")
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
        bundle.facts["name"], network.head(), network, preprocessing, scope=scope, study_rule=_rules(bundle)
    )


def _segmenter(bundle: Bundle) -> "Segmenter":
    from haemo.pipeline.segmenting.segmenter import Segmenter

    with _named(bundle) as scratch:
        (scratch / "segmenter.safetensors").write_bytes(bundle.read("segmenter.safetensors"))
        return Segmenter.read(scratch / "segmenter.safetensors")


def _rules(bundle: Bundle) -> Callable[[Aggregation], UnitRule | None]:
    rules = {
        Aggregation(how): UnitRule("study", Aggregation(how), **{key: float(own[key]) for key in _RULE})
        for how, own in bundle.facts["study_rules"].items()
    }
    return rules.get
