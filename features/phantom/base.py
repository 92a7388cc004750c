"""Skull base and face: petrous bone, air cells, orbits and sinuses, painted around the brain's hull."""

import numpy as np

from haemo.features.phantom.anatomy import Head, ramp

__all__ = ["TOP_MM", "paint_base", "rod"]

TOP_MM = 26.0
"""Canonical z above which there is nothing to paint."""
_AIR_HU, _DENSE_HU = -1000.0, 1500.0


class _Canvas:
    """HU and coverage of the pixels painted so far; later strokes cover earlier ones."""

    def __init__(self, size: int, pixel_mm: float):
        self.hu = np.zeros(size, dtype=np.float32)
        self.cover = np.zeros(size, dtype=np.float32)
        self._pixel_mm = pixel_mm

    def stroke(self, depth_mm: np.ndarray, hu: np.ndarray | float, limit: np.ndarray | None = None) -> None:
        """Paint where `depth_mm` is positive, with the share of the pixel that it covers."""
        share = ramp(depth_mm, self._pixel_mm)
        if limit is not None:
            share = share * limit
        self.hu += share * (hu - self.hu)
        self.cover += share * (1 - self.cover)


def _ball(points: np.ndarray, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Depth below the surface of an ellipsoid, in mm near the surface; positive inside."""
    scaled = (points - np.float32(centre)) / np.float32(radii)
    return (1 - np.sqrt(np.einsum("ij,ij->i", scaled, scaled))) * np.float32(min(radii))


def rod(points: np.ndarray, start: tuple[float, ...], end: tuple[float, ...], radius: float) -> np.ndarray:
    """Depth of points (n, 3) below the surface of a rod with round ends, in mm; positive inside: (n,)."""
    start, end = np.float32(start), np.float32(end)
    axis = end - start
    along = np.clip((points - start) @ axis / (axis @ axis), 0, 1)
    offset = points - start - along[:, None] * axis
    return np.float32(radius) - np.sqrt(np.einsum("ij,ij->i", offset, offset))


def paint_base(
    head: Head, points_mm: np.ndarray, skull_mm: np.ndarray, surface_mm: np.ndarray, pixel_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Paint the base of the skull and the face.

    Parameters
    ----------
    head : Head
    points_mm : ndarray of shape (n, 3)
        Canonical coordinates.
    skull_mm, surface_mm : ndarray of shape (n,)
        Signed distance to the inner table and to the surface of the head, negative inside.
    pixel_mm : float

    Returns
    -------
    hu, cover : ndarray of shape (n,), float32
        What is painted, and the share of each pixel that it covers.
    """
    anatomy = head.anatomy
    canvas = _Canvas(len(points_mm), pixel_mm)
    mirrored = points_mm.copy()
    mirrored[:, 0] = abs(points_mm[:, 0])
    y, z = points_mm[:, 1], points_mm[:, 2]
    cells = head.fine_noise(points_mm * np.float32([1.6, 1.6, 1.2]))
    outside_brain = ramp(skull_mm - 0.8, 1.2)
    in_head = ramp(-surface_mm - 3.0, 2.0)
    free = outside_brain * in_head

    _soft_tissue(canvas, head, points_mm, cells, free)
    # The body of the sphenoid with the clivus behind it, and the petrous ridges.
    canvas.stroke(_ball(mirrored, (0, 8, -44), (25, 26, 15)), _DENSE_HU * 0.6 + 180 * cells[:, 0], free)
    canvas.stroke(rod(points_mm, (0, -8, -36), (0, -24, -62), 6.0), 800.0, free)
    canvas.stroke(_ball(points_mm, (0, 4, -32), (8, 8, 7)), 46.0, free)
    canvas.stroke(rod(mirrored, (0, -6, -29), (8, -5, -27), 2.0), 900.0, free)
    canvas.stroke(rod(mirrored, (11, 14, -25), (14, 22, -24), 2.4), 900.0, free)
    petrous = np.maximum(
        rod(mirrored, (16, -14, -40), (48, -31, -36), 8.5),
        rod(mirrored, (48, -30, -38), (60, -40, -42), 13.0),
    )
    dense = _DENSE_HU + 250 * cells[:, 0]
    canvas.stroke(petrous, dense, free)
    mastoid = np.minimum(_ball(mirrored, (56, -40, -44), (13, 17, 19)), 0.75 * skull_mm - 2)
    air_cells = np.minimum(mastoid - 1.0, (cells[:, 1] + 1.6 * anatomy.pneumatisation - 0.9) * 2.0)
    canvas.stroke(mastoid, dense, free)
    canvas.stroke(air_cells, _AIR_HU, free)
    canal = rod(mirrored, (44, -24, -42), (84, -22, -44), 3.2)
    canvas.stroke(canal, _AIR_HU, outside_brain)
    _joint(canvas, mirrored, free)

    _orbits(canvas, head, mirrored, free)
    _sinuses(canvas, head, points_mm, mirrored, cells, free)
    fade = np.clip((TOP_MM - z) / 6, 0, 1) * np.clip((y + 70) / 10, 0, 1)
    fade = np.maximum(fade, np.clip((-28 - z) / 8, 0, 1))
    return canvas.hu, canvas.cover * fade


def _soft_tissue(
    canvas: _Canvas, head: Head, points: np.ndarray, cells: np.ndarray, free: np.ndarray
) -> None:
    """Muscle in fat below the skull."""
    below = np.clip((-34 - points[:, 2]) / 6, 0, 1)
    patches = head.slow_noise(points * np.float32([2.2, 2.2, 0.8]))[:, 1] + 0.35 * cells[:, 1]
    muscle = np.clip(1.4 + 1.5 * patches, 0, 1)
    hu = head.anatomy.fat_hu + muscle * (head.anatomy.muscle_hu - head.anatomy.fat_hu)
    canvas.stroke(np.full(len(points), 9.0, dtype=np.float32), hu, below * free)


def _joint(canvas: _Canvas, mirrored: np.ndarray, free: np.ndarray) -> None:
    """Jaw joint and zygomatic arch."""
    canvas.stroke(_ball(mirrored, (50, -12, -50), (9, 5, 7)), 900.0, free)
    canvas.stroke(rod(mirrored, (66, -6, -47), (60, 44, -45), 3.0), 1000.0, free)


def _orbits(canvas: _Canvas, head: Head, mirrored: np.ndarray, free: np.ndarray) -> None:
    anatomy = head.anatomy
    cone = np.minimum(_ball(mirrored, (31, 62, -36), (21, 36, 18)), mirrored[:, 1] - 26)
    canvas.stroke(cone + 2.2, 1000.0, free)
    canvas.stroke(rod(mirrored, (50, 56, -30), (54, 58, -48), 4.5), 1200.0, free)
    canvas.stroke(cone, anatomy.fat_hu, free)
    canvas.stroke(rod(mirrored, (31, 62, -36), (13, 28, -34), 2.2), 42.0, free)
    canvas.stroke(rod(mirrored, (42, 68, -36), (18, 30, -35), 2.4), 55.0, free)
    canvas.stroke(rod(mirrored, (21, 70, -36), (13, 32, -35), 2.4), 55.0, free)
    lids = np.minimum(mirrored[:, 1] - 82, _ball(mirrored, (32, 80, -36), (24, 16, 18)))
    canvas.stroke(lids, 40.0, free)
    globe = _ball(mirrored, (32, 74, -36), (12, 12, 12))
    canvas.stroke(globe, 48.0, free)
    canvas.stroke(globe - 1.3, 10.0, free)
    canvas.stroke(_ball(mirrored, (32, 83.5, -36), (5, 2.4, 5)), 90.0, free)


def _sinuses(
    canvas: _Canvas, head: Head, points: np.ndarray, mirrored: np.ndarray, cells: np.ndarray, free: np.ndarray
) -> None:
    """Ethmoid cells, sphenoid, maxillary and frontal sinus, nose: air within thin bone."""
    anatomy = head.anatomy
    y = points[:, 1]
    ethmoid = np.minimum(
        np.minimum(11.5 - mirrored[:, 0], 8.0), np.minimum(np.minimum(y - 24, 74 - y), -26 - points[:, 2])
    )
    septa = 1.1 - abs(np.sin(y * 0.55 + 0.6 * cells[:, 0]) * 4)
    middle = 0.9 - mirrored[:, 0]
    canvas.stroke(ethmoid + 2.0, 700.0, free)
    canvas.stroke(ethmoid, _AIR_HU, free)
    canvas.stroke(np.minimum(np.maximum(septa, middle), ethmoid + 1.5), 420.0, free)
    sphenoid = _ball(mirrored, (8, 12, -43), (12, 14, 9)) + 2.0 * anatomy.pneumatisation - 1.0
    canvas.stroke(sphenoid, _AIR_HU, free)
    maxillary = _ball(mirrored, (29, 56, -70), (14, 18, 17))
    canvas.stroke(maxillary + 1.8, 900.0, free)
    canvas.stroke(maxillary, _AIR_HU, free)
    size = np.float32(anatomy.frontal_sinus)
    if size > 0.35:
        frontal = _ball(points, (6, 81, -10), (float(18 * size), 5.5, float(16 * size))) + 0.9 * cells[:, 0]
        frontal = np.minimum(frontal, y - 70)
        canvas.stroke(frontal + 1.6, 1100.0, free)
        canvas.stroke(np.minimum(frontal, abs(points[:, 0] - 2) - 0.7), _AIR_HU, free)
