"""The features that a head stands on: one or several stores side by side, neighbours beside each slice."""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from haemo.errors import MissingStep
from haemo.features.manifest import ManifestRow
from haemo.features.neighbours import neighbours_of_rows
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import FeatureStore, features_command

__all__ = ["FeatureTable"]


class FeatureTable:
    """Rows of features, made of blocks that lie in stores, and a context manager that closes these.

    A row has the columns of each store, in their order, for the slice itself; then those of the slices
    beside it in its study, in the order of `features.neighbours.offsets`. With one store and no context it is
    that store. Neighbours are slices of the manifest, with a label or without, that every store has.

    Parameters
    ----------
    stores : mapping of str to FeatureStore
        By the name of the set.
    rows : sequence of ManifestRow
        The manifest; needed with a context only.
    context : int
        Neighbours on either side.

    Raises
    ------
    BadSettings
        If a slice of the manifest that has features has no position, and there is a context.

    Attributes
    ----------
    stores : dict of str to FeatureStore
    context : int
    own_dimension : int
        Columns of the slice itself: the first ones.
    dimension : int
    """

    def __init__(
        self, stores: Mapping[str, FeatureStore], rows: Sequence[ManifestRow] = (), context: int = 0
    ):
        self.stores = dict(stores)
        self.context = context
        self.own_dimension = sum(store.dimension for store in self.stores.values())
        self.dimension = self.own_dimension * (2 * context + 1)
        self._only = next(iter(self.stores.values())) if len(self.stores) == 1 and not context else None
        self._beside: dict[str, list[str]] = {}
        if context:
            there = [row for row, has in zip(rows, self.covers(rows), strict=True) if has]
            names = np.array([row.slice_id for row in there], dtype=object)
            if there:
                found = names[neighbours_of_rows(there, context)]
                self._beside = dict(zip(names.tolist(), found.tolist(), strict=True))
        # Where the blocks of each row that was asked for lie in their stores.
        self._places = np.empty((0, len(self.stores) * (2 * context + 1)), dtype=np.intp)
        self._known: dict[tuple[str, int], int] = {}

    def __enter__(self) -> "FeatureTable":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for store in self.stores.values():
            store.close()

    @property
    def where(self) -> str:
        """The files, for messages."""
        return ", ".join(str(store.path) for store in self.stores.values())

    @property
    def command(self) -> str:
        """What to type to complete the stores."""
        return "; ".join(features_command(store.path) for store in self.stores.values())

    @property
    def fingerprint(self) -> Fingerprint:
        """That of the store, or of several by the names of their sets; the context is no part of it."""
        if len(self.stores) == 1:
            return next(iter(self.stores.values())).fingerprint
        return Fingerprint({name: store.fingerprint.facts for name, store in self.stores.items()})

    @property
    def facts_of_each(self) -> dict[str, dict[str, Any]]:
        """Facts of the fingerprint of each store, by its path."""
        return {str(store.path): store.fingerprint.facts for store in self.stores.values()}

    @property
    def blocks_of_columns(self) -> list[int]:
        """Widths of the blocks that a row is made of, in their order."""
        return [store.dimension for store in self.stores.values()] * (2 * self.context + 1)

    @property
    def variants(self) -> tuple[int, ...]:
        """Variants that every store has, ascending."""
        found = [set(store.variants) for store in self.stores.values()]
        return tuple(sorted(set.intersection(*found)))

    def has(self, slice_ids: Sequence[str], variant: int = 0) -> np.ndarray:
        """Which slices every store has: ndarray of shape (n,), bool."""
        return np.all([store.has(slice_ids, variant) for store in self.stores.values()], axis=0)

    def covers(self, rows: Sequence[ManifestRow], variant: int = 0) -> np.ndarray:
        """Which slices of a manifest every store has, as `FeatureStore.covers`."""
        return np.all([store.covers(rows, variant) for store in self.stores.values()], axis=0)

    def find(self, slice_ids: Sequence[str], variant: int = 0) -> np.ndarray:
        """Numbers of the rows of some slices, for `read_rows`.

        Raises
        ------
        MissingStep
            If a store lacks a slice or one of its neighbours.
        """
        if self._only is not None:
            return self._only.find(slice_ids, variant)
        new = list(dict.fromkeys(name for name in slice_ids if (name, variant) not in self._known))
        if new:
            columns = [
                store.find(names, variant)
                for names in zip(*map(self._with_neighbours, new), strict=True)
                for store in self.stores.values()
            ]
            start = len(self._places)
            self._places = np.concatenate([self._places, np.column_stack(columns)])
            self._known |= {(name, variant): start + place for place, name in enumerate(new)}
        return np.array([self._known[name, variant] for name in slice_ids], dtype=np.intp)

    def _with_neighbours(self, slice_id: str) -> Sequence[str]:
        if not self.context:
            return (slice_id,)
        if slice_id not in self._beside:
            raise MissingStep(f"{self.where} has no features of {slice_id}; run: {self.command}")
        return self._beside[slice_id]

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows by number, in the order asked for, as float32 of shape (n, dimension)."""
        if self._only is not None:
            return self._only.read_rows(rows)
        places = self._places[np.asarray(rows, dtype=np.intp)]
        result = np.empty((len(places), self.dimension), np.float32)
        stores = [*self.stores.values()] * (2 * self.context + 1)
        start = 0
        for column, store in enumerate(stores):
            result[:, start : start + store.dimension] = store.read_rows(places[:, column])
            start += store.dimension
        return result

    def embeddings(self, slice_ids: Sequence[str], variant: int = 0) -> np.ndarray:
        """Rows of some slices, in the order asked for; errors as `find`."""
        return self.read_rows(self.find(slice_ids, variant))

    def blocks(self, slice_ids: Sequence[str], rows: int = 1024, variant: int = 0) -> Iterator[np.ndarray]:
        """The same rows in blocks of at most `rows`, so that memory stays flat."""
        found = self.find(slice_ids, variant)
        for start in range(0, len(found), rows):
            yield self.read_rows(found[start : start + rows])
