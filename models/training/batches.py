"""Slices for a network, batch by batch, from planes that were decoded once."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from haemo.models.training.recipes import Recipe

__all__ = ["EVALUATION_BATCH", "ROTATIONS_DEG", "Batches", "rotate"]

# The paper's rotations, to the left (positive) and to the right; 0 is the slice as it was.
ROTATIONS_DEG = (0, 70, 160, 270, -70, -160, -270)

# Short batches are filled up to this when a network is evaluated: on a CPU the last bits of a result depend
# on the size of its batch, and a slice's score shall not depend on its neighbours.
EVALUATION_BATCH = 32


class Batches:
    """Turns decoded planes into inputs of one network.

    No worker processes and no loader: the planes are uint8 in memory (or a memory-mapped file), and cutting,
    turning and normalising a batch of them costs a few per cent of a training step.

    Parameters
    ----------
    planes : ndarray of shape (n, plane_size, plane_size), uint8
    recipe : Recipe
    augment : tuple of str
        What is drawn for training batches, see `models.training.recipes.AUGMENTATIONS`.
    device : torch.device
    """

    def __init__(
        self,
        planes: np.ndarray,
        recipe: Recipe,
        augment: tuple[str, ...] = (),
        device: torch.device | str = "cpu",
    ):
        self.planes = planes
        self.recipe = recipe
        self.augment = augment
        self.device = torch.device(device)
        scale = 1.0 / (255.0 * np.asarray(recipe.std))
        shift = -np.asarray(recipe.mean) / np.asarray(recipe.std)
        self._scale = torch.tensor(scale, dtype=torch.float32, device=self.device)
        self._shift = torch.tensor(shift, dtype=torch.float32, device=self.device)

    def training(
        self, rows: np.ndarray, batch_size: int, random: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        """Inputs (b, channels, size, size) and their rows, shuffled and augmented by draws from `random`."""
        order = random.permutation(rows)
        size = self.recipe.input_size
        margin = self.planes.shape[1] - size
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            planes = self.planes[chosen]
            if "crop" in self.augment:
                planes = _cut(planes, random.integers(0, margin + 1, (len(chosen), 2)), size)
            if "flip" in self.augment:
                mirrored = random.random(len(chosen)) < 0.5
                planes[mirrored] = planes[mirrored, :, ::-1]
            gray = self._to_device(planes)
            if "rotate" in self.augment:
                gray = rotate(gray, random.choice(ROTATIONS_DEG, len(chosen)))
            yield self._normalised(gray), chosen

    def evaluation(self, rows: np.ndarray) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        """Inputs, always `EVALUATION_BATCH` of them (the last are filled up with black), and their rows."""
        size = self.recipe.input_size
        margin = self.planes.shape[1] - size
        for start in range(0, len(rows), EVALUATION_BATCH):
            chosen = rows[start : start + EVALUATION_BATCH]
            planes = np.zeros((EVALUATION_BATCH, size, size), dtype=np.uint8)
            middle = np.full((len(chosen), 2), margin // 2)
            planes[: len(chosen)] = _cut(self.planes[chosen], middle, size)
            yield self._normalised(self._to_device(planes)), chosen

    def _to_device(self, planes: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(planes))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.float()

    def _normalised(self, gray: torch.Tensor) -> torch.Tensor:
        # Channels last in memory, which convolutions are faster on; (b, channels, h, w) to the eye.
        return (gray.unsqueeze(-1) * self._scale + self._shift).permute(0, 3, 1, 2)


def _cut(planes: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    if planes.shape[1] == size:
        return planes
    pairs = zip(planes, corners, strict=True)
    return np.stack([plane[top : top + size, left : left + size] for plane, (top, left) in pairs])


def rotate(gray: torch.Tensor, angles_deg: np.ndarray) -> torch.Tensor:
    """Turn each plane about its middle, to the left where its angle is positive.

    Bilinear; what comes in from outside is black.

    Parameters
    ----------
    gray : Tensor of shape (b, size, size), float32
    angles_deg : ndarray of shape (b,)
    """
    turned = np.flatnonzero(angles_deg)
    if not len(turned):
        return gray
    angles = np.radians(angles_deg[turned])
    cos, sin, zero = np.cos(angles), np.sin(angles), np.zeros(len(angles))
    maps = torch.from_numpy(np.array([[cos, -sin, zero], [sin, cos, zero]]).transpose(2, 0, 1)).float()
    planes = gray[turned].unsqueeze(1)
    grid = functional.affine_grid(maps.to(gray.device), list(planes.shape), align_corners=False)
    rotated = functional.grid_sample(planes, grid, padding_mode="zeros", align_corners=False)
    result = gray.clone()
    result[turned] = rotated.squeeze(1)
    return result
