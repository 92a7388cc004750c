"""A network that sees each plane and its mirror image."""

import numpy as np
import pytest
from stand_ins import SIZE as SMALL
from stand_ins import Network

from haemo.models.networks.alexnet import SIZE, load_extractor
from haemo.models.networks.engine import Engine
from haemo.models.networks.mirrored import MirroredExtractor, mirrored
from haemo.models.weights.imagenet import random_weights


class Small(Network):
    weights, layer = "made up", "only"


@pytest.fixture(scope="module")
def planes():
    return np.random.default_rng(0).integers(0, 256, (7, SIZE, SIZE), dtype=np.uint8)


@pytest.mark.numerical
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_left_and_right_may_change_places_and_no_bit_does(planes, precision):
    once = load_extractor(
        random_weights(0, "pool4"), "pool4", engine=Engine("cpu", precision, "channels_last"), batch=3
    )
    both = MirroredExtractor(once)
    found = both(planes)
    assert found.dtype == np.float32
    assert found.shape == (7, both.dimension) == (7, 2 * 9216)
    np.testing.assert_array_equal(both(mirrored(planes)), found)
    one, other = once(planes), once(planes[:, :, ::-1].copy())
    assert (one != other).any(axis=1).all()
    np.testing.assert_array_equal(found[:, :9216], one + other)
    np.testing.assert_array_equal(found[:, 9216:], np.abs(one - other))
    batches = [planes[:3], planes[3:4], planes[4:]]
    streamed = list(both.stream(batches))
    assert [len(part) for part in streamed] == [3, 1, 3]
    np.testing.assert_array_equal(np.concatenate(streamed), found)


def test_a_stream_that_is_left_stops_the_one_below():
    network = Small()
    stream = MirroredExtractor(network).stream(np.zeros((9, 2, SMALL, SMALL), np.uint8))
    next(stream)
    stream.close()
    assert network.planes_seen == 4


def test_it_is_told_from_the_network_alone():
    network = Small()
    assert MirroredExtractor(network).describe() == {**network.describe(), "mirror": "a + b, |a - b|"}
