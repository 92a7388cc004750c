"""Outlines, measures and narrowing to blood."""

import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from haemo.features.pixels.region import Region, joined, pieces
from haemo.features.reading.slice import Slice
from haemo.pipeline.explaining.regions import blood_likelihood, find_regions

SPACING = (0.5, 0.5)


def region(mask, spacing=SPACING):
    return Region(np.asarray(mask, dtype=bool), (0, 0), 1.0, False, spacing)


def head(bleed_hu=70.0, size=200):
    """A skull with brain of 32 HU in it and, left of the middle, a patch of another density."""
    y, x = np.mgrid[:size, :size] - size / 2
    radius = np.hypot(y, x)
    hu = np.where(radius < 90, 30.0, -1000.0)
    hu[(radius < 84) & (radius > 74)] = 1000.0
    hu[radius <= 74] = 32.0
    patch = np.hypot(y, x + 30) < 12
    hu[patch] = bleed_hu
    noise = np.random.default_rng(0).normal(size=hu.shape) * 3
    return Slice((hu + noise).astype(np.float32), True, SPACING), patch


def around(row, column, size=200, width=25.0):
    y, x = np.mgrid[:size, :size]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2))


@pytest.mark.numerical
def test_measures_of_a_rectangle():
    mask = np.zeros((20, 30), dtype=bool)
    mask[4:10, 5:17] = True
    found = region(mask, (0.5, 2.0))
    assert found.box == (4, 5, 9, 16)
    assert found.area_mm2 == pytest.approx(6 * 12 * 1.0)
    assert found.diameter_pixels == pytest.approx(np.hypot(6, 12))
    assert found.diameter_mm == pytest.approx(np.hypot(3, 24))
    assert region(mask, None).area_mm2 is None
    assert region(mask, None).diameter_mm is None


def slow_diameter(mask):
    corners = [(r + i, c + j) for r, c in np.argwhere(mask) for i in (0, 1) for j in (0, 1)]
    return max(np.hypot(a - c, b - d) for a, b in corners for c, d in corners)


@pytest.mark.numerical
@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=2, max_size=7))
def test_the_diameter_is_the_longest_of_all_distances(rows):
    mask = np.array(rows)
    if mask.any():
        assert region(mask).diameter_pixels == pytest.approx(slow_diameter(mask))


def ring_area(ring):
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring)) / 2


def test_rings_go_around_the_region_and_its_holes():
    mask = np.zeros((30, 30), dtype=bool)
    mask[0:20, 3:28] = True
    mask[5:9, 8:14] = False
    rings = region(mask).rings()
    assert len(rings) == 2
    assert all(ring[0] == ring[-1] for ring in rings)
    # find_contours cuts each corner by an eighth of a pixel.
    assert ring_area(rings[0]) == pytest.approx(20 * 25, abs=1)
    assert ring_area(rings[1]) == pytest.approx(-4 * 6, abs=1)
    columns, rows = np.array(rings[0]).T
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (2.5, 27.5, -0.5, 19.5)


def test_a_feature_is_geojson():
    image, _ = head()
    (found,) = find_regions(around(100, 70), blood_likelihood(image), SPACING)
    feature = json.loads(json.dumps(found.feature(slice="a.dcm")))
    assert feature["type"] == "Feature"
    assert feature["geometry"]["type"] == "Polygon"
    assert feature["properties"]["slice"] == "a.dcm"
    assert feature["properties"]["area_mm2"] == pytest.approx(found.area_mm2)
    assert feature["properties"]["narrowed_to_blood"] is True


def test_what_is_hot_is_narrowed_to_the_blood_in_it():
    image, patch = head()
    found = joined(find_regions(around(105, 80), blood_likelihood(image), SPACING), patch.shape)
    overlap = 2 * (found & patch).sum() / (found.sum() + patch.sum())
    assert overlap > 0.9


@pytest.mark.parametrize("hu", [42.0, 150.0])
def test_neither_gray_matter_nor_calcification_is_blood(hu):
    image, patch = head(hu)
    likely = blood_likelihood(image)
    assert likely[patch].mean() < 0.3
    evidence = around(105, 80)
    (found,) = find_regions(evidence, likely, SPACING)
    assert not found.is_blood
    np.testing.assert_array_equal(found.mask, evidence >= 0.5 * evidence.max())


def test_the_rim_of_the_skull_is_not_blood():
    image, patch = head()
    likely = blood_likelihood(image) >= 0.5
    assert (likely & ~patch).sum() < 0.1 * patch.sum()


def test_gray_slices_keep_what_is_hot_and_nothing_hot_gives_nothing():
    evidence = around(100, 70) + 0.9 * around(30, 150, width=5.0)
    regions = find_regions(evidence, None, None)
    assert len(regions) == 2
    assert regions[0].peak == (100, 70)
    assert regions[0].evidence > regions[1].evidence
    assert find_regions(-evidence, None, None) == []


def test_a_slice_without_tissue_has_no_blood():
    image = Slice(np.full((50, 40), -1000, dtype=np.float32), True)
    assert not blood_likelihood(image).any()


def test_a_region_goes_to_another_process_in_few_bytes():
    mask = np.zeros((512, 480), dtype=bool)
    mask[40:90, 30:77] = True
    mask[50, 40] = False
    sent = pickle.dumps(region(mask, None))
    assert len(sent) < 1000
    again = pickle.loads(sent)  # noqa: S301 - of our own bytes
    np.testing.assert_array_equal(again.mask, mask)
    assert (again.peak, again.evidence, again.is_blood, again.spacing_mm) == ((0, 0), 1.0, False, None)


def test_pieces_are_those_of_the_whole_mask_wherever_they_lie():
    rng = np.random.default_rng(2)
    strength = rng.random((60, 70))
    chosen = ndimage.gaussian_filter(rng.normal(size=strength.shape), 3) > 0.08
    chosen[:25] = chosen[:, 50:] = False
    labels, count = ndimage.label(chosen)
    found = pieces(chosen, strength, False, None)
    assert len(found) == count > 2
    slow = sorted((labels == number for number in range(1, count + 1)), key=lambda own: -strength[own].max())
    for one, mask in zip(found, slow, strict=True):
        np.testing.assert_array_equal(one.mask, mask)
        assert strength[one.peak] == one.evidence == strength[mask].max()
    assert pieces(np.zeros((5, 5), dtype=bool), strength[:5, :5], False, None) == []
