"""One patient's study: slices of a head in HU, with the true mask of every bleed."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from haemo.features.phantom.anatomy import Anatomy, Head
from haemo.features.phantom.atlas import load_atlas
from haemo.features.phantom.bleeds import Bleed, draw_bleeds
from haemo.features.phantom.blood import place
from haemo.features.phantom.conditions import Conditions
from haemo.features.phantom.confounders import Confounders, Lookalikes
from haemo.features.phantom.drawing import Drawing
from haemo.features.phantom.protocol import own_scanner, scanner_of
from haemo.features.phantom.rendering import Renderer
from haemo.features.phantom.scanner import Scan, add_streaks, add_table, expose
from haemo.features.phantom.stages import draw_staged_bleeds

__all__ = ["PhantomSlice", "Study", "patient_name"]

LEAST_SHARE = 0.35
"""Share of blood from which a pixel is in the mask."""
LEAST_AREA_MM2 = 12.0
"""Area of blood from which a slice is called haemorrhage."""
_PLANE_MM = 2.0
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, eq=False)
class PhantomSlice:
    """One slice.

    Attributes
    ----------
    hu : ndarray of shape (size, size), int16
    mask : ndarray of shape (size, size), bool
        Pixels of which blood fills at least 35 %. Empty if they come to less than 12 mm2.
    subtypes : tuple of str
        Subtypes with at least one pixel in the mask, sorted.
    position_mm : float
        Along the table, upwards.
    """

    hu: np.ndarray
    mask: np.ndarray
    subtypes: tuple[str, ...]
    position_mm: float

    @property
    def label(self) -> str:
        """``haemorrhage`` or ``normal``."""
        return "haemorrhage" if self.subtypes else "normal"


def patient_name(patient: int) -> str:
    """PatientID of a patient's number."""
    return f"P{patient:04d}"


class Study:
    """A patient's head, bleeds and scan; slices are made one at a time.

    Everything follows from `seed` and `patient`; how many other patients there are does not matter. Head,
    confounders, scan and noise are drawn apart from the bleeds: with `bleeding` turned off the same patient
    has the same slices without blood.

    Parameters
    ----------
    seed : int
    patient : int
        From 1.
    slices : tuple of int
        Fewest and most slices.
    prevalence : float
        Share of patients who bleed.
    size : int
        Rows and columns, a multiple of 4.
    bleeding : bool or tuple of Bleed, optional
        Force a bleed or its absence, whatever the prevalence; or have these bleeds.
    population : str
        ``usual``, ``wide`` or ``mixed``: ``CohortSettings`` says what that means.

    Attributes
    ----------
    conditions : Conditions, optional
        What sets a patient of the wide population apart; None in the usual one.
    """

    def __init__(
        self,
        seed: int,
        patient: int,
        slices: tuple[int, int] = (20, 36),
        prevalence: float = 0.4,
        size: int = 512,
        bleeding: bool | tuple[Bleed, ...] | None = None,
        population: str = "usual",
    ):
        self.seed, self.patient, self.size = seed, patient, size
        streams = [np.random.default_rng(child) for child in self._sequence(0).spawn(8)]
        atlas = load_atlas()
        wide = population == "wide" or (population == "mixed" and patient % 2 == 0)
        anatomy = Anatomy.draw(streams[0])
        protocol = own_scanner(seed, patient) if wide else scanner_of(seed, patient)
        scan = Scan.draw(streams[1], protocol, *slices)
        low_mm, high_mm = scan.low_mm, scan.high_mm
        self.conditions = Conditions.draw(streams[7], atlas) if wide else None
        if self.conditions:
            anatomy = self.conditions.anatomy(anatomy, streams[7])
            scan = self.conditions.scan(scan, anatomy, streams[7])
        self.anatomy, self.scan = anatomy, scan
        self.confounders = Confounders.draw(streams[2], anatomy)
        # Numbers along the golden ratio fill 0..1 evenly: any run of patients has nearly the prevalence.
        chance = (np.random.default_rng([seed, 1]).random() + patient * _GOLDEN) % 1
        bleeds = (draw_staged_bleeds if wide else draw_bleeds)(streams[3], atlas, low_mm, high_mm)
        if isinstance(bleeding, tuple):
            bleeds = bleeding
        elif not (chance < prevalence if bleeding is None else bleeding):
            bleeds = ()
        self.bleeds = bleeds
        head = Head(atlas, anatomy, streams[4])
        lookalikes = Lookalikes(self.confounders, anatomy, streams[5])
        placed = [place(bleed, streams[6]) for bleed in self.bleeds]
        changes = tuple(self.conditions.changes(atlas, streams[7])) if self.conditions else ()
        self._renderer = Renderer(head, lookalikes, placed, self.scan.hardening_hu, changes)

    def __len__(self) -> int:
        return self.scan.slices

    def __iter__(self) -> Iterator[PhantomSlice]:
        return (self.slice(index) for index in range(len(self)))

    def _sequence(self, part: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(self.seed, spawn_key=(self.patient, part))

    def parameters(self) -> dict[str, Any]:
        """Every drawn parameter, as JSON can hold it."""
        wide = {"conditions": asdict(self.conditions)} if self.conditions else {}
        return wide | {
            "patient": patient_name(self.patient),
            "anatomy": asdict(self.anatomy),
            "scan": asdict(self.scan),
            "confounders": asdict(self.confounders),
            "bleeds": [asdict(bleed) for bleed in self.bleeds],
        }

    def slice(self, index: int) -> PhantomSlice:
        """Make slice `index`, counted from the lowest."""
        scan = self.scan
        planes = max(2, round(scan.thickness_mm / _PLANE_MM))
        drawing = Drawing(self.size, self._pixel_mm, self.anatomy, len(self.bleeds))
        for part in (np.arange(planes) + 0.5) / planes - 0.5:
            points = scan.plane(index, part * scan.thickness_mm, self.size // 4)
            drawing.add(self._renderer.plane(points, 2 * self._pixel_mm))
        hu, head, shares = drawing.finish()
        add_table(hu, scan, head)
        add_streaks(hu, scan, index)
        hu = expose(hu, scan, head, np.random.default_rng(self._sequence(1 + index)))
        mask, subtypes = self._truth(shares)
        hu = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
        return PhantomSlice(hu, mask, subtypes, index * scan.spacing_mm)

    @property
    def _pixel_mm(self) -> float:
        return self.scan.field_mm / self.size

    def _truth(self, shares: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """The mask of all blood, and the subtypes that can be seen, from the share of each bleed."""
        blood = 1 - np.prod(1 - shares, axis=0)
        mask = blood >= LEAST_SHARE
        least = LEAST_AREA_MM2 / self._pixel_mm**2
        if mask.sum() < least:
            return np.zeros_like(mask), ()
        areas = (shares >= LEAST_SHARE).sum(axis=(1, 2))
        # Where only several bleeds together come to enough, the largest gives its name.
        seen = np.flatnonzero(areas >= least) if areas.max() >= least else [np.argmax(areas)]
        return mask, tuple(sorted({self.bleeds[number].subtype for number in seen}))
