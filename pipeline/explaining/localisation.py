"""Whether the maps point at the bleed: measured on test slices with masks, beside what knows nothing."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from haemo.atomic import write_text
from haemo.errors import MissingStep, TooFewData, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow
from haemo.features.pixels.masks import LARGE_MM2, TrueMasks, read_mask, subtypes
from haemo.features.pixels.region import Region, joined
from haemo.features.reading.reader import read_guarded
from haemo.features.reading.slice import Slice
from haemo.features.views.preprocess import View
from haemo.models.evidence.explain import ExplainedModel, randomised
from haemo.pipeline.evaluation.patient_means import means_by_patient
from haemo.pipeline.explaining.perturbation import perturbation, rank_correlation
from haemo.pipeline.explaining.regions import blood_likelihood, find_regions
from haemo.pipeline.predicting.blended_model import BlendedModel, load_model
from haemo.pipeline.predicting.trained_model import TrainedModel
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.truemasks import read_true_masks
from haemo.pipeline.segmenting.segmenter import Segmenter
from haemo.pipeline.segmenting.segmenterfolder import outliner
from haemo.pipeline.splitting.split import Split
from haemo.pipeline.splitting.splitfile import made_for, refuse_model_of_other_split
from haemo.progress import Progress, silent

__all__ = ["BASELINES", "FIGURES", "localise", "measure_map"]

log = logging.getLogger("haemo")

FIGURES = ("hit", "near", "region_hit", "iou", "dice", "energy", "mask_share")
"""What is measured on each slice, see `measure_map`; ``mask_share`` is what energy a flat map has there."""

BASELINES = ("centre", "random network", "blood alone")

_TOLERANCE_PIXELS = 15
_MOST_PERTURBED = 24
_BATCH = 16
_STAGE = "explain"


@dataclass(frozen=True, eq=False)
class _Case:
    """One test slice with a bleed, and its mask where there is one."""

    row: ManifestRow
    image: Slice
    mask: np.ndarray
    blood: np.ndarray | None
    subtype: str

    @property
    def area_mm2(self) -> float | None:
        spacing = self.image.spacing_mm
        return None if spacing is None else float(self.mask.sum() * spacing[0] * spacing[1])


def localise(
    run: RunDirectory,
    names: Sequence[str],
    *,
    masks: Path | None = None,
    method: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Score the maps of some models on the run's test slices, and write ``explain/score.json``.

    Each map is for the class that the slice is labelled with: of two classes the positive one. With more
    classes every test slice counts that has a mask with a bleed on it.

    Parameters
    ----------
    run : RunDirectory
    names : sequence of str
        Trained heads and networks.
    masks : Path, optional
        Folder of masks, see `features.pixels.masks.find_mask`.
    method : str, optional
        As for `pipeline.predicting.trained_model.TrainedModel.explained`.
    seed : int
        Of random networks and of the groups of patients.
    device : str
        Where embeddings would be computed; maps are computed on the CPU.
    progress : Progress

    Returns
    -------
    dict
        What was written: ``models`` with ``pointing`` (all, over 1 cm2, by subtype), ``perturbation`` and
        ``sanity`` each; ``baselines``, the random network in the form of the first model; ``outlines``, of
        blood by the run's segmenter or the built-in one; ``method``;
        ``slices``; ``failures``; ``made_for``, from `pipeline.splitting.splitfile.made_for`.

    Raises
    ------
    BadSettings
        If there is no model of that name.
    MissingStep
        If there is no split, or a model is not trained.
    TooFewData
        If the test side has no slice with a bleed.
    """
    if not run.split_path.exists():
        raise MissingStep(f"{run} has no trained model; train one first: haemo svm --run {run}")
    for name in names:
        refuse_model_of_other_split(run.settings(name), run, name)
    models = [load_model(run, name, device, progress) for name in names]
    networks = []
    for model in models:
        network, method = model.explained(method)
        networks.append(network)
    classes = models[0].classes
    targets = classes[1:] if len(classes) == 2 else classes
    cases, unmasked, failures = _cases(run, targets, masks, progress)
    if not cases and not unmasked:
        raise TooFewData(
            f"no test slice of {run} is labelled {' or '.join(targets)}; there is nothing to point at"
        )
    result: dict[str, Any] = {
        "method": method,
        "slices": {"with_mask": len(cases), "without_mask": len(unmasked)},
        "patients": len({case.row.patient for case in cases}),
        "models": {},
        "failures": [{"path": one.path, "reason": one.reason} for one in failures],
    }
    for number, (model, network) in enumerate(zip(models, networks, strict=True)):
        entry: dict[str, Any] = {}
        if cases:
            blank = randomised(network, seed)
            if number == 0:
                result["baselines"] = {
                    name: summary
                    for name, draw in _baselines(model, blank, method).items()
                    if (summary := _pointing(cases, draw, seed, progress, name))
                }
                result["outlines"] = {
                    "blood segmenter": _pointing(cases, _segmented(outliner(run)), seed, progress, "blood")
                }
            entry["pointing"] = _pointing(cases, _drawn(model, network, method), seed, progress, model.name)
        shown = cases or unmasked
        _, planes, labels = _planes(model, shown[:_MOST_PERTURBED])
        entry["perturbation"] = perturbation(network, planes, labels, method, seed)
        entry["sanity"] = {
            "slices": len(planes),
            "rank_correlation_with_randomised_head": _mean(
                rank_correlation(
                    network.maps(planes, method, labels),
                    randomised(network, seed, True).maps(planes, method, labels),
                )
            ),
        }
        result["models"][model.name] = entry
    folder = run.path / "explain"
    folder.mkdir(exist_ok=True)
    result["made_for"] = made_for(run)
    told = {**result, "failures": run.codes().hide(result["failures"])}
    write_text(folder / "score.json", json.dumps(told, indent=1) + "\n")
    run.record("explain", method=method, models=list(names), slices=result["slices"])
    return result


def measure_map(
    evidence: np.ndarray,
    mask: np.ndarray,
    blood: np.ndarray | None,
    spacing_mm: tuple[float, float] | None,
    regions: Sequence[Region] | None = None,
) -> dict[str, float]:
    """Compare one map with the truth.

    Parameters
    ----------
    evidence : ndarray of shape (height, width)
    mask : ndarray of the same shape, bool
        Not empty.
    blood, spacing_mm
        As for `pipeline.explaining.regions.find_regions`.
    regions : sequence of Region, optional
        What is outlined, the strongest first; by default what `find_regions` finds.

    Returns
    -------
    dict
        ``hit``: 1 if the highest evidence lies in the mask. ``near``: 1 if it lies there or at most 15 pixels
        beside, the margin of the pointing game as it was defined (Zhang et al., IJCV 2018). ``region_hit``:
        1 if the peak of the strongest region lies in the mask. ``iou`` and ``dice`` of all regions with the
        mask. ``energy``: share of the positive evidence that lies in the mask. ``mask_share``: share of the
        slice that the mask covers.
    """
    if regions is None:
        regions = find_regions(evidence, blood, spacing_mm)
    found = joined(regions, mask.shape)
    both, either = (found & mask).sum(), (found | mask).sum()
    for_it = np.maximum(evidence, 0)
    total = for_it.sum(dtype=np.float64)
    row, column = np.unravel_index(evidence.argmax(), mask.shape)
    rows, columns = np.nonzero(mask)
    distance = np.sqrt(((rows - row) ** 2 + (columns - column) ** 2).min())
    return {
        "hit": float(mask[row, column]),
        "near": float(distance <= _TOLERANCE_PIXELS),
        "region_hit": float(bool(regions) and mask[regions[0].peak]),
        "iou": float(both / either),
        "dice": float(2 * both / (found.sum() + mask.sum())),
        "energy": float(for_it[mask].sum(dtype=np.float64) / total) if total else 0.0,
        "mask_share": float(mask.mean()),
    }


Drawn = tuple[np.ndarray, Sequence[Region] | None]
Draw = Callable[[Sequence[_Case]], list[Drawn]]
"""Maps of some slices, each with what it outlines, or None where that is left to `find_regions`."""


def _planes(
    model: TrainedModel | BlendedModel, cases: Sequence[_Case]
) -> tuple[list[View], np.ndarray, list[str]]:
    """What is seen of some slices, what the network is given of it, and the class of each."""
    views = [model.preprocessing.view(case.image) for case in cases]
    planes = np.stack([model.preprocessing.level(view) for view in views])
    return views, planes, [case.row.label for case in cases]


def _drawn(model: TrainedModel | BlendedModel, network: ExplainedModel, method: str) -> Draw:
    def draw(cases: Sequence[_Case]) -> list[Drawn]:
        views, planes, labels = _planes(model, cases)
        maps = network.maps(planes, method, labels)
        return [(model.on_slice(network, own, view), None) for own, view in zip(maps, views, strict=True)]

    return draw


def _segmented(segmenter: Segmenter) -> Draw:
    def draw(cases: Sequence[_Case]) -> list[Drawn]:
        found = [segmenter.draw(case.image) for case in cases]
        return [(own.probability, segmenter.regions(own)) for own in found]

    return draw


def _baselines(model: TrainedModel | BlendedModel, blank: ExplainedModel, method: str) -> dict[str, Draw]:
    """What knows nothing of the slice, or nothing of the network: each gets the same narrowing to blood."""
    return {
        "centre": lambda cases: [(_hill(case.mask.shape), None) for case in cases],
        "random network": _drawn(model, blank, method),
        "blood alone": lambda cases: [
            (_smooth(case.blood) if case.blood is not None else np.zeros(case.mask.shape), None)
            for case in cases
        ],
    }


def _hill(shape: tuple[int, int]) -> np.ndarray:
    """A Gaussian in the middle, a quarter of the side wide."""
    lines = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 4)) ** 2) for n in shape]
    return np.outer(*lines)


def _smooth(blood: np.ndarray) -> np.ndarray:
    """What looks like blood, the broadest patch highest."""
    from scipy import ndimage

    return ndimage.gaussian_filter(blood, min(blood.shape) / 100)


def _pointing(
    cases: Sequence[_Case], draw: Draw, seed: int, progress: Progress, label: str
) -> dict[str, Any] | None:
    """Figures over all cases, those over 1 cm2, and by subtype; None where a baseline has no map at all."""
    if label == "blood alone" and all(case.blood is None for case in cases):
        return None
    rows = []
    starts = range(0, len(cases), _BATCH)
    for start in progress(starts, total=len(starts), label=f"explain: {label}"):
        part = cases[start : start + _BATCH]
        for case, (evidence, regions) in zip(part, draw(part), strict=True):
            rows.append(measure_map(evidence, case.mask, case.blood, case.image.spacing_mm, regions))
    values = np.array([[row[name] for name in FIGURES] for row in rows])
    patients = np.array([case.row.patient for case in cases])
    areas = np.array([np.nan if case.area_mm2 is None else case.area_mm2 for case in cases])
    groups = {"all": np.ones(len(cases), dtype=bool), "over_1_cm2": areas > LARGE_MM2}
    for name in sorted({part for case in cases for part in case.subtype.split("+") if part}):
        groups[name] = np.array([name in case.subtype.split("+") for case in cases])
        groups[f"{name}_over_1_cm2"] = groups[name] & groups["over_1_cm2"]
    return {
        name: means_by_patient(dict(zip(FIGURES, values[inside].T, strict=True)), patients[inside], seed)
        for name, inside in groups.items()
        if inside.any()
    }


def _cases(
    run: RunDirectory, targets: Sequence[str], masks: Path | None, progress: Progress
) -> tuple[list[_Case], list[_Case], list[Failure]]:
    """Test slices of some classes: those with a bleed on their mask, those to be shown without, and failures.

    Of two classes one is the bleed, so a slice of it without a mask can still be perturbed. With more classes
    an empty mask says that there is nothing to point at.
    """
    rows = [row for row in run.manifest().labelled if row.label in targets]
    parts = Split.read(run.split_path).parts(rows)
    rows = [row for row, part in zip(rows, parts, strict=True) if part == "test"]
    kinds = subtypes(row.path for row in rows)
    true_masks = TrueMasks(masks, read_true_masks(run))
    cases, unmasked, failures = [], [], []
    for row in progress(rows, total=len(rows), label="explain: reading"):
        found = true_masks.of(row.slice_id, row.path)
        try:
            image = read_guarded(row.path)
            mask = (
                np.zeros(image.pixels.shape, bool) if found is None else read_mask(found, image.pixels.shape)
            )
        except UnreadableSlice as error:
            failures.append(Failure(str(row.path), _STAGE, str(error)))
            continue
        blood = blood_likelihood(image) if mask.any() and image.is_hu else None
        case = _Case(row, image, mask, blood, kinds.get(row.path, ""))
        if mask.any():
            cases.append(case)
        elif found is None or len(targets) == 1:
            unmasked.append(case)
    return cases, unmasked, failures


def _mean(values: np.ndarray) -> float:
    return float(values.mean())
