import numpy as np
import pytest
from skimage.transform import rotate

from haemo.features.views.augment import PAPER_ANGLES_DEG, rotate_planes

pytestmark = pytest.mark.numerical


def random_planes(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), dtype=np.uint8)


@pytest.mark.parametrize("size", [227, 64])
def test_rotations_are_the_rounded_scikit_image_ones(size):
    planes = random_planes(2, size)

    variants = rotate_planes(planes)

    assert variants.shape == (2, 7, size, size)
    assert variants.dtype == np.uint8
    for number, angle in enumerate(PAPER_ANGLES_DEG, start=1):
        slow = [rotate(plane.astype(float), angle, order=1, preserve_range=True) for plane in planes]
        assert np.abs(variants[:, number] - np.stack(slow)).max() < 0.501, angle


def test_original_comes_first_and_quarter_turns_are_exact():
    planes = random_planes(3, 227)
    variants = rotate_planes(planes)
    assert (variants[:, 0] == planes).all()
    assert (variants[:, 3] == np.rot90(planes, 3, axes=(1, 2))).all()
    assert (variants[:, 6] == np.rot90(planes, -3, axes=(1, 2))).all()


def test_paper_turns_left_then_right():
    assert PAPER_ANGLES_DEG == (70, 160, 270, -70, -160, -270)
    plane = np.zeros((1, 227, 227), dtype=np.uint8)
    plane[0, 113, 200:210] = 255  # a mark at three o'clock
    left, right = rotate_planes(plane)[0, [1, 4]]
    assert left[:113].sum() > 0 == left[114:].sum()  # turned left, towards twelve
    assert right[114:].sum() > 0 == right[:113].sum()


def test_rotating_a_blank_plane_adds_nothing():
    assert not rotate_planes(np.zeros((1, 227, 227), dtype=np.uint8)).any()


def test_batch_is_as_one_by_one():
    planes = random_planes(4, 50)
    together = rotate_planes(planes)
    assert (together == np.concatenate([rotate_planes(plane[None]) for plane in planes])).all()
    assert rotate_planes(planes[:0]).shape == (0, 7, 50, 50)
