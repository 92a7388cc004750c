"""Boosted trees as plain arrays: no pickle, the same answers under any version of scikit-learn, and quick."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["BoostedTrees"]

_MOST_LEAVES = 32
_MOST_CUTS = 255  # of one feature, so that a place among them is a byte
_BLOCK = 4096  # pixels at a time: their codes and masks stay in the second cache
# A number whose windows of 5 bits are all different: times a power of two it says which (Leiserson, Prokop
# and Randall 1998, "Using de Bruijn sequences to index a 1 in a computer word").
_DE_BRUIJN = np.uint32(0x077CB531)

_Tables = tuple[list[tuple[int, np.ndarray]], np.ndarray]
"""Of one tree: by feature, the leaves left over at each place among its cuts; and values."""


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """Trees of at most 32 leaves whose values are summed.

    A feature's cuts are those of all trees, sorted; what lies at or below a cut goes left. No tree is walked:
    for each of its features, the place among the cuts says which leaves cannot be reached; of those that
    every feature leaves over the leftmost is the answer (Lucchese et al. 2015, "QuickScorer").

    Attributes
    ----------
    start : float
        What the sum begins with.
    cuts : ndarray of shape (features, most cuts), float64
        Ascending, filled up with infinity.
    feature, cut : ndarray of shape (splits,), uint8
        What each split looks at, all splits of the first tree first; `feature` is uint16 of over 256.
    first, middle : ndarray of shape (splits,), uint8
        Leaves left of the split: from `first` up to `middle`, without the latter.
    values : ndarray of shape (trees, 32), float32
        Of the leaves from left to right.
    splits : ndarray of shape (trees,), int32
        How many each tree has.
    """

    start: float
    cuts: np.ndarray
    feature: np.ndarray
    cut: np.ndarray
    first: np.ndarray
    middle: np.ndarray
    values: np.ndarray
    splits: np.ndarray

    @classmethod
    def of(cls, estimator: Any) -> "BoostedTrees":
        """Take over a fitted HistGradientBoostingClassifier of two classes and numeric features."""
        trees = [tree.nodes for (tree,) in estimator._predictors]
        feature = np.concatenate([tree["feature_idx"][tree["is_leaf"] == 0] for tree in trees]).astype(int)
        limit = np.concatenate([tree["num_threshold"][tree["is_leaf"] == 0] for tree in trees])
        own = [np.unique(limit[feature == number]) for number in range(estimator.n_features_in_)]
        cuts = np.full((len(own), _MOST_CUTS), np.inf)
        for row, found in zip(cuts, own, strict=True):
            row[: len(found)] = found
        splits: list[tuple[int, ...]] = []
        values = np.zeros((len(trees), _MOST_LEAVES), dtype=np.float32)
        counts = []
        for number, tree in enumerate(trees):
            before = len(splits)
            _walk(tree, own, splits, values[number])
            counts.append(len(splits) - before)
        feature, cut, first, middle = np.array(splits, dtype=np.uint16).reshape(-1, 4).T
        cut, first, middle = (own.astype(np.uint8) for own in (cut, first, middle))
        feature = feature.astype(np.uint8) if estimator.n_features_in_ <= 256 else feature
        start = float(estimator._baseline_prediction.item())
        return cls(start, cuts, feature, cut, first, middle, values, np.array(counts, dtype=np.int32))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, for a file."""
        kept = ("cuts", "feature", "cut", "first", "middle", "values", "splits")
        return {name: np.ascontiguousarray(getattr(self, name)) for name in kept} | {
            "start": np.array([self.start])
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "BoostedTrees":
        """The reverse of `arrays`."""
        own = {name: arrays[name] for name in cls.__dataclass_fields__}
        return cls(**{**own, "start": float(own["start"][0])})

    def scores(self, X: np.ndarray, surely_not: Sequence[tuple[float, float]] = ()) -> np.ndarray:
        """Sums of values, the log odds of the second class: ndarray of shape (rows,), float64.

        Parameters
        ----------
        X : ndarray of shape (rows, features)
        surely_not : sequence of (float, float)
            Shares of the trees, ascending, each with a limit: rows whose sum is below it after so many trees
            keep that sum.
        """
        total = np.empty(len(X))
        for begin in range(0, len(X), _BLOCK):
            block = slice(begin, begin + _BLOCK)
            codes = np.stack(
                [
                    np.searchsorted(cuts, column, side="left")
                    for cuts, column in zip(self.cuts, np.ascontiguousarray(X[block].T), strict=True)
                ]
            )
            part = np.full(codes.shape[1], self.start)
            kept, done = np.arange(len(part)), 0
            for share, limit in (*surely_not, (1.0, -np.inf)):
                end = int(share * len(self._tables))
                part[kept] += self._sum(codes, self._tables[done:end])
                going_on = part[kept] >= limit
                kept, codes, done = kept[going_on], codes[:, going_on], end
            total[block] = part
        return total

    @staticmethod
    def _sum(codes: np.ndarray, tables: "list[_Tables]") -> np.ndarray:
        total = np.zeros(codes.shape[1])
        left, other = np.empty((2, codes.shape[1]), dtype=np.uint32)
        for by_feature, values in tables:
            left.fill(0xFFFFFFFF)
            for feature, reachable in by_feature:
                reachable.take(codes[feature], out=other, mode="clip")
                left &= other
            np.negative(left, out=other)
            left &= other  # the lowest bit alone
            left *= _DE_BRUIJN
            left >>= np.uint32(27)
            total += values.take(left)
        return total

    @cached_property
    def _tables(self) -> "list[_Tables]":
        """For each tree: by feature, the leaves left over at each place among its cuts; and values."""
        places = (np.uint32(1) << np.arange(32, dtype=np.uint32)) * _DE_BRUIJN >> np.uint32(27)
        found, begin = [], 0
        for count, values in zip(self.splits, self.values, strict=True):
            tables: dict[int, np.ndarray] = {}
            for split in range(begin, begin + int(count)):
                feature = int(self.feature[split])
                table = tables.setdefault(feature, np.full(_MOST_CUTS + 1, 0xFFFFFFFF, dtype=np.uint32))
                lost = (1 << int(self.middle[split])) - (1 << int(self.first[split]))
                table[int(self.cut[split]) + 1 :] &= np.uint32(0xFFFFFFFF ^ lost)
            ordered = np.empty(32, dtype=np.float32)
            ordered[places] = values
            found.append((list(tables.items()), ordered))
            begin += int(count)
        return found


def _walk(tree: np.ndarray, own: list[np.ndarray], splits: list[tuple[int, ...]], values: np.ndarray) -> None:
    """Number the leaves of one tree from left to right, and list its splits with the leaves below."""

    def below(place: int, first: int) -> int:
        node = tree[place]
        if node["is_leaf"]:
            values[first] = node["value"]
            return first + 1
        middle = below(int(node["left"]), first)
        end = below(int(node["right"]), middle)
        feature = int(node["feature_idx"])
        cut = int(np.searchsorted(own[feature], node["num_threshold"]))
        splits.append((feature, cut, first, middle))
        return end

    below(0, 0)
