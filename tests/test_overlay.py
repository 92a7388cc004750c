"""Overlay pictures: colours where they belong."""

import numpy as np
from PIL import Image

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
