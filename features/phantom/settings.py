"""What a cohort is made from."""

from dataclasses import asdict, dataclass
from typing import Any

from haemo.errors import BadSettings
from haemo.features.phantom.volume_files import VOLUME_FORMATS
from haemo.features.phantom.writing import FORMATS

__all__ = ["POPULATIONS", "CohortSettings"]

POPULATIONS = ("usual", "wide", "mixed")

_MOST_SLICES = 400


@dataclass(frozen=True)
class CohortSettings:
    """What a cohort is made from; all of it is in cohort.json.

    Attributes
    ----------
    patients : int
    seed : int
    format : str
        ``dicom`` or ``png``, a file a slice; ``nifti``, ``nrrd``, ``metaimage``, ``enhanced``, one a patient.
    slices : tuple of int
        Fewest and most slices of a study.
    prevalence : float
        Share of patients who bleed, 0..1.
    size : int
        Rows and columns of a slice, a multiple of 4.
    population : str
        ``usual``, adults with plain acute bleeds on three scanners; or ``wide``, which adds thin, pale, mixed
        and layered blood, children, shrunken brains, heads after surgery, heads askew, vessels and many
        scanners; or ``mixed``, every other patient of each.

    Raises
    ------
    BadSettings
        If a value is not allowed.
    """

    patients: int = 60
    seed: int = 0
    format: str = "dicom"
    slices: tuple[int, int] = (20, 36)
    prevalence: float = 0.4
    size: int = 512
    population: str = "usual"

    def __post_init__(self) -> None:
        if self.patients < 1:
            raise BadSettings(f"a cohort needs at least 1 patient, not {self.patients}")
        if self.seed < 0:
            raise BadSettings(f"the seed is {self.seed}; it must not be negative")
        formats = (*FORMATS, *VOLUME_FORMATS)
        if self.format not in formats:
            raise BadSettings(f"format is {self.format!r}; it must be one of {', '.join(formats)}")
        fewest, most = self.slices
        if not 1 <= fewest <= most <= _MOST_SLICES:
            raise BadSettings(f"slices are {fewest}..{most}; write them as 8..40, at most {_MOST_SLICES}")
        if not 0 <= self.prevalence <= 1:
            raise BadSettings(f"prevalence is {self.prevalence}; it must lie in 0..1")
        if self.size < 64 or self.size % 4:
            raise BadSettings(f"size is {self.size}; it must be a multiple of 4, at least 64")
        if self.population not in POPULATIONS:
            raise BadSettings(
                f"population is {self.population!r}; it must be one of {', '.join(POPULATIONS)}"
            )

    def record(self) -> dict[str, Any]:
        """The settings as cohort.json has them: `population` is named there unless it is the usual one."""
        record = asdict(self)
        if self.population == POPULATIONS[0]:
            del record["population"]
        return record
