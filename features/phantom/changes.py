"""What befalls a head beside its bleeds: the ways in which it may change a plane."""

import numpy as np

from haemo.features.phantom.blood import Region

__all__ = ["Change"]


class Change:
    """A change of a head that is no bleed; each method does nothing unless a kind of change has its own.

    It never makes blood: what it paints is not in the mask, and what it puts into a bleed is taken out of it.
    """

    def shift(self, canonical: np.ndarray, distance: np.ndarray) -> np.ndarray | float:
        """Displacement of the brain, to add to ``Head.brain_shift``: (n, 3), mm."""
        del canonical, distance
        return 0.0

    def bulge(self, canonical: np.ndarray) -> tuple[np.ndarray | float, np.ndarray | float]:
        """How far the hull of the brain, and the surface of the head, stand out at each point: (n,), mm."""
        del canonical
        return 0.0, 0.0

    def opening(self, canonical: np.ndarray) -> np.ndarray | None:
        """Distance to the border of an opening in the bone, positive within it: (n,), mm; None for none."""
        del canonical
        return None

    def paint_inside(self, hu: np.ndarray, region: Region) -> None:
        """Paint over the HU of points within the skull, in place, below any blood."""

    def paint_scalp(
        self, hu: np.ndarray, canonical: np.ndarray, depth: np.ndarray, outward: np.ndarray
    ) -> None:
        """Paint over the HU of the scalp, in place.

        Parameters
        ----------
        hu : ndarray of shape (n,)
        canonical : ndarray of shape (n, 3)
        depth : ndarray of shape (n,)
            Distance from the surface of the head outwards, mm.
        outward : ndarray of shape (n,)
            Distance from the outer table outwards, mm; negative in and below the bone.
        """

    def paint_hardware(
        self, hu: np.ndarray, cover: np.ndarray, canonical: np.ndarray, depth: np.ndarray, outward: np.ndarray
    ) -> None:
        """Paint what lies over bone, in place: HU, and the share of each pixel that it covers."""

    def device(self, region: Region) -> tuple[np.ndarray, float] | None:
        """Share of each point within the skull that a device fills, and its HU; None without a device."""
        del region
        return None
