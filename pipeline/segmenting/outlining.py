"""Blood outlined on new slices: masks, pictures and measures of studies."""

import shutil
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import BadSettings, TooFewData, UnreadableSlice
from haemo.features.failures import Failure, by_volume, replace_failures
from haemo.features.layouts.claims import Headers
from haemo.features.pixels.mask_volume import lies_on_a_grid, write_mask_volume
from haemo.features.pixels.packed import PackedMask
from haemo.features.pixels.region import OUTLINES, Region, write_outlines
from haemo.features.reading.address import SliceAddress, without_suffix
from haemo.features.reading.slice import Slice
from haemo.features.reading.unit import Unit
from haemo.features.views.preprocess import Preprocessing
from haemo.pipeline.predicting.prediction import find_slices, nothing_scored
from haemo.pipeline.predicting.slice_scores import SliceScores
from haemo.pipeline.predicting.studies import Place, by_study, place_of, study_names
from haemo.pipeline.predicting.taken import unit_or_told
from haemo.pipeline.segmenting.drawing import Drawn, Maps, drawn_files
from haemo.pipeline.segmenting.overlay import draw_overlay, write_picture
from haemo.pipeline.segmenting.segmenter import Segmenter
from haemo.pipeline.segmenting.study_measures import DrawnSlice, StudyMeasures
from haemo.pipeline.trained.scope import implausible
from haemo.progress import Progress, silent
from haemo.tables import write_table

__all__ = ["Outlined", "Outputs", "outline_slices"]

_STAGE = "segment"
_TABLES = (OUTLINES, "slices.csv", "studies.csv", "failures.csv")
_PICTURES = ("masks", "overlays", "probabilities")
_WRITERS = 4  # threads: each waits most of the time, until the disk has its file
_WAITING = 16  # slices whose pictures are not written yet, at most
_NO_HEAD = "nothing inside a skull was found"


@dataclass(frozen=True)
class Outputs:
    """What is written, and where.

    Attributes
    ----------
    folder : Path
        Gets ``regions.geojson``, ``slices.csv``, ``studies.csv`` and, where files could not be used,
        ``failures.csv``; ``masks/STUDY/NAME.png`` a slice (255 is blood), ``overlays/STUDY/NAME.png`` a
        slice with an outline.
    masks, overlays, probabilities : bool
        Which pictures; ``probabilities/STUDY/NAME.png`` has 16 bits, 65535 for 1.
    overwrite : bool
        Whether what an earlier call left in the folder gives way; all else in it stays.
    names : bool
        Whether slices and studies are called by file and study, everywhere in the folder, or by numbers.
    """

    folder: Path
    masks: bool = True
    overlays: bool = True
    probabilities: bool = False
    overwrite: bool = False
    names: bool = True

    def prepare(self) -> None:
        """Make the folder ready.

        Raises
        ------
        BadSettings
            If it holds something that may not give way.
        """
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            return
        if not (self.folder / OUTLINES).is_file():
            raise BadSettings(f"{self.folder} is not empty; give another folder, or empty it first")
        if not self.overwrite:
            raise BadSettings(
                f"{self.folder} holds outlines already, which may have been corrected by hand; give another "
                f"folder, or --overwrite"
            )
        for name in _TABLES:
            (self.folder / name).unlink(missing_ok=True)
        for name in _PICTURES:
            if (self.folder / name).is_dir():
                shutil.rmtree(self.folder / name)


@dataclass(frozen=True, eq=False)
class Outlined:
    """What was found on new slices.

    Attributes
    ----------
    scores : SliceScores
        Score, probability and class of each slice: studies as they were given, slices of each in order.
    studies : dict of str to StudyMeasures
    pictures : list of Path
        The overlays.
    masks : dict of Path to PackedMask
        What is outlined, for slices with an outline.
    """

    scores: SliceScores
    studies: dict[str, StudyMeasures]
    pictures: list[Path] = field(default_factory=list)
    masks: dict[Path, PackedMask] = field(default_factory=dict)

    def study_rows(self) -> list[dict[str, Any]]:
        """A dictionary a study: its name and its measures; None where one cannot be known."""
        return [{"study": name, **asdict(measures)} for name, measures in self.studies.items()]


@dataclass(frozen=True, eq=False)
class _Found:
    """One slice that was drawn."""

    path: Path
    study: str
    position: float | None
    outside: str
    score: float


def outline_slices(
    segmenter: Segmenter,
    paths: Sequence[Path],
    outputs: Outputs | None = None,
    *,
    threshold: float | None = None,
    series: str | None = None,
    unit: Unit | None = None,
    progress: Progress = silent,
) -> Outlined:
    """Find blood on files, and on the slices in folders. No more than a study is held in memory.

    Parameters
    ----------
    segmenter : Segmenter
    paths : sequence of Path
        Image and DICOM files, and folders, which are searched to any depth.
    outputs : Outputs, optional
        None writes nothing.
    threshold : float in 0..1, optional
        From which probability a slice is called positive, in place of the segmenter's own.
    series : str, optional
        Which series of each DICOM study in a folder to take, as `index` does.
    unit : {'hu', 'hu+1024', 'gray'}, optional
        What the numbers are in files that do not say it; by default as the segmenter was told, if it was.
    progress : Progress

    Raises
    ------
    BadSettings
        If the folder of outputs holds something already.
    TooFewData
        If not one slice could be used.
    """
    if outputs:
        outputs.prepare()
    unit = unit_or_told(unit, segmenter.told_unit, "the segmenter")
    headers = Headers(progress, unit)
    files, failures = find_slices(paths, series, progress, unit, headers)
    places: list[Place] = []
    readable = []
    for path in files:
        try:
            places.append(place_of(path, headers.get(path)))
            readable.append(path)
        except UnreadableSlice as error:
            failures.append(Failure(str(path), _STAGE, str(error)))
    names = study_names({place.study for place in places})
    order = by_study(places)
    found: list[_Found] = []
    studies: dict[str, StudyMeasures] = {}
    waiting: list[tuple[_Found, DrawnSlice]] = []

    with _Writer(outputs) as writer:

        def close() -> None:
            if waiting:
                studies[waiting[0][0].study] = StudyMeasures.of([drawn for _, drawn in waiting])
                writer.volume([one.path for one, _ in waiting], waiting[0][0].study)
                found.extend(one for one, _ in waiting)
                waiting.clear()

        drawn = drawn_files(segmenter, [readable[number] for number in order], writer.maps)
        for number, (path, result) in zip(
            order, progress(drawn, total=len(order), label=_STAGE), strict=True
        ):
            study = names[places[number].study]
            if waiting and waiting[0][0].study != study:
                close()
            if isinstance(result, UnreadableSlice):
                failures.append(Failure(str(path), _STAGE, str(result)))
                continue
            image, blood = result
            waiting.append(writer.slice(path, study, places[number], image, blood))
        close()
        if not found:
            raise TooFewData(nothing_scored(by_volume(failures)))
        scores = _scores(segmenter, found, failures, threshold)
        outlines = Outlined(scores, studies, writer.pictures, writer.masks)
        writer.finish(outlines)
    return outlines


def _scores(
    segmenter: Segmenter, found: Sequence[_Found], failures: Sequence[Failure], threshold: float | None
) -> SliceScores:
    from scipy.special import expit

    scores = np.asarray(segmenter.log_odds(np.array([one.score for one in found])), dtype=float)
    chances = expit(scores)
    limit = float(segmenter.facts["threshold"] if threshold is None else threshold)
    return SliceScores(
        paths=tuple(one.path for one in found),
        studies=tuple(one.study for one in found),
        positions=tuple(one.position for one in found),
        outside=tuple(one.outside for one in found),
        classes=segmenter.classes,
        threshold=limit,
        scores=scores,
        probabilities=chances,
        predicted=np.array(segmenter.classes)[(chances >= limit).astype(int)],
        failures=tuple(by_volume(failures)),
        distance_checked=False,
        study_rule=segmenter.study_rule,
        asked_threshold=threshold,
        points=segmenter.facts.get("points", {}),
    )


class _Writer:
    """Writes each slice as it comes, in threads, and what sums them up at the end."""

    def __init__(self, outputs: Outputs | None):
        self.outputs = outputs
        self.pictures: list[Path] = []
        self.features: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.masks: dict[Path, PackedMask] = {}
        self.taken: set[tuple[str, str]] = set()
        self.studies: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(_WRITERS, "haemo-write")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def maps(self) -> Maps:
        """Of which slices the map of probability is written, or drawn."""
        if self.outputs is None:
            return "none"
        return "all" if self.outputs.probabilities else "outlined" if self.outputs.overlays else "none"

    def slice(
        self, path: Path, study: str, place: Place, image: Slice, blood: Drawn
    ) -> tuple[_Found, DrawnSlice]:
        drawn = DrawnSlice(blood.regions, blood.left_share, place.z_mm, image.spacing_mm)
        if blood.regions:
            self.masks[path] = PackedMask.of(blood.mask)
        outside = implausible(image) or ("" if blood.has_head else _NO_HEAD)
        if self.outputs:
            self._write(self.outputs, path, study, image, blood)
        self.rows.append(
            {"regions": len(blood.regions), "area_pixels": drawn.pixels, "area_mm2": drawn.area_mm2}
        )
        return _Found(path, study, place.position, outside, blood.score), drawn

    def _write(self, outputs: Outputs, path: Path, study: str, image: Slice, blood: Drawn) -> None:
        file, own = path.name, str(path)
        if not outputs.names:
            study = self.studies.setdefault(study, f"{len(self.studies) + 1:03d}")
            file = own = f"{study}/{len(self.rows) + 1:04d}"
        name = f"{study}/{self._name(path, study)}.png" if outputs.names else f"{own}.png"
        has_mask = outputs.masks and not self._is_of_grid(path)
        self._later(_write_pictures, outputs, name, has_mask, image, blood, _caption(file, blood.regions))
        if outputs.overlays and blood.regions:
            self.pictures.append(outputs.folder / "overlays" / name)
        self.features += [region.feature(slice=own, study=study) for region in blood.regions]

    def _later(self, work: Callable[..., None], *what: Any) -> None:
        self._waiting.append(self._pool.submit(work, *what))
        if len(self._waiting) > _WAITING:
            self._waiting.popleft().result()

    def volume(self, paths: Sequence[Path], study: str) -> None:
        """Write the mask of a study that is one volume, once all of its slices are drawn."""
        if not (self.outputs and self.outputs.masks and self._is_of_grid(paths[0])):
            return
        addresses = {path: SliceAddress.of(path) for path in paths}
        masks = {one.number: self.masks[path] for path, one in addresses.items() if path in self.masks}
        name = without_suffix(Path(study)) if self.outputs.names else self.studies[study]
        target = self.outputs.folder / "masks" / f"{name}.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_mask_volume(target, addresses[paths[0]].file, masks)

    def _is_of_grid(self, path: Path) -> bool:
        address = SliceAddress.of(path)
        return address.number is not None and lies_on_a_grid(address.file)

    def _name(self, path: Path, study: str) -> str:
        """The file's own name; with a number where another slice of the study is called so."""
        stem = SliceAddress.of(path).stem
        name, number = stem, 1
        while (study, name) in self.taken:
            number += 1
            name = f"{stem}-{number}"
        self.taken.add((study, name))
        return name

    def finish(self, result: Outlined) -> None:
        while self._waiting:
            self._waiting.popleft().result()
        if not self.outputs:
            return
        folder = self.outputs.folder
        folder.mkdir(parents=True, exist_ok=True)
        write_outlines(folder / OUTLINES, self.features)
        rows = [row | more for row, more in zip(result.scores.rows(), self.rows, strict=True)]
        studies = result.study_rows()
        if not self.outputs.names:
            for place, row in enumerate(rows, start=1):
                row["study"] = self.studies[row["study"]]
                row["path"] = f"{row['study']}/{place:04d}"
            for row in studies:
                row["study"] = self.studies[row["study"]]
        write_table(folder / "slices.csv", rows)
        write_table(folder / "studies.csv", studies)
        if result.scores.failures and self.outputs.names:
            replace_failures(folder / "failures.csv", _STAGE, result.scores.failures)


def _write_pictures(
    outputs: Outputs, name: str, has_mask: bool, image: Slice, blood: Drawn, caption: Sequence[str]
) -> None:
    if has_mask:
        write_picture(outputs.folder / "masks" / name, np.where(blood.mask, np.uint8(255), np.uint8(0)))
    if outputs.probabilities:
        levels = np.rint(blood.probability * 65535).astype(np.uint16)
        write_picture(outputs.folder / "probabilities" / name, levels)
    if outputs.overlays and blood.regions:
        overlay = draw_overlay(image, blood.probability, blood.regions, Preprocessing(), caption)
        write_picture(outputs.folder / "overlays" / name, overlay)


def _caption(name: str, regions: Sequence[Region]) -> list[str]:
    if not regions:
        return []
    area = regions[0].area_mm2
    size = f"{regions[0].mask.sum()} pixels" if area is None else f"{area:.0f} mm2"
    return [f"{name}: {len(regions)} region(s), the most probable {size}"]
