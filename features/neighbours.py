"""Which slices lie beside a slice in its study, and scores smoothed over them."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from haemo.errors import BadSettings
from haemo.features.manifest import ManifestRow

__all__ = ["neighbours", "neighbours_of_rows", "offsets", "refuse_unplaced", "smoothed"]

_LARGEST_GAP = 2.0  # times the usual spacing of the study: there a slice is missing, or another range begins
_ROUNDING = 1e-6
_OWN, _BESIDE = 0.5, 0.25


def offsets(reach: int) -> list[int]:
    """Places beside a slice in the order in which they are joined: 0, -1, 1, -2, 2 and on to `reach`."""
    return [0, *(sign * step for step in range(1, reach + 1) for sign in (-1, 1))]


def neighbours(studies: Sequence[Hashable], positions: Sequence[float], reach: int = 1) -> np.ndarray:
    """The slices beside each slice of its study, by position.

    A study ends at its first and last slice, and where two slices lie farther apart than twice the usual
    spacing, which is the median of the study's gaps. Beyond an end its last slice is repeated.

    Parameters
    ----------
    studies : sequence of n hashable
    positions : sequence of n float
        In mm or order numbers. Slices at one place stay in the order in which they are given.
    reach : int
        How many on either side.

    Returns
    -------
    ndarray of shape (n, 2 * reach + 1), int
        Numbers of slices, in the order of `offsets`: the slice itself comes first.
    """
    found = np.empty((len(studies), 2 * reach + 1), dtype=np.intp)
    members: dict[Hashable, list[int]] = {}
    for number, study in enumerate(studies):
        members.setdefault(study, []).append(number)
    places = np.asarray(positions, dtype=np.float64)
    for own in members.values():
        order = np.array(own)[np.argsort(places[own], kind="stable")]
        gaps = np.diff(places[order])
        usual = np.median(gaps[gaps > 0]) if (gaps > 0).any() else np.inf
        # Number of the unbroken range that each slice lies in, and where that begins and ends.
        stretch = np.concatenate([[0], np.cumsum(gaps > _LARGEST_GAP * usual * (1 + _ROUNDING))])
        first = np.searchsorted(stretch, stretch, side="left")
        last = np.searchsorted(stretch, stretch, side="right") - 1
        for column, step in enumerate(offsets(reach)):
            found[order, column] = order[np.clip(np.arange(len(order)) + step, first, last)]
    return found


def neighbours_of_rows(rows: Sequence[ManifestRow], reach: int = 1) -> np.ndarray:
    """`neighbours` of slices of a manifest, within the study of one patient.

    Raises
    ------
    BadSettings
        If a slice has no position.
    """
    refuse_unplaced(rows)
    studies = [(row.patient, row.study) for row in rows]
    return neighbours(studies, [row.position or 0.0 for row in rows], reach)


def smoothed(scores: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """Scores of which one half is a slice's own, and a quarter that of either neighbour.

    Parameters
    ----------
    scores : ndarray of shape (n,) or (n, n_classes), float64
    beside : ndarray of shape (n, 3), int
        From `neighbours`.

    Returns
    -------
    ndarray of the shape of `scores`, float64
    """
    _, before, after = beside.T
    return _OWN * scores + _BESIDE * (scores[before] + scores[after])


def refuse_unplaced(rows: Iterable[ManifestRow]) -> None:
    """Insist that every slice has a position.

    Raises
    ------
    BadSettings
    """
    rows = list(rows)
    unplaced = [row.slice_id for row in rows if row.position is None]
    if unplaced:
        raise BadSettings(
            f"--context and --smooth need the place of every slice in its study, and {len(unplaced):,} of "
            f"{len(rows):,} slices have none ({', '.join(unplaced[:3])} ...). DICOM files have it; for "
            "pictures give 'haemo index' a labels.csv with the columns study and position (mm, or order "
            "numbers), or leave both options out"
        )
