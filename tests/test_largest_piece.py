"""The largest piece of a mask, against the same steps on all of its pixels; planes of heads from its ends."""

import numpy as np
import pytest
from drawn_heads import SPACING_MM, head
from scipy import ndimage

from haemo.features.reading.slice import Slice
from haemo.features.views import head_plane
from haemo.features.views.head_grid import HeadGrid, largest_piece
from haemo.features.views.head_plane import HeadPlane


def slowly(mask: np.ndarray) -> np.ndarray:
    """An opening by 3 pixels, the largest piece grown by 4 with its holes filled, if it has 400 or more."""
    wide = np.pad(mask, 9, mode="edge")  # what lies beyond an edge is not outside
    core = (ndimage.distance_transform_edt(wide) > 3)[9:-9, 9:-9] if not wide.all() else mask
    labels, count = ndimage.label(core)
    if not count:
        return np.zeros_like(mask)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    grown = (ndimage.distance_transform_edt(~largest) <= 4) & mask if not largest.all() else mask
    return ndimage.binary_fill_holes(grown) if grown.sum() >= 400 else np.zeros_like(mask)


@pytest.mark.parametrize("seed", range(30))
def test_the_largest_piece_is_that_of_the_whole_array(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 120, 2)
    noise = ndimage.gaussian_filter(rng.normal(size=(height, width)), rng.uniform(2, 8))
    mask = noise > np.quantile(noise, rng.uniform(0.1, 0.9))
    if seed % 3 == 0:  # away from some edges
        mask[: height // 4] = mask[:, -width // 4 :] = False
    np.testing.assert_array_equal(largest_piece(mask), slowly(mask))


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (30, 30)])
def test_of_nothing_there_is_none(shape):
    assert not largest_piece(np.zeros(shape, dtype=bool)).any()
    full = np.ones(shape, dtype=bool)
    assert largest_piece(full).all() == (full.sum() >= 400 or not full.size)


@pytest.mark.parametrize("turn", [0, 20])
def test_the_ends_of_the_rows_of_a_head_say_where_it_ends(turn, monkeypatch):
    grid = HeadGrid.of(Slice(head(3, turn_deg=turn)[0], True, (SPACING_MM, SPACING_MM)))
    found = HeadPlane.of(grid, 227)
    monkeypatch.setattr(head_plane, "_ends", np.nonzero)
    expected = HeadPlane.of(grid, 227)
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    np.testing.assert_array_equal(found.gray, expected.gray)
