"""Pictures and outlines of what speaks for a bleed on new slices."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.atomic import write_text
from features.slices import read_slice
from models.errors import UnreadableSlice
from models.progress import Progress, silent
from pipeline.overlay import draw_overlay, write_overlay
from pipeline.regions import Region, blood_likelihood, find_regions
from pipeline.slice_scores import SliceScores
from pipeline.trained_model import TrainedModel

__all__ = ["METHOD", "Explained", "explain_slices"]

METHOD = "hirescam"
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Explained:
    """One slice that was explained.

    Attributes
    ----------
    path : Path
    target : str
        The class that the evidence speaks for.
    regions : list of Region
    picture : Path
        The overlay.
    """

    path: Path
    target: str
    regions: list[Region]
    picture: Path


def explain_slices(
    model: TrainedModel,
    result: SliceScores,
    out: Path,
    *,
    chosen: Sequence[int] | None = None,
    method: str = METHOD,
    progress: Progress = silent,
) -> list[Explained]:
    """Write an overlay a slice, and the outlines of all of them to ``regions.geojson``.

    Parameters
    ----------
    model : TrainedModel
    result : SliceScores
        What the model said.
    out : Path
        Folder; made where it is not there.
    chosen : sequence of int, optional
        Which rows of `result`; None takes those that are predicted positive, or all with more than two
        classes.
    method : str
        One of `models.maps.METHODS`.
    progress : Progress

    Returns
    -------
    list of Explained
        In the order of `chosen`. The evidence is for the positive class of two, else for the predicted one.
    """
    if chosen is None:
        positive = result.positive
        chosen = [n for n in range(len(result)) if positive is None or result.predicted[n] == positive]
    network = model.explained()
    out.mkdir(parents=True, exist_ok=True)
    explained: list[Explained] = []
    features: list[dict[str, Any]] = []
    starts = range(0, len(chosen), _BATCH)
    for start in progress(starts, total=len(starts), label="explain, batches"):
        part = list(chosen[start : start + _BATCH])
        images = [_read(result.paths[number]) for number in part]
        planes = np.stack([model.preprocessing.plane(image) for image in images])
        targets = [result.positive or str(result.predicted[number]) for number in part]
        maps = {target: network.maps(planes, method, target) for target in set(targets)}
        for place, (number, image, target) in enumerate(zip(part, images, targets, strict=True)):
            evidence = network.on_slice(maps[target][place], *image.pixels.shape)
            blood = blood_likelihood(image) if image.is_hu else None
            regions = find_regions(evidence, blood, image.spacing_mm)
            path = result.paths[number]
            picture = out / f"{len(explained) + 1:04d}-{path.stem}.png"
            caption = _caption(result, number, regions)
            write_overlay(picture, draw_overlay(image, evidence, regions, model.preprocessing, caption))
            explained.append(Explained(path, target, regions, picture))
            features += [
                region.feature(slice=str(path), study=result.studies[number], target=target, model=model.name)
                for region in regions
            ]
    collection = {"type": "FeatureCollection", "features": features}
    write_text(out / "regions.geojson", json.dumps(collection, indent=1) + "\n")
    return explained


def _read(path: Path) -> Any:
    try:
        return read_slice(path)
    except UnreadableSlice as error:
        raise UnreadableSlice(f"{path} could be scored and now cannot be read: {error}") from error


def _caption(result: SliceScores, number: int, regions: Sequence[Region]) -> list[str]:
    row = result.row(number)
    if result.positive is None:
        said = f"{row['predicted']} {row['probability_' + row['predicted']]:.3f}"
    else:
        said = f"{row['predicted']}; {result.positive} {row['probability']:.3f}"
    lines = [f"{result.paths[number].name}: {said}"]
    if regions:
        region = regions[0]
        area = f"{region.mask.sum()} pixels" if region.area_mm2 is None else f"{region.area_mm2:.0f} mm2"
        kind = "blood in the hot area" if region.is_blood else "hot area"
        lines.append(f"{len(regions)} region(s), {kind}; the strongest {area}")
    if result.outside[number]:
        lines.append(f"outside what this model knows: {result.outside[number]}")
    return lines
