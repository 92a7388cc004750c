"""The midline of a head: the quick search finds the line that mirroring about every line finds."""

import numpy as np
from drawn_heads import SPACING_MM, head
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from haemo.features.reading.slice import Slice
from haemo.features.views.head_grid import HeadGrid
from haemo.features.views.midline import Midline, find_midline


def searched(levels: np.ndarray, inside: np.ndarray) -> Midline:
    """The oracle: all lines that are asked of, each mirrored whole."""
    image = np.where(inside, np.clip(levels, -40, 40), np.float32(-80))[::3, ::3]
    image = ndimage.gaussian_filter(image, 1.0)
    middle = [places.mean() * 3 for places in np.nonzero(inside[::3, ::3])]

    def line(angle_deg: float, offset_mm: float) -> Midline:
        turn = np.deg2rad(angle_deg)
        row, column = middle[0] - offset_mm * np.sin(turn), middle[1] + offset_mm * np.cos(turn)
        return Midline(float(row), float(column), float(angle_deg))

    def difference(pair: tuple[float, float]) -> float:
        matrix, origin = line(*pair).reflection()
        found = ndimage.affine_transform(image, matrix, origin / 3, order=1, mode="constant", cval=-80.0)
        return float(((found - image) ** 2).sum())

    best = min(((a, o) for a in range(-24, 25, 6) for o in range(-12, 13, 6)), key=difference)
    for step, reach in ((3.0, 3.0), (1.5, 1.5)):
        angles, offsets = (-step, 0, step), (-reach, -reach / 2, 0, reach / 2, reach)
        best = min(((best[0] + a, best[1] + o) for a in angles for o in offsets), key=difference)
    return line(*best)


def same(one: Midline, other: Midline) -> bool:
    return np.allclose(
        (one.row, one.column, one.angle_deg), (other.row, other.column, other.angle_deg), atol=1e-9
    )


@given(
    seed=st.integers(0, 1000),
    turn_deg=st.floats(-30, 30),
    blood_mm=st.sampled_from([0.0, 8.0, 20.0]),
    cut=st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
@settings(max_examples=15, deadline=None)
def test_the_line_is_that_of_the_whole_search_also_where_the_head_is_cut_off(seed, turn_deg, blood_mm, cut):
    hu, _ = head(seed, blood_mm, turn_deg)
    grid = HeadGrid.of(Slice(hu, True, (SPACING_MM, SPACING_MM)))
    part = slice(cut[0], None), slice(cut[1], None)
    levels, inside = (grid.hu - grid.median_hu)[part], grid.inside[part]
    assert same(find_midline(levels, inside), searched(levels, inside))


def test_where_nothing_mirrors_the_line_is_the_same_too():
    rng = np.random.default_rng(0)
    for _ in range(5):
        inside = ndimage.gaussian_filter(rng.normal(size=(150, 120)), 9) > 0.02
        levels = (60 * rng.normal(size=inside.shape)).astype(np.float32)
        assert same(find_midline(levels, inside), searched(levels, inside))
