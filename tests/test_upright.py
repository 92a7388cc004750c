"""Slices turned by the midline of the head, and what is found on them put back."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_heads import SPACING_MM, as_picture, head

from haemo.features.reading.slice import Slice
from haemo.features.views.head_grid import HeadGrid
from haemo.features.views.preprocess import Preprocessing
from haemo.features.views.upright import Turn, upright_turn

BLOOD_HU, BLOOD_LEVEL = 50, 160


def slice_of(turn_deg=0.0, is_hu=True, seed=5, shift=0):
    """A head with a bleed, and where that is."""
    hu, mask = head(seed, blood_mm=12, turn_deg=turn_deg)
    hu, mask = (np.roll(one, shift, axis=1) for one in (hu, mask))
    if is_hu:
        return Slice(hu, True, (SPACING_MM, SPACING_MM)), mask
    return Slice(as_picture(hu).astype(np.float32), False), mask


@pytest.mark.numerical
@pytest.mark.parametrize("is_hu", [True, False], ids=["HU", "picture"])
@pytest.mark.parametrize("crop", ["none", "head"])
@pytest.mark.parametrize("turn_deg", [-17.0, 12.0])
def test_the_plane_of_a_turned_head_is_nearly_that_of_the_same_head_upright(turn_deg, crop, is_hu):
    upright = Preprocessing(crop=crop, upright=True)
    straight, turned = slice_of(0, is_hu)[0], slice_of(turn_deg, is_hu, shift=7)[0]
    planes = [upright.plane(one).astype(float) for one in (straight, turned)]
    askew = [replace(upright, upright=False).plane(one).astype(float) for one in (straight, turned)]
    apart = np.abs(planes[0] - planes[1]).mean()
    assert apart < 0.5 * np.abs(askew[0] - askew[1]).mean()
    assert apart < 14


@pytest.mark.parametrize("crop", ["none", "head"])
def test_the_midline_is_the_middle_column_of_the_plane(crop):
    hu, _ = head(3, turn_deg=14)
    image = Slice(np.roll(hu, 9, axis=1), True, (SPACING_MM, SPACING_MM))
    plane = Preprocessing(crop=crop, upright=True).plane(image).astype(float)
    askew = Preprocessing(crop=crop).plane(image).astype(float)
    folded, askew_folded = (np.abs(one - one[:, ::-1]).mean() for one in (plane, askew))
    assert folded < 0.4 * askew_folded


@pytest.mark.parametrize("is_hu", [True, False], ids=["HU", "picture"])
@pytest.mark.parametrize("crop", ["none", "head"])
def test_what_is_found_on_the_plane_is_put_back_where_it_lies_on_the_slice(crop, is_hu):
    image, mask = slice_of(12, is_hu, shift=6)
    view = Preprocessing(crop=crop, upright=True).view(image)
    assert view.turn is not None
    low, high = (BLOOD_HU, 100) if is_hu else (BLOOD_LEVEL, 240)
    placed = view.paste(((view.pixels > low) & (view.pixels < high)).astype(np.float32)) > 0.5
    assert placed.shape == mask.shape
    near = mask | np.roll(mask, 3, 0) | np.roll(mask, -3, 0) | np.roll(mask, 3, 1) | np.roll(mask, -3, 1)
    assert placed[mask].mean() > 0.85
    brain = np.hypot(*(np.indices(mask.shape) - 72)) < 32  # the rim of the skull has such values too
    assert not (placed & brain & ~near).any()


def test_pixels_that_are_not_square_are_turned_in_millimetres():
    image, _ = slice_of(15)
    tall = Slice(np.repeat(image.pixels, 2, axis=0), True, (SPACING_MM / 2, SPACING_MM))
    upright = Preprocessing(upright=True)
    assert upright_turn(tall).angle_deg == pytest.approx(upright_turn(image).angle_deg, abs=1.6)
    planes = [upright.plane(one).astype(float) for one in (image, tall)]
    assert np.abs(planes[0] - planes[1]).mean() < 5


@pytest.mark.numerical
def test_a_turn_interpolates_linearly_and_comes_back():
    angle = np.deg2rad(20)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = Turn(20.0, matrix, np.array([8.0, -5.0]))
    rows, columns = np.indices((40, 30)).astype(np.float32)
    turned = turn.there(Slice(3 * rows - 2 * columns, False))
    places = np.stack([rows, columns])
    source = np.einsum("ij,jrc->irc", matrix, places) + np.reshape([8.0, -5.0], (2, 1, 1))
    inside = (source[0] >= 0) & (source[0] <= 39) & (source[1] >= 0) & (source[1] <= 29)
    np.testing.assert_allclose(turned[inside], (3 * source[0] - 2 * source[1])[inside], atol=1e-3)
    assert not turned[~inside].any()
    assert (turn.there(Slice(rows, True))[~inside] == -1000).all()
    again = turn.back(turned)
    kept = turn.back(inside.astype(np.float32)) > 0.99999
    assert kept.sum() > 300
    np.testing.assert_allclose(again[kept], (3 * rows - 2 * columns)[kept], atol=1e-2)


def round_head(bleed, breadth=75):
    """A round brain in HU with blood at (down, right) in mm of its middle; the skull may be less round."""
    rows, columns = (np.indices((144, 144)) - 71.5) * SPACING_MM
    away = np.hypot(rows, columns)
    hu = np.full(rows.shape, -1000, np.float32)
    hu[np.hypot(rows / 75, columns / breadth) < 1] = 900
    hu[away < 58] = 32
    hu[np.hypot(rows - bleed[0], columns - bleed[1]) < 15] = 75
    return Slice(hu, True, (SPACING_MM, SPACING_MM))


def test_a_bleed_does_not_turn_a_round_head():
    image = round_head((-34, 12), breadth=65)
    assert abs(HeadGrid.of(image).midline.angle_deg) > 10, "the inside mirrors best about the bleed"
    assert upright_turn(image) is None


@pytest.mark.parametrize(
    "image",
    [
        Slice(np.full((90, 80), -1000, np.float32), True, (1.0, 1.0)),
        Slice(np.full((60, 60), 30, np.float32), True, (0.1, 0.1)),
        round_head((-30, 20)),
    ],
    ids=["air", "smaller than a head", "no midline"],
)
def test_a_slice_without_a_head_or_a_midline_stays_as_it_is(image):
    view = Preprocessing(upright=True).view(image)
    assert view.turn is None
    np.testing.assert_array_equal(view.pixels, image.pixels)
