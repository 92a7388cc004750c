"""Pixels of a head in numbers, against slow and obvious oracles; other looks of a slice; maps of blood."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_heads import SIDE, SPACING_MM, as_picture, head
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from slow_descriptors import describe as slow_describe

from haemo.errors import UnreadableSlice
from haemo.features.pixels.blood_map import BloodMap
from haemo.features.pixels.descriptors import DESCRIPTORS, describe
from haemo.features.pixels.variation import vary
from haemo.features.reading.slice import Slice
from haemo.features.views.head_grid import HeadGrid
from haemo.features.views.midline import Midline

SPACING = (SPACING_MM, SPACING_MM)


def of(hu: np.ndarray) -> HeadGrid:
    return HeadGrid.of(Slice(hu, True, SPACING))


def column(grid: HeadGrid, name: str) -> np.ndarray:
    """One descriptor as a map; NaN outside."""
    values = np.full(grid.hu.shape, np.nan)
    values[grid.inside] = describe(grid)[:, DESCRIPTORS.index(name)]
    return values


class TestHeadGrid:
    def test_the_inside_is_what_the_skull_encloses(self):
        hu, _ = head(1)
        grid = of(hu)
        brain = grid.from_slice(((hu > 0) & (hu < 60)).astype(np.float32)) > 0.9
        rows, columns = np.indices(grid.hu.shape)
        middle = np.hypot((rows - grid.hu.shape[0] / 2) / 78, (columns - grid.hu.shape[1] / 2) / 62) < 0.9
        assert grid.inside[middle & brain].mean() > 0.99
        assert not (grid.inside & grid.bone).any()
        assert grid.inside[np.hypot(rows - 90, columns - 90) > 90].sum() == 0
        assert grid.median_hu == pytest.approx(32, abs=2)

    @given(st.floats(-18, 18), st.integers(0, 1000), st.booleans())
    @settings(max_examples=8, deadline=None)
    def test_the_midline_turns_with_the_head(self, turn, seed, bleeds):
        hu, _ = head(seed, blood_mm=10 if bleeds else 0, turn_deg=turn)
        # Rows count downwards: along = rows cos - columns sin is the axis of the head, its top to the right.
        assert of(hu).midline.angle_deg == pytest.approx(-turn, abs=2.5)

    def test_mirrored_points_mirror_back_and_lie_as_far(self):
        hu, _ = head(3, turn_deg=12)
        line = of(hu).midline
        rows, columns = np.array([40.0, 80, 120]), np.array([60.0, 100, 70])
        far = line.mirrored(rows, columns)
        np.testing.assert_allclose(line.across(*far), -line.across(rows, columns), atol=1e-9)
        np.testing.assert_allclose(line.along(*far), line.along(rows, columns), atol=1e-9)
        np.testing.assert_allclose(line.mirrored(*far), (rows, columns), atol=1e-9)

    def test_the_reflection_of_a_line_is_where_points_mirror_to(self):
        line = Midline(61.5, 70.25, 13.0)
        turn, origin = line.reflection()
        points = np.random.default_rng(0).uniform(0, 130, (2, 50))
        np.testing.assert_allclose(turn @ points + origin[:, None], line.mirrored(*points), atol=1e-9)

    def test_a_picture_of_any_size_gives_about_the_same_levels(self):
        hu, _ = head(4)
        own = of(hu)
        for factor in (1, 2, 3):
            gray = as_picture(hu).repeat(factor, axis=0).repeat(factor, axis=1).astype(np.float32)
            picture = HeadGrid.of(Slice(gray, False, None))
            assert picture.median_hu == pytest.approx(own.median_hu, abs=2)
            # A head of 162 x 129 mm (with its skull) is taken for one of 160 mm: 10 % larger.
            assert picture.inside.sum() == pytest.approx(own.inside.sum(), rel=0.3)

    def test_film_whose_skull_is_grayer_below_is_closed_there_too(self):
        hu, _ = head(4)
        gray = as_picture(hu)
        rows, columns = np.indices(gray.shape) - SIDE / 2
        film = np.where((gray == 255) & (rows > 0), 215, gray)
        # Gray beside the head, and cut through the skull: the corners are closed in sooner than the brain.
        film = np.where((gray == 0) & (rows < 0) & (np.hypot(rows, columns) > 50), 60, film)
        film = film[6:-6, 18:-18]
        found = HeadGrid.of(Slice(film.astype(np.float32), False, None))
        assert found.inside[tuple(side // 2 for side in found.hu.shape)]
        assert found.inside.sum() > 10_000

    def test_air_has_no_inside_and_a_crumb_is_refused(self):
        grid = of(np.full((SIDE, SIDE), -1000, dtype=np.float32))
        assert not grid.inside.any()
        assert grid.midline is None
        assert describe(grid).shape == (0, len(DESCRIPTORS))
        with pytest.raises(UnreadableSlice, match="too small for a head"):
            of(np.zeros((8, 8), dtype=np.float32))


class TestDescriptors:
    def test_means_leave_out_bone_and_what_lies_beyond(self):
        hu, _ = head(5, blood_mm=9)
        grid = of(hu)
        for name, sigma in (("mean_2mm", 2.0), ("mean_8mm", 8.0)):
            found = column(grid, name)
            for row, place in zip(*np.nonzero(grid.inside), strict=True):
                if (row * 7 + place) % 1999:
                    continue
                reach = int(3 * sigma + 0.5)
                rows, columns = np.mgrid[
                    row - reach : row + reach + 1, place - reach : place + reach + 1
                ].reshape(2, -1)
                kept = (rows >= 0) & (rows < grid.hu.shape[0]) & (columns >= 0)
                kept &= columns < grid.hu.shape[1]
                rows, columns = rows[kept], columns[kept]
                weight = np.exp(-((rows - row) ** 2 + (columns - place) ** 2) / (2 * sigma**2))
                weight *= grid.inside[rows, columns]
                slow = (weight * (grid.hu[rows, columns] - grid.median_hu)).sum() / weight.sum()
                assert found[row, place] == pytest.approx(slow, abs=0.05)

    @given(st.integers(0, 1000), st.tuples(*[st.integers(0, 60)] * 4))
    @settings(max_examples=6, deadline=None)
    def test_what_lies_far_off_changes_nothing(self, seed, edges):
        grid = of(head(seed, blood_mm=8)[0])
        top, bottom, left, right = edges
        frame = ((top, bottom), (left, right))
        hu, inside, bone = (np.pad(own, frame) for own in (grid.hu, grid.inside, grid.bone))
        line = replace(grid.midline, row=grid.midline.row + top, column=grid.midline.column + left)
        other = replace(grid, hu=hu, inside=inside, bone=bone, midline=line)
        np.testing.assert_allclose(describe(other), describe(grid), atol=1e-4)

    @pytest.mark.numerical
    @given(
        st.integers(0, 1000),
        st.sampled_from([0.0, 5.0, 15.0]),
        st.floats(-20, 20),
        st.tuples(*[st.integers(0, 70)] * 2),
    )
    @settings(max_examples=8, deadline=None)
    def test_all_numbers_are_those_of_filters_one_after_the_other(self, seed, blood_mm, turn, cut):
        grid = of(head(seed, blood_mm, turn)[0])
        part = slice(cut[0], None), slice(cut[1], None)  # the head may end with the plane
        hu, inside, bone = (own[part] for own in (grid.hu, grid.inside, grid.bone))
        line = grid.midline.shifted(-cut[0], -cut[1])
        grid = replace(grid, hu=hu, inside=inside, bone=bone, midline=line)
        quick, slow = describe(grid), slow_describe(grid)
        largest = np.abs(slow).max(axis=0)
        assert (np.abs(quick - slow).max(axis=0) <= 2e-5 * np.maximum(largest, 1)).all()
        assert (quick != slow).mean() < 0.9, "places, distances and levels are the same to the bit"

    def test_without_bone_it_is_far_from_every_pixel(self):
        grid = of(head(2)[0])
        bare = column(replace(grid, bone=np.zeros_like(grid.bone)), "to_bone")
        assert (bare[grid.inside] == 40).all()

    def test_distances_are_the_nearest_pixels(self):
        grid = of(head(6)[0])
        to_bone, to_edge = column(grid, "to_bone"), column(grid, "to_edge")
        bone, outside = np.argwhere(grid.bone), np.argwhere(~grid.inside)
        for place in np.argwhere(grid.inside)[::2111]:
            assert to_bone[tuple(place)] == pytest.approx(
                min(40, np.sqrt(((bone - place) ** 2).sum(axis=1).min())), abs=1e-4
            )
            assert to_edge[tuple(place)] == pytest.approx(
                min(40, np.sqrt(((outside - place) ** 2).sum(axis=1).min())), abs=1e-4
            )

    def test_blood_differs_from_its_mirror_image_and_the_other_side_less_so(self):
        hu, mask = head(7, blood_mm=12)
        grid = of(hu)
        mirror = column(grid, "mirror_2mm")
        middle = grid.from_slice(mask) > 0.99
        assert np.nanmedian(mirror[middle]) > 25
        rows, columns = np.nonzero(middle)
        far = np.rint(grid.midline.mirrored(rows, columns)).astype(int)
        assert np.nanmedian(mirror[tuple(far)]) < -25

    def test_a_mirrored_head_has_mirrored_numbers(self):
        hu, _ = head(8, blood_mm=10)
        one, other = of(hu), of(np.ascontiguousarray(hu[:, ::-1]))
        for name in ("mean_2mm", "to_edge", "bright_10mm", "along"):
            straight, turned = column(one, name), column(other, name)[:, ::-1]
            both = ~np.isnan(straight) & ~np.isnan(turned)
            assert both.sum() > 0.98 * one.inside.sum()
            assert np.median(np.abs(straight[both] - turned[both])) < 0.1


class TestVariation:
    def test_the_same_draw_gives_the_same_look_and_another_another(self):
        hu, mask = head(9, blood_mm=10)
        image = Slice(hu, True, SPACING)
        looks = [vary(image, mask, np.random.default_rng(seed)).pixels for seed in (1, 1, 2)]
        np.testing.assert_array_equal(looks[0], looks[1])
        assert looks[0].shape != looks[2].shape or not np.array_equal(looks[0], looks[2])

    def test_blood_stays_where_it_is_and_brighter_than_the_brain(self):
        hu, mask = head(10, blood_mm=12)
        kinds = set()
        for seed in range(25):
            look = vary(Slice(hu, True, SPACING), mask, np.random.default_rng(seed))
            kinds.add(look.is_hu)
            assert np.isfinite(look.pixels).all()
            if not look.is_hu:
                assert look.pixels.min() >= 0
                assert look.pixels.max() <= 255
            if look.spacing_mm:  # of the same field
                field = np.multiply(look.spacing_mm, look.pixels.shape)
                np.testing.assert_allclose(field, np.multiply(SPACING, hu.shape), rtol=1e-6)
            grid = HeadGrid.of(look)
            level = column(grid, "mean_2mm")
            middle = grid.from_slice(mask) > 0.99
            assert np.nanmedian(level[middle]) > np.nanmedian(level) + 3
        assert kinds == {True, False}

    def test_pale_blood_is_made_no_paler_than_the_palest(self):
        hu, mask = head(11, blood_mm=12)
        hu[mask] -= np.median(hu[mask]) - 48
        grids = []
        for palest in (None, 46.0):
            looks = [
                vary(Slice(hu, True, SPACING), mask, np.random.default_rng(seed), palest)
                for seed in range(12)
            ]
            grids.append([(HeadGrid.of(look), look.is_hu) for look in looks])

        def levels(drawn):
            middles = [(grid, grid.from_slice(mask) > 0.99) for grid, is_hu in drawn if is_hu]
            return np.array([np.nanmedian(grid.hu[middle]) for grid, middle in middles])

        as_drawn, kept = (levels(drawn) for drawn in grids)
        assert len(kept) > 2
        assert kept.min() > as_drawn.min() + 8


class TestBloodMap:
    def one(self, spot_mm: float, chance: float = 0.9) -> tuple[BloodMap, np.ndarray]:
        hu, _ = head(11)
        grid = of(hu)
        rows, columns = np.indices(grid.hu.shape)
        spot = np.hypot(rows - 100, columns - 60) < spot_mm
        values = np.where(spot, chance, 0.01)[grid.inside]
        return BloodMap.of(Slice(hu, True, SPACING), grid, values), grid.on_slice(spot) > 0.5

    def test_the_peak_the_score_and_the_side(self):
        found, spot = self.one(9)
        assert spot[found.peak]
        assert found.score == pytest.approx(0.9, abs=0.02)
        assert self.one(2)[0].score < 0.4
        assert found.left_share[spot].mean() == 1
        assert found.probability.shape == (SIDE, SIDE)

    @pytest.mark.numerical
    @pytest.mark.parametrize("cut", [0, 40])
    def test_all_of_it_is_what_filters_of_the_whole_grid_give(self, cut):
        hu = head(11)[0][cut:, cut:]  # with the cut the head ends with the slice
        grid = of(hu)
        values = np.random.default_rng(0).random(int(grid.inside.sum())).astype(np.float32) ** 4
        found = BloodMap.of(Slice(hu, True, SPACING), grid, values)
        raw = np.zeros(grid.hu.shape)
        raw[grid.inside] = values
        fine, scored, broad = (ndimage.gaussian_filter(raw, mm, truncate=3) for mm in (0.7, 1.5, 3))
        np.testing.assert_allclose(found.probability, grid.on_slice(fine), atol=1e-6)
        assert found.score == pytest.approx(np.sort(scored, axis=None)[-50:].mean(), abs=1e-6)
        place = np.argwhere(broad == broad.max())[0]
        np.testing.assert_array_equal(found.peak, (place + 0.5) * hu.shape // raw.shape)

    def test_outlines_of_less_than_ten_square_millimetres_are_dropped(self):
        found, spot = self.one(8)
        (region,) = found.regions(0.5)
        assert (region.mask & spot).sum() / (region.mask | spot).sum() > 0.8
        assert region.evidence == pytest.approx(0.9, abs=0.02)
        assert self.one(1.2, chance=1.0)[0].regions(0.2) == []
        assert found.regions(0.95) == []
