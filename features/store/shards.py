"""Finished parts of a store that is being made: a kill costs the part in hand and nothing else."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType, TracebackType

import numpy as np

from haemo.atomic import sync_directory
from haemo.errors import DamagedStore
from haemo.features.store.contents import Contents, KnownFile
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import FeatureStore, contents_path
from haemo.features.store.storefile import CHUNK_ROWS, RowKeys, seal_problem, write_store_file
from haemo.progress import Progress, silent

__all__ = ["Shards", "make_inbox", "merge", "parts_of", "remove_parts"]

_LOG = logging.getLogger("haemo")
_BLOCK_ROWS = 16 * CHUNK_ROWS
_OPEN_STORES = 64  # a process may have 1,024 files open, and a long extraction more parts


class Shards:
    """The folder ``features.parts`` beside a store, with one small, sealed store a part.

    A part is written under a temporary name, synced and renamed, in a thread of its own, so that the network
    does not wait for the disk. The files whose pixels it holds are noted in ``contents.csv`` after it.

    Parameters
    ----------
    store_path : Path
        The store that the parts will become.
    fingerprint : Fingerprint
    dtype : {'float32', 'float16'}
    notes : dict of str to str

    Attributes
    ----------
    contents : Contents
        Of the store, read once.
    """

    def __init__(self, store_path: Path, fingerprint: Fingerprint, dtype: str, notes: dict[str, str]):
        self._store_path = Path(store_path)
        self.folder = self._store_path.with_suffix(".parts")
        self._fingerprint = fingerprint
        self._dtype = dtype
        self._notes = notes
        self.contents = Contents(contents_path(store_path))
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="haemo-shards")
        self._writing: Future[None] | None = None
        self._number = 0

    def __enter__(self) -> "Shards":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.shutdown()

    @property
    def paths(self) -> list[Path]:
        """The finished parts, oldest first."""
        return parts_of(self._store_path)

    def adopt(self, discard_others: bool = False) -> None:
        """Take over what an earlier, interrupted extraction left; damaged parts are deleted and named.

        Parameters
        ----------
        discard_others : bool
            Delete parts that were made in another way.

        Raises
        ------
        FingerprintMismatch
            If a part was made in another way, and `discard_others` is false.
        """
        for path in self.folder.glob(".part-*.tmp"):
            path.unlink()
        self._number = max((int(path.stem.removeprefix("part-")) for path in self.paths), default=0)
        for path in sorted(self.folder.glob("from-*/batch-*.h5")):
            self._move_in(path)
        for path in self.paths:
            try:
                problem = seal_problem(path)
                if problem:
                    raise DamagedStore(f"{path}: {problem}")
                with FeatureStore(path) as part:
                    found = part.fingerprint
            except DamagedStore as error:
                _LOG.warning("%s; the part is dropped and its slices are embedded again", error)
                path.unlink()
                continue
            if found != self._fingerprint and discard_others:
                path.unlink()
                continue
            found.require(
                self._fingerprint,
                f"{self.folder}, left by an interrupted run,",
                f"Finish that with the options it was begun with, or delete {self.folder}",
            )

    def receive(self, path: Path, files: Sequence[KnownFile]) -> None:
        """Take in a part that another process has written into an inbox, and note the files that it is of.

        Parameters
        ----------
        path : Path
        files : sequence of KnownFile

        Raises
        ------
        OSError
            If it cannot be renamed.
        """
        self.settle()
        self._move_in(path)
        self.contents.append(files)

    def _move_in(self, path: Path) -> None:
        self._number += 1
        path.replace(self.folder / f"part-{self._number:06d}.h5")
        sync_directory(self.folder)

    def put(self, keys: RowKeys, embeddings: np.ndarray, files: Sequence[KnownFile]) -> None:
        """Hand over a part to be written; waits for the part before it.

        Parameters
        ----------
        keys : RowKeys
        embeddings : ndarray of shape (n, d), float32
            Must not be changed afterwards.
        files : sequence of KnownFile
            Files decoded since the last part; there may be some without a row, and rows without any.

        Raises
        ------
        OSError
            If the part before this one could not be written.
        """
        self.settle()
        self._number += 1
        self._writing = self._writer.submit(self._write, self._number, keys, embeddings, files)

    def settle(self) -> None:
        """Wait until every part is on disk."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, number: int, keys: RowKeys, embeddings: np.ndarray, files: Sequence[KnownFile]) -> None:
        if len(keys):
            if not self.folder.exists():
                self.folder.mkdir()
                sync_directory(self.folder.parent)
            path = self.folder / f"part-{number:06d}.h5"
            dimension = embeddings.shape[1]
            write_store_file(path, keys, [embeddings], dimension, self._dtype, self._fingerprint, self._notes)
        if files:
            self.contents.append(files)


def make_inbox(store_path: Path, token: str) -> Path:
    """Make a folder in which other processes write parts, as ``batch-000001.h5``, for `Shards.receive`.

    What is found there later, by an extraction that goes on, is taken in too.
    """
    folder = Path(store_path).with_suffix(".parts")
    inbox = folder / f"from-{token}"
    for path in (folder, inbox):
        if not path.exists():
            path.mkdir()
            sync_directory(path.parent)
    return inbox


def parts_of(store_path: Path) -> list[Path]:
    """The finished parts beside a store, oldest first."""
    return sorted(Path(store_path).with_suffix(".parts").glob("part-*.h5"))


def remove_parts(store_path: Path) -> None:
    """Delete the parts beside a store, once the store that holds their rows is in its place."""
    folder = Path(store_path).with_suffix(".parts")
    if folder.exists():
        shutil.rmtree(folder)


def merge(
    store_path: Path,
    sources: Sequence[Path],
    order: Sequence[str],
    keep_others: bool,
    notes: dict[str, str],
    progress: Progress = silent,
    names: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Make one store of several, in an order that depends on nothing but the manifest.

    Variant by variant, first the contents in `order`, then, in the order they were found, those that are not
    in it. So an interrupted and resumed extraction ends with the same bytes as an undisturbed one, and the
    embeddings of the slices as they are stand together at the front.

    A copy, and not a virtual data set over the parts: HDF5 reads a virtual part that is missing as zeros, in
    silence.

    Parameters
    ----------
    store_path : Path
        Replaced in one rename, if there is anything new.
    sources : sequence of Path
        Stores of one fingerprint, dimension and number type; `store_path` may be the first. The first that
        has a row gives it.
    order : sequence of str
        Contents in the order of the manifest.
    keep_others : bool
        Whether rows whose content is not in `order` are kept.
    notes : dict of str to str
    progress : Progress
    names : mapping of str to str
        Content -> the slice that a row of the parts is of; else the one that the part names.

    Returns
    -------
    int
        Number of rows. Without any, no store is written.
    """
    place = {content: index for index, content in enumerate(order)}
    found: dict[tuple[str, int], tuple[int, int, str]] = {}
    new = False
    for number, path in enumerate(sources):
        with FeatureStore(path) as source:
            dimension, dtype, fingerprint = source.dimension, source.dtype, source.fingerprint
            for row, key in enumerate(source.keys.pairs()):
                if key not in found and (keep_others or key[0] in place):
                    name = source.keys.slice_ids[row]
                    if path != store_path:
                        # Parts may have been made in any order, and another slice of equal pixels come first.
                        name, new = names.get(key[0], name), True
                    found[key] = (number, row, name)
    if not new:
        return len(found)
    # Sorting is stable: what is not in the manifest keeps the order in which it was found.
    ranked = sorted(found.items(), key=lambda item: (item[0][1], place.get(item[0][0], len(place))))
    keys = RowKeys(
        [slice_id for _, (_, _, slice_id) in ranked],
        [content for (content, _), _ in ranked],
        [variant for (_, variant), _ in ranked],
    )
    origins = np.array([origin[:2] for _, origin in ranked], dtype=np.intp)
    blocks = progress(
        _gather(sources, origins, dimension), total=-(-len(origins) // _BLOCK_ROWS), label="writing the store"
    )
    write_store_file(store_path, keys, blocks, dimension, dtype, fingerprint, notes)
    return len(keys)


def _gather(sources: Sequence[Path], origins: np.ndarray, dimension: int) -> Iterator[np.ndarray]:
    """Blocks of rows that stand at the given places: number of the source, row in it."""
    opened: dict[int, FeatureStore] = {}  # the least recently used one first
    try:
        for start in range(0, len(origins), _BLOCK_ROWS):
            some = origins[start : start + _BLOCK_ROWS]
            block = np.empty((len(some), dimension), np.float32)
            for number in np.unique(some[:, 0]).tolist():
                opened[number] = opened.pop(number) if number in opened else FeatureStore(sources[number])
                mine = some[:, 0] == number
                block[mine] = opened[number].read_rows(some[mine, 1])
                if len(opened) > _OPEN_STORES:
                    opened.pop(next(iter(opened))).close()
            yield block
    finally:
        for store in opened.values():
            store.close()
