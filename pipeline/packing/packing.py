"""A model of a run, packed into one file without a name, path or date of those it learned from."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.atomic import write_text
from haemo.errors import MissingStep
from haemo.extensions import unknown
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.intervals import Resampling
from haemo.pipeline.evaluation.operating import chosen_points
from haemo.pipeline.evaluation.unit_rule import UnitRule, unit_rule
from haemo.pipeline.packing.bundlefile import CARD, write_bundle
from haemo.pipeline.packing.held_out import as_bytes
from haemo.pipeline.packing.hubcard import hub_card as written_card
from haemo.pipeline.packing.packed_head import packed_head, shared_networks
from haemo.pipeline.packing.plain import plain_skops
from haemo.pipeline.predicting.blended_model import load_model
from haemo.pipeline.predicting.loading import held_out_of
from haemo.pipeline.predicting.trained_model import TrainedModel
from haemo.pipeline.run.directory import NETWORKS, SEGMENTER, RunDirectory, software_versions
from haemo.pipeline.run.shown import shown
from haemo.pipeline.splitting.splitfile import refuse_model_of_other_split
from haemo.pipeline.trained.headfolder import HeadFolder
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.pipeline.report.evidence import Evidence

__all__ = ["Packed", "pack"]

_RULE = ("growth", "slope", "intercept", "threshold")


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes
    ----------
    path : Path
    sha256 : str
    size : int
        In bytes.
    members : tuple of str
    """

    path: Path
    sha256: str
    size: int
    members: tuple[str, ...]


def pack(
    run: RunDirectory,
    name: str,
    path: Path,
    *,
    weights: bool = True,
    hub_card: Path | None = None,
    licence: str = "unknown",
    progress: Progress = silent,
) -> Packed:
    """Pack a head or a blend (with the networks before it), an end-to-end network or a segmenter of a run.

    Parameters
    ----------
    run : RunDirectory
    name : str
        Of the model.
    path : Path
        The file to write; it gives way to the new one.
    weights : bool
        Whether the weights of the network before a head go in. Without, they are fetched where the model is
        used, and must be ones that can be.
    hub_card : Path, optional
        Also write the README.md of a repository on the Hugging Face Hub there. Nothing is sent.
    licence : str
        What that says of the model's licence, one of `pipeline.packing.hubcard.LICENCES`.
    progress : Progress

    Raises
    ------
    MissingStep
        If the model has not been trained, or has no answers on test slices to fill its card from.
    BadSettings
        If there is no such model, or it needs weights that cannot be fetched.
    FingerprintMismatch
        As `pipeline.predicting.blended_model.load_model`.
    """
    if name not in run.models():
        if name in (*NETWORKS, SEGMENTER) or not run.models():
            raise MissingStep(f"{run} has no trained {name}; see what it has: haemo compare --run {run}")
        raise unknown("model", name, run.models())
    if name == SEGMENTER:
        facts, members = _segmenter(run)
    elif name in NETWORKS:
        facts, members = _network(run, name)
    else:
        facts, members = _head(run, name, weights, progress)
    held_out = held_out_of(run, name)
    facts |= {
        "name": name,
        "made_by": f"haemo {software_versions()['haemo']}",
        "study_rules": _study_rules(run, name),
        "points": chosen_points(held_out),
    }
    if held_out is not None and held_out.positive is not None:
        members["held_out.safetensors"] = as_bytes(held_out)
    documents, evidence = _documents(run, name, progress)
    members |= documents
    told, _ = shown(facts)
    digest = write_bundle(path, told, members)
    if hub_card:
        card = documents[CARD].decode()
        write_text(hub_card, written_card(card, evidence.figures, name, path.name, digest, licence))
    return Packed(path, digest, path.stat().st_size, tuple(members))


def _head(
    run: RunDirectory, name: str, weights: bool, progress: Progress
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A head, or a blend with its heads, which lie in folders by their numbers."""
    model = load_model(run, name, progress=progress)
    if isinstance(model, TrainedModel):
        head = packed_head(run, model, weights)
        return head.facts, {**head.members, **shared_networks([head])}
    heads = [packed_head(run, member, weights) for member in model.members]
    members = {"head.skops": plain_skops(HeadFolder(run.model_path(name)).model_path.read_bytes())}
    for number, head in enumerate(heads, start=1):
        members |= {f"{number}/{member}": data for member, data in head.members.items()}
    members |= shared_networks(heads)
    named = zip(model.members, heads, strict=True)
    facts = {
        "kind": "blend",
        "classes": list(model.classes),
        "threshold": float(model.head.threshold),
        "heads": [{"name": member.name, **head.facts} for member, head in named],
    }
    return facts, members


def _network(run: RunDirectory, name: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    from haemo.pipeline.trained.networkfolder import NetworkFolder

    folder = NetworkFolder(run.model_path(name))
    refuse_model_of_other_split(folder.facts(), run, name)
    network = folder.network()
    members = {"network.safetensors": folder.model_path.read_bytes()}
    if folder.scope_path.exists():
        members["scope.safetensors"] = folder.scope_path.read_bytes()
    facts = {
        "kind": "network",
        "classes": list(network.classes),
        "threshold": float(network.head().threshold),
        "preprocessing": folder.preprocessing().describe(),
        "told_unit": run.told_unit(),
    }
    return facts, members


def _segmenter(run: RunDirectory) -> tuple[dict[str, Any], dict[str, bytes]]:
    from haemo.pipeline.segmenting.segmenterfolder import SegmenterFolder

    folder = SegmenterFolder(run.model_path(SEGMENTER))
    refuse_model_of_other_split(folder.facts(), run, SEGMENTER)
    segmenter = folder.segmenter()
    facts = {
        "kind": "segmenter",
        "classes": list(segmenter.classes),
        "threshold": float(segmenter.facts["threshold"]),
        "told_unit": run.told_unit(),
    }
    return facts, {"segmenter.safetensors": folder.model_path.read_bytes()}


def _study_rules(run: RunDirectory, name: str) -> dict[str, dict[str, float]]:
    found: dict[str, UnitRule | None] = {str(how): unit_rule(run, name, "study", how) for how in Aggregation}
    return {
        how: {key: float(getattr(rule, key)) for key in _RULE}
        for how, rule in found.items()
        if rule is not None
    }


def _documents(run: RunDirectory, name: str, progress: Progress) -> "tuple[dict[str, bytes], Evidence]":
    """The model's card, figures of what it says of the test slices, and what they were made from."""
    from haemo.pipeline.report.documents import model_card
    from haemo.pipeline.report.evidence import gather

    resampling = Resampling()
    everything = gather(run, True, None, resampling, progress)
    if name not in everything.answers:
        raise MissingStep(f"{run} has no answers of {name} for the test slices of now; train it again first")
    evidence = replace(everything, chosen=name, why_chosen="the model that was packed")
    with tempfile.TemporaryDirectory(prefix="haemo-") as scratch:
        figures = _figures(evidence, name, Path(scratch), resampling)
    return {CARD: model_card(evidence).encode(), **figures}, evidence


def _figures(evidence: "Evidence", name: str, folder: Path, resampling: Resampling) -> dict[str, bytes]:
    from haemo.pipeline.report import answer_figures as drawn

    answers = {name: evidence.answers[name]}
    models = {name: evidence.figures}
    made: list[Callable[[], object]] = [lambda: drawn.confusion_figure(models, folder)]
    if evidence.figures["positive"] and "roc_auc" in evidence.figures:
        made += [
            lambda: drawn.roc_figure(answers, models, folder, resampling),
            lambda: drawn.calibration_figure(answers, models, folder),
        ]
    for make in made:
        make()
    return {f"figures/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.png"))}
