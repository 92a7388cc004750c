"""The networks are those of the documents, layer by layer; fine-tuning starts from what it was given."""

import numpy as np
import pytest
import torch
from torch import nn

from haemo.errors import BadSettings, WeightsUnavailable
from haemo.models.networks.finetune import AlexNetClassifier, freeze_below, load_pretrained
from haemo.models.networks.layers import layer_table
from haemo.models.networks.lenet import LeNet
from haemo.models.networks.tinyvgg import TinyVGG
from haemo.models.training.recipes import RECIPES, TrainingSettings, build, recipe_for
from haemo.models.weights.imagenet import SHAPES, random_weights


def totals(network: nn.Module, channels: int, size: int) -> tuple[int, int]:
    table = layer_table(network, channels, size)
    return sum(layer.parameters for layer in table), sum(layer.multiply_adds for layer in table)


def test_tinyvgg_has_the_published_parameters_and_multiply_adds():
    table = layer_table(TinyVGG(), 3, 64)
    assert [layer.parameters for layer in table if layer.parameters] == [280, 910, 910, 910, 5122]
    parameters, multiply_adds = totals(TinyVGG(), 3, 64)
    assert parameters == 8132
    assert round(multiply_adds / 1e6, 2) == 6.74


def test_lenet_is_the_posted_one():
    table = {layer.name.split(".")[1]: layer for layer in layer_table(LeNet(), 1, 135)}
    assert list(table) == [
        "conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "flatten", "fc3", "relu3", "fc4",
    ]  # fmt: skip
    assert table["conv1"].output == (20, 131, 131)
    assert table["pool1"].output == (20, 65, 65)
    assert table["conv2"].output == (50, 61, 61)
    assert table["flatten"].output == (50 * 30 * 30,)
    assert table["fc3"].output == (500,)
    assert table["conv2"].parameters == 50 * (20 * 5 * 5 + 1)


def test_the_layer_table_counts_every_parameter_once():
    for recipe in RECIPES.values():
        network = build(recipe.name, 3)
        parameters, _ = totals(network, recipe.channels, recipe.input_size)
        assert parameters == sum(parameter.numel() for parameter in network.parameters())


def test_multiply_adds_are_those_of_the_sums_written_out():
    network = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.Flatten(), nn.Linear(27, 4))
    # 3 x 3 positions, 3 kernels of 2 x 3 x 3 weights and a bias; then 4 units of 27 weights and a bias.
    assert totals(network, 2, 7)[1] == 9 * 3 * (2 * 9 + 1) + 4 * 28


@pytest.mark.parametrize("name", RECIPES)
def test_every_network_takes_its_input_and_names_its_classes(name):
    recipe = recipe_for(name)
    network = build(name, 3, trunk=True).eval()
    slices = torch.rand(2, recipe.channels, recipe.input_size, recipe.input_size)
    with torch.no_grad():
        assert network(slices).shape == (2, 3)


def test_the_same_seed_gives_the_same_network_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second, other = (build("tinyvgg", 2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.features.conv1.weight, other.features.conv1.weight)


@pytest.mark.numerical
def test_a_fine_tuned_trunk_gives_what_torchvision_does_before_it_is_trained():
    from torchvision.models import alexnet

    peer = alexnet(weights=None).eval()
    network = AlexNetClassifier(2, trunk=True).eval()
    load_pretrained(network, peer.state_dict())
    slices = torch.randn(2, 3, 227, 227)
    with torch.no_grad():
        torch.testing.assert_close(network.features(slices), peer.features(slices))


def test_with_all_weights_only_the_last_layer_is_new():
    state = random_weights(0, "fc7").state_dict
    network = AlexNetClassifier(2)
    before = network.classifier.fc8.weight.clone()
    load_pretrained(network, state)
    assert torch.equal(network.classifier.fc7.weight, state["classifier.4.weight"])
    assert torch.equal(network.features.conv5.bias, state["features.10.bias"])
    assert torch.equal(network.classifier.fc8.weight, before)
    assert network.pretrained == ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")


def test_weights_that_lack_a_layer_are_refused_by_its_name():
    state = random_weights(0, "pool5").state_dict
    with pytest.raises(WeightsUnavailable, match=r"classifier\.1\.weight .* does not have it"):
        load_pretrained(AlexNetClassifier(2), state)
    assert set(SHAPES["pool5"]) == set(state)


def test_frozen_layers_are_those_below_the_one_named():
    network = AlexNetClassifier(2, trunk=True)
    freeze_below(network, "conv4")
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[1] for name in learning} == {"conv4", "conv5", "fc6", "fc8"}
    with pytest.raises(BadSettings, match=r"no such layer; there are conv1, .* fc6, fc8"):
        freeze_below(network, "fc7")


def test_settings_that_make_no_sense_are_refused_by_name():
    defaults = RECIPES["lenet"].settings
    for options, named in (
        ({"epochs": 0}, "epochs is 0"),
        ({"optimizer": "lion"}, "optimizer is 'lion'"),
        ({"augment": ("blur",)}, "augment has 'blur'"),
        ({"patience": -1}, "patience is -1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ):
        with pytest.raises(BadSettings, match=named):
            defaults.with_options(**options)
    with pytest.raises(BadSettings, match="no network 'resnet'"):
        recipe_for("resnet")


def test_settings_survive_their_description():
    for recipe in RECIPES.values():
        assert TrainingSettings.from_description(recipe.settings.describe()) == recipe.settings
    with pytest.raises(BadSettings, match="unknown training setting 'warmup'"):
        TrainingSettings.from_description({**RECIPES["cnn"].settings.describe(), "warmup": 3})


def test_fine_tuning_normalises_as_stage_one_does():
    from haemo.models.networks.gray import IMAGENET_MEAN, IMAGENET_STD

    assert (RECIPES["finetune"].mean, RECIPES["finetune"].std) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.numerical
def test_lenet_in_training_is_the_posted_network_with_its_gradients():
    slices, classes = torch.rand(3, 1, 135, 135), torch.tensor([0, 1, 1])
    network = build("lenet", 2, seed=3)
    gradients = []
    for forward in (network.train(), nn.Sequential(network.features, network.classifier)):
        network.zero_grad()
        logits = forward(slices)
        nn.functional.cross_entropy(logits, classes).backward()
        gradients.append([logits.detach(), *(one.grad.clone() for one in network.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_augmented_lenet_cuts_135_from_139():
    assert recipe_for("lenet").plane_size(()) == 135
    assert recipe_for("lenet").plane_size(("crop",)) == 139
    assert np.all([recipe.input_size == recipe.plane_size(("flip",)) for recipe in RECIPES.values()])
