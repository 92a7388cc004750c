"""A study's bleed in numbers: volume, ABC/2, largest diameter, side, and the slices it is on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from haemo.features.pixels.region import Region, axes

__all__ = ["DrawnSlice", "StudyMeasures", "slice_steps_mm"]

_FULL, _HALF = 0.75, 0.25  # shares of the largest area from which a slice counts whole, and by half
_ONE_SIDED = 0.8


@dataclass(frozen=True, eq=False)
class DrawnSlice:
    """What was outlined on one slice.

    Attributes
    ----------
    regions : list of Region
    left_share : float or None
        Share of the outlined pixels that lies left of the picture's midline; None where none is outlined.
    z_mm : float or None
        Place along the scan axis.
    spacing_mm : tuple of float or None
    """

    regions: Sequence[Region]
    left_share: float | None
    z_mm: float | None
    spacing_mm: tuple[float, float] | None

    @property
    def pixels(self) -> int:
        """Outlined pixels."""
        return sum(int(region.mask.sum()) for region in self.regions)

    @property
    def area_mm2(self) -> float | None:
        """Outlined area; None where the slice does not say its spacing."""
        if self.spacing_mm is None:
            return None
        return float(self.pixels * self.spacing_mm[0] * self.spacing_mm[1])


@dataclass(frozen=True)
class StudyMeasures:
    """The bleed of one study. What cannot be known is None.

    Attributes
    ----------
    slices, slices_with_blood : int
    first, last : int or None
        The first and the last slice with an outline, counted from 1 in the order of the study.
    volume_ml : float or None
        Outlined area times distance of slices. None where slices say neither spacing nor place, or there is
        but one.
    abc2_ml : float or None
        Of the largest connected bleed: A and B the longest diameter and that at a right angle to it on the
        slice of its largest area, C the sum of slice distances, of which slices with 25 to 75 % of that area
        count by half and those with less not (Kothari et al. 1996, "The ABCs of measuring intracerebral
        hemorrhage volumes"); A x B x C / 2.
    diameter_mm : float or None
        The longest on any slice.
    side : str or None
        ``left``, ``right`` or ``both`` sides of the picture; the patient's other side, as axial CT is shown.
    """

    slices: int
    slices_with_blood: int
    first: int | None
    last: int | None
    volume_ml: float | None
    abc2_ml: float | None
    diameter_mm: float | None
    side: str | None

    @classmethod
    def of(cls, drawn: Sequence[DrawnSlice]) -> "StudyMeasures":
        """Sum up the slices of a study, in their order."""
        on = [number for number, one in enumerate(drawn, start=1) if one.regions]
        steps = slice_steps_mm([one.z_mm for one in drawn])
        areas = [one.area_mm2 for one in drawn]
        diameters = [region.diameter_mm for one in drawn for region in one.regions]
        volume = abc2 = None
        if steps is not None and all(area is not None for area in areas):
            volume = float(np.dot(steps, np.array(areas, dtype=float))) / 1000
            abc2 = _abc2_ml(drawn, steps)
        return cls(
            slices=len(drawn),
            slices_with_blood=len(on),
            first=on[0] if on else None,
            last=on[-1] if on else None,
            volume_ml=volume,
            abc2_ml=abc2,
            diameter_mm=None if None in diameters or not diameters else max(filter(None, diameters)),
            side=_side(drawn),
        )


def slice_steps_mm(z_mm: Sequence[float | None]) -> np.ndarray | None:
    """How far each slice of a study reaches: half the way to either neighbour, and as far at the ends.

    A gap of more than twice the median is no thickness: slices are missing there, and the median stands in.

    Returns
    -------
    ndarray of shape (n,) or None
        None for under two slices, or where a place is missing or two are the same.
    """
    if len(z_mm) < 2 or any(place is None for place in z_mm):
        return None
    gaps = np.abs(np.diff(np.array(z_mm, dtype=float)))
    if gaps.min() <= 0:
        return None
    usual = float(np.median(gaps))
    gaps = np.where(gaps > 2 * usual, usual, gaps)
    return (np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])) / 2


def _side(drawn: Sequence[DrawnSlice]) -> str | None:
    pairs = [(one.pixels, one.left_share) for one in drawn if one.left_share is not None]
    total = sum(pixels for pixels, _ in pairs)
    if not total:
        return None
    left = sum(pixels * share for pixels, share in pairs) / total
    return "left" if left >= _ONE_SIDED else "right" if left <= 1 - _ONE_SIDED else "both"


def _abc2_ml(drawn: Sequence[DrawnSlice], steps: np.ndarray) -> float | None:
    """None where nothing is outlined."""
    pieces = _connected(drawn)
    if not pieces:
        return None

    def mm2(number: int, mask: np.ndarray) -> float:
        return float(mask.sum() * np.prod(drawn[number].spacing_mm or (np.nan, np.nan)))

    def ml(piece: dict[int, np.ndarray]) -> float:
        return sum(mm2(number, mask) * steps[number] for number, mask in piece.items())

    largest = max(pieces, key=ml)
    areas = {number: mm2(number, mask) for number, mask in largest.items()}
    widest = max(areas, key=lambda number: areas[number])
    length, breadth = axes(largest[widest], drawn[widest].spacing_mm or (np.nan, np.nan))
    shares = {number: area / areas[widest] for number, area in areas.items()}
    height = sum(
        steps[number] * (1.0 if share > _FULL else 0.5 if share >= _HALF else 0.0)
        for number, share in shares.items()
    )
    return float(length * breadth * height / 2000)


def _connected(drawn: Sequence[DrawnSlice]) -> list[dict[int, np.ndarray]]:
    """Bleeds over slices: regions that overlap from slice to slice, each as masks by slice number."""
    pieces: list[dict[int, np.ndarray]] = []
    for number, one in enumerate(drawn):
        for region in one.regions:
            touching = [
                piece
                for piece in pieces
                if number - 1 in piece
                and piece[number - 1].shape == region.mask.shape
                and (piece[number - 1] & region.mask).any()
            ]
            pieces = [piece for piece in pieces if not any(piece is other for other in touching)]
            whole: dict[int, np.ndarray] = {number: region.mask}
            for piece in touching:
                for place, mask in piece.items():
                    whole[place] = whole[place] | mask if place in whole else mask
            pieces.append(whole)
    return pieces
