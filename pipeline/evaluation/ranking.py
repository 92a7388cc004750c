"""ROC AUC and average precision of a ranking, for any weights of patients, and without each group of them.

For weights every row of them goes through all slices. Where groups are left out in turn, all groups together
can be had at about the price of one: only the slices of a group change what stands between them.
"""

from collections.abc import Iterator

import numpy as np

__all__ = ["Ranking", "ratio"]

_BLOCK_ELEMENTS = 1_000_000  # of one weighted array: 8 MB
# Terms of the series below, and from which size of 1 / ratio on it is used: 16^-15 is below the last bit.
_TERMS, _NEAR = 15, 16


class Ranking:
    """Slices in the order of their scores.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
    positive : ndarray of shape (n,), bool
    patient : ndarray of shape (n,), int
        Number of the patient of each slice, from 0.
    """

    def __init__(self, scores: np.ndarray, positive: np.ndarray, patient: np.ndarray):
        order = np.argsort(scores, kind="stable")
        self._starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
        self._positive, self._patient = positive[order], patient[order]

    def weighted(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both for each row of weights of patients, from slices sorted once, in blocks of resamples.

        Parameters
        ----------
        weights : ndarray of shape (n_resamples, n_patients)

        Returns
        -------
        roc_auc, average_precision : ndarray of shape (n_resamples,)
            NaN where a class is not there.
        """
        positive, count = self._positive[:, None], len(self._positive)
        block = max(1, _BLOCK_ELEMENTS // count)
        parts = []
        for first in range(0, len(weights), block):
            # Slices stand in rows: gathering and summing then run along contiguous memory.
            each = np.ascontiguousarray(weights[first : first + block].T)[self._patient]
            hits = each * positive
            misses = each - hits
            if len(self._starts) < count:
                hits, misses = np.add.reduceat(hits, self._starts), np.add.reduceat(misses, self._starts)
            parts.append((_area(hits, misses), _average_precision(hits, misses)))
        return np.concatenate([a for a, _ in parts]), np.concatenate([p for _, p in parts])

    def without(self, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both without each group of patients, in time that does not grow with their number.

        Parameters
        ----------
        group : ndarray of shape (n_patients,), int
            Group of each patient, 0..n_groups-1.

        Returns
        -------
        roc_auc, average_precision : ndarray of shape (n_groups,)
            NaN where a class is not there without the group.

        Notes
        -----
        The areas are those of `weighted` to the last bit. With F positives among the N slices down to a
        score, and a and b of them in the group, precision without the group is (F - a) / (N - b). Between
        two slices of the group a and b stay, and sums of it over positives follow, for all groups, from sums
        of F / N^k and 1 / N^k, as 1 / (N - b) is the sum of b^k / N^(k + 1); where b is more than N / 16
        precision is summed as it is.
        """
        levels = _Levels(self._starts, self._positive)
        changes = _Changes(self._starts, self._positive, group[self._patient], int(group.max()) + 1)
        return levels.areas(changes), levels.average_precisions(changes)


class _Levels:
    """Positives and negatives at each different score, the highest one first."""

    def __init__(self, starts: np.ndarray, positive: np.ndarray):
        hits = np.add.reduceat(positive.astype(float), starts)
        self.misses = (np.add.reduceat(np.ones(len(positive)), starts) - hits)[::-1]
        self.hits = hits[::-1]
        self.found, self.named = np.cumsum(self.hits), np.cumsum(self.hits + self.misses)

    def areas(self, changes: "_Changes") -> np.ndarray:
        """ROC AUC without each group: pairs less those with a slice of the group."""
        level = changes.level
        above = self.found - self.hits / 2
        below = (self.named - self.found)[-1] - (self.named - self.found) + self.misses / 2
        own_below = changes.group_total(changes.misses)[changes.group]
        own_below += -changes.misses_so_far + changes.misses / 2
        lost = changes.hits * (below[level] - own_below) + changes.misses * above[level]
        wins = self.hits @ below - changes.group_total(lost)
        left = self.found[-1] - changes.group_total(changes.hits)
        pairs = left * ((self.named - self.found)[-1] - changes.group_total(changes.misses))
        return ratio(wins, pairs)

    def average_precisions(self, changes: "_Changes") -> np.ndarray:
        """Average precision without each group."""
        level, a, b = changes.level, changes.hits_so_far, changes.hits_so_far + changes.misses_so_far
        end = changes.next_level(len(self.hits))
        near = np.clip(np.searchsorted(self.named, _NEAR * b), level, end)
        sums = -changes.hits * ratio(self.found[level] - a, self.named[level] - b, 0.0)
        for some, place in _ranges(level, near):
            precision = ratio(self.found[place] - a[some], self.named[place] - b[some], 0.0)
            np.add.at(sums, some, self.hits[place] * precision)
        # Summed from the lowest score on: there the terms are smallest.
        term, power = self.hits / self.named, np.ones(len(b))
        rest_found, first = _from_the_end(term * self.found), changes.is_first
        before = np.full(changes.count, rest_found[0])
        before[changes.group[first]] -= rest_found[level[first]]
        for _ in range(_TERMS):
            rest, rest_found = _from_the_end(term), _from_the_end(term * self.found)
            sums += power * (rest_found[near] - rest_found[end] - a * (rest[near] - rest[end]))
            term, power = term / self.named, power * b
        left = self.found[-1] - changes.group_total(changes.hits)
        return ratio(before + changes.group_total(sums), left)


class _Changes:
    """Where slices of a group stand: one entry for each group and score that it has, by group, then score.

    Attributes
    ----------
    group, level : ndarray of shape (m,), int
    hits, misses : ndarray of shape (m,), float64
        Positives and negatives of the group at this score.
    hits_so_far, misses_so_far : the same
        At this score or above it.
    is_first : ndarray of shape (m,), bool
        Whether it is the highest score of the group.
    count : int
        Number of groups.
    """

    def __init__(self, starts: np.ndarray, positive: np.ndarray, group: np.ndarray, count: int):
        levels = len(starts)
        sizes = np.diff(np.r_[starts, len(positive)])
        level = levels - 1 - np.repeat(np.arange(levels), sizes)
        keys, place = np.unique(group * levels + level, return_inverse=True)
        self.count = count
        self.group, self.level = keys // levels, keys % levels
        self.hits = np.bincount(place, positive, len(keys))
        self.misses = np.bincount(place, ~positive, len(keys))
        self.is_first = np.r_[True, np.diff(self.group) > 0]
        self.hits_so_far, self.misses_so_far = self._so_far(self.hits), self._so_far(self.misses)

    def _so_far(self, values: np.ndarray) -> np.ndarray:
        total = np.cumsum(values)
        first = np.flatnonzero(self.is_first)
        return total - np.repeat((total - values)[first], np.diff(np.r_[first, len(values)]))

    def group_total(self, values: np.ndarray) -> np.ndarray:
        """Sum of `values` over each group, shape (n_groups,)."""
        return np.bincount(self.group, values, self.count)

    def next_level(self, last: int) -> np.ndarray:
        """Level of the next entry of the same group; `last` behind its last one."""
        following = np.r_[self.level[1:], last]
        following[np.r_[self.is_first[1:], True]] = last
        return following


def _ranges(first: np.ndarray, end: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All places of ranges, in blocks: number of the range, and place in it."""
    lengths = end - first
    total = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        done = total[start] - lengths[start]
        stop = max(start + 1, int(np.searchsorted(total, done + _BLOCK_ELEMENTS, "right")))
        some = np.repeat(np.arange(start, stop), lengths[start:stop])
        yield some, first[some] + np.arange(len(some)) + done - (total - lengths)[some]
        start = stop


def _from_the_end(values: np.ndarray) -> np.ndarray:
    """Sum from each place to the end, and 0 behind the last one."""
    return np.r_[np.cumsum(values[::-1])[::-1], 0.0]


def _area(hits: np.ndarray, misses: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the share of pairs in the right order, ties counted half."""
    below = np.cumsum(misses, axis=0)
    pairs = below[-1] * hits.sum(axis=0)
    wins = np.einsum("ij,ij->j", hits, below) - np.einsum("ij,ij->j", hits, misses) / 2
    return ratio(wins, pairs)


def _average_precision(hits: np.ndarray, misses: np.ndarray) -> np.ndarray:
    """Mean precision over the steps of recall, without interpolation (as scikit-learn has it)."""
    hits, misses = hits[::-1], misses[::-1]
    found = np.cumsum(hits, axis=0)
    named = np.cumsum(misses, axis=0)
    named += found
    precision = np.divide(found, named, out=named, where=named > 0)
    return ratio(np.einsum("ij,ij->j", precision, hits), found[-1])


def ratio(above: np.ndarray, below: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """One over the other, and `empty` where the lower one is not above 0."""
    return np.divide(above, below, out=np.full(np.shape(above), empty), where=below > 0)
