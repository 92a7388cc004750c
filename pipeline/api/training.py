"""Training a head or a network of a run, by its name and options."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from haemo.errors import BadSettings
from haemo.pipeline.api.figures import Figures
from haemo.pipeline.api.options import made_of, names_of, refuse_unknown
from haemo.pipeline.api.results import Trained
from haemo.pipeline.evaluation.baseline import shortfalls
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
    return _trained(result, parameters)


def _trained(result: "HeadResult | NetworkResult", parameters: Mapping[str, Any]) -> Trained:
    figures = {part: Figures.of_assessment(found) for part, found in result.metrics.items()}
    return Trained(
        name=result.name,
        test=figures["test"],
        out_of_fold=figures.get("cv"),
        parameters=dict(parameters),
        threshold=float(result.facts.get("threshold", 0.5)),
        leaky=result.facts["leaky"],
        up_to_date=result.up_to_date,
        shortfalls=tuple(shortfalls(result.metrics["test"], "test slices")),
    )


def _head(run: RunDirectory, name: str, options: Mapping[str, Any], progress: Progress) -> "HeadResult":
    from haemo.pipeline.splitting.protocols import SplitRequest
    from haemo.pipeline.training.head import HeadSettings, train_head
    from haemo.pipeline.training.resources import Resources

    known = names_of(HeadSettings) | names_of(SplitRequest) - {"new"} | names_of(Resources)
    refuse_unknown(options, known | {"new_split", "called"})
    sets = options.get("features", ())
    return train_head(
        run,
        name,
        made_of(
            HeadSettings, options, "features", features=(sets,) if isinstance(sets, str) else tuple(sets)
        ),
        called=options.get("called"),
        split=made_of(SplitRequest, options, new=options.get("new_split", False)),
        resources=made_of(Resources, options),
        progress=progress,
    )


def _network(run: RunDirectory, name: str, options: Mapping[str, Any], progress: Progress) -> "NetworkResult":
    from haemo.features.views.preprocess import Preprocessing
    from haemo.models.training.recipes import TrainingSettings
    from haemo.pipeline.splitting.protocols import SplitRequest
    from haemo.pipeline.training.network import NetworkRequest, train_network

    training, request = names_of(TrainingSettings), names_of(NetworkRequest) - {"preprocessing"}
    others = {"window", "crop", "protocol", "train_fraction", "new_split"}
    refuse_unknown(options, training | request | others)
    view = Preprocessing.for_window(options.get("window", "brain"), options.get("crop", "none"))
    return train_network(
        run,
        name,
        made_of(NetworkRequest, options, preprocessing=view),
        # The seed is that of the training, which a new split takes too.
        split=made_of(SplitRequest, options, "seed", "folds", new=options.get("new_split", False)),
        progress=progress,
        **{key: value for key, value in options.items() if key in training},
    )
