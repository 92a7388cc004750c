"""Measures of a study's bleed, against bodies whose volume is known."""

import numpy as np
import pytest

from haemo.features.pixels.region import Region
from haemo.pipeline.segmenting.study_measures import DrawnSlice, StudyMeasures, slice_steps_mm

SPACING = (0.5, 0.8)


def drawn(mask: np.ndarray, z_mm: float | None, left: float = 1.0, spacing=SPACING) -> DrawnSlice:
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    regions = [Region(labels == number, (0, 0), 1.0, True, spacing) for number in range(1, count + 1)]
    return DrawnSlice(regions, left if count else None, z_mm, spacing)


def ellipsoid(radii_mm: tuple[float, float, float], step_mm: float) -> list[DrawnSlice]:
    rows, columns = np.indices((160, 120))
    y, x = (rows - 80) * SPACING[0], (columns - 60) * SPACING[1]
    found = []
    for z in np.arange(-40, 40.1, step_mm):
        inside = (y / radii_mm[0]) ** 2 + (x / radii_mm[1]) ** 2 + (z / radii_mm[2]) ** 2 <= 1
        found.append(drawn(inside, float(z)))
    return found


@pytest.mark.parametrize("step_mm", [1.25, 2.5, 5.0])
def test_an_ellipsoid_has_its_volume_however_thick_slices_are(step_mm):
    radii = (20.0, 12.0, 15.0)
    found = StudyMeasures.of(ellipsoid(radii, step_mm))
    truth = 4 / 3 * np.pi * np.prod(radii) / 1000
    assert found.volume_ml == pytest.approx(truth, rel=0.03)
    # Slices count whole within half the radius, where their area is over 75 %, and by half up to 0.866 of it.
    height = radii[2] * (1 + (np.sqrt(0.75) - 0.5))
    assert found.abc2_ml == pytest.approx(40 * 24 * height / 2000, rel=0.12)
    assert found.diameter_mm == pytest.approx(40, abs=1.5)


def test_slices_are_counted_as_kothari_says():
    # Areas of 100, 50 and 10 % of the largest: 1, one half and 0 slices, of 4 mm.
    rows, columns = np.indices((100, 100))
    square = (rows < 20) & (columns < 20)
    half = square & (rows < 10)
    tenth = square & (rows < 2)
    slices = [drawn(mask, 4.0 * number, spacing=(1, 1)) for number, mask in enumerate((tenth, half, square))]
    found = StudyMeasures.of(slices)
    diagonal = np.hypot(20, 20)
    assert found.abc2_ml == pytest.approx(diagonal * diagonal * 1.5 * 4 / 2000)
    assert found.volume_ml == pytest.approx((400 + 200 + 40) * 4 / 1000)


def test_abc2_is_of_the_largest_bleed_and_volume_of_all():
    mask = np.zeros((100, 100), dtype=bool)
    mask[10:50, 10:50] = mask[70:80, 70:80] = True
    both = StudyMeasures.of([drawn(mask, 5.0 * number, spacing=(1, 1)) for number in range(3)])
    one = mask.copy()
    one[60:] = False
    large = StudyMeasures.of([drawn(one, 5.0 * number, spacing=(1, 1)) for number in range(3)])
    assert both.abc2_ml == large.abc2_ml
    assert both.volume_ml == pytest.approx((1600 + 100) * 15 / 1000)


def test_bleeds_that_grow_together_and_apart_are_one_and_others_stay_others():
    """Three columns over five slices: the last two meet on the third, the first stays by itself."""
    slices = []
    for number in range(5):
        mask = np.zeros((60, 60), dtype=bool)
        mask[5:15, 5:15] = mask[5:15, 30:40] = mask[25:35, 30:40] = True
        if number == 2:
            mask[5:35, 30:40] = True
        slices.append(drawn(mask, 5.0 * number, spacing=(1, 1)))
    found = StudyMeasures.of(slices)
    # On the third slice the joined one is 30 x 10 mm; on the others two thirds of it, which count by half.
    length = np.hypot(30, 10)
    across = 2 * 300 / length
    assert found.abc2_ml == pytest.approx(length * across * (1 + 4 * 0.5) * 5 / 2000)
    assert found.volume_ml == pytest.approx((5 * 100 + 4 * 200 + 300) * 5 / 1000)


def test_a_missing_slice_does_not_thicken_its_neighbours():
    assert slice_steps_mm([0, 5, 10, 15]).tolist() == [5, 5, 5, 5]
    assert slice_steps_mm([0, 5, 30, 35]).tolist() == [5, 5, 5, 5]
    assert slice_steps_mm([15, 10, 5, 0]).tolist() == [5, 5, 5, 5]
    for unknown in ([], [3.0], [0, None, 10], [0, 0, 5]):
        assert slice_steps_mm(unknown) is None


@pytest.mark.parametrize(
    ("places", "spacing"), [([0.0, None, 10.0], SPACING), ([0.0, 5.0, 10.0], None), ([0.0], SPACING)]
)
def test_what_cannot_be_known_is_absent(places, spacing):
    mask = np.zeros((50, 50), dtype=bool)
    mask[10:20, 10:20] = True
    found = StudyMeasures.of([drawn(mask, z, spacing=spacing) for z in places])
    assert found.volume_ml is None
    assert found.abc2_ml is None
    assert found.slices_with_blood == len(places)
    assert (found.diameter_mm is None) == (spacing is None)


def test_side_and_range():
    mask, empty = np.zeros((50, 50), dtype=bool), np.zeros((50, 50), dtype=bool)
    mask[10:20, 10:20] = True
    for left, side in ((1.0, "left"), (0.85, "left"), (0.5, "both"), (0.1, "right")):
        found = StudyMeasures.of([drawn(empty, 0.0), drawn(mask, 5.0, left), drawn(empty, 10.0)])
        assert (found.side, found.first, found.last, found.slices) == (side, 2, 2, 3)
    nothing = StudyMeasures.of([drawn(empty, 0.0), drawn(empty, 5.0)])
    assert (nothing.side, nothing.first, nothing.last, nothing.diameter_mm) == (None, None, None, None)
    assert nothing.volume_ml == 0
    assert nothing.abc2_ml is None
