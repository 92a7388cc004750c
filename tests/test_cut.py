"""Where networks other than AlexNet are cut for maps of evidence, and what these maps then say."""

import re
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from haemo.errors import BadSettings
from haemo.models.evidence.cut import cut_in_two
from haemo.models.evidence.explain import explain_extractor, randomised
from haemo.models.evidence.maps import METHODS
from haemo.models.heads.calibration import CalibratedHead
from haemo.models.heads.spec import HeadSpec
from haemo.models.networks.frozen import NetworkRequest
from haemo.models.networks.pretrained import PretrainedNetwork, UpTo
from haemo.models.networks.table import frozen_network

GRAY = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
RESNET = "torchvision:resnet18"


class Block(nn.Module):
    """A convolution with a shortcut around it, both with a stride."""

    def __init__(self):
        super().__init__()
        self.shortcut = nn.Conv2d(8, 8, 1, stride=2, bias=False)
        self.conv = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))

    def forward(self, maps):
        return torch.relu_(self.shortcut(maps) + self.conv(maps))


class Small(nn.Module):
    """Patches, a shortcut, a pool of even size; means over all places, then two linear layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 4, stride=4)
        self.block = Block()
        self.pool = nn.AvgPool2d(2)
        self.last = nn.Conv2d(8, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, images):
        maps = self.last(self.pool(self.block(torch.relu(self.first(images)))))
        return self.out(self.fc(torch.relu_(maps).mean(dim=(2, 3))))


class Leaky(nn.Module):
    """A second way leads around the last convolution to the embedding."""

    def __init__(self):
        super().__init__()
        self.small = Small()
        self.out = nn.Linear(8, 2)

    def forward(self, images):
        first = torch.relu(self.small.first(images))
        maps = self.small.last(self.small.pool(self.small.block(first)))
        pooled = maps.mean(dim=(2, 3))
        return self.out(torch.cat([pooled, first.mean(dim=(2, 3))[:, :2]], dim=1))


class Attentive(VisionTransformer):
    """A vision transformer of one layer: its only convolution cuts the image into patches."""

    def __init__(self):
        super().__init__(56, 8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=2)


class Windows(SwinTransformer):
    """Attention within windows: its only convolution makes the patches, and all goes through these."""

    def __init__(self):
        super().__init__([4, 4], 8, depths=[1, 1], num_heads=[1, 1], window_size=[7, 7], num_classes=2)


class Adding(Leaky):
    """The second way is added, so that one image of it would do for a batch of the other."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 2)

    def forward(self, images):
        first = torch.relu(self.small.first(images))
        maps = self.small.last(self.small.pool(self.small.block(first)))
        return self.out(maps.mean(dim=(2, 3)) + first.mean(dim=(2, 3))[:, :6])


OURS = {
    "small": PretrainedNetwork(build=Small, size=96, **GRAY),
    "leaky": PretrainedNetwork(build=Leaky, size=96, **GRAY),
    "adding": PretrainedNetwork(build=Adding, size=96, **GRAY),
    "windows": PretrainedNetwork(build=Windows, size=56, **GRAY),
    "attentive": PretrainedNetwork(build=Attentive, size=56, **GRAY),
}


@cache
def ready(name, layer="penultimate"):
    wanted = {"weights": "random", "precision": "float32", "device": "cpu", "batch": 4}
    source = OURS[name] if name in OURS else frozen_network(name)
    return source.load(NetworkRequest(name=name, layer=layer, **wanted))


def planes(count, size):
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 7, 7), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, size // 7 + 1, axis=1), size // 7 + 1, axis=2)[:, :size, :size].copy()


def head_on(extractor, spec=None, **parameters):
    embeddings = extractor(planes(12, extractor.size))
    names = np.array(["normal", "bleed"] * 6)
    made = (spec or HeadSpec("svm")).build(**(parameters or {"C": 1e-3}))
    return CalibratedHead(made, classes=("normal", "bleed"), cv=2).fit(embeddings, names)


@pytest.mark.parametrize(
    ("network", "layer", "cut", "start", "step"),
    [
        ("small", "penultimate", "last", 5.5, 16),
        ("small", "block", "block", 1.5, 8),
        (RESNET, "penultimate", "layer4", 0, 32),
        (RESNET, "layer3.0.conv1", "layer3.0.conv1", 0, 16),
        ("torchvision:mobilenet_v3_small", "penultimate", "features", 0, 32),
    ],
)
def test_the_cut_is_after_the_last_convolution_and_changes_no_score(network, layer, cut, start, step):
    extractor = ready(network, layer)
    below, _, grid = cut_in_two(extractor)
    assert below.layer == cut
    assert (grid.start, grid.step) == (start, step)
    head = head_on(extractor)
    shown = planes(3, extractor.size)
    expected = head.decision_function(extractor(shown))
    model = explain_extractor(extractor, head)
    np.testing.assert_allclose(model.scores(shown), expected, atol=1e-3 * np.abs(expected).max())
    assert np.isfinite(model.maps(shown)).all()


@pytest.mark.parametrize("network", ["small", RESNET])
def test_the_grid_of_a_network_with_shortcuts_is_where_its_maps_look(network):
    """The gradient of one place, by a plane large enough to hold all it looks at, is centred on the grid."""
    extractor = ready(network)
    network = extractor.reference()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
            elif isinstance(child, nn.Conv2d):
                nn.init.constant_(child.weight, 1 / child.weight[0].numel())
            elif isinstance(child, nn.BatchNorm2d):
                child.reset_running_stats()
    below, _, grid = cut_in_two(extractor)
    plane = torch.ones(1, 3, 896, 896, requires_grad=True)
    place = 896 // int(grid.step) // 2
    UpTo(network, below.layer)(plane)[0, 0, place, place].backward()
    weight = plane.grad[0].sum(dim=(0, 1)).double().numpy()
    assert weight @ np.arange(896) / weight.sum() == pytest.approx(grid.start + place * grid.step, abs=0.02)


def test_where_all_is_linear_above_the_cut_the_maps_add_up_to_the_score():
    extractor = ready(RESNET)
    model = explain_extractor(extractor, head_on(extractor))
    shown = planes(4, extractor.size)
    sums, scores = model.maps(shown, "hirescam").sum(axis=(1, 2)), model.scores(shown)
    np.testing.assert_allclose(sums - sums[0], scores - scores[0], atol=1e-4 * np.abs(scores).max())


@pytest.mark.parametrize("network", ["attentive", "windows", "leaky", "adding"])
def test_a_network_without_last_maps_is_explained_by_occlusion_and_nothing_else(network):
    extractor = ready(network)
    head = head_on(extractor)
    model = explain_extractor(extractor, head)
    assert not model.has_gradients
    shown = planes(2, extractor.size)
    expected = head.decision_function(extractor(shown))
    np.testing.assert_allclose(model.scores(shown), expected, atol=1e-3 * np.abs(expected).max())
    for method in METHODS[:-1]:
        with pytest.raises(
            BadSettings, match=f"method {re.escape(method)} .* this network has none; take --me"
        ):
            model.maps(shown, method)
    assert model.maps(shown[:1], "occlusion").shape == (1, extractor.size, extractor.size)


def test_a_random_network_answers_otherwise_and_leaves_the_original():
    extractor = ready(RESNET)
    model = explain_extractor(extractor, head_on(extractor))
    shown = planes(2, extractor.size)
    before = model.maps(shown)
    first, again = (randomised(model, 1).maps(shown) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(model.maps(shown), before)
    assert np.isfinite(first).all()
    assert not np.allclose(first, before, atol=0.1 * np.abs(before).max())
