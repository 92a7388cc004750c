"""Masks made wider and narrower, against distance transforms, and filled, against steps."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from haemo.features.views.disk import narrowed, widened
from haemo.features.views.holes import filled

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))


@given(MASKS, st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_widened_is_what_lies_within_the_distance(mask, distance):
    expected = ndimage.distance_transform_edt(~mask) <= distance if mask.any() else mask
    np.testing.assert_array_equal(widened(mask, distance), expected)


@given(MASKS, st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_narrowed_is_what_lies_farther_than_that_from_the_outside(mask, distance):
    expected = mask if mask.all() else ndimage.distance_transform_edt(mask) > distance
    np.testing.assert_array_equal(narrowed(mask, distance), expected)


@given(MASKS)
@settings(max_examples=150, deadline=None)
def test_filled_is_what_no_step_reaches_from_the_edge(mask):
    np.testing.assert_array_equal(filled(mask), ndimage.binary_fill_holes(mask))
