"""Slices on both sides of the split that look alike: by their embeddings, and by a hash of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from haemo.errors import UnreadableSlice
from haemo.features.failures import Failure
from haemo.features.manifest import ManifestRow
from haemo.features.reading.reader import read_guarded
from haemo.features.views.preprocess import Preprocessing
from haemo.progress import Progress, silent

__all__ = [
    "ALIKE_BITS",
    "ALIKE_COSINE",
    "PICTURE_BITS",
    "SUPPORTING_COSINE",
    "LookAlike",
    "look_alikes",
    "picture_hash",
    "picture_hashes",
]

PICTURE_BITS = 256
"""Bits of a picture hash: is each of 16 x 16 regions brighter than its right neighbour."""

ALIKE_BITS = 26
"""Picture hashes that differ in at most this many bits (a tenth) are alike."""

ALIKE_COSINE = 0.9
"""Embeddings whose centred cosine is at least this count as alike whatever the picture hash says."""

SUPPORTING_COSINE = 0.7
"""Centred cosine that embeddings need besides where the picture hashes are alike.

All heads are oval: on phantom patients, who share nothing, hashes differ in as few as 18 bits, but no such
pair has a cosine above 0.6.
"""

_SIDE = 16
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class LookAlike:
    """A training slice and a test slice that look alike.

    Attributes
    ----------
    train, test : str
        Slice ids.
    train_patient, test_patient : str
    cosine : float
        Of the embeddings, less their mean over all slices.
    bits : int or None
        In how many of 256 bits the picture hashes differ; None where a picture was not read.
    identical : bool
        Whether the decoded pixels are equal.
    """

    train: str
    test: str
    train_patient: str
    test_patient: str
    cosine: float
    bits: int | None
    identical: bool


def picture_hash(plane: np.ndarray) -> np.ndarray:
    """A difference hash of a picture: robust to size, compression and brightness, not to rotation.

    Parameters
    ----------
    plane : ndarray of shape (height, width), uint8

    Returns
    -------
    ndarray of shape (256,), bool
    """
    height, width = plane.shape
    rows = np.linspace(0, height, _SIDE + 1).astype(int)
    columns = np.linspace(0, width, _SIDE + 2).astype(int)
    sums = np.add.reduceat(np.add.reduceat(plane.astype(float), rows[:-1], axis=0), columns[:-1], axis=1)
    means = sums / (np.diff(rows)[:, None] * np.diff(columns))
    # Air is flat: a step of less than a gray level is noise and would make all backgrounds differ.
    return (np.diff(means, axis=1) > 1.0).ravel()


def picture_hashes(
    rows: Sequence[ManifestRow], preprocessing: Preprocessing, progress: Progress = silent
) -> tuple[dict[str, np.ndarray], list[Failure]]:
    """Picture hashes by slice id, and the slices that could not be read."""
    hashes, failures = {}, []
    for row in progress(rows, total=len(rows), label="pictures hashed"):
        try:
            hashes[row.slice_id] = picture_hash(preprocessing.plane(read_guarded(row.path)))
        except (UnreadableSlice, OSError) as error:
            failures.append(Failure(str(row.path), "leakage", str(error)))
    return hashes, failures


def look_alikes(
    rows: Sequence[ManifestRow],
    trains: np.ndarray,
    embeddings: np.ndarray,
    contents: Sequence[str | None],
    hashes: dict[str, np.ndarray],
    most: int = 200,
) -> tuple[list[LookAlike], int]:
    """Pairs of a training and a test slice that look alike, the most alike first.

    Parameters
    ----------
    rows : sequence of ManifestRow
    trains : ndarray of shape (n,), bool
        Which rows are on the training side; the others are tested.
    embeddings : ndarray of shape (n, d), float32
    contents : sequence of str or None
        sha256 of the decoded pixels.
    hashes : dict of str to ndarray
        From `picture_hashes`; may be empty.
    most : int
        How many pairs are given at most.

    Returns
    -------
    pairs : list of LookAlike
        Alike by the embeddings, by both measures together, or identical.
    count : int
        How many such pairs there are in all.
    """
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    centred /= np.where(lengths > 0, lengths, 1)
    train_rows, test_rows = np.flatnonzero(trains), np.flatnonzero(~trains)
    bits = np.full((len(rows), PICTURE_BITS), np.nan, dtype=np.float32)
    for place, row in enumerate(rows):
        if row.slice_id in hashes:
            bits[place] = hashes[row.slice_id]
    names = {name: number for number, name in enumerate(sorted({c for c in contents if c is not None}))}
    content = np.array([names.get(c, -1 - place) for place, c in enumerate(contents)])
    found, count = [], 0
    for start in range(0, len(test_rows), _ROWS_AT_ONCE):
        tested = test_rows[start : start + _ROWS_AT_ONCE]
        cosine = centred[tested] @ centred[train_rows].T
        distance = _differing(bits[tested], bits[train_rows])
        same = content[tested][:, None] == content[train_rows]
        alike = (cosine >= ALIKE_COSINE) | ((distance <= ALIKE_BITS) & (cosine >= SUPPORTING_COSINE)) | same
        count += int(alike.sum())
        pairs = np.argwhere(alike)
        order = np.lexsort((-cosine[alike], ~same[alike]))[:most]
        found += [
            _pair(rows, train_rows[j], tested[i], cosine[i, j], distance[i, j], bool(same[i, j]))
            for i, j in pairs[order]
        ]
    found.sort(key=lambda pair: (not pair.identical, -pair.cosine, pair.test, pair.train))
    return found[:most], count


def _differing(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Hamming distances of rows of bits given as 0 and 1; NaN where a row is NaN."""
    return first @ (1 - second).T + (1 - first) @ second.T


def _pair(
    rows: Sequence[ManifestRow], train: int, test: int, cosine: float, distance: float, same: bool
) -> LookAlike:
    return LookAlike(
        train=rows[train].slice_id,
        test=rows[test].slice_id,
        train_patient=rows[train].patient,
        test_patient=rows[test].patient,
        cosine=float(cosine),
        bits=None if np.isnan(distance) else int(distance),
        identical=same,
    )
