"""Networks beside AlexNet in stage one, cut after a layer by its name: torchvision's."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pictured import trained_run
from safetensors.torch import save_file
from torchvision.models import get_model
from torchvision.transforms import functional

from haemo.errors import BadSettings, BrokenExtension, WeightsUnavailable
from haemo.features.store.store import FeatureStore
from haemo.models.networks.frozen import NetworkRequest
from haemo.models.networks.pretrained import PretrainedNetwork
from haemo.models.networks.table import default_layer, frozen_network
from haemo.models.networks.torchvision_models import model_names, torchvision_network
from haemo.pipeline.cli import main
from haemo.pipeline.run.directory import RunDirectory

RESNET = "torchvision:resnet18"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def planes(count, size=224):
    return np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)


def settled(network, seed=3):
    """Give batch normalisations statistics of their own, as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for name, values in network.state_dict().items():
        if name.endswith("running_mean"):
            values.copy_(torch.randn(values.shape, generator=generator) / 10)
        elif name.endswith("running_var"):
            values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    return network.eval()


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return settled(get_model("resnet18", weights=None))


@pytest.fixture(scope="module")
def weights(resnet, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet.state_dict(), path)
    return path


def load(name=RESNET, layer=None, **wanted):
    wanted = {"precision": "float32", "device": "cpu", "batch": 4} | wanted
    layer = layer or default_layer(name)
    return frozen_network(name).load(NetworkRequest(name=name, layer=layer, **wanted))


def by_torchvision(network, images, layer):
    """The slow way: torchvision's own normalisation, and its own tracing to a node."""
    from torchvision.models.feature_extraction import create_feature_extractor

    rgb = torch.from_numpy(images).unsqueeze(1).repeat(1, 3, 1, 1).float() / 255
    with torch.no_grad():
        found = create_feature_extractor(network, [layer])(functional.normalize(rgb, MEAN, STD))[layer]
    return found.flatten(1).numpy()


@pytest.mark.parametrize(
    ("layer", "node", "dimension"),
    [(None, "flatten", 512), ("layer4", "layer4", 25088), ("layer2.1.bn1", "layer2.1.bn1", 100352)],
)
def test_a_layer_is_what_torchvision_computes_there(resnet, weights, layer, node, dimension):
    extractor = load(layer=layer, weights=str(weights))
    found = extractor(planes(3))
    assert found.shape == (3, dimension) == (3, extractor.dimension)
    np.testing.assert_allclose(found, by_torchvision(resnet, planes(3), node), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v3_small", "vit_b_32", "shufflenet_v2_x0_5"])
def test_the_default_layer_is_what_the_last_linear_one_is_given(name):
    extractor = load(f"torchvision:{name}", weights="random", seed=1, batch=1)
    last = [one for one in extractor.reference().modules() if isinstance(one, torch.nn.Linear)][-1]
    assert extractor.dimension == last.in_features
    assert extractor(planes(1)).shape == (1, last.in_features)


def test_every_network_of_torchvision_is_described_by_its_published_weights():
    assert len(model_names()) > 70
    for name in model_names():
        network = torchvision_network(name)
        digits = network.url.rpartition("-")[2].removesuffix(".pth")
        assert int(digits, 16), name
        assert 200 < network.size < 700
        assert len(network.mean) == len(network.std) == 3


def test_a_slice_has_the_same_bits_whatever_is_computed_beside_it(weights):
    extractor = load(weights=str(weights))
    together = extractor(planes(9))
    np.testing.assert_array_equal(np.concatenate([extractor(one[None]) for one in planes(9)]), together)


def test_bfloat16_stays_near(weights):
    exact, rounded = (load(weights=str(weights), precision=one)(planes(4)) for one in ("float32", "bfloat16"))
    cosine = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosine.min() > 0.999
    assert not np.array_equal(exact, rounded)


def test_weights_are_known_by_what_the_layer_depends_on(resnet, weights, tmp_path):
    """A last layer for other classes changes nothing; another form of the file neither."""
    state = resnet.state_dict()
    other = {name: value.clone() for name, value in state.items() if "num_batches" not in name}
    other["fc.weight"], other["fc.bias"] = torch.zeros(2, 512), torch.zeros(2)
    save_file(other, tmp_path / "two.safetensors")
    first, second = load(weights=str(weights)), load(weights=str(tmp_path / "two.safetensors"))
    assert first.describe() == second.describe()
    np.testing.assert_array_equal(first(planes(2)), second(planes(2)))
    other["conv1.weight"] += 1e-3
    save_file(other, tmp_path / "three.safetensors")
    assert load(weights=str(tmp_path / "three.safetensors")).weights.sha256 != first.weights.sha256


def test_random_weights_are_drawn_from_the_seed_alone():
    torch.manual_seed(5)
    first = load(weights="random", seed=1)
    state = torch.get_rng_state()
    again, other = load(weights="random", seed=1), load(weights="random", seed=2)
    assert torch.equal(state, torch.get_rng_state())
    assert first.weights.sha256 == again.weights.sha256 != other.weights.sha256


def test_weights_of_another_network_are_refused_by_name(weights, tmp_path):
    with pytest.raises(
        WeightsUnavailable, match=r"resnet18\.pth: layer1\.0\.conv1\.weight has shape \(64, 64, 3"
    ):
        load("torchvision:resnet50", weights=str(weights))
    with pytest.raises(
        WeightsUnavailable, match=r"no state dict of torchvision:vgg11: it has no tensor 'feat"
    ):
        load("torchvision:vgg11", weights=str(weights))
    state = torch.load(weights)
    state["layer3.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    torch.save(state, tmp_path / "damaged.pth")
    with pytest.raises(
        WeightsUnavailable, match=r"damaged\.pth: layer3\.0\.conv1\.weight has values that are not f"
    ):
        load(weights=str(tmp_path / "damaged.pth"))
    with pytest.raises(
        WeightsUnavailable, match="trunk is no file; for torchvision:resnet18 --weights takes auto"
    ):
        load(weights="trunk")


def test_without_a_way_to_the_weights_it_says_what_to_do(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    remedy = r"no network\. Fetch https://\S+/resnet18-\w+\.pth on another machine, copy it to \S+, or give i"
    with pytest.raises(
        WeightsUnavailable, match=f"no weights of torchvision:resnet18 can be had: .*{remedy}"
    ):
        load()


def test_published_weights_are_taken_from_where_torch_hub_keeps_them(monkeypatch, tmp_path, weights):
    published = torchvision_network("resnet18").url.rpartition("/")[2]
    kept = tmp_path / "hub" / "checkpoints" / published
    kept.parent.mkdir(parents=True)
    kept.write_bytes(weights.read_bytes())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        WeightsUnavailable, match=f"{published} is damaged: its sha256 does not begin with f37072fd"
    ):
        load()
    monkeypatch.setattr("haemo.models.weights.hub._digits", lambda url: "")
    extractor = load()
    assert extractor.weights.origin == f"torchvision ResNet18_Weights.IMAGENET1K_V1 ({kept})"
    assert extractor.weights.sha256 == load(weights=str(weights)).weights.sha256


def test_the_published_densenet_is_read_under_its_names_of_then(tmp_path):
    torch.manual_seed(0)
    network = settled(get_model("densenet121", weights=None))
    then = {
        name.replace("norm1", "norm.1")
        .replace("norm2", "norm.2")
        .replace("conv1", "conv.1")
        .replace("conv2", "conv.2")
        for name in network.state_dict()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in then
    state = {
        name.replace("norm1", "norm.1")
        .replace("norm2", "norm.2")
        .replace("conv1", "conv.1")
        .replace("conv2", "conv.2"): value
        for name, value in network.state_dict().items()
    }
    torch.save(state, tmp_path / "then.pth")
    torch.save(network.state_dict(), tmp_path / "now.pth")
    hashes = {
        load("torchvision:densenet121", weights=str(tmp_path / f"{one}.pth")).weights.sha256
        for one in ("then", "now")
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("name", "layer", "answer"),
    [
        ("resnet18", None, "there is no network 'resnet18'. Did you mean torchvision:resnet18"),
        ("torchvision:resnet81", None, "Did you mean torchvision:resnet18"),
        ("alexnte", None, "Did you mean alexnet"),
        (RESNET, "layer5", "no layer 'layer5' in torchvision:resnet18. Did you mean layer1, layer2 or l"),
        (RESNET, "fc7", "There are penultimate, conv1, bn1, relu, maxpool, layer1, layer2, layer3"),
        ("torchvision:squeezenet1_1", None, "has none; name another one: features, classifier, or a mod"),
        ("torchvision:vit_b_32", "encoder.layers.encoder_layer_0.self_attention.out_proj", "take another"),
        ("torchvision:googlenet", None, "there is no network 'torchvision:googlenet'."),
    ],
)  # fmt: skip
def test_an_unknown_name_is_answered_with_the_nearest(name, layer, answer):
    with pytest.raises(BadSettings) as caught:
        load(name, layer, weights="random")
    assert answer in str(caught.value)


def test_a_network_that_fails_is_named_with_the_reason():
    wanted = NetworkRequest(name="mine", layer="penultimate", weights="random", device="cpu")
    for build, reason in (
        (
            lambda: torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Linear(1, 1)),
            "RuntimeError: Given gro",
        ),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    ):
        network = PretrainedNetwork(build=build, size=32, mean=MEAN, std=STD)
        with pytest.raises(
            BrokenExtension, match=rf"'mine' cannot be built and run on 32 x 32 pixels \({reason}"
        ):
            network.load(wanted)


def make_resnet_run(root, weights):
    """A run whose slices are embedded by AlexNet, and a second one on the same slices by a ResNet."""
    first = trained_run(root)
    second = RunDirectory(root / "second")
    second.create()
    first.manifest().write(second.manifest_path)
    return (
        first,
        second,
        ["features", "--run", str(second.path), "--network", RESNET, "--weights", str(weights)],
    )


def test_a_run_goes_from_another_network_to_prediction_explanation_and_report(weights, tmp_path, capsys):
    _, run, features = make_resnet_run(tmp_path, weights)
    assert main([*features, "--precision", "float32", "--device", "cpu"]) == 0
    with FeatureStore(run.store_path) as store:
        facts = store.fingerprint.facts
        assert (facts["network"], facts["layer"], facts["preprocessing"]["size"]) == (
            RESNET,
            "penultimate",
            224,
        )
        assert store.dimension == 512
    assert main(["svm", "--run", str(run.path), "--grid", "C=0.001"]) == 0
    slices = tmp_path / "slices"
    capsys.readouterr()
    assert (
        main(
            [
                "predict",
                "--run",
                str(run.path),
                "--head",
                "svm",
                str(slices),
                "--out",
                str(tmp_path / "p.csv"),
            ]
        )
        == 0
    )
    with (tmp_path / "p.csv").open() as new, (run.model_path("svm") / "predictions.csv").open() as old:
        scores = {row["slice_id"]: row["score"] for row in csv.DictReader(old) if row["part"] == "test"}
        predicted = {Path(row["path"]).name: row["score"] for row in csv.DictReader(new)}
    assert scores
    assert predicted.items() >= scores.items()
    explain = ["explain", "--run", str(run.path), "--head", "svm", "--method", "hirescam"]
    assert main([*explain, "--overlays", str(tmp_path / "maps"), str(slices / "02.png")]) == 0
    assert (tmp_path / "maps" / "0001.png").exists()
    assert main(["report", "--run", str(run.path), "--resamples", "100"]) == 0
    page = (run.path / "report.html").read_text()
    assert RESNET in page
    assert f"haemo svm, here on {RESNET}" in page


def test_features_of_two_networks_are_never_mixed(weights, tmp_path, capsys):
    first, _, features = make_resnet_run(tmp_path, weights)
    before = first.store_path.read_bytes()
    features[2] = str(first.path)
    assert main(features) == 1
    said = capsys.readouterr().err
    assert f"network is 'alexnet', asked for '{RESNET}'" in said
    assert first.store_path.read_bytes() == before
    assert main([*features, "--new"]) == 0
    capsys.readouterr()
    assert main(["predict", "--run", str(first.path), "--head", "svm", str(tmp_path / "slices")]) == 1
    assert "network is 'alexnet', asked for 'torchvision:resnet18'" in capsys.readouterr().err
    assert main(["features", "--run", str(first.path)]) == 0
    assert (
        f"as in this run so far: layer penultimate, network {RESNET}, weights {weights}"
        in capsys.readouterr().err
    )
    assert (
        json.loads(first.record_path.read_text())["steps"]["features"]["settings"]["layer"] == "penultimate"
    )
