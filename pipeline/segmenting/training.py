"""A segmenter trained on the masks of a run's training patients, and judged on its test slices."""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import TooFewData, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow
from haemo.features.pixels.masks import TrueMasks, mask_values
from haemo.features.pixels.variation import VARIATION_SCHEMA
from haemo.features.reading.address import SliceAddress
from haemo.models.heads.thresholds import ThresholdRule
from haemo.models.pixels.pixel_classifier import PixelClassifier, fit_pixels
from haemo.pipeline.evaluation.intervals import assess
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.directory import SEGMENTER, RunDirectory, software_versions
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.run.truemasks import read_true_masks
from haemo.pipeline.segmenting.operating import OPERATING_SCHEMA, looks_at, platt, tuned
from haemo.pipeline.segmenting.pixel_features import BOTH, pixels_described
from haemo.pipeline.segmenting.sampling import MaskedRow, Pixels, drawn_slices, masked_rows, sample
from haemo.pipeline.segmenting.segmenter import Segmenter, log_ratio
from haemo.pipeline.segmenting.segmenterfolder import SegmenterFolder
from haemo.pipeline.segmenting.trunk import pixel_features
from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.splitting.protocols import SplitRequest
from haemo.pipeline.trained.modelfolder import facts_key
from haemo.progress import Progress, silent

__all__ = ["SegmenterResult", "SegmenterSettings", "fit_segmenter", "masks_hash", "train_segmenter"]

log = logging.getLogger("haemo")

_MOST_WEIGHT = 60.0
_THRESHOLDS = np.arange(0.1, 0.91, 0.05).round(2)
_LEAST_SLICES = 3  # of each class, to fit the probability of a slice


@dataclass(frozen=True)
class SegmenterSettings:
    """What decides what a segmenter becomes, beside the data and the split.

    Attributes
    ----------
    kind : str
        Of `models.pixels.pixel_classifier.KINDS`.
    varied : bool
        Whether slices in HU are given another look each, see `features.pixels.variation.vary`.
    looks : int
        How many looks of each slice are learned from, and what is outlined is chosen on, beside the slice as
        it is.
    start : Segmenter, optional
        Its classifier of pixels is taken as it is; what is outlined and called bleeding is chosen anew, on
        all training patients. `kind` and `features` are then not looked at.
    features : str
        What pixels are described by, of `pixel_features.FEATURES`.
    trunk_steps : int
        How long the trunk is trained for features that have ``trained`` in their name.
    palest_hu : float, optional
        Other looks make the blood of a slice no paler than this, by its median: for masks of pale blood, and
        phantoms of the wide population.
    """

    kind: str = "trees"
    varied: bool = True
    looks: int = 1
    start: Segmenter | None = None
    features: str = BOTH
    trunk_steps: int = 400
    palest_hu: float | None = None


@dataclass(frozen=True, eq=False)
class SegmenterResult:
    """What training a segmenter came to; attributes as of `pipeline.training.head.HeadResult`."""

    facts: dict[str, Any]
    metrics: dict[str, Any]
    predictions: Predictions
    failures: list[Failure]
    up_to_date: bool


def train_segmenter(
    run: RunDirectory,
    settings: SegmenterSettings | None = None,
    *,
    masks: Any = None,
    split: SplitRequest | None = None,
    jobs: int | None = None,
    progress: Progress = silent,
) -> SegmenterResult:
    """Train a segmenter on the training slices with masks, and score the test slices once.

    The first fold's patients are held out at first: on them the threshold of pixels, which regions are
    outlined, the probability of a slice and its threshold are chosen. Then the classifier is fitted on all
    training patients.

    Parameters
    ----------
    run : RunDirectory
    settings : SegmenterSettings, optional
    masks : Path, optional
        Folder of masks, see `features.pixels.masks.find_mask`.
    split : SplitRequest, optional
        The classifier's own randomness takes the split's seed.
    jobs : int, optional
        Processes that read and draw slices; None is one a core.
    progress : Progress

    Raises
    ------
    MissingStep
        If the run has not been indexed.
    TooFewData
        If there are not two classes, no masks, or too few held-out slices of either class.
    RunLocked
        If another process is training it.
    """
    began = time.monotonic()
    settings = settings or SegmenterSettings()
    run.require_manifest()
    with claim(run.path, SEGMENTER):
        cohort = Cohort.of(run, split)
        if len(cohort.classes) != 2:
            raise TooFewData(
                f"a segmenter tells blood from none: the run needs two classes, and has {len(cohort.classes)}"
            )
        rows = cohort.manifest.labelled
        parts = cohort.split.parts(rows)
        train = [row for row, part in zip(rows, parts, strict=True) if part == "train"]
        test = [row for row, part in zip(rows, parts, strict=True) if part == "test"]
        masked = masked_rows(train, TrueMasks(masks, read_true_masks(run)), "training")
        cohort.keep()
        facts = _facts(settings, cohort, masked)
        folder = SegmenterFolder(run.model_path(SEGMENTER))
        if folder.is_complete(facts["key"]):
            log.info("%s is up to date: same settings, same data", folder.path)
            return SegmenterResult(folder.facts(), folder.metrics(), folder.predictions(), [], True)
        folds = cohort.split.fold_numbers(train)
        held = [row for row, fold in zip(train, folds, strict=True) if fold == 0 or settings.start]
        segmenter, failures, chosen = fit_segmenter(
            settings,
            masked,
            held,
            cohort.classes,
            cohort.split.seed,
            jobs=jobs,
            progress=progress,
        )
        drawn, unread = drawn_slices(segmenter, [(row, None) for row in test], (), jobs, progress)
        predictions = segmenter.predictions(
            [row for row, _ in chosen] + [one.row for one in drawn],
            [score for _, score in chosen] + [one.score for one in drawn],
            part=np.repeat(["cv", "test"], [len(chosen), len(drawn)]),
            fold=np.repeat([0, -1], [len(chosen), len(drawn)]),
        )
        segmenter = segmenter.with_study_rules(predictions.of_part("cv"))
        metrics = {part: assess(predictions.of_part(part)) for part in ("cv", "test")}
        failures += unread
        facts |= {
            **segmenter.facts,
            "threshold_rule": "youden",
            "slices": {"train": len(masked), "test": len(drawn), "missing": len(failures)},
            "test_judgements": run.count_judgement(SEGMENTER, cohort.split.hash, facts["key"]),
            "seconds": round(time.monotonic() - began, 2),
        }
        folder.write(segmenter, facts, metrics, predictions)
        run.replace_failures(SEGMENTER, failures)
        run.record(SEGMENTER, **facts)
        return SegmenterResult(facts, metrics, predictions, failures, False)


def fit_segmenter(
    settings: SegmenterSettings,
    masked: Sequence[MaskedRow],
    held: Sequence[ManifestRow],
    classes: tuple[str, ...],
    seed: int,
    *,
    jobs: int | None = None,
    progress: Progress = silent,
) -> tuple[Segmenter, list[Failure], list[tuple[ManifestRow, float]]]:
    """Fit on slices with masks, choose what remains on held-out patients, and fit again on all.

    Returns
    -------
    segmenter : Segmenter
    failures : list of Failure
    chosen : list of (ManifestRow, float)
        The held-out slices with the scores that they got from the classifier that had not seen them.
    """
    from scipy.special import expit

    failures: list[Failure] = []
    pixels: Pixels | None = None
    if settings.start is None:
        patients = {row.patient for row in held}
        how: dict[str, Any] = {"seed": seed, "varied": settings.varied, "looks": settings.looks}
        # The trunk is trained once, on the patients that are not held out.
        rest = [one for one in masked if one[0].patient not in patients]
        features = pixel_features(
            settings.features, rest, steps=settings.trunk_steps, **how, jobs=jobs, progress=progress
        )
        pixels = sample(
            masked,
            **how,
            palest_hu=settings.palest_hu,
            features=features,
            jobs=jobs,
            progress=progress,
        )
        failures += pixels.failures
        learned = ~np.isin(pixels.patients, sorted(patients))
        first = _fit(settings.kind, pixels.of(learned), seed)
        learned_from = {"slices": len(masked), "patients": len(np.unique(pixels.patients))}
    else:
        first, features = settings.start.classifier, settings.start.features
        learned_from = settings.start.facts["learned_from"]
    mask_of = {row.slice_id: mask for row, mask in masked}
    wanted = [(row, mask_of.get(row.slice_id)) for row in held]
    untold = Segmenter(first, {"classes": list(classes)}, features)
    found, unread = drawn_slices(untold, wanted, tuple(_THRESHOLDS), jobs, progress)
    scores = np.array([one.score for one in found])
    bleeds = np.array([one.row.label == classes[1] for one in found])
    if min(bleeds.sum(), (~bleeds).sum()) < _LEAST_SLICES:
        raise TooFewData(
            f"the probability of a slice needs {_LEAST_SLICES} held-out slices of each class; "
            f"there are {int(bleeds.sum())} {classes[1]} and {int((~bleeds).sum())} {classes[0]}"
        )
    slope, intercept = platt(scores, bleeds)
    chances = expit(slope * log_ratio(scores) + intercept)
    best = _best_threshold([one.dice for one in found if one.dice is not None])
    facts = {
        "classes": list(classes),
        "pixels": pixels_described(features.name),
        "pixel_threshold": float(_THRESHOLDS[best]),
        "slice_slope": slope,
        "slice_intercept": intercept,
        "threshold": ThresholdRule("youden").choose(bleeds, chances),
        "learned_from": learned_from,
    }
    if settings.start is not None:
        facts["tuned_on"] = {"slices": len(found), "patients": len({one.row.patient for one in found})}
    known = [(row, mask) for row, mask in wanted if mask is not None or row.label == classes[0]]
    varied_looks = settings.looks if settings.varied else 0
    untuned = replace(untold, facts=facts)
    seen, _ = looks_at(
        untuned,
        known,
        seed=seed,
        looks=varied_looks,
        palest_hu=settings.palest_hu,
        jobs=jobs,
        progress=progress,
    )
    told = tuned(untuned, seen)
    last = first if pixels is None else _fit(settings.kind, pixels, seed)
    chosen = [(one.row, told.score(one.score, one.is_hu)) for one in found]
    return replace(told, classifier=last), [*failures, *unread], chosen


def _fit(kind: str, pixels: Pixels, seed: int) -> PixelClassifier:
    # By their root and no more than a bound: were each counted for all the pixels that it stands for, bleeds
    # of a few mm would not be worth outlining.
    weights = np.sqrt(np.minimum(pixels.weights, _MOST_WEIGHT))
    return fit_pixels(kind, pixels.X, pixels.y, weights, pixels.patients, seed)


def _best_threshold(dice: Sequence[np.ndarray]) -> int:
    """Which threshold of pixels has the highest mean Dice over held-out slices with a bleed."""
    if not dice:
        raise TooFewData("no held-out slice has a mask with a bleed; the threshold of pixels needs some")
    return int(np.mean(dice, axis=0).argmax())


def _facts(settings: SegmenterSettings, cohort: Cohort, masked: Sequence[MaskedRow]) -> dict[str, Any]:
    facts = {
        "name": SEGMENTER,
        "kind": settings.start.classifier.kind if settings.start else settings.kind,
        **({"start": settings.start.hash} if settings.start else {}),
        "operating": OPERATING_SCHEMA,
        "varied": VARIATION_SCHEMA if settings.varied else 0,
        "looks": settings.looks,
        **({} if settings.palest_hu is None else {"palest_hu": settings.palest_hu}),
        "seed": cohort.split.seed,
        "split": cohort.split.hash,
        "protocol": str(cohort.split.protocol),
        "leaky": cohort.split.leaky,
        "classes": list(cohort.classes),
        "pixels": pixels_described(settings.start.features.name if settings.start else settings.features),
        **({"trunk_steps": settings.trunk_steps} if "trained" in settings.features else {}),
        "masks": masks_hash(masked),
        "versions": {
            name: version
            for name, version in software_versions().items()
            if name in ("haemo", "scikit-learn", "numpy")
        },
    }
    facts["key"] = facts_key(facts)
    return facts


def masks_hash(masked: Sequence[MaskedRow]) -> str:
    """sha256 over the ids of slices and the bytes of their masks, of a volume those of its slice."""
    whole = hashlib.sha256()
    for row, mask in sorted(masked, key=lambda pair: pair[0].slice_id):
        whole.update(row.slice_id.encode("utf-8", "surrogateescape") + b"\0" + _bytes_of(mask))
    return whole.hexdigest()


def _bytes_of(mask: Path) -> bytes:
    if SliceAddress.of(mask).number is None:
        return mask.read_bytes()
    try:
        return mask_values(mask).tobytes()
    except UnreadableSlice:
        return b""  # it is named when it is to be learned from
