"""Overlay pictures: colours where they belong."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from haemo.features.pixels.region import pieces
from haemo.features.reading.slice import Slice
from haemo.features.views.preprocess import Preprocessing
from haemo.pipeline.explaining.regions import find_regions
from haemo.pipeline.segmenting.overlay import draw_overlay, write_picture


def test_for_is_orange_against_is_blue_and_the_outline_stands_on_the_right_half(tmp_path):
    image = Slice(np.full((300, 280), 40, dtype=np.float32), True, (0.5, 0.5))
    evidence = np.zeros((300, 280))
    evidence[100:140, 50:90] = 2.0
    evidence[200:240, 200:240] = -1.0
    regions = find_regions(evidence, None, (0.5, 0.5))
    picture = draw_overlay(image, evidence, regions, Preprocessing(), ["haemorrhage 0.93", "a.dcm"])
    assert picture.shape == (300 + 40, 560, 3)
    left, right = picture[:300, :280].astype(int), picture[:300, 280:].astype(int)
    assert np.ptp(left) == 0
    assert left[0, 0, 0] == 128
    red, _, blue = right[120, 70]
    assert red > 150
    assert blue < 100
    red, _, blue = right[220, 220]
    assert blue > red
    assert right[100, 50].tolist() == [240, 228, 66]
    np.testing.assert_array_equal(right[0, 0], left[0, 0])
    assert picture[300:].max() > 200
    write_picture(tmp_path / "deep" / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "deep" / "a.png")), picture)


def test_small_slices_are_enlarged_and_no_evidence_is_no_colour():
    image = Slice(np.full((100, 120), 50, dtype=np.float32), False)
    picture = draw_overlay(image, np.zeros((100, 120)), [], Preprocessing())
    assert picture.shape == (300, 720, 3)
    assert (picture == 50).all()


def slow_overlay(gray, evidence, regions):
    """The oracle: every pixel in float32, one colour after the other, and outlines on the whole slice."""
    plain = np.repeat(gray[..., None], 3, axis=2).astype(np.float32)
    shown, limit = plain.copy(), float(np.abs(evidence).max())
    for colour, part in (((230, 159, 0), evidence), ((0, 114, 178), -evidence)):
        alpha = (0.55 * np.clip(part / (limit or 1), 0, 1))[..., None]
        shown = (1 - alpha) * shown + alpha * np.array(colour, dtype=np.float32)
    shown = np.rint(shown).astype(np.uint8)
    for region in regions:
        shown[region.mask & ~ndimage.binary_erosion(region.mask)] = (240, 228, 66)
    return np.concatenate([plain.astype(np.uint8), shown], axis=1)


@pytest.mark.parametrize("signed", [True, False])
def test_colours_are_those_of_laying_one_over_the_other_pixel_by_pixel(signed):
    rng = np.random.default_rng(1)
    gray = rng.integers(0, 256, (300, 280)).astype(np.uint8)
    evidence = ndimage.gaussian_filter(rng.normal(size=gray.shape), 9).astype(np.float32)
    if not signed:
        evidence = np.maximum(evidence - 0.02, 0)
        evidence[:40] = evidence[:, 250:] = 0  # and beyond the box of the rest
    chosen = evidence > 0.6 * evidence.max()
    chosen[:20, :30] = True  # in the corner
    regions = pieces(chosen, evidence, True, None)
    image = Slice(gray.astype(np.float32), False)
    expected = slow_overlay(gray, evidence, regions)
    np.testing.assert_array_equal(draw_overlay(image, evidence, regions, Preprocessing()), expected)
