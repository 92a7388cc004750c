"""Regions of interest on a slice: what is hot in a map of evidence, narrowed to blood where HU are known."""

import numpy as np

from haemo.features.pixels.region import Region, pieces
from haemo.features.reading.slice import Slice

__all__ = ["HOT_SHARE", "blood_likelihood", "find_regions"]

HOT_SHARE = 0.5
"""A pixel is hot from this share of the highest evidence on its slice."""

# Acute blood is 50 to 80 HU, gray matter 37 to 45. A pixel counts in between in proportion.
_BLOOD_FROM_HU, _BLOOD_FULL_HU = 48.0, 58.0
_BONE_FROM_HU = 100.0
_SMOOTHING_MM = 1.5
_OPENING_MM = 3.0
_BROAD_MM = 2.0
_LEAST_BLOOD_MM2 = 20.0
_USUAL_SPACING_MM = 0.45  # of a head CT of 230 mm in 512 pixels; for HU slices that do not say theirs


def find_regions(
    evidence: np.ndarray,
    blood: np.ndarray | None,
    spacing_mm: tuple[float, float] | None,
    share: float = HOT_SHARE,
) -> list[Region]:
    """Outline what speaks for a bleed.

    Hot is what has at least `share` of the highest evidence. Where it is known what looks like blood, the
    patches of blood of at least 20 mm2 with any evidence for a bleed take its place, whole; if there is none,
    what is hot stands as it is. Evidence is coarse and blood is not, so patches are ranked, and their peaks
    found, by the product of both.

    Parameters
    ----------
    evidence : ndarray of shape (height, width)
        On the slice's own pixels; above 0 speaks for a bleed.
    blood : ndarray of shape (height, width), in 0..1, or None
        From `blood_likelihood`; None where the slice is not in HU.
    spacing_mm : tuple of float or None
        Row and column spacing.
    share : float in 0..1

    Returns
    -------
    list of Region
        The strongest first; empty where nothing speaks for a bleed.
    """
    highest = float(evidence.max())
    if highest <= 0:
        return []
    strength, chosen = evidence, evidence >= share * highest
    patches = np.zeros_like(chosen) if blood is None else _patches_of_blood(blood, evidence > 0, spacing_mm)
    is_blood = bool(patches.any())
    if is_blood:
        strength, chosen = evidence * _broad(blood, spacing_mm), patches
    return pieces(chosen, strength, is_blood, spacing_mm)


def blood_likelihood(image: Slice) -> np.ndarray:
    """How much each pixel of an HU slice looks like acute blood inside the skull.

    HU are smoothed over brain tissue alone (bone and what it blurs into are left out of the mean, so that the
    inner table does not look like blood), then 48 to 58 HU become 0 to 1. The brain is the largest piece of
    soft tissue that is left after an opening by 3 mm.

    Returns
    -------
    ndarray of shape (height, width), float32, in 0..1
    """
    from scipy import ndimage

    spacing = image.spacing_mm or (_USUAL_SPACING_MM, _USUAL_SPACING_MM)
    pixel = float(np.sqrt(spacing[0] * spacing[1]))
    brain = _brain(image.pixels, pixel)
    tissue = (brain & (image.pixels > -20) & (image.pixels < _BONE_FROM_HU)).astype(np.float32)
    weight = ndimage.gaussian_filter(tissue, _SMOOTHING_MM / pixel)
    total = ndimage.gaussian_filter(image.pixels * tissue, _SMOOTHING_MM / pixel)
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0.15)
    return np.clip((mean - _BLOOD_FROM_HU) / (_BLOOD_FULL_HU - _BLOOD_FROM_HU), 0, 1) * brain


def _brain(hu: np.ndarray, pixel_mm: float) -> np.ndarray:
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(np.clip(hu, -200, 150), 1.0 / pixel_mm)
    soft = (smooth > 5) & (smooth < _BONE_FROM_HU)
    # Opening by a disc, through distances: pieces that hang together by less than its width come apart. On
    # every second pixel, which is fine enough for that and four times as fast.
    coarse, reach = soft[::2, ::2], _OPENING_MM / (2 * pixel_mm)
    labels, count = ndimage.label(ndimage.distance_transform_edt(coarse) > reach)
    if not count:
        return np.zeros(hu.shape, dtype=bool)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    grown = ndimage.binary_fill_holes((ndimage.distance_transform_edt(~largest) <= reach) & coarse)
    return grown.repeat(2, axis=0).repeat(2, axis=1)[: hu.shape[0], : hu.shape[1]]


def _patches_of_blood(
    blood: np.ndarray, with_evidence: np.ndarray, spacing_mm: tuple[float, float] | None
) -> np.ndarray:
    from scipy import ndimage

    height, width = spacing_mm or (_USUAL_SPACING_MM, _USUAL_SPACING_MM)
    labels, count = ndimage.label(blood >= 0.5)
    areas = np.bincount(labels.ravel(), minlength=count + 1) * height * width
    touched = np.bincount(labels[with_evidence], minlength=count + 1) > 0
    chosen = touched & (areas >= _LEAST_BLOOD_MM2)
    chosen[0] = False
    return chosen[labels]


def _broad(blood: np.ndarray, spacing_mm: tuple[float, float] | None) -> np.ndarray:
    """What looks like blood, the middle of a broad patch highest."""
    from scipy import ndimage

    height, width = spacing_mm or (_USUAL_SPACING_MM, _USUAL_SPACING_MM)
    return ndimage.gaussian_filter(blood, (_BROAD_MM / height, _BROAD_MM / width))
