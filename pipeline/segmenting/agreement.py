"""How well outlines agree with true masks: on the test slices of a run, by slice and by study."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from haemo.atomic import write_text
from haemo.errors import MissingStep, TooFewData, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow
from haemo.features.pixels.masks import LARGE_MM2, TrueMasks, read_mask, subtypes
from haemo.features.pixels.region import joined
from haemo.features.reading.reader import read_guarded
from haemo.pipeline.evaluation.intervals import Resampling, assess
from haemo.pipeline.evaluation.patient_means import means_by_patient
from haemo.pipeline.predicting.studies import place_of
from haemo.pipeline.run.directory import SEGMENTER, RunDirectory
from haemo.pipeline.run.truemasks import read_true_masks
from haemo.pipeline.segmenting.sampling import STAGE, in_processes, masked_rows
from haemo.pipeline.segmenting.segmenter import Segmenter
from haemo.pipeline.segmenting.study_measures import slice_steps_mm
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.splitting.splitfile import made_for
from haemo.progress import Progress, silent

__all__ = ["measure_outlines", "volume_agreement", "volumes_by_subtype"]

_NO_BLEED = "none"


@dataclass(frozen=True)
class _Agreement:
    """One slice: its outlines against its mask; areas in mm2 where the spacing is known."""

    true_pixels: int
    outlined_pixels: int
    common_pixels: int
    bleeds: int
    bleeds_found: int
    false_regions: int
    hit: bool
    score: float
    true_mm2: float | None
    outlined_mm2: float | None
    z_mm: float | None

    @property
    def dice(self) -> float:
        both = self.true_pixels + self.outlined_pixels
        return 2 * self.common_pixels / both if both else float("nan")


def measure_outlines(
    run: RunDirectory,
    segmenter: Segmenter,
    *,
    name: str = SEGMENTER,
    masks: Path | None = None,
    seed: int = 0,
    jobs: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure outlines on the run's test slices that have masks, empty ones too, and write ``score.json``.

    Returns
    -------
    dict
        What was written to ``RUN/explain/NAME.json``: ``groups`` (``all``, ``over_1_cm2``, ``under_1_cm2``
        and by subtype), each with ``pointing`` (the peak of probability lies on the bleed), ``dice``,
        ``pixel_sensitivity``, ``pixel_precision``, ``bleed_sensitivity`` (connected bleeds of a slice that an
        outline touches); ``classified``, figures of `pipeline.evaluation.intervals.assess` for slices with
        and without a bleed on their mask; ``false_regions`` a slice, over all slices; ``volume`` from
        `volume_agreement`, and ``volume_by_subtype`` of studies with each subtype of bleed and of those with
        no bleed (``none``); ``studies``; ``failures``; ``made_for``.

    Raises
    ------
    MissingStep
        If the run has no split.
    TooFewData
        If no test slice has a mask with a bleed.
    """
    if not run.split_path.exists():
        raise MissingStep(f"{run} has no split; train first: haemo segment train --run {run}")
    rows = run.manifest().labelled
    parts = Split.read(run.split_path).parts(rows)
    own = [row for row, part in zip(rows, parts, strict=True) if part == "test"]
    test = masked_rows(own, TrueMasks(masks, read_true_masks(run)), "test")
    work = [(segmenter, row, mask) for row, mask in test]
    found: list[tuple[ManifestRow, _Agreement]] = []
    failures: list[Failure] = []
    results = in_processes(_agreement, work, jobs, progress, "drawing")
    for (row, _), one in zip(test, results, strict=True):
        if isinstance(one, str):
            failures.append(Failure(str(row.path), STAGE, one))
        else:
            found.append((row, one))
    if not any(one.true_pixels for _, one in found):
        raise TooFewData(f"no test slice of {run} has a mask with a bleed that could be used")
    every = means_by_patient(
        {"false_regions": np.array([one.false_regions for _, one in found], dtype=float)},
        np.array([row.patient for row, _ in found]),
        seed,
    )
    studies = _volumes(found)
    normal, bleed = segmenter.classes
    said = segmenter.predictions(
        [replace(row, label=bleed if one.true_pixels else normal) for row, one in found],
        [one.score for _, one in found],
        part=np.repeat("test", len(found)),
        fold=np.repeat(-1, len(found)),
    )
    result = {
        "model": name,
        "slices": len(found),
        "classified": assess(said, resampling=Resampling(seed=seed)),
        "groups": _groups(found, seed),
        "false_regions": every["false_regions"],
        "volume": _volumes_agree(studies),
        "volume_by_subtype": volumes_by_subtype(studies),
        "studies": studies,
        "failures": [asdict(one) for one in failures],
        "made_for": made_for(run),
    }
    folder = run.path / "explain"
    folder.mkdir(exist_ok=True)
    codes = run.codes()
    told = {**result, **{key: codes.hide(result[key]) for key in ("studies", "failures")}}
    write_text(folder / f"{name}.json", json.dumps(told, indent=1) + "\n")
    run.record("segment score", model=name, slices=len(found))
    return result


def volume_agreement(pairs: Sequence[tuple[float, float]]) -> dict[str, float] | None:
    """Compare volumes of studies, as Bland and Altman (1986) do: outlined less true.

    Parameters
    ----------
    pairs : sequence of (true, outlined)
        In ml, of studies with a bleed or an outline.

    Returns
    -------
    dict or None
        ``studies``, ``bias_ml``, ``low_ml`` and ``high_ml`` (limits of agreement: bias less and plus 1.96
        standard deviations), ``mean_absolute_ml``; None for under three studies.
    """
    if len(pairs) < 3:
        return None
    true, outlined = np.array(pairs, dtype=float).T
    difference = outlined - true
    spread = 1.96 * float(difference.std(ddof=1))
    bias = float(difference.mean())
    return {
        "studies": len(pairs),
        "bias_ml": bias,
        "low_ml": bias - spread,
        "high_ml": bias + spread,
        "mean_absolute_ml": float(np.abs(difference).mean()),
        "mean_true_ml": float(true.mean()),
    }


def _volumes_agree(studies: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    return volume_agreement([(one["true_ml"], one["outlined_ml"]) for one in studies])


def volumes_by_subtype(studies: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Agreement of volumes for each subtype of bleed: of all blood of the studies that have it.

    Parameters
    ----------
    studies : sequence of dict
        ``subtypes`` (list of str), ``true_ml`` and ``outlined_ml`` of each.

    Returns
    -------
    dict
        By subtype, and ``none`` for studies without blood, what `volume_agreement` says; ``studies`` alone
        where they are too few.
    """
    names = sorted({name for one in studies for name in one["subtypes"]})
    groups = {name: [one for one in studies if name in one["subtypes"]] for name in names}
    groups[_NO_BLEED] = [one for one in studies if not one["true_ml"]]
    return {name: _volumes_agree(some) or {"studies": len(some)} for name, some in groups.items() if some}


def _agreement(segmenter: Segmenter, row: ManifestRow, mask_path: Path) -> "_Agreement | str":
    from scipy import ndimage

    try:
        image = read_guarded(row.path)
        mask = read_mask(mask_path, image.pixels.shape)
        found = segmenter.draw(image)
        z_mm = place_of(row.path).z_mm
    except UnreadableSlice as error:
        return str(error)
    regions = segmenter.regions(found)
    outline = joined(regions, mask.shape)
    labels, count = ndimage.label(mask)
    touched = np.unique(labels[outline])
    pixel = None if image.spacing_mm is None else float(np.prod(image.spacing_mm))
    return _Agreement(
        true_pixels=int(mask.sum()),
        outlined_pixels=int(outline.sum()),
        common_pixels=int((mask & outline).sum()),
        bleeds=count,
        bleeds_found=int((touched > 0).sum()),
        false_regions=sum(not (region.mask & mask).any() for region in regions),
        hit=bool(mask[found.peak]),
        score=found.score,
        true_mm2=None if pixel is None else float(mask.sum() * pixel),
        outlined_mm2=None if pixel is None else float(outline.sum() * pixel),
        z_mm=z_mm,
    )


def _groups(found: Sequence[tuple[ManifestRow, _Agreement]], seed: int) -> dict[str, Any]:
    with_bleed = [(row, one) for row, one in found if one.true_pixels]
    kinds = subtypes(row.path for row, _ in with_bleed)
    own = [kinds.get(row.path, "").split("+") for row, _ in with_bleed]
    areas = np.array([np.nan if one.true_mm2 is None else one.true_mm2 for _, one in with_bleed])
    inside = {
        "all": np.ones(len(own), dtype=bool),
        "over_1_cm2": areas > LARGE_MM2,
        "under_1_cm2": areas <= LARGE_MM2,
    }
    for name in sorted({kind for some in own for kind in some if kind}):
        inside[name] = np.array([name in some for some in own])
    groups = {}
    for name, chosen in inside.items():
        if chosen.any():
            part = [one for one, taken in zip(with_bleed, chosen, strict=True) if taken]
            groups[name] = _figures([one for _, one in part], [row.patient for row, _ in part], seed)
    return groups


def _figures(some: Sequence[_Agreement], patients: Sequence[str], seed: int) -> dict[str, Any]:
    true, outlined, common, bleeds, bleeds_found = (
        np.array([getattr(one, name) for one in some], dtype=float)
        for name in ("true_pixels", "outlined_pixels", "common_pixels", "bleeds", "bleeds_found")
    )
    precision = np.divide(common, outlined, out=np.zeros(len(some)), where=outlined > 0)
    values = {
        "pointing": np.array([one.hit for one in some], dtype=float),
        "dice": np.array([one.dice for one in some]),
        "pixel_sensitivity": common / true,
        "pixel_precision": precision,
        "bleed_sensitivity": bleeds_found / bleeds,
    }
    weights = {"pixel_sensitivity": true, "pixel_precision": outlined, "bleed_sensitivity": bleeds}
    return means_by_patient(values, np.array(patients), seed, weights)


def _volumes(found: Sequence[tuple[ManifestRow, _Agreement]]) -> list[dict[str, Any]]:
    """True and outlined volume of studies with either; those whose volume cannot be known are left out."""
    kinds = subtypes(row.path for row, one in found if one.true_pixels)
    studies: dict[str, list[_Agreement]] = {}
    own: dict[str, set[str]] = {}
    for row, one in found:
        studies.setdefault(row.study, []).append(one)
        named = kinds.get(row.path, "") if one.true_pixels else ""
        own.setdefault(row.study, set()).update(filter(None, named.split("+")))
    rows = []
    for study, some in studies.items():
        if any(one.z_mm is None or one.true_mm2 is None for one in some):
            continue
        some.sort(key=lambda one: one.z_mm or 0.0)
        steps = slice_steps_mm([one.z_mm for one in some])
        if steps is None:
            continue
        true, outlined = (
            float(np.dot(steps, [getattr(one, name) for one in some])) / 1000
            for name in ("true_mm2", "outlined_mm2")
        )
        if true or outlined:
            named = {"study": study, "subtypes": sorted(own[study])}
            rows.append({**named, "true_ml": true, "outlined_ml": outlined})
    return rows
