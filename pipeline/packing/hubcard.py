"""A model card with the metadata that the Hugging Face Hub reads, checked without asking it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from haemo.errors import BadSettings
from haemo.extensions import did_you_mean

__all__ = ["LICENCES", "hub_card", "refuse_odd_metadata"]

LICENCES = (
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "gpl-3.0",
    "lgpl-3.0",
    "mit",
    "mpl-2.0",
    "other",
    "unknown",
)
"""Of the Hub's identifiers those that a model here may have; ``other`` needs a name and a link by hand."""

_TASKS = {"image-classification", "image-segmentation"}
_FIGURES = ("roc_auc", "accuracy", "sensitivity", "specificity", "f1")
# What the Hub calls a figure; the others are shown by their names.
_METRICS = {"roc_auc": "roc_auc", "accuracy": "accuracy", "sensitivity": "recall", "f1": "f1"}


def hub_card(
    card: str, figures: Mapping[str, Any], name: str, file: str, sha256: str, licence: str = "unknown"
) -> str:
    """The README.md of a model's repository: metadata, how to use the file, and the model card.

    Parameters
    ----------
    card : str
        The model card, Markdown.
    figures : mapping
        Of the model on its test slices, as compare.json has them.
    name : str
        Of the model: ``svm``.
    file, sha256 : str
        Name and hash of the bundle.
    licence : str
        One of `LICENCES`.

    Raises
    ------
    BadSettings
        If the metadata would not be taken.
    """
    task = "image-segmentation" if name == "segment" else "image-classification"
    metrics = [
        {
            "type": _METRICS.get(key, key),
            "value": round(float(figures[key]), 4),
            "name": key.replace("_", " "),
        }
        for key in _FIGURES
        if key in figures
    ]
    dataset = {
        "type": "private",
        "name": f"{figures['slices']} test slices of {figures['patients']} patients",
    }
    result = {"task": {"type": task, "name": "brain haemorrhage on head-CT slices"}, "dataset": dataset}
    metadata = {
        "license": licence,
        "library_name": "haemo",
        "pipeline_tag": task,
        "tags": ["haemo", "medical", "ct", "head-ct", "brain-haemorrhage", "research-only"],
        "metrics": sorted({one["type"] for one in metrics} & {"accuracy", "f1", "recall", "roc_auc"}),
        "model-index": [{"name": f"haemo {name}", "results": [{**result, "metrics": metrics}]}],
    }
    refuse_odd_metadata(metadata)
    command = "haemo segment predict" if name == "segment" else "haemo predict"
    out = " --out outlines" if name == "segment" else ""
    usage = [
        "## Use",
        "",
        "Research software: not a medical device, not for diagnosis.",
        "",
        f"    {command} --model {file} path/to/slices{out}",
        "",
        f"sha256 of `{file}`: `{sha256}`",
        "",
    ]
    return "\n".join(["---", *_yaml(metadata), "---", "", *usage, card])


def refuse_odd_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse metadata that the Hub would not take, by its specification of model cards.

    Raises
    ------
    BadSettings
        Naming the key.
    """
    licence = metadata.get("license")
    if licence not in LICENCES:
        asked = did_you_mean(str(licence), LICENCES)
        raise BadSettings(f"licence {licence!r} is not known.{asked} There are: {', '.join(LICENCES)}")
    for key in ("tags", "metrics"):
        values = metadata.get(key)
        if not isinstance(values, list) or not all(isinstance(one, str) and one for one in values):
            raise BadSettings(f"{key} of the hub card is no list of words: {values!r}")
    if metadata.get("pipeline_tag") not in _TASKS:
        raise BadSettings(f"pipeline_tag {metadata.get('pipeline_tag')!r} of the hub card is no task")
    for model in metadata.get("model-index") or [{}]:
        if not model.get("name") or not model.get("results"):
            raise BadSettings("model-index of the hub card needs a name and results")
        for result in model["results"]:
            wanted = [
                result.get("task", {}).get("type"),
                *map(result.get("dataset", {}).get, ("type", "name")),
            ]
            if not all(isinstance(one, str) and one for one in wanted) or not result.get("metrics"):
                raise BadSettings(f"a result of the hub card needs a task, a dataset and metrics: {result!r}")
            for metric in result["metrics"]:
                if not metric.get("type") or not math.isfinite(metric.get("value", math.nan)):
                    raise BadSettings(f"a metric of the hub card needs a type and a value: {metric!r}")


def _yaml(value: Any, indent: int = 0) -> list[str]:
    """YAML, with texts as JSON has them, which YAML reads too."""
    lines = []
    for key, own in value.items():
        start = f"{' ' * indent}{key}:"
        if isinstance(own, Mapping):
            lines += [start, *_yaml(own, indent + 2)]
        elif isinstance(own, Sequence) and not isinstance(own, str):
            lines.append(start if own else f"{start} []")
            for one in own:
                if isinstance(one, Mapping):
                    first, *rest = _yaml(one, indent + 4)
                    lines += [f"{' ' * (indent + 2)}- {first.strip()}", *rest]
                else:
                    lines.append(f"{' ' * (indent + 2)}- {json.dumps(one)}")
        else:
            lines.append(f"{start} {json.dumps(own)}")
    return lines
