"""One head for each type of bleed, against all that has it not, where slices have several types at once.

``RUN/types/NAME/`` is a run like any other on the same features, with the classes NAME and ``no NAME``.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from haemo.atomic import temporary_beside
from haemo.errors import MissingStep, TooFewData
from haemo.features.manifest import Manifest
from haemo.features.store.store import contents_path
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.studylabels import read_types
from haemo.pipeline.training.head import HeadResult, HeadSettings, train_head
from haemo.pipeline.training.resources import Resources
from haemo.progress import Progress, silent

__all__ = ["ANY", "OfType", "run_of_type", "train_types", "types_in"]

ANY = "any"
_FOLDER = "types"

_log = logging.getLogger("haemo")


@dataclass(frozen=True, eq=False)
class OfType:
    """The head of one type.

    Attributes
    ----------
    type : str
        ``any``, or a type of bleed.
    run : RunDirectory
        Where it lies: the run itself for ``any``.
    slices, patients : int
        That have it.
    result : HeadResult or None
    reason : str
        Why there is no result.
    """

    type: str
    run: RunDirectory
    slices: int
    patients: int
    result: HeadResult | None = None
    reason: str = ""


def types_in(run: RunDirectory) -> list[str]:
    """Types of bleed that slices of the run have, by the alphabet.

    Raises
    ------
    MissingStep
        If no slice has several: then types are classes, and one head tells them all apart.
    """
    types = read_types(run)
    if not types:
        raise MissingStep(
            f"{run} has no slices with several types of bleed; index the data with the column that has them "
            "(epidural+subdural), as with --label subtype"
        )
    return sorted({name for names in types.values() for name in names})


def run_of_type(run: RunDirectory, name: str) -> RunDirectory:
    """Make or renew the run of one type; features are those of `run`, by links."""
    types = read_types(run)
    own = RunDirectory(run.path / _FOLDER / name.replace("/", "_"), run.trusted)
    rows = [
        replace(row, label=name if name in types[row.slice_id] else f"no {name}")
        for row in run.manifest()
        if row.slice_id in types
    ]
    own.path.parent.mkdir(parents=True, exist_ok=True)
    own.create()
    Manifest(rows).write(own.manifest_path)
    own.record(
        "index", data=str(run.path.absolute()), layout="types", classes=[f"no {name}", name], positive=name
    )
    for target in (run.store_path, contents_path(run.store_path)):
        link = own.path / target.name
        if target.exists() and not link.exists():
            with temporary_beside(link) as temporary:
                temporary.symlink_to(os.path.relpath(target.absolute(), own.path.absolute()))
                temporary.replace(link)
    steps = run.read_record().get("steps", {})
    if "features" in steps:
        own.record("features", **steps["features"])
    return own


def train_types(
    run: RunDirectory,
    head: str,
    settings: HeadSettings | None = None,
    *,
    resources: Resources | None = None,
    progress: Progress = silent,
) -> Iterator[OfType]:
    """Train a head for any bleed, and one for each type; a type with too few patients is given without one.

    Raises
    ------
    MissingStep
        If the run has no features, or no slices with several types.
    """
    names, types = types_in(run), read_types(run)
    for name in (ANY, *names):
        own = run if name == ANY else run_of_type(run, name)
        rows = own.manifest().labelled
        has = [row for row in rows if (types[row.slice_id] if name == ANY else name in types[row.slice_id])]
        known = OfType(name, own, len(has), len({row.patient for row in has}))
        try:
            result = train_head(own, head, settings, resources=resources, progress=progress)
        except TooFewData as error:
            if name == ANY:
                raise
            yield replace(known, reason=str(error))
        else:
            yield replace(known, result=result)
