"""Reading a volume between its grid points, and smooth random volumes to read."""

import numpy as np

__all__ = ["SmoothNoise", "double", "sample"]


def sample(volume: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Interpolate a volume linearly at points given in grid units.

    Beyond its edge the volume goes on with the values of its edge.

    Parameters
    ----------
    volume : ndarray of shape (nx, ny, nz, channels), C-contiguous
    points : ndarray of shape (n, 3), float32

    Returns
    -------
    ndarray of shape (n, channels), float32
    """
    last = np.array(volume.shape[:3], dtype=np.float32) - np.float32(1.001)
    clamped = np.clip(points, np.float32(0), last)
    base = clamped.astype(np.intp)
    return _interpolate(volume, base, clamped - base)


def _interpolate(volume: np.ndarray, base: np.ndarray, part: np.ndarray) -> np.ndarray:
    _, ny, nz, channels = volume.shape
    table = volume.reshape(-1, channels)
    start = (base[:, 0] * ny + base[:, 1]) * nz + base[:, 2]
    x, y, z = np.ascontiguousarray(part.T, dtype=np.float32)
    result = np.zeros((len(base), channels), dtype=np.float32)
    for i, along_x in enumerate((1 - x, x)):
        for j, along_y in enumerate((1 - y, y)):
            on_edge = along_x * along_y
            for k, along_z in enumerate((1 - z, z)):
                # take() with a mode is twice as fast as indexing; the indices are within bounds anyway.
                corner = table.take(start + ((i * ny + j) * nz + k), axis=0, mode="clip")
                result += corner * (on_edge * along_z)[:, None]
    return result


def double(image: np.ndarray) -> np.ndarray:
    """Enlarge an image twofold by cubic convolution (Keys, a = -0.5), pixel areas kept in place.

    Parameters
    ----------
    image : ndarray of shape (height, width), float32

    Returns
    -------
    ndarray of shape (2 * height, 2 * width), float32
    """
    return _double_rows(np.ascontiguousarray(_double_rows(image).T)).T


def _double_rows(image: np.ndarray) -> np.ndarray:
    near, close, far, beyond = (np.float32(w) for w in (0.8671875, 0.2265625, -0.0703125, -0.0234375))
    padded = np.pad(image, ((2, 2), (0, 0)), mode="edge")
    here = padded[2:-2] * near
    result = np.empty((2 * image.shape[0], image.shape[1]), dtype=np.float32)
    result[0::2] = here + padded[1:-3] * close + padded[3:-1] * far + padded[:-4] * beyond
    result[1::2] = here + padded[3:-1] * close + padded[1:-3] * far + padded[4:] * beyond
    return result


class SmoothNoise:
    """Random functions of place with mean 0 and standard deviation near 1, smooth over `cell_mm`.

    A periodic lattice of normal numbers, read with smoothed linear interpolation.

    Parameters
    ----------
    rng : numpy.random.Generator
    cell_mm : float
        Distance of the lattice points: details are about twice that wide.
    channels : int
        How many independent functions.
    """

    _SIDE = 32

    def __init__(self, rng: np.random.Generator, cell_mm: float, channels: int = 1):
        lattice = rng.standard_normal((self._SIDE,) * 3 + (channels,), dtype=np.float32)
        # Linear interpolation halves the variance between lattice points, per axis about 2/3.
        self._lattice = np.pad(lattice * np.float32(1.6), ((0, 1),) * 3 + ((0, 0),), mode="wrap")
        self._per_mm = np.float32(1 / cell_mm)

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """Values at points: (n, 3) in mm to (n, channels), float32."""
        scaled = points_mm * self._per_mm
        floor = np.floor(scaled)
        part = scaled - floor
        part = part * part * (3 - 2 * part)
        return _interpolate(self._lattice, floor.astype(np.intp) % self._SIDE, part)
