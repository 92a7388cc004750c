"""A trunk for stage one, trained on the masks of training patients and judged on the test patients."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from haemo.errors import BadSettings, TooFewData, WeightsUnavailable
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow
from haemo.features.pixels.masks import LARGE_MM2, TrueMasks
from haemo.features.pixels.variation import VARIATION_SCHEMA
from haemo.models.networks.blood_cells import BARELY, BloodCells, blood_in_cells, cells_of, slice_scores
from haemo.models.networks.engine import resolve_precision
from haemo.models.training.blood_trunk import TrunkSettings, train_blood_trunk
from haemo.models.training.checkpoint import Checkpoint, read_network, write_network
from haemo.models.training.plane_looks import brain_window
from haemo.models.weights import imagenet
from haemo.pipeline.evaluation.intervals import assess
from haemo.pipeline.evaluation.patient_means import means_by_patient
from haemo.pipeline.run.directory import RunDirectory, software_versions
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.run.truemasks import read_true_masks
from haemo.pipeline.segmenting.sampling import MaskedRow, masked_rows
from haemo.pipeline.segmenting.training import masks_hash
from haemo.pipeline.segmenting.trunk_planes import VIEW, MaskedPlanes, masked_planes
from haemo.pipeline.splitting.cohort import Cohort
from haemo.pipeline.splitting.protocols import SplitRequest
from haemo.pipeline.trained.modelfolder import facts_key
from haemo.progress import Progress, silent

__all__ = ["TrunkResult", "answers_of", "judge_trunk", "train_trunk"]

log = logging.getLogger("haemo")

_SCHEMA = 1
_STARTED_FROM = (
    "ImageNet weights of torchvision's AlexNet: code and weights BSD-3-Clause; the images of ImageNet, which "
    "they were trained on, are for non-commercial research"
)


@dataclass(frozen=True, eq=False)
class TrunkResult:
    """What training a trunk came to.

    Attributes
    ----------
    facts : dict
        What the header of the file holds.
    judged : dict or None
        From `judge_trunk`, of the test patients; None where it cannot be done, which is said in the log.
    failures : list of Failure
    up_to_date : bool
        Whether the file was there already, from the same settings and data.
    """

    facts: dict[str, Any]
    judged: dict[str, Any] | None
    failures: list[Failure]
    up_to_date: bool


def train_trunk(
    runs: Sequence[RunDirectory],
    out: Path,
    settings: TrunkSettings,
    *,
    looks: int = 1,
    palest_hu: float | None = None,
    weights: str = "auto",
    note: str = "",
    split: SplitRequest | None = None,
    seed: int = 0,
    jobs: int | None = None,
    progress: Progress = silent,
) -> TrunkResult:
    """Train on the training patients of some runs that have masks, and write one file of float16 weights.

    A training that was stopped goes on from ``OUT.checkpoint``. The test patients are looked at with the
    weights as they were written, and choose nothing.

    Parameters
    ----------
    runs : sequence of RunDirectory
    out : Path
        A .safetensors file, for ``haemo features --weights``.
    settings : TrunkSettings
    looks : int
        Looks of each slice beside the slice as it is.
    palest_hu : float, optional
        Looks make the blood of a slice no paler than this, see `features.pixels.variation.vary`.
    weights : str
        To begin with, of `models.weights.imagenet.resolve_weights`.
    note : str
        What its file shall say of it.
    split : SplitRequest, optional
        Of each run; by default the one that it has.
    seed : int
    jobs : int, optional
        Processes that read slices; None is one a core.
    progress : Progress

    Raises
    ------
    BadSettings
        If `out` is no .safetensors file, or one of something else.
    MissingStep, TooFewData
        If a run has not been indexed, or has no masks, or none with blood.
    WeightsUnavailable, TrainingDiverged
        If there is nothing to begin with, or the loss is not finite.
    """
    if out.suffix != ".safetensors":
        raise BadSettings(
            f"the trunk {out} is no .safetensors file; name one, as {out.with_suffix('.safetensors')}"
        )
    before = _facts_of(out) if out.exists() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    start = imagenet.resolve_weights(weights, need="pool5", progress=progress)
    cohorts = [Cohort.of(run, split) for run in runs]
    sides = [_sides(cohort) for cohort in cohorts]
    for cohort in cohorts:  # not before each is known to have masks
        cohort.keep()
    train, test = [], []
    for number, (own_train, own_test) in enumerate(sides):
        train += [(_of_run(row, number), mask) for row, mask in own_train]
        test += [(_of_run(row, number), mask) for row, mask in own_test]
    settings = replace(settings, precision=resolve_precision(settings.precision, "cpu"))
    facts: dict[str, Any] = {
        "trunk": _SCHEMA,
        **{name: getattr(settings, name) for name in ("steps", "batch", "rate", "head_rate", "varied")},
        "precision": settings.precision,
        "looks": looks,
        "variation": VARIATION_SCHEMA if looks else 0,
        **({} if palest_hu is None else {"palest_hu": palest_hu}),
        "view": VIEW.describe(),
        "seed": seed,
        "started_from": start.sha256,
        **({"started_from_licence": _STARTED_FROM} if weights in ("auto", "trunk") else {}),
        "slices": len(train),
        "patients": len({row.patient for row, _ in train}),
        "masks": masks_hash(train),
        "note": note,
        "torch": software_versions()["torch"],
    }
    facts["key"] = facts_key(facts)
    up_to_date = before.get("key") == facts["key"]
    failures: list[Failure] = []
    if up_to_date:
        log.info("%s is up to date: same settings, same data", out)
    else:
        learned = masked_planes(
            train, looks=looks, seed=seed, palest_hu=palest_hu, jobs=jobs, progress=progress
        )
        failures += learned.failures
        checkpoint = Checkpoint(out.with_name(out.name + ".checkpoint"), facts["key"])
        trained = train_blood_trunk(
            learned.planes,
            learned.masks,
            start,
            settings,
            wide=learned.wide,
            seed=seed,
            checkpoint=checkpoint,
            progress=progress,
        )
        write_network(out, trained, facts)
        checkpoint.remove()
    seen = masked_planes(test, jobs=jobs, progress=progress)
    judged = None
    try:
        judged = judge_trunk(BloodCells.of(read_network(out)[0]), seen, seed)
    except TooFewData as error:
        log.warning("not judged: %s", error)
    return TrunkResult(facts, judged, [*failures, *seen.failures], up_to_date)


def judge_trunk(network: BloodCells, seen: MaskedPlanes, seed: int = 0) -> dict[str, Any]:
    """How well a trunk's last layer finds blood on planes in stage one's brain window.

    Returns
    -------
    dict
        ``cells_roc_auc``; ``classified``, figures of `pipeline.evaluation.intervals.assess` for slices with
        and without blood on their mask, by the log-sum-exp of their cells; ``pointing``, over bleeds of more
        than 1 cm2, how often the cell of the highest log odds has blood.

    Raises
    ------
    TooFewData
        If there is no slice with blood, or none without.
    """
    import torch
    from sklearn.metrics import roc_auc_score

    bleeds = seen.masks.any(axis=(1, 2))
    if not len(bleeds) or bleeds.all() or not bleeds.any():
        raise TooFewData(
            "a trunk is judged on test slices with blood and without, and one of the two is missing"
        )
    cells = cells_of(network, brain_window(seen.planes, seen.wide))
    shares = blood_in_cells(torch.from_numpy(seen.masks)).numpy()
    scores = slice_scores(cells)
    classes = ("normal", "bleed")
    labelled = [replace(row, label=classes[int(bleed)]) for row, bleed in zip(seen.rows, bleeds, strict=True)]
    large = np.flatnonzero(seen.areas_mm2 > LARGE_MM2)
    flat = shares.reshape(len(shares), -1)
    hottest = cells.reshape(len(cells), -1).argmax(axis=1)
    hits = flat[large, hottest[large]] > BARELY
    patients = np.array([row.patient for row in seen.rows])
    pointing = means_by_patient({"hit": hits.astype(float)}, patients[large], seed) if len(large) else {}
    return {
        "slices": len(scores),
        "cells_roc_auc": float(roc_auc_score(flat.ravel() > BARELY, cells.ravel())),
        "classified": assess(answers_of(labelled, scores, classes)),
        "large_bleeds": len(large),
        "pointing": pointing.get("hit"),
    }


def answers_of(rows: Sequence[ManifestRow], scores: np.ndarray, classes: tuple[str, str]) -> Predictions:
    """Log odds of the second class, of slices that nothing has learned from, as predictions."""
    from scipy.special import expit

    return Predictions.of_rows(
        rows,
        part=np.repeat("test", len(scores)),
        fold=np.repeat(-1, len(scores)),
        scores=scores,
        probabilities=expit(scores),
        predicted=np.array(classes)[(scores > 0).astype(int)],
        classes=classes,
    )


def _sides(cohort: Cohort) -> tuple[list[MaskedRow], list[MaskedRow]]:
    """Training and test slices of a run, with their masks."""
    rows = cohort.manifest.labelled
    parts = cohort.split.parts(rows)
    masks = TrueMasks(None, read_true_masks(cohort.run))
    train, test = (
        masked_rows([row for row, part in zip(rows, parts, strict=True) if part == side], masks, side)
        for side in ("train", "test")
    )
    return train, test


def _facts_of(path: Path) -> dict[str, Any]:
    try:
        return read_network(path)[1]
    except WeightsUnavailable as error:
        raise BadSettings(f"{path} is there, and no trunk that haemo trained; name another file") from error


def _of_run(row: ManifestRow, number: int) -> ManifestRow:
    """A row whose patient is told from those of other runs."""
    return replace(row, patient=f"{number}/{row.patient}")
