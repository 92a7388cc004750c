"""One phantom patient in memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.features.phantom.bleeds import Bleed
from haemo.features.phantom.settings import CohortSettings
from haemo.features.phantom.study import Study

__all__ = ["PhantomPatient", "generate_patient"]


@dataclass(frozen=True, eq=False)
class PhantomPatient:
    """A study in memory.

    Attributes
    ----------
    hu : ndarray of shape (slices, size, size), int16
    mask : ndarray of shape (slices, size, size), bool
    labels, subtypes : tuple of str
        A slice each; several subtypes are joined by ``+``.
    positions_mm : ndarray of shape (slices,), float64
    spacing_mm : float
        Of the pixels.
    parameters : dict
        Everything that was drawn.
    """

    hu: np.ndarray
    mask: np.ndarray
    labels: tuple[str, ...]
    subtypes: tuple[str, ...]
    positions_mm: np.ndarray
    spacing_mm: float
    parameters: dict[str, Any]


def generate_patient(
    seed: int,
    patient: int,
    slices: tuple[int, int] = (20, 36),
    prevalence: float = 0.4,
    size: int = 512,
    bleeding: bool | tuple[Bleed, ...] | None = None,
    population: str = "usual",
) -> PhantomPatient:
    """Make one patient's study as arrays; the same that `write_cohort` writes.

    Parameters
    ----------
    seed, patient, slices, prevalence, size, bleeding, population
        As for ``Study``.

    Raises
    ------
    MissingExtra
        If nilearn, whose tissue maps give the anatomy, is not installed.
    """
    CohortSettings(
        patients=1, seed=seed, slices=slices, prevalence=prevalence, size=size, population=population
    )
    study = Study(seed, patient, slices, prevalence, size, bleeding, population)
    made = list(study)
    return PhantomPatient(
        hu=np.stack([each.hu for each in made]),
        mask=np.stack([each.mask for each in made]),
        labels=tuple(each.label for each in made),
        subtypes=tuple("+".join(each.subtypes) for each in made),
        positions_mm=np.array([each.position_mm for each in made]),
        spacing_mm=study.scan.field_mm / size,
        parameters=study.parameters(),
    )
