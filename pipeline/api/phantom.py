"""The phantom cohort from Python."""

from pathlib import Path

from haemo.features.phantom import Cohort, CohortSettings, write_cohort
from haemo.progress import Progress, silent

__all__ = ["make_phantom"]


def make_phantom(
    folder: str | Path,
    patients: int = 60,
    seed: int = 0,
    *,
    format: str = "dicom",
    slices: tuple[int, int] = (20, 36),
    prevalence: float = 0.4,
    size: int = 512,
    population: str = "usual",
    workers: int | None = 1,
    progress: Progress = silent,
) -> Cohort:
    """Write a synthetic head-CT cohort with the true mask of every bleed: data for a first try.

    A figure on it says nothing about patients. The same arguments give the same bytes.

    Parameters
    ----------
    folder : str or Path
        A new or empty folder. A finished cohort of the same arguments is left as it is.
    patients, seed : int
    format : {'dicom', 'png'}
        DICOM in HU, or 8-bit PNG through each scan's own window.
    slices : tuple of int
        Fewest and most slices of a study.
    prevalence : float in 0..1
        Share of patients who bleed.
    size : int
        Rows and columns of a slice, a multiple of 4.
    population : {'usual', 'wide', 'mixed'}
        ``wide`` adds thin, pale and layered blood, children, shrunken brains, heads after surgery and askew,
        and many scanners; ``mixed`` is every other patient of each.
    workers : int, optional
        Processes; None is one a core. More than one need, in a script, ``if __name__ == "__main__":``.
    progress : Progress

    Returns
    -------
    Cohort
        With ``path``, ``rows`` (one a slice), ``bleeding`` (patients) and ``subtypes``.

    Raises
    ------
    BadSettings
        If an argument is not allowed.
    BadDataset
        If the folder holds something else.
    MissingExtra
        If nilearn, of the extra ``demo``, is not installed.
    """
    settings = CohortSettings(patients, seed, format, slices, prevalence, size, population)
    return write_cohort(Path(folder), settings, workers=workers, progress=progress)
