"""What is outlined and how slices are scored, chosen on slices that the classifier of pixels has not seen.

Limits that are right for slices in HU are too low for pictures, which tell less: each has its own. Both are
met in several looks, as slices come from other scanners than those of the training slices.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from haemo.errors import TooFewData, UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow
from haemo.features.pixels.masks import read_mask
from haemo.features.pixels.variation import vary
from haemo.features.reading.reader import read_guarded
from haemo.features.views.resize import resized
from haemo.pipeline.segmenting.sampling import STAGE, in_processes
from haemo.pipeline.segmenting.segmenter import Segmenter, log_ratio
from haemo.progress import Progress, silent

__all__ = ["OPERATING_SCHEMA", "Look", "looks_at", "platt", "tuned"]

OPERATING_SCHEMA = 2
"""Of how this is chosen: a segmenter that was trained before is trained anew when it is asked for."""

_LEAST_LOOKS = 20  # normal ones of a kind, and ones with a bleed, for limits of their own
_STREAM = 1  # of random numbers: other looks than those that were learned from


@dataclass(frozen=True)
class Look:
    """What was drawn on one look of a slice.

    Attributes
    ----------
    blood : int
        Pixels of blood on its mask.
    is_hu : bool
    score : float
        Of the map.
    regions : tuple of (float, int, int)
        Of each that may be outlined its bulk, its pixels, and how many of these are blood.
    """

    blood: int
    is_hu: bool
    score: float
    regions: tuple[tuple[float, int, int], ...] = ()

    def dice(self, limits: np.ndarray) -> np.ndarray:
        """Dice of what is outlined from each of some limits of bulk, shape (m,); 1 where both are empty."""
        bulks, pixels, hit = np.array(self.regions, dtype=float).reshape(-1, 3).T
        outlined = bulks >= limits[:, None]
        total = outlined @ pixels + self.blood
        return np.where(total > 0, 2.0 * (outlined @ hit) / np.maximum(total, 1), 1.0)


def looks_at(
    segmenter: Segmenter,
    rows: Sequence[tuple[ManifestRow, Path | None]],
    *,
    seed: int,
    looks: int,
    palest_hu: float | None = None,
    jobs: int | None = None,
    progress: Progress = silent,
) -> tuple[list[Look], list[Failure]]:
    """Draw each slice as it is, and those in HU in `looks` other looks (`features.pixels.variation`) too.

    Slices without a mask have no blood.
    """
    work = [(segmenter, row, mask, seed, look, palest_hu) for look in range(looks + 1) for row, mask in rows]
    found, failures = [], []
    results = in_processes(_look, work, jobs, progress, "looking")
    for (_, row, _, _, look, _), one in zip(work, results, strict=True):
        if isinstance(one, Look):
            found.append(one)
        elif one is not None and look == 0:
            failures.append(Failure(str(row.path), STAGE, one))
    return found, failures


def _look(
    segmenter: Segmenter,
    row: ManifestRow,
    mask_path: Path | None,
    seed: int,
    look: int,
    palest_hu: float | None,
) -> "Look | str | None":
    """None where a slice has no such look: a picture has but one."""
    name = zlib.crc32(row.slice_id.encode("utf-8", "surrogateescape"))
    try:
        image = read_guarded(row.path)
        if look and not image.is_hu:
            return None
        shape = image.pixels.shape
        mask = np.zeros(shape, dtype=bool) if mask_path is None else read_mask(mask_path, shape)
        if look:
            image = vary(image, mask, np.random.default_rng([seed, _STREAM, look, name]), palest_hu)
        found = segmenter.draw(image)
    except UnreadableSlice as error:
        return str(error)
    blood = resized(mask.astype(np.float32), image.pixels.shape) >= 0.5  # another look may have other pixels
    regions = tuple(
        (float(found.bulk(one)), int(one.mask.sum()), int((one.mask & blood).sum()))
        for one in segmenter.candidates(found)
    )
    return Look(max(int(blood.sum()), int(mask.any())), image.is_hu, found.score, regions)


def tuned(segmenter: Segmenter, looks: Sequence[Look]) -> Segmenter:
    """The segmenter with limits from looks at slices, in HU and on pictures.

    A region is outlined from the bulk at which the mean Dice of slices is highest, those without blood and
    those with it counting as much, where no outline on a slice without blood is a Dice of 1 and any of 0.
    Where there are too few of a kind, all decide for it. Scores of pictures get log odds of their own, where
    there are enough.
    """
    is_hu, scores = (np.array([getattr(one, name) for one in looks]) for name in ("is_hu", "score"))
    bleeds = np.array([one.blood > 0 for one in looks])
    if bleeds.all():
        raise TooFewData(
            "what is outlined is chosen on held-out slices without blood, and none could be used"
        )
    limits = {}
    for name, kind in (("hu", is_hu), ("picture", ~is_hu)):
        enough = min((kind & bleeds).sum(), (kind & ~bleeds).sum()) >= _LEAST_LOOKS
        limits[name] = _best_bulk([one for one, own in zip(looks, kind, strict=True) if own or not enough])
    facts = {**segmenter.facts, "bulk_thresholds": limits}
    if min((bleeds & ~is_hu).sum(), (~bleeds & ~is_hu).sum()) >= _LEAST_LOOKS and is_hu.any():
        slope, intercept = platt(scores[~is_hu], bleeds[~is_hu])
        facts |= {"picture_slope": slope, "picture_intercept": intercept}
    return replace(segmenter, facts=facts)


def _best_bulk(looks: Sequence[Look]) -> float:
    """The limit with the highest mean Dice: the middle of the first stretch that has it."""
    bulks = np.unique([0.0, *(bulk for one in looks for bulk, _, _ in one.regions)])
    limits = np.append(bulks[1:], bulks[-1] + 1)  # the last outlines nothing
    kinds = [[one.dice(limits) for one in looks if (one.blood > 0) == bleeds] for bleeds in (False, True)]
    gain = np.mean([np.mean(kind, axis=0) for kind in kinds if kind], axis=0)
    first = int(gain.argmax())
    return float((bulks[first] + limits[first]) / 2)


def platt(scores: np.ndarray, bleeds: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the log odds of a bleed over those of scores (Platt)."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e3).fit(log_ratio(scores)[:, None], bleeds)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
