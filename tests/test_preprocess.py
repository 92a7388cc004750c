import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haemo.errors import BadSettings
from haemo.features.reading.slice import Slice
from haemo.features.views.preprocess import Preprocessing
from haemo.features.views.resize import resize_matrix, resized
from haemo.models.networks.alexnet import load_extractor
from haemo.models.networks.engine import Engine
from haemo.models.weights.imagenet import random_weights


def smooth_slice(shape, seed, is_hu=False):
    """Blobs over the whole range of gray levels, or from air to bone."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 6)
    levels = 127.5 + 127.5 * noise / np.abs(noise).max()
    return Slice((levels * 4 - 400 if is_hu else levels).astype(np.float32), is_hu)


@pytest.mark.numerical
@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 600), st.integers(1, 600)),
    is_hu=st.booleans(),
    size=st.sampled_from([7, 64, 227]),
    crop=st.sampled_from(["none", "head"]),
)
def test_plane_is_the_rounded_scikit_image_one(shape, is_hu, size, crop):
    pixels = np.random.default_rng(shape).uniform(-50, 250, shape).astype(np.float32)
    image = Slice(pixels if is_hu else np.clip(pixels, 0, 255), is_hu)
    preprocessing = Preprocessing(size=size, crop=crop)

    plane = preprocessing.plane(image)

    assert plane.dtype == np.uint8
    assert plane.flags.c_contiguous
    assert np.abs(plane - preprocessing.reference(image)).max() < 0.501


@pytest.mark.numerical
@settings(deadline=None, max_examples=30)
@given(
    kind=st.sampled_from([np.uint8, np.int16]),
    shape=st.tuples(st.integers(2, 300), st.integers(2, 300)),
    window=st.sampled_from(["brain", "subdural", "bone", "80/40.5", "70001/0", "10/40000"]),
    options=st.sampled_from([{}, {"crop": "head"}, {"upright": True}]),
)
def test_the_plane_is_the_same_from_integers(kind, shape, window, options):
    is_hu = kind is np.int16
    values = np.random.default_rng(shape).integers(-1100 if is_hu else 0, 1500 if is_hu else 256, shape)
    preprocessing = replace(Preprocessing.for_window(window, **options), size=32)
    integers = Slice.of_integers(values.astype(kind), is_hu)
    np.testing.assert_array_equal(preprocessing.plane(integers), preprocessing.plane(replace(integers)))


@pytest.mark.numerical
@pytest.mark.parametrize("width", [1, 255, 256, 257, 300, 770])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_resizing_is_the_product_of_two_matrices_to_the_last_bit(width, kind):
    pixels = np.random.default_rng(0).uniform(0, 255, (512, width)).astype(kind)
    rows = resize_matrix(512, 227) @ pixels.astype(np.float32)
    np.testing.assert_array_equal(
        resized(pixels, (227, 64)), (resize_matrix(width, 64) @ np.ascontiguousarray(rows.T)).T
    )


@pytest.mark.numerical
@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    kind=st.sampled_from([np.uint8, np.int16, np.float32]),
    is_hu=st.booleans(),
    window=st.sampled_from(["brain", "subdural", "255/127.5", "80/40.5"]),
)
def test_levels_are_to_the_last_bit_those_of_the_resized_slice(shape, kind, is_hu, window):
    """Taken off the black end, stretched, rounded: on the whole picture, one after the other."""
    random = np.random.default_rng(shape)
    values = random.uniform(-1100, 1500, shape) if is_hu else random.uniform(0, 255, shape)
    how = replace(Preprocessing.for_window(window), size=48)
    ((low, high),) = how._ranges(Slice(values, is_hu))
    image = Slice(values.astype(kind).astype(np.float32), is_hu)
    levels = resized(np.clip(image.pixels, low, high), (48, 48))
    levels = (levels - np.float32(low)) * np.float32(255 / (high - low))
    np.testing.assert_array_equal(how.plane(image), np.rint(levels).astype(np.uint8))


@pytest.mark.parametrize("is_hu", [False, True])
def test_a_cropped_plane_is_that_of_the_head_alone(is_hu):
    pixels = np.full((300, 260), -1000 if is_hu else 0, dtype=np.float32)
    pixels[60:180, 100:200] = np.random.default_rng(0).uniform(30, 70, (120, 100))
    image = Slice(pixels, is_hu)
    cropped = Preprocessing(crop="head")

    box = cropped.view(image).box
    plane = cropped.plane(image)

    assert np.abs(np.subtract(box, (60, 180, 100, 200))).max() <= 2
    alone = Slice(pixels[box.top : box.bottom, box.left : box.right], is_hu)
    assert (plane == Preprocessing().plane(alone)).all()
    assert Preprocessing().view(image).box == (0, 300, 0, 260)


@pytest.mark.numerical
@pytest.mark.parametrize("is_hu", [False, True])
def test_embeddings_of_fast_and_reference_planes_agree(is_hu):
    preprocessing = Preprocessing()
    image = smooth_slice((512, 512), 0, is_hu)
    weights = random_weights(0, "pool5")
    extractor = load_extractor(weights, "pool5", engine=Engine("cpu", "float32", "channels_last"), batch=2)
    reference = np.rint(preprocessing.reference(image)).astype(np.uint8)

    fast, slow = extractor(np.stack([preprocessing.plane(image), reference]))

    assert fast @ slow / np.linalg.norm(fast) / np.linalg.norm(slow) > 0.9999


def test_window_maps_its_ends_to_black_and_white():
    hu = np.array([[-1000, 0, 20, 40, 60, 80, 3000]], dtype=np.float32)
    image = Slice(np.repeat(hu, 7, axis=0), is_hu=True)

    plane = Preprocessing(window_width_hu=80, window_centre_hu=40, size=7).plane(image)

    assert plane[0].tolist() == [0, 0, 64, 128, 191, 255, 255]


def test_gray_levels_are_taken_as_they_are():
    levels = np.arange(49, dtype=np.float32).reshape(7, 7) * 5
    plane = Preprocessing.for_window("bone")
    assert (Preprocessing(size=7).plane(Slice(levels, is_hu=False)) == levels).all()
    assert (
        plane.plane(Slice(levels, is_hu=False)) == Preprocessing().plane(Slice(levels, is_hu=False))
    ).all()


def test_slice_itself_is_left_alone():
    image = smooth_slice((300, 280), 1, is_hu=True)
    before = image.pixels.copy()
    Preprocessing().plane(image)
    assert (image.pixels == before).all()


@pytest.mark.parametrize(
    ("text", "width", "centre"),
    [("brain", 80, 40), ("subdural", 200, 80), ("bone", 2800, 600), ("150/-12.5", 150, -12.5)],
)
def test_window_by_name_or_numbers(text, width, centre):
    chosen = Preprocessing.for_window(text)
    assert (chosen.window_width_hu, chosen.window_centre_hu) == (width, centre)


@pytest.mark.parametrize("text", ["brian", "80", "80/40/3", "0/40", "-5/40", "nan/40", "80/inf"])
def test_impossible_window_is_refused_by_name(text):
    with pytest.raises(BadSettings, match="window"):
        Preprocessing.for_window(text)


def test_description_tells_windows_apart_and_survives_json():
    brain, bone = Preprocessing.for_window("brain").describe(), Preprocessing.for_window("bone").describe()
    assert json.loads(json.dumps(brain)) == brain
    assert brain != bone


def test_whole_slices_are_described_as_they_were_before_there_was_a_crop():
    assert Preprocessing().describe() == {
        "schema": 1,
        "size": 227,
        "window_width_hu": 80.0,
        "window_centre_hu": 40.0,
        "window_function": "LINEAR_EXACT",
        "resize": "whole slice, Gaussian of sigma (factor - 1) / 2, linear interpolation",
        "levels": "rounded to 0..255",
    }


@pytest.mark.parametrize("crop", ["none", "head"])
def test_what_is_described_can_be_made_again(crop):
    preprocessing = Preprocessing(window_width_hu=200, window_centre_hu=80, size=64, crop=crop)
    assert Preprocessing.from_description(preprocessing.describe()) == preprocessing


def test_a_crop_that_is_not_there_is_refused_by_name():
    with pytest.raises(BadSettings, match="crop 'skull' is none of none, head"):
        Preprocessing.for_window("brain", "skull")


@pytest.mark.parametrize("length", [1, 2, 100, 227, 512, 1024])
def test_resizing_keeps_constant_lines(length):
    assert np.allclose(resize_matrix(length, 227).sum(axis=1), 1, atol=1e-6)


def test_a_very_long_line_needs_no_dense_matrix():
    matrix = resize_matrix(50_000, 227)
    assert matrix.shape == (227, 50_000)
    assert matrix.nnz < 227 * 1000
    assert np.allclose(matrix.sum(axis=1), 1, atol=1e-5)
