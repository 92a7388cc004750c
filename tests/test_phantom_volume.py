"""Reading between grid points, against scipy's slow exact way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from haemo.features.phantom.volume import SmoothNoise, double, sample

pytestmark = pytest.mark.numerical


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_sample_is_linear_interpolation(seed):
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=(5, 7, 6, 2)).astype(np.float32)
    points = rng.uniform((0, 0, 0), (3.9, 5.9, 4.9), (40, 3)).astype(np.float32)
    expected = [ndimage.map_coordinates(volume[..., c], points.T, order=1) for c in (0, 1)]
    np.testing.assert_allclose(sample(volume, points), np.stack(expected, axis=1), atol=1e-5)


def test_beyond_its_edge_a_volume_goes_on_with_its_edge():
    volume = np.arange(27, dtype=np.float32).reshape(3, 3, 3, 1)
    values = sample(volume, np.float32([[-5, -5, -5], [9, 9, 9]]))[:, 0]
    np.testing.assert_allclose(values, [0, 26], atol=0.03)


def _keys(distance):
    distance = abs(distance)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def test_double_is_cubic_convolution():
    image = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    result = double(image)
    rows, columns = ((np.arange(2 * n) + 0.5) / 2 - 0.5 for n in image.shape)
    padded = np.pad(image, 3, mode="edge")
    by_row = _keys(rows[:, None] - (np.arange(padded.shape[0]) - 3))
    by_column = _keys(columns[:, None] - (np.arange(padded.shape[1]) - 3))
    np.testing.assert_allclose(result, by_row @ padded @ by_column.T, atol=1e-5)


def test_noise_is_smooth_and_has_unit_variance():
    noise = SmoothNoise(np.random.default_rng(3), cell_mm=10.0, channels=2)
    points = np.random.default_rng(4).uniform(-200, 200, (20_000, 3)).astype(np.float32)
    values = noise(points)
    assert values.std(axis=0) == pytest.approx([1, 1], abs=0.15)
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.1
    step = np.float32([0.1, 0, 0])
    assert np.abs(noise(points + step) - values).max() < 0.2
