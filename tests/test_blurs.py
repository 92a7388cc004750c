"""Blurs and distances on planes of a head, beside scipy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from haemo.features.pixels.blurs import blurred, blurred_part
from haemo.features.pixels.distances import distances
from haemo.features.views.head_box import Box


@pytest.mark.numerical
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([1.0, 2.0, 8.0, 10.0]))
@settings(max_examples=20, deadline=None)
def test_a_blur_is_that_of_scipy(height, width, sigma):
    planes = np.random.default_rng(height).normal(20, 9, (2, height, width)).astype(np.float32)
    slow = [ndimage.gaussian_filter(own.astype(float), sigma, mode="constant", truncate=3) for own in planes]
    np.testing.assert_allclose(blurred(planes, sigma), slow, atol=2e-5)


@pytest.mark.numerical
@given(st.tuples(*[st.integers(1, 60)] * 2), st.tuples(*[st.floats(0, 1)] * 4), st.sampled_from([0.7, 6.0]))
@settings(max_examples=20, deadline=None)
def test_a_part_is_that_of_the_whole_blurred_by_scipy(shape, bounds, sigma):
    plane = np.random.default_rng(0).random(shape) < 0.2
    box = box_of(shape, bounds)
    slow = ndimage.gaussian_filter(plane.astype(float), sigma, truncate=3)
    np.testing.assert_allclose(blurred_part(plane, box, sigma), box.cut(slow), atol=1e-6)


def box_of(shape, bounds):
    """A box of one pixel or more; `bounds` are shares of the way over the plane."""
    rows, columns = (
        (int(min(a, b) * (size - 1)), int(max(a, b) * (size - 1)) + 1)
        for size, a, b in zip(shape, bounds[::2], bounds[1::2], strict=True)
    )
    return Box(*rows, *columns)


@given(
    st.integers(0, 10**6),
    st.tuples(*[st.integers(1, 60)] * 2),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_distances_are_exact_up_to_the_most(seed, shape, bounds, most):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < rng.choice([0.0, 0.002, 0.1, 1.0])
    box = box_of(shape, bounds)
    far = np.full(shape, np.inf) if not mask.any() else ndimage.distance_transform_edt(~mask)
    expected = box.cut(np.minimum(far, most)) ** 2
    np.testing.assert_allclose(distances(mask, box, most), expected, atol=1e-6)
