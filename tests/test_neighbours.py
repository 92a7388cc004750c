"""Which slices lie beside a slice, and scores smoothed over them."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haemo.errors import BadSettings
from haemo.features.manifest import ManifestRow
from haemo.features.neighbours import neighbours, neighbours_of_rows, offsets, smoothed

UNPLACED = {"a.png": None, "b.png": 1.0}


def walked(studies, positions, number, step):
    """The slow, obvious way: go from slice to slice, and stay where the way ends."""
    own = [other for other in range(len(studies)) if studies[other] == studies[number]]
    own.sort(key=lambda other: positions[other])
    gaps = [positions[b] - positions[a] for a, b in pairwise(own)]
    usual = np.median([gap for gap in gaps if gap > 0]) if any(gap > 0 for gap in gaps) else np.inf
    place = own.index(number)
    for _ in range(abs(step)):
        following = place + (1 if step > 0 else -1)
        if not 0 <= following < len(own):
            break
        if abs(positions[own[following]] - positions[own[place]]) > 2 * usual * (1 + 1e-6):
            break
        place = following
    return own[place]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60)), min_size=1, max_size=14, unique=True),
    st.integers(0, 3),
)
def test_neighbours_are_those_that_walking_finds(slices, reach):
    studies, positions = [one for one, _ in slices], [2.5 * place for _, place in slices]
    found = neighbours(studies, positions, reach)
    wanted = [
        [walked(studies, positions, number, step) for step in offsets(reach)] for number in range(len(slices))
    ]
    assert found.tolist() == wanted


def test_a_gap_over_twice_the_spacing_is_an_edge_and_one_missing_slice_is_none():
    # 5 mm apart; one slice is missing after 10, two after 25.
    positions = [0, 5, 10, 20, 25, 40, 45]
    before, after = neighbours(["one"] * 7, positions)[:, 1:].T
    assert after.tolist() == [1, 2, 3, 4, 4, 6, 6]
    assert before.tolist() == [0, 0, 1, 2, 3, 5, 5]


def test_the_spacing_of_a_study_may_change_as_where_the_base_is_cut_finer():
    before, after = neighbours(["one"] * 5, [0, 4, 8, 15, 22])[:, 1:].T
    assert (before.tolist(), after.tolist()) == ([0, 0, 1, 2, 3], [1, 2, 3, 4, 4])


def test_a_study_of_one_slice_has_itself_beside_it():
    assert neighbours(["one", "two"], [3, 4], 2).tolist() == [[0] * 5, [1] * 5]


def test_studies_of_two_patients_with_one_name_stay_apart():
    rows = [
        ManifestRow(f"{who}{place}", Path("x"), "normal", who, "head", float(place))
        for who in "ab"
        for place in (0, 1)
    ]
    assert neighbours_of_rows(rows).tolist() == [[0, 0, 1], [1, 0, 1], [2, 2, 3], [3, 2, 3]]


def test_slices_without_a_position_are_refused_and_named():
    rows = [ManifestRow(name, Path(name), "normal", "p", "s", place) for name, place in UNPLACED.items()]
    with pytest.raises(BadSettings, match=r"1 of 2 slices have none \(a.png .*columns study and position"):
        neighbours_of_rows(rows)


@pytest.mark.parametrize("columns", [(), (3,)])
def test_smoothed_scores_are_a_quarter_a_half_and_a_quarter(columns):
    scores = np.random.default_rng(0).normal(size=(4, *columns))
    found = smoothed(scores, neighbours(["one"] * 4, [0, 1, 2, 3]))
    assert found[1] == pytest.approx((scores[0] + 2 * scores[1] + scores[2]) / 4)
    assert found[0] == pytest.approx((3 * scores[0] + scores[1]) / 4)
