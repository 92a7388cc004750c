"""A model as it is judged elsewhere, and how one is found by what a person types."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.errors import BadSettings, MissingStep
from haemo.features.store.contents import Contents
from haemo.features.store.store import contents_path
from haemo.pipeline.evaluation.aggregation import Aggregation
from haemo.pipeline.evaluation.unit_rule import UnitRule, unit_rule
from haemo.pipeline.packing.modelfile import BUILTIN, open_model
from haemo.pipeline.run.directory import NETWORKS, SEGMENTER, RunDirectory
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.splitting.split import Split
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from haemo.pipeline.predicting.blended_model import BlendedModel
    from haemo.pipeline.predicting.trained_model import TrainedModel
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = ["JudgedModel", "resolve_model", "told_place", "with_own_names"]

log = logging.getLogger("haemo")


def told_place(text: str) -> str:
    """A file or folder as a report may tell it: its name and that of its folder, not where these lie."""
    return str(Path(*Path(text).parts[-2:])) if Path(text).is_absolute() else text


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """A model that is judged and not touched.

    Attributes
    ----------
    name : str
        As tables and folders call it.
    origin : str
        Where it was found, in words.
    model : TrainedModel, BlendedModel or Segmenter
    classes : tuple of str
        Of two the second is the positive one.
    threshold : float
        Its own, on the probability of a slice.
    held_out : Predictions or None
        What it said of slices held out of its training: other operating points are chosen on them, and
        scores here set against them. None where nothing of that kind is known.
    points : mapping of str to float
        Thresholds of other operating points by name, where they are stored and `held_out` is not.
    known : frozenset of str
        Content hashes of the slices that it was trained on, as far as they are known.
    rule : callable
        Gives the rule for ``study`` or ``patient`` and a way of joining slices, or None.
    key : str
        What tells this very model from others, for what is kept of its answers.
    caveat : str
        What it must not be taken for.
    """

    name: str
    origin: str
    model: "TrainedModel | BlendedModel | Segmenter"
    classes: tuple[str, ...]
    threshold: float
    held_out: Predictions | None = None
    points: Mapping[str, float] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    rule: Callable[[str, Aggregation], UnitRule | None] = lambda by, how: None
    key: str = ""
    caveat: str = ""

    def facts(self) -> dict[str, Any]:
        """What is said of it beside its figures, as JSON can hold it."""
        return {
            "origin": told_place(self.origin),
            "classes": list(self.classes),
            "threshold": self.threshold,
            "key": self.key,
            **({"caveat": self.caveat} if self.caveat else {}),
        }


def resolve_model(
    text: str, trusted: Sequence[str] = (), device: str = "auto", progress: Progress = silent
) -> JudgedModel:
    """Find a model by what a person types: ``builtin``, a packed one, or the folder of a trained one.

    Parameters
    ----------
    text : str
    trusted : sequence of str
        As for `RunDirectory`.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    progress : Progress

    Raises
    ------
    BadSettings
        If it is none of these.
    BadDataset
        If a packed model is damaged.
    MissingStep, FingerprintMismatch
        As `pipeline.predicting.trained_model.load_model`.
    """
    if text == BUILTIN:
        from haemo.pipeline.segmenting.segmenter import builtin_segmenter

        return _of_segmenter(BUILTIN, "the built-in segmenter", builtin_segmenter())
    path = Path(text)
    if not path.exists():
        raise BadSettings(
            f"{text} is no model: give the folder of a trained one (runs/first/svm), a packed one "
            f"(svm.haemo), {BUILTIN}, or a CSV file of scores"
        )
    if path.is_file():
        return _of_file(path, trusted, device, progress)
    run, name = RunDirectory(path.parent, trusted), path.name
    if not (run.model_path(name) / "settings.json").exists():
        inside = RunDirectory(path).trained()
        hint = f"; give one of its models: {', '.join(str(path / one) for one in inside)}" if inside else ""
        raise BadSettings(f"{text} is not the folder of a trained model{hint}")
    held_out = run.predictions(name).of_part("cv")
    if name == SEGMENTER:
        from haemo.pipeline.segmenting.segmenterfolder import SegmenterFolder

        found = _of_segmenter(name, str(path), SegmenterFolder(path).segmenter())
    else:
        found = _of_trained(run, name, device, progress)
    return replace(found, held_out=held_out if len(held_out) else None, rule=partial(_rule_of_run, run, name))


def _rule_of_run(run: RunDirectory, name: str, by: str, how: Aggregation) -> UnitRule | None:
    return unit_rule(run, name, by, how)


def _of_trained(run: RunDirectory, name: str, device: str, progress: Progress) -> JudgedModel:
    from haemo.pipeline.predicting.blended_model import load_model

    model = load_model(run, name, device, progress)
    _refuse_pooled(model, str(run.model_path(name)))
    return JudgedModel(
        name=name,
        origin=str(run.model_path(name)),
        model=model,
        classes=model.classes,
        threshold=float(model.head.threshold),
        known=frozenset() if name in NETWORKS else _trained_on(run, name),
        key=_key(run.model_path(name)),
    )


def _refuse_pooled(model: "TrainedModel | BlendedModel", origin: str) -> None:
    if model.pooled_by:
        raise BadSettings(
            f"{origin} judges whole studies, and haemo evaluate asks for answers by slice; score the studies "
            "with haemo predict --out scores.csv, add their labels, and judge that file"
        )


def _of_file(path: Path, trusted: Sequence[str], device: str, progress: Progress) -> JudgedModel:
    from haemo.pipeline.exporting.runtime import OnnxModel
    from haemo.pipeline.segmenting.segmenter import Segmenter

    model = open_model(str(path), device, trusted, progress)
    if isinstance(model, Segmenter):
        return _of_segmenter(path.stem, str(path), model)
    if isinstance(model, OnnxModel):
        raise BadSettings(
            f"{path} gives scores and no embeddings, which a judgement looks at; judge the model as it was "
            "packed (haemo pack), or its scores: haemo predict --runtime onnx ... --out scores.csv"
        )
    _refuse_pooled(model, str(path))
    log.warning("%s: whether slices here were trained on cannot be told of a packed model", path)

    def rule(by: str, how: Aggregation) -> UnitRule | None:
        return model.study_rule(how) if by == "study" and model.study_rule else None

    return JudgedModel(
        name=path.stem,
        origin=str(path),
        model=model,
        classes=model.classes,
        threshold=float(model.head.threshold),
        held_out=model.held_out(),
        rule=rule,
        key=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _of_segmenter(name: str, origin: str, segmenter: "Segmenter") -> JudgedModel:
    def rule(by: str, how: Aggregation) -> UnitRule | None:
        return segmenter.study_rule(how) if by == "study" else None

    return JudgedModel(
        name=name,
        origin=origin,
        model=segmenter,
        classes=segmenter.classes,
        threshold=float(segmenter.facts["threshold"]),
        held_out=segmenter.held_out(),
        points=segmenter.facts.get("points", {}),
        rule=rule,
        key=segmenter.hash,
        caveat=segmenter.facts.get("caveat", ""),
    )


def _key(folder: Path) -> str:
    """Hash of the model's files: another model under the same name is another one."""
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("model.*")), folder / "settings.json"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _trained_on(run: RunDirectory, name: str) -> frozenset[str]:
    """Pixels of a run's training slices, by their hash, as the first set of a head has them."""
    try:
        sets = run.settings(name).get("features") or (run.features,)
        rows = run.manifest().labelled.rows
        parts = Split.read(run.split_path).parts(rows)
        known = Contents(contents_path(run.on(sets[0]).store_path))
        train = (row.slice_id for row, part in zip(rows, parts, strict=True) if part == "train")
        return frozenset(content for name in train if (content := known.content_of(name)))
    except MissingStep as error:
        log.warning("%s: whether slices here were trained on cannot be told (%s)", run, error)
        return frozenset()


def with_own_names(models: Sequence[JudgedModel]) -> list[JudgedModel]:
    """The models with names that tell them apart: of one name, with their run's before it, or a number."""
    names: set[str] = set()
    result = []
    for model in models:
        name = model.name
        if sum(other.name == name for other in models) > 1:
            name = f"{Path(model.origin).parent.name}-{name}"
        number = 1
        while name in names:
            number += 1
            name = f"{model.name}-{number}"
        names.add(name)
        result.append(replace(model, name=name))
    return result
