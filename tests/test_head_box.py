"""Where the head is found in slices, against one that was put there, and against the slow way."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import label, regionprops

from haemo.features.reading.slice import Slice
from haemo.features.views.head_box import Box, head_box

AIR, FAT, BRAIN, BONE, REST = -1000.0, -90.0, 35.0, 1100.0, 300.0


def head(side=512, centre=(256, 256), axes=(190, 150), *, pixel_mm=0.45, scalp_mm=6.0, skull_mm=6.0):
    """An elliptic head in HU, of half `axes` to the outside of the skull: fat, bone, brain, ventricles."""
    rows, columns = np.mgrid[:side, :side]
    away = np.hypot((rows - centre[0]) / axes[0], (columns - centre[1]) / axes[1])
    mean = np.mean(axes) * pixel_mm
    hu = np.full((side, side), AIR, dtype=np.float32)
    hu[away < 1 + scalp_mm / mean] = FAT
    hu[away < 1] = BONE
    hu[away < 1 - skull_mm / mean] = BRAIN
    hu[away < 0.15] = 8.0
    return hu


def skull(centre=(256, 256), axes=(190, 150)):
    return Box(centre[0] - axes[0], centre[0] + axes[0] + 1, centre[1] - axes[1], centre[1] + axes[1] + 1)


def windowed(hu, width=80.0, centre=40.0):
    """The slice as a PNG would hold it."""
    levels = np.clip((hu - (centre - width / 2)) / width, 0, 1) * 255
    return Slice(np.rint(levels).astype(np.float32), False)


def with_rest(hu, thickness_mm=5.0, gap_mm=4.0, centre=(256, 256), axes=(190, 150), pixel_mm=0.45):
    """A head rest below and beside the head, an arc with a gap to the skull; 6 mm are all scalp."""
    rows, columns = np.mgrid[: len(hu), : len(hu)]
    radius = axes[0] + (gap_mm + thickness_mm / 2) / pixel_mm
    away = np.hypot(rows - centre[0], columns - centre[1])
    arc = (np.abs(away - radius) * pixel_mm < thickness_mm / 2) & (rows > centre[0] - 60)
    return np.where(arc & (hu < FAT), np.float32(REST), hu)


def off(box, other):
    return max(abs(one - two) for one, two in zip(box, other, strict=True))


def with_skin(hu):
    """2 mm of skin around the fat, which hangs together with the skull at the forehead."""
    skin = ndimage.binary_dilation(hu > AIR, iterations=4) & (hu == AIR)
    skin[:256, 254:258] |= hu[:256, 254:258] == FAT
    return np.where(skin, np.float32(40), hu)


@pytest.mark.parametrize(
    "hu",
    [head(), with_rest(head()), with_rest(head(), gap_mm=6), with_rest(with_skin(head()), gap_mm=7.8)],
    ids=["air", "head rest", "fat on a head rest", "skin on a head rest"],
)
def test_the_skull_is_found_whatever_it_lies_in(hu):
    assert off(head_box(Slice(hu, True, (0.45, 0.45))), skull()) <= 3
    assert off(head_box(windowed(hu)), skull()) <= 3


@pytest.mark.parametrize("window", [(80, 40), (200, 80)])
def test_a_picture_in_a_soft_window_has_the_box_of_its_hu(window):
    hu = with_rest(head(centre=(230, 270), axes=(170, 140)))
    assert off(head_box(windowed(hu, *window)), head_box(Slice(hu, True, (0.45, 0.45)))) <= 3


def test_noise_moves_nothing_much():
    noise = np.random.default_rng(0).normal(0, 12, (512, 512)).astype(np.float32)
    for hu in (head(), with_rest(head())):
        assert off(head_box(Slice(hu + noise, True)), skull()) <= 6
        assert off(head_box(windowed(hu + noise)), skull()) <= 6


def test_frontal_sinuses_do_not_cost_the_forehead():
    hu = head()
    hu[80:105, 225:290] = AIR
    assert off(head_box(Slice(hu, True)), skull()) <= 3


@pytest.mark.parametrize("background", [0, 60])
def test_letters_frames_and_strips_do_not_count(background):
    levels = np.maximum(windowed(head(axes=(150, 120))).pixels, background)
    picture = Image.fromarray(levels.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.text((10, 8), "A\nHOSPITAL 12", fill=255, font_size=40)
    draw.rectangle((0, 0, 511, 511), outline=255, width=4)
    draw.rectangle((0, 480, 511, 511), fill=255)
    found = head_box(Slice(np.asarray(picture, dtype=np.float32), False))
    assert off(found, skull(axes=(150, 120))) <= 3


def test_film_that_is_darker_at_one_end_is_no_head():
    shade = np.linspace(20, 45, 512)[:, None]
    levels = np.maximum(windowed(head()).pixels, shade).astype(np.float32)
    assert off(head_box(Slice(levels, False)), skull()) <= 6


@settings(deadline=None, max_examples=25)
@given(down=st.integers(-20, 20), right=st.integers(-30, 30), is_hu=st.booleans())
def test_a_head_elsewhere_has_its_box_there(down, right, is_hu):
    def found(centre):
        hu = head(centre=centre, axes=(150, 120))
        return head_box(Slice(hu, True) if is_hu else windowed(hu))

    moved = found((256 + 3 * down, 256 + 3 * right))
    here = found((256, 256))
    assert moved == (
        here.top + 3 * down,
        here.bottom + 3 * down,
        here.left + 3 * right,
        here.right + 3 * right,
    )


@settings(deadline=None, max_examples=15)
@given(side=st.integers(120, 1100), is_hu=st.booleans())
def test_a_slice_of_another_size_has_the_same_part_of_it_cut_out(side, is_hu):
    share, pixel_mm = side / 512, 0.45 * 512 / side
    axes, centre = (190 * share, 150 * share), (250 * share, 260 * share)
    hu = with_rest(head(side, centre, axes, pixel_mm=pixel_mm), 5.0, 4.0, centre, axes, pixel_mm)
    found = head_box(Slice(hu, True, (pixel_mm, pixel_mm)) if is_hu else windowed(hu))
    assert off(np.array(found) / share, skull((250, 260))) <= 6


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    is_hu=st.booleans(),
    spacing=st.sampled_from([None, (0.45, 0.45), (1e-3, 50.0)]),
    seed=st.integers(0, 5),
)
def test_any_slice_has_a_box_inside_it(shape, is_hu, spacing, seed):
    pixels = ndimage.gaussian_filter(np.random.default_rng(seed).normal(100, 900, shape), seed)
    image = Slice((pixels if is_hu else np.clip(pixels, 0, 255)).astype(np.float32), is_hu, spacing)
    box = head_box(image)
    assert 0 <= box.top < box.bottom <= shape[0]
    assert 0 <= box.left < box.right <= shape[1]
    assert box == head_box(image)


@pytest.mark.parametrize(
    "image",
    [
        Slice(np.full((512, 512), AIR, dtype=np.float32), True),
        Slice(np.zeros((300, 200), dtype=np.float32), False),
        Slice(np.full((300, 200), 255, dtype=np.float32), False),
        Slice(with_rest(np.full((512, 512), AIR, dtype=np.float32)), True, (0.45, 0.45)),
        Slice(head(axes=(40, 40), scalp_mm=0), True, (0.45, 0.45)),
        windowed(head(axes=(260, 260), scalp_mm=0)),
    ],
    ids=["air", "black", "white", "head rest alone", "too small for a head", "fills it"],
)
def test_without_a_head_to_cut_out_it_is_the_whole_slice(image):
    assert head_box(image) == (0, image.pixels.shape[0], 0, image.pixels.shape[1])


def slow_box(hu, pixel_mm):
    """Every pixel, holes by region, an opening by a true disc through distances, pieces by scikit-image."""
    tissue = hu > 0
    for hole in regionprops(label(~tissue, connectivity=1)):
        top, left, bottom, right = hole.bbox
        inside = top > 0 and left > 0 and bottom < len(hu) and right < len(hu)
        if inside and hole.area * pixel_mm**2 <= 1500:
            tissue[tuple(hole.coords.T)] = True
    padded = np.pad(tissue, 40, mode="edge")
    core = ndimage.distance_transform_edt(padded) > 5.5 / pixel_mm
    opened = (ndimage.distance_transform_edt(~core) <= 5.5 / pixel_mm)[40:-40, 40:-40]
    largest = max(regionprops(label(opened, connectivity=1)), key=lambda piece: piece.area)
    top, left, bottom, right = largest.bbox
    return Box(top, bottom, left, right)


@pytest.mark.numerical
@pytest.mark.parametrize("seed", range(6))
def test_the_quick_box_is_the_slow_one_at_full_resolution(seed):
    random = np.random.default_rng(seed)
    centre, axes = random.integers(225, 285, 2), random.integers(110, 175, 2)
    hu = head(centre=centre, axes=axes, skull_mm=random.uniform(3, 9))
    for row, column in product((-1, 1), repeat=2):  # bumps of muscle
        place = centre + 0.65 * axes * (row, column)
        rows, columns = np.mgrid[:512, :512]
        bump = np.hypot(rows - place[0], columns - place[1]) < random.uniform(15, 40)
        hu[bump & (hu < 0)] = 55
    hu = with_rest(hu, random.uniform(2, 6), random.uniform(14, 20), tuple(centre), tuple(axes))
    step = 3
    assert off(head_box(Slice(hu, True, (0.45, 0.45))), slow_box(hu, 0.45)) <= step


def test_what_is_cut_out_goes_back_where_it_was():
    pixels = np.arange(42.0).reshape(6, 7) + 1
    box = Box(1, 4, 2, 7)
    pasted = box.paste(box.cut(pixels), pixels.shape)
    inside = np.zeros(pixels.shape, dtype=bool)
    inside[1:4, 2:7] = True
    np.testing.assert_array_equal(pasted, np.where(inside, pixels, 0))
    assert math.prod((box.height, box.width)) == inside.sum()
