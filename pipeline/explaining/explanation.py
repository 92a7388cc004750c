"""Pictures and outlines of what speaks for a bleed on new slices."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.pixels.region import OUTLINES, Region, write_outlines
from haemo.features.reading.address import SliceAddress
from haemo.features.reading.reader import read_guarded
from haemo.features.reading.slice import Slice
from haemo.pipeline.evaluation.units import background_of
from haemo.pipeline.explaining.regions import blood_likelihood, find_regions
from haemo.pipeline.predicting.blended_model import BlendedModel
from haemo.pipeline.predicting.slice_scores import SliceScores
from haemo.pipeline.predicting.trained_model import TrainedModel
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.segmenting.drawing import outlined
from haemo.pipeline.segmenting.overlay import draw_overlay, write_picture
from haemo.pipeline.segmenting.segmenter import Segmenter
from haemo.progress import Progress, silent

__all__ = ["Explained", "explain_slices", "likeliest"]

_BATCH = 16
_WORKERS = 2


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

    def __repr__(self) -> str:
        return f"Explained({self.path.name}, {self.target}, regions: {len(self.regions)}, {self.picture})"

    def _repr_png_(self) -> bytes:
        return self.picture.read_bytes()


def explain_slices(
    model: TrainedModel | BlendedModel,
    result: SliceScores,
    out: Path,
    *,
    chosen: Sequence[int] | None = None,
    method: str | None = None,
    segmenter: Segmenter | None = None,
    names: bool = False,
    progress: Progress = silent,
) -> list[Explained]:
    """Write an overlay a slice, and the outlines of all of them to ``regions.geojson``.

    The map is the model's own evidence. Outlines are of blood, as `segmenter` finds it; without one, of what
    is hot in the map.

    Parameters
    ----------
    model : TrainedModel
    result : SliceScores
        What the model said.
    out : Path
        Folder; made where it is not there. What an earlier call left in it gives way.
    chosen : sequence of int, optional
        Which rows of `result`; None takes those that are predicted positive, with more than two classes those
        that are not predicted as the background (`background_of`), and all where no class is that.
    method : str, optional
        As for `TrainedModel.explained`.
    segmenter : Segmenter, optional
    names : bool
        Call pictures, and slices in outlines, by file and study, not only by their number.
    progress : Progress

    Returns
    -------
    list of Explained
        In the order of `chosen`. The evidence is for the positive class of two, else for the predicted one.
    """
    if chosen is None:
        chosen = np.flatnonzero(_is_called(result)).tolist()
    out.mkdir(parents=True, exist_ok=True)
    _remove_earlier(out)
    pages = [
        _Page(model, result, number, out, f"{place:04d}", names)
        for place, number in enumerate(chosen, start=1)
    ]
    explained: list[Explained] = []
    network, method = model.explained(method)
    with ThreadPoolExecutor(_WORKERS, "haemo-explain") as pool, _one_thread(torch_too=method != "occlusion"):
        starts = range(0, len(pages), _BATCH)
        drawing: Callable[[], Iterable[Explained]] = list
        for start in progress(starts, total=len(starts), label="explain, batches"):
            part = pages[start : start + _BATCH]
            images = list(pool.map(_Page.read, part))
            # While processes outline these, those before are drawn, and these go through the network.
            regions = None if segmenter is None else outlined(segmenter, images, len(pages))
            drawn = drawing()
            views = [model.preprocessing.view(image) for image in images]
            planes = np.stack([model.preprocessing.level(view) for view in views])
            maps = {target: network.maps(planes, method, target) for target in {page.target for page in part}}
            evidence = [
                model.on_slice(network, maps[page.target][place], view)
                for place, (page, view) in enumerate(zip(part, views, strict=True))
            ]
            if regions is None:
                regions = pool.map(_hot, images, evidence)
            explained += drawn
            drawing = partial(pool.map, _Page.draw, part, images, evidence, regions)
        explained += drawing()
    features = [
        region.feature(**page.named, target=one.target, model=model.name)
        for page, one in zip(pages, explained, strict=True)
        for region in one.regions
    ]
    write_outlines(out / OUTLINES, features)
    return explained


@contextmanager
def _one_thread(torch_too: bool) -> Iterator[None]:
    """Let one thread of this process multiply: more would wait, busily, for cores that outline and draw.

    Where a slice takes hundreds of passes through the network, torch keeps its threads.
    """
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    with threadpool_limits(1, user_api="blas"):
        torch.set_num_threads(1 if torch_too else threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _is_called(result: SliceScores) -> np.ndarray:
    """Whether each slice is called something else than normal, as far as a class is known to be that."""
    if result.positive is not None:
        return result.predicted == result.positive
    background = background_of(result.classes)
    return np.array([name != background for name in result.predicted])


def likeliest(predictions: Predictions) -> np.ndarray:
    """Order of slices: those first that most probably show what is looked for.

    That is the positive class of two. Of more classes it is any but the background (`background_of`); where
    no class is that, each is looked for, and those slices come first whose most probable class is the surest.

    Returns
    -------
    ndarray of shape (n,), int
        Places of the rows; rows with equal probabilities stay in their order.
    """
    chances = predictions.probabilities
    background = background_of(predictions.classes)
    if predictions.positive is not None:
        absent = -chances
    elif background is not None:
        absent = chances[:, predictions.classes.index(background)]
    else:
        absent = -chances.max(axis=1)
    return absent.argsort(kind="stable")


def _remove_earlier(out: Path) -> None:
    """Remove what an earlier call left, and nothing else: overlays beside outlines, numbered as ours are."""
    outlines = out / OUTLINES
    if outlines.exists():
        outlines.unlink()
        for picture in (*out.glob("[0-9][0-9][0-9][0-9].png"), *out.glob("[0-9][0-9][0-9][0-9]-*.png")):
            picture.unlink()


@dataclass(frozen=True, eq=False)
class _Page:
    """One slice that is to be drawn; what is done in threads."""

    model: TrainedModel | BlendedModel
    result: SliceScores
    number: int
    folder: Path
    place: str
    names: bool

    @property
    def path(self) -> Path:
        return self.result.paths[self.number]

    @property
    def target(self) -> str:
        return self.result.positive or str(self.result.predicted[self.number])

    @property
    def named(self) -> dict[str, str]:
        """What slice and study are called beside their outlines."""
        study = self.result.studies[self.number]
        if self.names:
            return {"slice": str(self.path), "study": study}
        place = list(dict.fromkeys(self.result.studies)).index(study) + 1
        return {"slice": self.place, "study": str(place)}

    def read(self) -> Slice:
        try:
            return read_guarded(self.path)
        except UnreadableSlice as error:
            raise UnreadableSlice(f"{self.path} could be scored and now cannot be read: {error}") from error

    def draw(self, image: Slice, evidence: np.ndarray, regions: list[Region]) -> Explained:
        name = f"{self.place}-{SliceAddress.of(self.path).stem}" if self.names else self.place
        caption = _caption(self.path.name if self.names else name, self.result, self.number, regions)
        picture = self.folder / f"{name}.png"
        drawn = draw_overlay(image, evidence, regions, self.model.preprocessing, caption)
        write_picture(picture, drawn)
        return Explained(self.path, self.target, regions, picture)


def _hot(image: Slice, evidence: np.ndarray) -> list[Region]:
    blood = blood_likelihood(image) if image.is_hu else None
    return find_regions(evidence, blood, image.spacing_mm)


def _caption(name: str, result: SliceScores, number: int, regions: Sequence[Region]) -> list[str]:
    row = result.row(number)
    if result.positive is None:
        said = f"{row['predicted']} {row['probability_' + row['predicted']]:.3f}"
    else:
        said = f"{row['predicted']}; {result.positive} {row['probability']:.3f}"
    lines = [f"{name}: {said}"]
    if regions:
        region = regions[0]
        area = f"{region.mask.sum()} pixels" if region.area_mm2 is None else f"{region.area_mm2:.0f} mm2"
        kind = "blood" if region.is_blood else "hot area"
        lines.append(f"{len(regions)} region(s), {kind}; the strongest {area}")
    if result.outside[number]:
        lines.append(f"outside what this model knows: {result.outside[number]}")
    return lines
