"""Heads as upright planes, what the built-in trunk says of their cells, and pixels described by it."""

import pickle

import numpy as np
import pytest
import torch
from drawn_heads import SPACING_MM, head
from scipy import ndimage

from haemo.errors import BadSettings, FingerprintMismatch
from haemo.features.reading.slice import Slice
from haemo.features.views.head_grid import HeadGrid
from haemo.features.views.head_plane import HeadPlane
from haemo.features.views.preprocess import Preprocessing
from haemo.models.networks.blood_cells import BloodCells, cells_of
from haemo.models.weights.builtin import builtin_state
from haemo.pipeline.segmenting import cell_numbers
from haemo.pipeline.segmenting.cell_numbers import CELL_NUMBERS, CellNumbers
from haemo.pipeline.segmenting.pixel_features import BOTH, PixelFeatures
from haemo.pipeline.segmenting.segmenter import BUILTIN_PATH, Segmenter

SPACING = (SPACING_MM, SPACING_MM)


def of(seed: int, blood_mm: float = 0.0, turn_deg: float = 0.0) -> HeadGrid:
    return HeadGrid.of(Slice(head(seed, blood_mm, turn_deg)[0], True, SPACING))


@pytest.fixture(scope="module")
def network():
    return BloodCells.of(builtin_state())


@pytest.fixture(scope="module")
def bleeding():
    return of(5, blood_mm=14)


@pytest.mark.parametrize("turn", [0, 15])
def test_a_head_stands_upright_from_edge_to_edge_of_its_skull(turn):
    grid = of(3, turn_deg=turn)
    plane = HeadPlane.of(grid, 227)
    rows, columns = np.nonzero(grid.bone)
    down, right = plane.places(rows, columns)
    for places in (down, right):
        assert 0 < places.min() < 12
        assert 214 < places.max() < 226
    # The head is drawn the same on both sides, but for grain.
    bright = ndimage.gaussian_filter(plane.gray.astype(float), 3)
    assert np.abs(bright - bright[:, ::-1]).mean() < 8
    inside = np.nonzero(grid.inside)
    there = ndimage.map_coordinates(plane.gray.astype(float), plane.places(*inside), order=1)
    assert np.abs(there - 255 * grid.hu[inside] / 80).mean() < 8


def test_the_plane_is_about_the_one_that_stage_one_sees():
    """That one has muscle at its edges, of which drawn heads have none, and is made of the slice itself."""
    image = Slice(head(8, blood_mm=12)[0], True, SPACING)
    seen = Preprocessing(crop="head", upright=True).plane(image).astype(float)
    made = HeadPlane.of(HeadGrid.of(image), 227).gray.astype(float)
    seen, made = (ndimage.gaussian_filter(own, 4)[30:-30, 30:-30].ravel() for own in (seen, made))
    assert np.corrcoef(seen, made)[0, 1] > 0.8


def test_a_pixel_is_described_by_the_cells_about_it(bleeding, network):
    plane = HeadPlane.of(bleeding, 227)
    cells = cells_of(network, plane.gray[None])[0].astype(float)
    down, right = plane.places(*np.nonzero(bleeding.inside))

    def at(rows, columns):
        return ndimage.map_coordinates(
            cells, [(rows - 14.5) / 16, (columns - 14.5) / 16], order=1, mode="nearest"
        )

    own = at(down, right)
    expected = np.stack([own - own.max(), own - at(down, 226 - right)], axis=1)
    found = CellNumbers(bleeding)
    np.testing.assert_allclose(found.rows(), expected, atol=1e-3)
    some = np.arange(0, len(expected), 911)
    np.testing.assert_array_equal(found.rows(some), found.rows()[some])


@pytest.mark.numerical
def test_in_bfloat16_pixels_are_described_by_nearly_the_same_numbers(bleeding):
    expected, found = CellNumbers(bleeding).rows(), CellNumbers(bleeding, "bfloat16").rows()
    apart, spread = np.abs(found - expected), np.std(expected)
    assert 0 < apart.max() < 0.04 * spread
    assert apart.mean() < 0.01 * spread
    assert spread > 1


def test_a_segmenter_has_its_precision_in_other_processes_too(bleeding):
    usual = Segmenter.read(BUILTIN_PATH)
    half = usual.with_precision("bfloat16")
    assert half.hash == usual.hash, "no other model"
    again = pickle.loads(pickle.dumps(half))  # noqa: S301 - its own
    there, back = again._probability(bleeding), half._probability(bleeding)
    np.testing.assert_array_equal(there, back)
    as_ever = pickle.loads(pickle.dumps(usual))._probability(bleeding)  # noqa: S301
    assert (as_ever != there).any()
    assert ((as_ever > 0.5) != (there > 0.5)).mean() < 0.005


def test_precision_is_of_the_trunk_that_comes_with_haemo():
    usual = Segmenter.read(BUILTIN_PATH)
    with pytest.raises(BadSettings, match="'half' is not one of float32, bfloat16"):
        usual.with_precision("half")
    without = Segmenter(usual.classifier, {"classes": ["normal", "haemorrhage"]}, PixelFeatures("anatomy"))
    assert without.with_precision("float32").features.precision == "float32"
    with pytest.raises(BadSettings, match=r"anatomy do not read the trunk.*leave out --precision"):
        without.with_precision("bfloat16")


def test_log_odds_that_are_higher_everywhere_are_the_same_numbers(bleeding, monkeypatch):
    """As they are on slices of a scanner that the trunk has not seen."""
    expected = CellNumbers(bleeding).rows()
    higher = BloodCells.of(builtin_state())
    with torch.no_grad():
        higher.head.bias += 4
    monkeypatch.setattr(cell_numbers, "_network", lambda _: higher)
    np.testing.assert_allclose(CellNumbers(bleeding).rows(), expected, atol=1e-3)


def test_blood_is_where_the_numbers_are_high(bleeding):
    blood = bleeding.from_slice(head(5, blood_mm=14)[1])[bleeding.inside] > 0.5
    numbers = dict(zip(CELL_NUMBERS, CellNumbers(bleeding).rows().T, strict=True))
    for name, values in numbers.items():
        assert np.median(values[blood]) > np.percentile(values[~blood], 95), name


def test_nothing_is_said_of_what_has_no_inside():
    empty = HeadGrid.of(Slice(np.full((200, 200), -1000, dtype=np.float32), True, (1.0, 1.0)))
    assert HeadPlane.of(empty, 227) is None
    assert PixelFeatures(BOTH).of(empty).rows().shape == (0, 25)


def test_a_segmenter_knows_the_trunk_that_it_was_trained_on(monkeypatch):
    found = Segmenter.read(BUILTIN_PATH)
    assert found.features.name == BOTH
    assert found.facts["pixels"]["cells"]["names"] == list(CELL_NUMBERS)
    monkeypatch.setattr(cell_numbers, "_trunk_sha256", lambda: "another")
    with pytest.raises(FingerprintMismatch, match="train it again"):
        Segmenter.read(BUILTIN_PATH)


def test_a_segmenter_that_goes_to_another_process_reads_the_same_numbers():
    """Also while it is trained, when nothing else is known of it yet."""
    found = Segmenter.read(BUILTIN_PATH)
    untold = Segmenter(found.classifier, {"classes": ["normal", "haemorrhage"]}, found.features)
    assert pickle.loads(pickle.dumps(untold)).features.name == BOTH  # noqa: S301 - its own


def test_hypercolumns_need_the_trunk_that_they_are_of():
    with pytest.raises(BadSettings, match="there is none"):
        PixelFeatures("anatomy+alexnet")
