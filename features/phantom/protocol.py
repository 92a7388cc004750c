"""The scanners of a cohort: what one machine and its protocol do to every patient alike."""

import math
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Protocol", "own_scanner", "scanner_of"]

_SCANNERS = 3
_WINDOWS = ((40, 80), (35, 80), (35, 90), (40, 100), (32, 75))
_KERNELS = ("H20", "H30", "H40", "STANDARD", "SOFT", "BRAIN")
# Multiples of this number fill 0..1 evenly, and unrelated to those of the golden ratio.
_STEP = math.sqrt(2)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a scanner does alike to every patient.

    A hospital has few scanners with a protocol each, so slices differ by scanner more than by patient.

    Attributes
    ----------
    scanner : int
        Which of the cohort's scanners it is.
    field_mm : float
        Width of the image.
    gantry_deg : float
        Tilt of the gantry.
    holder : str
        ``curved``, ``cup`` or ``none``: what of the head rest the image shows.
    holder_mm : float
        Its half-width.
    noise_hu : float
        Standard deviation of the noise in the brain.
    cutoff_per_mm : float
        Spatial frequency at which the kernel has fallen to 1/e: grain of the noise.
    blur_mm : float
        Standard deviation of the point spread.
    sharpening : float
        Edge enhancement of the kernel, 0 for none.
    hardening_hu : float
        Brightening of the brain next to bone, and darkening between the petrous bones, for beam hardening.
    padded : bool
        Whether pixels beyond the reconstruction circle hold a padding value.
    kernel : str
    window : tuple of int
        Centre and width that the file recommends.
    """

    scanner: int
    field_mm: float
    gantry_deg: float
    holder: str
    holder_mm: float
    noise_hu: float
    cutoff_per_mm: float
    blur_mm: float
    sharpening: float
    hardening_hu: float
    padded: bool
    kernel: str
    window: tuple[int, int]


def scanner_of(seed: int, patient: int) -> Protocol:
    """The scanner that a patient is sent to, whatever is wrong with him.

    Any run of patients is spread evenly over the scanners, and so are those of them who bleed.
    """
    chance = (np.random.default_rng([seed, 2]).random() + patient * _STEP) % 1
    scanner = int(chance * _SCANNERS)
    return _drawn(np.random.default_rng([seed, 3, scanner]), scanner)


def own_scanner(seed: int, patient: int) -> Protocol:
    """A scanner that no other patient of the cohort was sent to: the wide population is of many hospitals.

    Kernels go from soft to hard, doses and fields of view lie further apart, and pictures are made through
    windows of any width from 75 to 140 HU.
    """
    rng = np.random.default_rng([seed, 4, patient])
    usual = _drawn(rng, patient)
    return replace(
        usual,
        field_mm=rng.uniform(200, 252),
        noise_hu=float(np.clip(np.exp(rng.normal(math.log(3.0), 0.4)), 1.5, 6.5)),
        blur_mm=rng.uniform(0.3, 0.8),
        sharpening=float(rng.uniform(0.0, 0.8) if rng.random() < 0.5 else rng.uniform(0.0, 0.35)),
        hardening_hu=rng.uniform(0.0, 9.0),
        window=(int(rng.integers(30, 47)), int(rng.integers(75, 141))),
    )


def _drawn(rng: np.random.Generator, scanner: int) -> Protocol:
    return Protocol(
        scanner=scanner,
        field_mm=rng.uniform(212, 250),
        gantry_deg=float(rng.uniform(5, 22)) if rng.random() < 0.45 else 0.0,
        holder=str(rng.choice(["curved", "cup", "none"], p=[0.5, 0.25, 0.25])),
        holder_mm=rng.uniform(88, 100),
        noise_hu=float(np.clip(np.exp(rng.normal(math.log(3.6), 0.3)), 2.4, 5.4)),
        cutoff_per_mm=rng.uniform(0.28, 0.52),
        blur_mm=rng.uniform(0.35, 0.65),
        sharpening=rng.uniform(0.0, 0.35),
        hardening_hu=rng.uniform(1.0, 6.0),
        padded=bool(rng.random() < 0.35),
        kernel=str(rng.choice(_KERNELS)),
        window=tuple(int(value) for value in _WINDOWS[rng.integers(len(_WINDOWS))]),
    )
