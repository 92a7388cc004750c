"""Hypercolumns of AlexNet at single pixels, the trunk trained for them, and segmenters that read them."""

import json

import numpy as np
import pytest
import torch
from drawn_heads import SPACING_MM, cohort, head

from haemo.errors import BadSettings
from haemo.features.pixels.descriptors import DESCRIPTORS, describe
from haemo.features.reading.slice import Slice
from haemo.features.views.head_grid import HeadGrid
from haemo.models.networks.alexnet import AlexNet
from haemo.models.networks.blood_cells import blood_in_cells
from haemo.models.networks.gray import IMAGENET_MEAN, IMAGENET_STD
from haemo.models.networks.hypercolumns import Hypercolumns
from haemo.models.training import blood_trunk
from haemo.models.training.blood_trunk import TrunkSettings, train_blood_trunk
from haemo.models.training.checkpoint import Checkpoint
from haemo.models.weights import imagenet
from haemo.models.weights.imagenet import random_weights
from haemo.pipeline.cli import main
from haemo.pipeline.segmenting.pixel_features import PixelFeatures, plane_of
from haemo.pipeline.segmenting.segmenter import Segmenter

SPACING = (SPACING_MM, SPACING_MM)


@pytest.fixture(scope="module")
def weights():
    return random_weights(0, "pool5")


@pytest.fixture(scope="module")
def arrays(weights):
    return {name: value.numpy() for name, value in weights.state_dict.items()}


@pytest.mark.numerical
def test_maps_are_those_of_the_network_as_it_was_published(weights, arrays):
    plane = np.random.default_rng(0).integers(0, 256, (227, 227), dtype=np.uint8)
    whole = AlexNet("pool5").features
    state = {name.removeprefix("features."): value for name, value in weights.state_dict.items()}
    whole.load_state_dict(state)
    image = torch.from_numpy(plane / 255).float().expand(1, 3, -1, -1)
    mean, std = (torch.tensor(own).view(1, 3, 1, 1) for own in (IMAGENET_MEAN, IMAGENET_STD))
    answer, expected = (image - mean) / std, []
    with torch.no_grad():
        for layer in whole[:-1]:
            answer = layer(answer)
            if isinstance(layer, torch.nn.ReLU):
                expected.append(answer[0].permute(1, 2, 0).numpy().copy())
    found = Hypercolumns(arrays).maps(plane)
    assert [own.shape for own in found] == [own.shape for own in expected]
    assert sum(own.shape[2] for own in found) == Hypercolumns.dimension == 1152
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-3)


def test_a_pixel_is_read_where_the_units_that_look_at_it_lie(arrays):
    """conv1 hands the middle of its field on, conv2 to conv5 theirs: each map is then the plane, sampled."""
    own = {name: np.zeros_like(array) for name, array in arrays.items()}
    for place, centre in ((0, 5), (3, 2), (6, 1), (8, 1), (10, 1)):
        own[f"features.{place}.weight"][0, 0, centre, centre] = 1
    own["features.0.bias"][0] = 10
    rows, columns = np.indices((227, 227))
    columns_of = Hypercolumns(own)
    maps = columns_of.maps((rows // 2 + columns // 4).astype(np.uint8))
    at = columns_of.at(maps, np.array([79.0, 81.0, 143.0]), np.array([47.0, 47.0, 111.0]))
    firsts = np.cumsum([0, 64, 192, 384, 256])
    slope = 1 / 255 / IMAGENET_STD[0]
    for first, step in zip(firsts, (4, 8, 16, 16, 16), strict=True):
        # Pooling takes the largest of three units, so later maps read further down and to the right.
        later = {4: 0, 8: 4, 16: 12}[step]
        expected = np.array([79, 81, 143]) / 2 + np.array([47, 47, 111]) / 4 + later * 0.75
        levels = (at[:, first] - 10) / slope + 255 * IMAGENET_MEAN[0]
        np.testing.assert_allclose(levels, expected, atol=1.6, err_msg=str(step))


def test_the_plane_holds_the_head_and_knows_where_it_lies():
    grid = HeadGrid.of(Slice(head(2)[0], True, SPACING))
    plane, top, left = plane_of(grid)
    rows, columns = np.nonzero(grid.inside)
    np.testing.assert_array_equal(
        plane[rows - top, columns - left], np.rint(grid.hu[rows, columns] * 255 / 80).astype(np.uint8)
    )
    assert plane.shape == (227, 227)


def test_joined_features_are_both_beside_each_other(arrays):
    grid = HeadGrid.of(Slice(head(2)[0], True, SPACING))
    some = np.arange(0, int(grid.inside.sum()), 997)
    parts = [
        PixelFeatures("anatomy").of(grid).rows(some),
        PixelFeatures("alexnet", arrays).of(grid).rows(some),
    ]
    joined = PixelFeatures("anatomy+alexnet", arrays).of(grid).rows(some)
    assert joined.shape == (len(some), len(DESCRIPTORS) + 1152)
    np.testing.assert_array_equal(joined, np.concatenate(parts, axis=1))
    np.testing.assert_array_equal(parts[0], describe(grid)[some])
    with pytest.raises(BadSettings, match="anatomy"):
        PixelFeatures("fc7")


def test_a_stopped_training_of_the_trunk_goes_on_and_ends_with_the_same_bytes(weights, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    planes = rng.integers(60, 120, (4, 227, 227), dtype=np.uint8)
    masks = np.zeros(planes.shape, dtype=bool)
    masks[:2, 90:130, 60:100] = True
    planes[masks] = 230
    settings = TrunkSettings(steps=2, batch=2, varied=True)
    first = train_blood_trunk(planes, masks, weights, settings, seed=3).state_dict()
    assert set(first) == {*weights.state_dict, "head.weight", "head.bias"}

    def stopped(steps, *, total, label):
        yield next(iter(steps))
        raise KeyboardInterrupt

    monkeypatch.setattr(blood_trunk, "_SECONDS_BETWEEN_CHECKPOINTS", 0)
    how = {"seed": 3, "checkpoint": Checkpoint(tmp_path / "kept", "key")}
    with pytest.raises(KeyboardInterrupt):
        train_blood_trunk(planes, masks, weights, settings, **how, progress=stopped)
    left = []
    again = train_blood_trunk(
        planes, masks, weights, settings, **how, progress=lambda steps, **_: left.extend(steps) or left
    ).state_dict()
    assert left == [1]
    for name, value in first.items():
        assert value.dtype == torch.float16
        assert torch.equal(value, again[name])
    assert any((first[name] != value.half()).any() for name, value in weights.state_dict.items())
    shares = blood_in_cells(torch.from_numpy(masks[:1]))[0].numpy()
    assert shares.shape == (13, 13)
    assert shares.sum() * 16 * 16 == masks[0].sum()
    assert shares[(112 - 7) // 16, (80 - 7) // 16] == 1


def test_a_segmenter_that_reads_hypercolumns_is_one_file(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(imagenet, "resolve_weights", lambda *_, **__: weights)
    run = tmp_path / "run"
    assert main(["index", str(cohort(tmp_path / "data", 8, 3)), "--run", str(run)]) == 0
    train = ["segment", "train", "--run", str(run), "--as-is", "--folds", "2", "--jobs", "1"]
    assert main([*train, "--features", "anatomy+alexnet", "--kind", "logistic"]) == 0
    found = Segmenter.read(run / "segment" / "model.safetensors")
    assert found.features.name == "anatomy+alexnet"
    assert found.features.trunk["features.0.weight"].shape == (64, 3, 11, 11)
    settings = json.loads((run / "segment" / "settings.json").read_text())
    assert settings["pixels"]["features"] == "anatomy+alexnet"
    hu, mask = head(77, blood_mm=14)
    assert mask[found.draw(Slice(hu, True, SPACING)).peak]
