"""A frozen network that looks at each plane twice: as it is, and mirrored left and right.

A head is nearly the same on both sides, and a bleed mostly is not. Of the embeddings a of a plane and b of
its mirror image, a + b and |a - b| are kept: what is on either side, and what is on one side only. Neither
changes when the plane is mirrored, bit for bit.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from haemo.models.networks.frozen import Embedder

__all__ = ["MirroredExtractor", "mirrored"]


class MirroredExtractor:
    """An extractor that embeds each plane and its mirror image, in batches of the size it had.

    Parameters
    ----------
    once : Embedder
        Embeds planes as they are.

    Attributes
    ----------
    dimension : int
        Numbers per slice: twice those of `once`.
    """

    def __init__(self, once: Embedder):
        self.once = once
        self.weights, self.layer = once.weights, once.layer
        self.engine = once.engine
        self.dimension = 2 * once.dimension

    @property
    def batch(self) -> int:
        """Planes per pass."""
        return self.once.batch

    def describe(self) -> dict[str, Any]:
        """Give the facts that an embedding depends on, for the fingerprint."""
        return {**self.once.describe(), "mirror": "a + b, |a - b|"}

    def __call__(self, planes: np.ndarray) -> np.ndarray:
        """Embed planes (n, size, size), or (n, 3, size, size), uint8: (n, dimension), float32."""
        return _joined(self.once(planes), self.once(mirrored(planes)))

    def stream(self, batches: Iterable[np.ndarray]) -> Generator[np.ndarray]:
        """Embed batches of at most `batch` planes each, in their order."""
        with closing(self.once.stream(_both_ways(batches))) as passes:
            for one, other in zip(passes, passes, strict=True):
                yield _joined(one, other)


def mirrored(planes: np.ndarray) -> np.ndarray:
    """Planes (n, height, width) or (n, channels, height, width) with left and right exchanged."""
    return np.ascontiguousarray(planes[..., ::-1])


def _both_ways(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for planes in batches:
        yield planes
        yield mirrored(planes)


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.concatenate([one + other, np.abs(one - other)], axis=1)
