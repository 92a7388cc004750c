"""Boosted trees as plain arrays: no pickle, the same answers under any version of scikit-learn, and quick."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["BoostedTrees"]

_MOST_LEAVES = 32
_ALL_LEAVES = 0xFFFFFFFF
_MOST_CUTS = 255  # of one feature, so that a place among them is a byte
_MOST_PLACES = 1 << 19  # of pixels among cuts that are held at a time, for 4096 pixels or more
_LEAST_BLOCK = 4096
_MASKS = 1 << 16  # of leaves, looked up at a time for all features: they stay in the second cache
# Up to so many features all are looked up for all trees of a stage at once, where a tree has a dozen or two.
# The tables of many features would not fit into any cache: each tree is looked up by itself, for its own.
_MOST_FEATURES_AT_ONCE = 64
_MOST_AMONG = 3  # cuts among floats of the same upper half that it takes less time to try one by one
_EXPONENT_OF_1 = 127  # of 32-bit floats (IEEE 754), whose exponent begins at bit 23
_EXPONENT_BIT = np.uint32(23)


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
        stages = [(int(share * len(self.splits)), limit) for share, limit in surely_not]
        total = np.full(len(X), self.start)
        step = max(_LEAST_BLOCK, _MOST_PLACES // X.shape[1])
        for start in range(0, len(X), step):
            codes = self._codes(X[start : start + step])
            kept, done = np.arange(start, start + codes.shape[1]), 0
            for end, limit in stages:
                total[kept] += self._sum(codes, done, end)
                going_on = np.flatnonzero(total[kept] >= limit)
                kept, codes, done = kept[going_on], codes.take(going_on, axis=1), end
            total[kept] += self._sum(codes, done, len(self.splits))
        return total

    def _codes(self, X: np.ndarray) -> np.ndarray:
        """The place of each number among the cuts of its feature: (features, rows)."""
        found = np.empty(X.shape[::-1], dtype=np.intp)
        is_short = X.dtype == np.float32
        for feature, (places, column) in enumerate(zip(found, X.T, strict=True)):
            if is_short:
                self._short_cuts[feature].places(np.ascontiguousarray(column), places)
            else:
                places[:] = np.searchsorted(self.cuts[feature], column, side="left")
        return found

    @cached_property
    def _short_cuts(self) -> list["_ShortCuts"]:
        return [_ShortCuts(cuts[np.isfinite(cuts)]) for cuts in self.cuts]

    def _sum(self, codes: np.ndarray, begin: int, end: int) -> np.ndarray:
        """What the trees from `begin` up to `end` say of each row, given its places among the cuts."""
        features, rows = codes.shape
        trees, total = end - begin, np.zeros(rows)
        if not rows or not trees:
            return total
        left_over, step = self._left_over_by_tree, _LEAST_BLOCK
        if features <= _MOST_FEATURES_AT_ONCE:
            left_over, step = self._left_over_in_all, max(1, _MASKS // trees)
        values = self.values[begin:end].astype(np.float64).ravel()
        # The lowest bit of a mask as a float has the bit's number for an exponent.
        tree = np.uint32(_MOST_LEAVES) * np.arange(trees, dtype=np.uint32) - np.uint32(_EXPONENT_OF_1)
        for block in (slice(start, start + step) for start in range(0, rows, step)):
            left = left_over(codes[:, block], begin, end)
            lowest = np.negative(left)
            lowest &= left
            leaf = lowest.astype(np.float32).view(np.uint32)
            leaf >>= _EXPONENT_BIT
            leaf += tree
            total[block] = values.take(leaf.astype(np.intp), mode="clip").sum(axis=1)
        return total

    def _left_over_in_all(self, codes: np.ndarray, begin: int, end: int) -> np.ndarray:
        """Leaves that every feature leaves over, a bit a leaf: (rows, trees), uint32."""
        first, *others = zip(self._tables(begin, end), codes, strict=True)
        left = first[0].take(first[1], axis=0, mode="clip")
        other = np.empty_like(left)
        for table, code in others:
            left &= table.take(code, axis=0, out=other, mode="clip")
        return left

    def _left_over_by_tree(self, codes: np.ndarray, begin: int, end: int) -> np.ndarray:
        """The same, one tree after the other."""
        left = np.full((end - begin, codes.shape[1]), _ALL_LEAVES, dtype=np.uint32)
        for own, tables in zip(left, self._tables_by_tree[begin:end], strict=True):
            for feature, table in tables.items():
                own &= table.take(codes[feature], mode="clip")
        return np.ascontiguousarray(left.T)

    def _tables(self, begin: int, end: int) -> np.ndarray:
        """Leaves left over at each place among the cuts: (features, places, trees), uint32."""
        kept = self._kept_tables
        if (begin, end) not in kept:
            places = int(self.cut.max(initial=0)) + 2
            tables = np.full((len(self.cuts), places, end - begin), _ALL_LEAVES, dtype=np.uint32)
            tree = np.repeat(np.arange(len(self.splits)), self.splits)
            own = (tree >= begin) & (tree < end)
            at = self.feature[own].astype(int), self.cut[own].astype(int) + 1, tree[own] - begin
            np.bitwise_and.at(tables, at, self._left_by_splits[own])
            kept[begin, end] = np.bitwise_and.accumulate(tables, axis=1)
        return kept[begin, end]

    @cached_property
    def _kept_tables(self) -> dict[tuple[int, int], np.ndarray]:
        return {}

    @cached_property
    def _tables_by_tree(self) -> list[dict[int, np.ndarray]]:
        """For each tree: by feature, the leaves left over at each place among its cuts."""
        found: list[dict[int, np.ndarray]] = []
        ends = np.cumsum(self.splits)
        for begin, end in zip(ends - self.splits, ends, strict=True):
            tables: dict[int, np.ndarray] = {}
            for split in range(begin, end):
                new = np.full(_MOST_CUTS + 1, _ALL_LEAVES, dtype=np.uint32)
                table = tables.setdefault(int(self.feature[split]), new)
                table[int(self.cut[split]) + 1 :] &= self._left_by_splits[split]
            found.append(tables)
        return found

    @cached_property
    def _left_by_splits(self) -> np.ndarray:
        """The leaves that each split leaves over for what goes right."""
        one = np.uint64(1)
        lost = (one << self.middle.astype(np.uint64)) - (one << self.first.astype(np.uint64))
        return ~lost.astype(np.uint32)


class _ShortCuts:
    """Finds the places of 32-bit floats among ascending cuts: how many of the cuts lie below each.

    The upper half of a float's bits tells it to one part in 128. A table has, for each such half, how many
    cuts lie below all floats that have it; with those few that lie among them the float is compared.

    Parameters
    ----------
    cuts : ndarray of shape (n,), float64
        Finite.
    """

    def __init__(self, cuts: np.ndarray) -> None:
        short = cuts.astype(np.float32) + np.float32(0)  # one zero, whose bits are 0
        # What is above a cut is above the last short float that lies at or below it, and so the other way.
        np.nextafter(short, np.float32(-np.inf), out=short, where=short > cuts)
        upper = np.arange(1 << 16, dtype=np.uint32)
        is_negative = upper >= 1 << 15
        least = (upper << 16 | np.where(is_negative, np.uint32(0xFFFF), np.uint32(0))).view(np.float32)
        least[is_negative & np.isnan(least)] = -np.inf
        self._below = np.searchsorted(short, least).astype(np.uint8)
        self._among = int(np.bincount(short.view(np.uint32) >> 16, minlength=1).max())
        self._cuts = np.append(short, np.float32(np.inf))

    def places(self, values: np.ndarray, found: np.ndarray) -> None:
        """Write the places of `values`, float32 in one piece, to `found`, intp."""
        if self._among > _MOST_AMONG:
            found[:] = np.searchsorted(self._cuts, values)
            return
        found[:] = self._below.take((values.view(np.uint32) >> 16).astype(np.intp), mode="clip")
        for _ in range(self._among):
            found += values > self._cuts.take(found, mode="clip")


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
