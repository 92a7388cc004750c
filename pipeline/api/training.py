"""Training a head or a network of a run, by its name and options."""

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from haemo.errors import BadSettings
from haemo.pipeline.api.figures import Figures
from haemo.pipeline.api.options import refuse_unknown
from haemo.pipeline.api.results import Trained
from haemo.pipeline.run.directory import HEADS, NETWORKS, RunDirectory
from haemo.progress import Progress

if TYPE_CHECKING:
    from haemo.pipeline.training.head import HeadResult
    from haemo.pipeline.training.network import NetworkResult

__all__ = ["train"]


def train(run: RunDirectory, name: str, options: Mapping[str, Any], progress: Progress) -> Trained:
    """Train one model; parameters, result and errors as `haemo.Run.train`."""
    result: HeadResult | NetworkResult
    if name in NETWORKS:
        result = _network(run, name, options, progress)
        parameters = {"epoch": result.facts["best_epoch"]}
    elif name in HEADS:
        result = _head(run, name, options, progress)
        parameters = result.facts["parameters"]
    else:
        raise BadSettings(f"there is no model {name!r}; there are {', '.join((*HEADS, *NETWORKS))}")
    figures = {part: Figures.of_assessment(found) for part, found in result.metrics.items()}
    return Trained(
        name=name,
        test=figures["test"],
        out_of_fold=figures.get("cv"),
        parameters=parameters,
        threshold=float(result.facts.get("threshold", 0.5)),
        leaky=result.facts["leaky"],
        up_to_date=result.up_to_date,
    )


def _head(run: RunDirectory, name: str, options: Mapping[str, Any], progress: Progress) -> "HeadResult":
    from haemo.pipeline.training.head import HeadSettings, train_head

    own = {field.name for field in fields(HeadSettings)}
    others = set(inspect.signature(train_head).parameters) - {"run", "name", "settings"}
    refuse_unknown(options, own | others)
    settings = HeadSettings(**{key: value for key, value in options.items() if key in own})
    rest = {key: value for key, value in options.items() if key not in own}
    return train_head(run, name, settings, **{"progress": progress, **rest})


def _network(run: RunDirectory, name: str, options: Mapping[str, Any], progress: Progress) -> "NetworkResult":
    from haemo.features.views.preprocess import Preprocessing
    from haemo.models.training.recipes import TrainingSettings
    from haemo.pipeline.training.network import train_network

    own = {field.name for field in fields(TrainingSettings)}
    others = set(inspect.signature(train_network).parameters) - {"run", "name", "options", "preprocessing"}
    refuse_unknown(options, own | others | {"window", "crop"})
    rest = {"progress": progress, **options}
    view = Preprocessing.for_window(rest.pop("window", "brain"), rest.pop("crop", "none"))
    return train_network(run, name, preprocessing=view, **rest)
