"""Other looks of gray planes with masks, drawn anew for each training step."""

import numpy as np
import torch
from torch.nn import functional

__all__ = ["WIDE_CENTRE_HU", "WIDE_WIDTH_HU", "brain_window", "looks"]

WIDE_WIDTH_HU, WIDE_CENTRE_HU = 160.0, 40.0
"""The window of planes that are still to be windowed: every window that is drawn lies within."""

_CENTRES_HU, _WIDTHS_HU = (34.0, 44.0), (75.0, 140.0)
_BRAIN_HU = 40.0, 80.0
_TURN_DEG, _SHIFT, _SCALES, _STRETCH = 20.0, 0.06, (0.85, 1.15), 0.06
_GAMMAS = (0.8, 1.25)
_BLUR_PIXELS = (0.4, 1.4)
_NOISE = 8.0  # gray levels
_REACH = 4  # pixels that a blur looks to either side


def looks(
    planes: np.ndarray, masks: np.ndarray, wide: np.ndarray, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a look of each plane: window, turn, scale, place, side, tone, sharpness and noise.

    Parameters
    ----------
    planes : ndarray of shape (n, size, size), uint8
    masks : ndarray of the same shape, bool
    wide : ndarray of shape (n,), bool
        Planes of the wide window, which get one of 75 to 140 HU about 34 to 44; the others have theirs.
    random : numpy.random.Generator

    Returns
    -------
    gray : Tensor of shape (n, size, size), uint8
    blood : Tensor of the same shape
        0 to 1.
    """
    count = len(planes)
    gray, blood = torch.from_numpy(planes).float(), torch.from_numpy(masks).float()
    centres, widths = (random.uniform(*ends, count) for ends in (_CENTRES_HU, _WIDTHS_HU))
    gray = _windowed(gray, wide, centres, widths)
    gray, blood = (own.contiguous() for own in _moved(torch.stack([gray, blood], dim=1), random).unbind(1))
    some = np.flatnonzero(random.random(count) < 0.5)
    gray[some] = 255 * (gray[some] / 255) ** _column(random.uniform(*_GAMMAS, len(some)))
    some = np.flatnonzero(random.random(count) < 0.35)
    if len(some):
        gray[some] = _blurred(gray[some], random.uniform(*_BLUR_PIXELS, len(some)))
    some = np.flatnonzero(random.random(count) < 0.5)
    generator = torch.Generator().manual_seed(int(random.integers(2**31)))
    noise = torch.randn((len(some), *gray.shape[1:]), generator=generator)
    gray[some] += noise * _column(random.uniform(0, _NOISE, len(some)))
    return gray.clamp(0, 255).round().to(torch.uint8), blood


def brain_window(planes: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Planes as stage one sees them: those of the wide window in one of 80 HU about 40, uint8."""
    centre, width = (np.full(len(planes), value) for value in _BRAIN_HU)
    return _windowed(torch.from_numpy(planes).float(), wide, centre, width).round().to(torch.uint8).numpy()


def _column(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32)).view(-1, 1, 1)


def _windowed(gray: torch.Tensor, wide: np.ndarray, centres: np.ndarray, widths: np.ndarray) -> torch.Tensor:
    black = WIDE_CENTRE_HU - WIDE_WIDTH_HU / 2
    hu = gray * (WIDE_WIDTH_HU / 255) + black
    levels = ((hu - _column(centres - widths / 2)) * _column(255 / widths)).clamp(0, 255)
    return torch.where(torch.from_numpy(wide).view(-1, 1, 1), levels, gray)


def _moved(pairs: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Turned, scaled, shifted and mirrored: (n, 2, size, size)."""
    count = len(pairs)
    angles = np.radians(random.uniform(-_TURN_DEG, _TURN_DEG, count))
    scales = random.uniform(*_SCALES, (count, 1)) * random.uniform(1 - _STRETCH, 1 + _STRETCH, (count, 2))
    across, down = (1 / scales).T
    across = across * np.where(random.random(count) < 0.5, -1, 1)
    shifts = random.uniform(-2 * _SHIFT, 2 * _SHIFT, (count, 2))
    cos, sin = np.cos(angles), np.sin(angles)
    rows = [[cos * across, -sin * down, shifts[:, 0]], [sin * across, cos * down, shifts[:, 1]]]
    maps = torch.from_numpy(np.array(rows).transpose(2, 0, 1)).float()
    grid = functional.affine_grid(maps, list(pairs.shape), align_corners=False)
    return functional.grid_sample(pairs, grid, padding_mode="zeros", align_corners=False)


def _blurred(gray: torch.Tensor, sigmas: np.ndarray) -> torch.Tensor:
    """Gaussian, each plane by its own sigma in pixels."""
    places = torch.arange(-_REACH, _REACH + 1).float()
    kernels = torch.exp(-0.5 * (places / _column(sigmas)[:, 0]) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True))[:, None]
    padded = functional.pad(gray[None], (_REACH,) * 4, mode="replicate")
    rows = functional.conv2d(padded, kernels[:, :, None, :], groups=len(gray))
    return functional.conv2d(rows, kernels[:, :, :, None], groups=len(gray))[0]
