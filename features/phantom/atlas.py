"""The anatomy that every patient is warped from: tissue maps in nilearn's package, and distances in them."""

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from haemo.errors import MissingExtra
from haemo.features.phantom.volume import sample

__all__ = ["Atlas", "load_atlas"]

_TISSUE_ORIGIN_MM = np.array([-98, -134, -72], dtype=np.float32)
_GRID_MM = 2.0
_GRID_ORIGIN_MM = np.array([-112, -140, -92], dtype=np.float32)
_GRID_SHAPE = (113, 127, 101)
_SELLA_TOP_MM = -27.0
_T1_OF_CSF, _T1_OF_CORTEX = 75.0, 152.0
_DEPTH_OF_VENTRICLES_MM = 16.0


@dataclass(frozen=True, eq=False)
class Atlas:
    """Canonical anatomy in MNI millimetres: x to the right, y to the front, z upwards.

    Attributes
    ----------
    tissue : ndarray of shape (197, 233, 189, 2), uint8
        On the 1 mm grid of the ICBM 152 maps, in 1/255: the share of cerebrospinal fluid in a voxel, and
        the share of white matter in what is not fluid.
    distance : ndarray of shape (113, 127, 101, 9), float32
        On a 2 mm grid, in mm, negative inside: distance to the inner table of the skull, to the ventricles,
        to the surface of the head; then the gradients of the first and of the second.
    ventricle : ndarray of shape (113, 127, 101, 1), float32
        The distance to the ventricles once more, to read it alone.
    """

    tissue: np.ndarray
    distance: np.ndarray
    ventricle: np.ndarray

    def tissue_at(self, points_mm: np.ndarray) -> np.ndarray:
        """Share of fluid and of white matter in the rest, in 0..1, at (n, 3) points: (n, 2), float32."""
        return sample(self.tissue, points_mm - _TISSUE_ORIGIN_MM) * np.float32(1 / 255)

    def distance_at(self, points_mm: np.ndarray) -> np.ndarray:
        """Distances and gradients at (n, 3) points: (n, 9), float32."""
        return sample(self.distance, (points_mm - _GRID_ORIGIN_MM) * np.float32(1 / _GRID_MM))

    def ventricle_at(self, points_mm: np.ndarray) -> np.ndarray:
        """Distance to the ventricles at (n, 3) points: (n, 1), float32."""
        return sample(self.ventricle, (points_mm - _GRID_ORIGIN_MM) * np.float32(1 / _GRID_MM))


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """Read the tissue maps and compute the distances; takes about three seconds, once per process.

    Raises
    ------
    MissingExtra
        If nilearn is not installed.
    """
    gray = _read_map("gm").astype(np.float32)
    white = _read_map("wm").astype(np.float32)
    t1 = _read_map("t1").astype(np.float32)
    inside = t1 > 0
    # The mean T1 tells fluid from cortex more sharply than the tissue maps, which are broad at sulci.
    fluid = np.clip((_T1_OF_CORTEX - t1) / (_T1_OF_CORTEX - _T1_OF_CSF), 0, 1)
    fluid[~inside] = 1
    white_share = white / np.maximum(gray + white, 1)
    tissue = np.stack([fluid, white_share], axis=-1) * 255
    # NIfTI arrays are in Fortran order; reading at points wants the channels of a voxel side by side.
    tissue = np.ascontiguousarray(np.rint(tissue), dtype=np.uint8)
    distance = _distances(inside, fluid)
    return Atlas(tissue=tissue, distance=distance, ventricle=distance[..., 1:2].copy())


def _read_map(name: str) -> np.ndarray:
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(
            "the phantom takes its anatomy from the nilearn package, which is not installed; "
            "get it with: pip install 'haemo[demo]'"
        )
    # nilearn itself is not imported: it takes seconds, and only its data files are needed.
    import nibabel

    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    path = folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.exists():
        raise MissingExtra(f"{path} is missing; install a nilearn that ships it: pip install 'haemo[demo]'")
    return np.asarray(nibabel.load(path).dataobj)


def _distances(inside: np.ndarray, fluid: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    brain = _on_grid(inside) > 0.5
    level = int((_SELLA_TOP_MM - _GRID_ORIGIN_MM[2]) / _GRID_MM)
    for index in range(level, brain.shape[2]):
        # Above the sella the holes of the brain mask are cisterns, not bone.
        brain[:, :, index] = ndimage.binary_fill_holes(brain[:, :, index])
    # The vault is smooth; below it the skull follows the lobes closely.
    _, _, z = _axes_mm()
    outside = _distance(~brain)
    hull = _closed(outside, 4.0) | (_closed(outside, 8.0) & (z > -17))
    hull |= (_closed(outside, 22.0) & (z > -13)) | (_closed(outside, 30.0) & (z > 3))
    skull = ndimage.gaussian_filter(_signed_distance(hull), 1.5)

    dark = (_on_grid(fluid) > 0.45) & (skull < -_DEPTH_OF_VENTRICLES_MM) & _ventricle_box()
    labels, _ = ndimage.label(ndimage.binary_opening(dark, iterations=1) | (dark & _midline_box()))
    kept = np.bincount(labels.ravel(), minlength=2)
    kept[0] = 0
    ventricles = ndimage.gaussian_filter(_signed_distance(np.isin(labels, np.flatnonzero(kept > 60))), 0.7)

    head = ndimage.gaussian_filter(_signed_distance(_head(skull)), 1.5)
    channels = [skull, ventricles, head, *np.gradient(skull, _GRID_MM), *np.gradient(ventricles, _GRID_MM)]
    return np.stack(channels, axis=-1, dtype=np.float32)


def _on_grid(volume: np.ndarray) -> np.ndarray:
    """Mean of a 1 mm volume over the cells of the 2 mm grid."""
    fine = np.zeros([2 * size for size in _GRID_SHAPE], dtype=np.float32)
    x, y, z = (_TISSUE_ORIGIN_MM - _GRID_ORIGIN_MM).astype(int)
    part = volume[:, :, : fine.shape[2] - z]
    fine[x : x + part.shape[0], y : y + part.shape[1], z:] = part
    nx, ny, nz = _GRID_SHAPE
    return fine.reshape(nx, 2, ny, 2, nz, 2).mean(axis=(1, 3, 5))


def _distance(mask: np.ndarray) -> np.ndarray:
    """Distance of each point of `mask` from the rest, mm; 0 beyond it."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(mask).astype(np.float32) * _GRID_MM


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    return _distance(~mask) - _distance(mask)


def _closed(outside: np.ndarray, radius_mm: float) -> np.ndarray:
    """What a ball of this radius cannot reach from without, of a mask given by the distance to it."""
    return _distance(outside <= radius_mm) > radius_mm


def _axes_mm() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = (
        start + _GRID_MM * np.arange(size) for start, size in zip(_GRID_ORIGIN_MM, _GRID_SHAPE, strict=True)
    )
    return x[:, None, None], y[None, :, None], z[None, None, :]


def _ventricle_box() -> np.ndarray:
    x, y, z = _axes_mm()
    return (abs(x) < 42) & (y > -62) & (y < 42) & (z > -46) & (z < 34) & ((abs(x) < 26) | (y < -20))


def _midline_box() -> np.ndarray:
    x, y, z = _axes_mm()
    return (abs(x) < 6) & (y > -62) & (y < 10) & (z > -46) & (z < 20)


def _head(skull: np.ndarray) -> np.ndarray:
    """Mask of the head with scalp, face and nape: the brain's hull grown, on an oval below the brow."""
    x, y, z = _axes_mm()
    below = np.clip(-18 - z, 0, None)
    front, back = 92 - 0.02 * below, -113 + 0.55 * below
    centre, half_length = (front + back) / 2, (front - back) / 2
    half_width = 80 - 0.10 * below
    oval = (abs(x) / half_width) ** 2.2 + (abs(y - centre) / half_length) ** 2.2 < 1
    nose = (x / (7 + 0.25 * below)) ** 2 + ((y - 88) / (6 + 0.6 * np.minimum(below, 26))) ** 2 < 1
    lower = (oval | nose) & (z < -16)
    return _closed(_distance(~((skull < 12.5) | lower)), 24.0)
