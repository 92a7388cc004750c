"""A head of a run as a bundle holds it: the networks before it, its neighbours, its training slices."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.errors import BadSettings
from haemo.features.store.store import FeatureStore
from haemo.models.weights.imagenet import NAMED
from haemo.pipeline.packing.plain import plain_skops
from haemo.pipeline.predicting.trained_model import StageOne, TrainedModel
from haemo.pipeline.preparing.pooling import source_of
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.featuresets import open_features
from haemo.pipeline.trained.headfolder import HeadFolder

if TYPE_CHECKING:
    import torch

__all__ = ["PackedHead", "packed_head", "shared_networks"]


@dataclass(frozen=True, eq=False)
class _Network:
    """A network before a head: its tensors or, of one that a run trained, the bytes of its file."""

    kind: str
    held: "dict[str, torch.Tensor] | bytes"

    def lies_in(self, other: "_Network") -> bool:
        """Whether it can be read out of another one's file; AlexNet is cut after any of its layers."""
        if isinstance(self.held, bytes) or isinstance(other.held, bytes):
            return self.held == other.held
        cut = self.kind == other.kind == "alexnet"
        return (cut or self.held.keys() == other.held.keys()) and all(
            name in other.held and values.equal(other.held[name]) for name, values in self.held.items()
        )

    def as_bytes(self) -> bytes:
        if isinstance(self.held, bytes):
            return self.held
        from safetensors.torch import save

        return save({key: value.detach().cpu().contiguous().clone() for key, value in self.held.items()})


@dataclass(frozen=True, eq=False)
class PackedHead:
    """A head, before its networks have a place in the bundle.

    Attributes
    ----------
    facts : dict
        What haemo.json says of it; ``stages`` has one entry a set of features.
    members : dict of str to bytes
        ``head.skops``, and what is kept of training slices.
    networks : tuple of _Network or None
        Of each stage; None where it is fetched where the model is used.
    """

    facts: dict[str, Any]
    members: dict[str, bytes]
    networks: tuple[_Network | None, ...]


def packed_head(run: RunDirectory, model: TrainedModel, weights: bool) -> PackedHead:
    """Take what a bundle needs of a head of a run.

    Parameters
    ----------
    run : RunDirectory
    model : TrainedModel
        The head, loaded.
    weights : bool
        Whether its networks go in.

    Raises
    ------
    BadSettings
        If they do not, and cannot be fetched.
    """
    facts = HeadFolder(run.model_path(model.name)).facts()
    sets = tuple(facts.get("features", ())) or (run.features,)
    stages, networks = [], []
    for name, stage in zip(sets, model.stages, strict=True):
        told, network = _stage(run, name, stage, weights)
        stages.append(told)
        networks.append(network)
    members = {"head.skops": plain_skops(HeadFolder(run.model_path(model.name)).model_path.read_bytes())}
    if model.scope is not None:
        members["scope.safetensors"] = model.scope.as_bytes()
    if model.average_row is not None:
        from safetensors.numpy import save

        members["average.safetensors"] = save({"average": np.ascontiguousarray(model.average_row())})
    told = {
        "kind": "head",
        "classes": list(model.classes),
        "threshold": float(model.head.threshold),
        "stages": stages,
        "context": model.context,
        "smooth": model.smooth,
        "pooled": model.pooled_by,
        "estimator": facts.get("estimator"),
        "told_unit": model.told_unit,
    }
    return PackedHead(told, members, tuple(networks))


def _stage(
    run: RunDirectory, name: str, stage: StageOne, weights: bool
) -> tuple[dict[str, Any], _Network | None]:
    with open_features(run, (name,)) as table:
        source = source_of(run, next(iter(table.facts_of_each.values()))).on(name)
    with FeatureStore(source.store_path) as store:
        fingerprint, notes = store.fingerprint.facts, store.notes
    made = source.read_record()["steps"][source.features_step]["settings"]
    stage_one = {key: value for key, value in made.items() if key not in ("device", "weights")}
    trained = made["network"] == "cnn"
    network = None
    if weights and trained:
        network = _Network("cnn", (Path(made["weights"]) / "model.safetensors").read_bytes())
    elif weights:
        network = _Network(made["network"], stage.extractor.weights.state_dict)
    elif made["weights"] in NAMED and not trained:
        stage_one["weights"] = made["weights"]
    else:
        raise BadSettings("the network's weights came from a file that cannot be fetched; pack them too")
    if trained:
        stage_one["preprocessing"] = stage.preprocessing.describe()
    facts = {
        "fingerprint": {**fingerprint, "precision": stage.extractor.describe()["precision"]},
        "stage_one": stage_one,
        "notes": notes,
    }
    return facts, network


def shared_networks(heads: Sequence[PackedHead]) -> dict[str, bytes]:
    """Members for the networks of some heads, each of them once; every stage is told where its own lies."""
    found = [
        (network, facts)
        for head in heads
        for network, facts in zip(head.networks, head.facts["stages"], strict=True)
        if network is not None
    ]
    kept: list[tuple[_Network, str]] = []
    for network, facts in sorted(found, key=lambda one: -len(one[0].held)):
        place = next((name for other, name in kept if network.lies_in(other)), None)
        if place is None:
            place = f"network-{len(kept) + 1}.safetensors" if kept else "network.safetensors"
            kept.append((network, place))
        facts["network_in"] = place
    return {name: network.as_bytes() for network, name in kept}
