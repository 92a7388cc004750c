"""What a model knows: slices unlike those it was trained on are flagged, not scored in silence."""

import logging
from dataclasses import dataclass

import numpy as np

from haemo.features.manifest import Manifest
from haemo.features.reading.slice import Slice
from haemo.features.store.store import FeatureStore
from haemo.features.store.table import FeatureTable
from haemo.pipeline.splitting.split import Split

__all__ = ["Scope", "evenly", "implausible"]

log = logging.getLogger("haemo")

_BONE_FROM_HU = 300.0
_LEAST_BONE = 0.002
_TISSUE_HU = (0.0, 100.0)
_LEAST_TISSUE = 0.01
_LEAST_SPREAD = 1.0
_MOST_TWO_TONE = 0.98

_MOST_KNOWN = 500
_QUANTILE = 0.99
_FEWEST_FOLDS = 2


def implausible(image: Slice) -> str:
    """Why a slice cannot be one through a head, or an empty text.

    In HU a slice through a head has bone (over 300 HU) and soft tissue (0 to 100 HU). A picture has more than
    one gray level, and more than black and white.
    """
    pixels = image.pixels
    if image.is_hu:
        if _share(pixels > _BONE_FROM_HU) < _LEAST_BONE:
            return f"no bone: hardly a pixel is above {_BONE_FROM_HU:g} HU"
        low, high = _TISSUE_HU
        if _share((pixels > low) & (pixels < high)) < _LEAST_TISSUE:
            return f"no soft tissue: hardly a pixel has {low:g} to {high:g} HU"
        return ""
    if pixels.std() < _LEAST_SPREAD:
        return "the picture is one even gray"
    if _share((pixels < 1) | (pixels > 254)) > _MOST_TWO_TONE:
        return "the picture is black and white; the window may be wrong"
    return ""


def _share(mask: np.ndarray) -> float:
    return np.count_nonzero(mask) / mask.size


@dataclass(frozen=True, eq=False)
class Scope:
    """Training slices as embeddings, and how far from them a slice may be.

    The distance is one less the cosine to the nearest training slice. A slice is outside when it is farther
    away than 99 in 100 training slices are from those of other folds, that is of other patients (unless the
    split is leaky). So about one in a hundred slices of the same kind is flagged too.

    The embeddings of an end-to-end network are what its last layer is given. It draws together what it
    learned from, so its limit is taken from the slices that were held out of its training.

    Attributes
    ----------
    known : ndarray of shape (n, dimension), float32
        Unit vectors; at most 500 training slices, evenly drawn.
    limit : float
    """

    known: np.ndarray
    limit: float

    @classmethod
    def of_training(
        cls, store: FeatureStore | FeatureTable, manifest: Manifest, split: Split
    ) -> "Scope | None":
        """Measure it on the training slices of a split; None where there is only one fold to measure by."""
        rows = sorted(manifest.labelled, key=lambda row: row.slice_id)
        has = store.covers(rows)
        train = (split.parts(rows) == "train") & has
        rows = [row for row, kept in zip(rows, train, strict=True) if kept]
        rows = [rows[place] for place in evenly(len(rows), _MOST_KNOWN)]
        folds = split.fold_numbers(rows) if rows else np.empty(0)
        if len(np.unique(folds)) < _FEWEST_FOLDS:
            log.warning("too few training slices to tell what is unlike them; only plausibility is checked")
            return None
        known = _unit(store.embeddings([row.slice_id for row in rows]))
        cosines = known @ known.T
        cosines[folds[:, None] == folds[None]] = -np.inf
        return cls(known, float(np.quantile(1 - cosines.max(axis=1), _QUANTILE)))

    @staticmethod
    def sample(rows: np.ndarray) -> np.ndarray:
        """Those of the training slices that are kept: at most 500, evenly drawn from their order."""
        return rows[evenly(len(rows), _MOST_KNOWN)]

    @classmethod
    def of_network(cls, learned: np.ndarray, held_out: np.ndarray) -> "Scope":
        """Measure it on what a network made of slices it learned from, and of slices held out."""
        known = _unit(learned)
        nearest = (_unit(held_out) @ known.T).max(axis=1)
        return cls(known, float(np.quantile(1 - nearest, _QUANTILE)))

    def as_bytes(self) -> bytes:
        """Itself as a safetensors file."""
        from safetensors.numpy import save

        return save({"known": self.known, "limit": np.array([self.limit])})

    @classmethod
    def of_bytes(cls, data: bytes) -> "Scope":
        """Read what `as_bytes` gave.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            values = load(data)
            known, limit = values["known"], float(values["limit"][0])
        except (SafetensorError, KeyError, IndexError) as error:
            raise ValueError(str(error)) from error
        if known.ndim != 2 or not len(known) or not np.isfinite(limit):
            raise ValueError("it holds no training slices")
        return cls(known, limit)

    def distances(self, embeddings: np.ndarray) -> np.ndarray:
        """Distances of embeddings (n, dimension) from the nearest training slice: (n,), 0 to 2."""
        return 1 - (_unit(embeddings) @ self.known.T).max(axis=1)

    def reason(self, distance: float) -> str:
        """Why a slice at this distance is outside, or an empty text."""
        if distance <= self.limit:
            return ""
        return f"unlike the training slices (distance {distance:.3f}, limit {self.limit:.3f})"


def evenly(count: int, most: int) -> np.ndarray:
    """At most `most` of the numbers below `count`, evenly drawn."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)) if count else np.arange(0)


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
