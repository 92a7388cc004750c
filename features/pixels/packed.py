"""A mask in few bytes, so that those of many studies can be kept."""

import zlib
from dataclasses import dataclass

import numpy as np

__all__ = ["PackedMask"]


@dataclass(frozen=True, slots=True)
class PackedMask:
    """A mask as one bit a pixel, compressed: under a kilobyte for the outlines of a slice.

    Attributes
    ----------
    shape : tuple of int
    data : bytes
    """

    shape: tuple[int, int]
    data: bytes

    @classmethod
    def of(cls, mask: np.ndarray) -> "PackedMask":
        """Pack a mask of shape (height, width), bool."""
        height, width = mask.shape
        return cls((height, width), zlib.compress(np.packbits(mask).tobytes(), 1))

    def unpack(self) -> np.ndarray:
        """Give the mask back, bool."""
        bits = np.unpackbits(np.frombuffer(zlib.decompress(self.data), np.uint8))
        height, width = self.shape
        return bits[: height * width].reshape(height, width).astype(bool)
