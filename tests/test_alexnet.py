import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from haemo.errors import BadSettings
from haemo.models.networks import engine as engines
from haemo.models.networks.alexnet import SIZE, AlexNet, load_extractor
from haemo.models.networks.engine import (
    Engine,
    choose_engine,
    has_bfloat16_hardware,
    resolve_device,
    resolve_precision,
)
from haemo.models.networks.gray import IMAGENET_MEAN, IMAGENET_STD, GrayConv
from haemo.models.networks.pooling import pooled, rectified
from haemo.models.weights.imagenet import LAYERS, random_weights

LAYOUTS = ("channels_last", "contiguous")


@pytest.fixture(scope="module")
def weights():
    return random_weights(0, "fc7")


@pytest.fixture(scope="module")
def planes():
    """Slices in shape only: blobs on black, up to the border."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(0).normal(size=(6, SIZE, SIZE)), (0, 5, 5))
    return np.clip(noise * 3000 + 60, 0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HAEMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def trunk_extractor(weights, batch=4, precision="float32"):
    return load_extractor(weights, "pool5", engine=Engine("cpu", precision, "channels_last"), batch=batch)


def reference_network(weights, layer):
    with torch.device("meta"):
        network = AlexNet(layer).eval()
    wanted = {name: weights.state_dict[name] for name in network.state_dict()}
    network.load_state_dict(wanted, assign=True)
    return network


def normalised_rgb(planes):
    """What torchvision's transforms give for replicated gray."""
    rgb = torch.from_numpy(planes)[:, None].double().expand(-1, 3, -1, -1) / 255
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (rgb - mean) / std


@pytest.mark.numerical
@pytest.mark.parametrize("size", [227, 226, 225, 224, 23])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_folded_conv1_is_exact_up_to_the_border(weights, size, layout):
    kernel, bias = weights.state_dict["features.0.weight"], torch.linspace(-1, 1, 64)
    planes = np.random.default_rng(size).integers(0, 256, (2, size, size), dtype=np.uint8)

    folded = GrayConv(kernel, bias, size, torch.float64, layout)(torch.from_numpy(planes))

    plain = functional.conv2d(normalised_rgb(planes), kernel.double(), bias.double(), stride=4, padding=2)
    assert folded.shape == plain.shape
    assert (folded - plain).abs().max() < 1e-11


@pytest.mark.numerical
def test_one_bias_per_channel_would_not_do_on_the_border(weights):
    kernel = weights.state_dict["features.0.weight"]
    blank = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    maps = GrayConv(kernel, torch.zeros(64), SIZE)(blank)
    inner = maps[:, :, 1:-1, 1:-1]
    assert (inner - inner[:, :, :1, :1]).abs().max() < 1e-5
    assert (maps[:, :, 0] - maps[:, :, 1]).abs().max() > 0.1


@pytest.mark.numerical
def test_reference_network_is_torchvisions(weights):
    from torchvision.models import alexnet

    with torch.device("meta"):
        theirs = alexnet(weights=None).eval()
    theirs.load_state_dict(weights.state_dict, strict=False, assign=True)
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        pool5 = theirs.avgpool(theirs.features(images)).flatten(1)
        fc6 = theirs.classifier[:3](pool5)
        expected_of = {"pool5": pool5, "fc6": fc6, "fc7": theirs.classifier[3:6](fc6)}
        for layer, upto in (("pool3", 8), ("pool4", 10)):  # after the ReLU of conv3 and of conv4
            expected_of[layer] = functional.max_pool2d(theirs.features[:upto](images), 3, 2).flatten(1)
        assert expected_of.keys() == LAYERS.keys()
        for layer, expected in expected_of.items():
            assert expected[0].numel() == LAYERS[layer]
            assert torch.allclose(reference_network(weights, layer)(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.numerical
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layer", LAYERS)
def test_extractor_is_the_network_it_rewrites(weights, planes, layer, layout):
    with torch.inference_mode():
        expected = reference_network(weights, layer)(normalised_rgb(planes).float()).numpy()

    extractor = load_extractor(weights, layer, engine=Engine("cpu", "float32", layout), batch=4)
    embeddings = extractor(planes)

    assert embeddings.dtype == np.float32
    assert embeddings.shape == (6, extractor.dimension)
    assert np.abs(embeddings - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.numerical
def test_bfloat16_stays_close_to_float32(weights, planes):
    exact = trunk_extractor(weights)(planes)
    rounded = trunk_extractor(weights, precision="bfloat16")(planes)
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(rounded, axis=1)
    assert ((exact * rounded).sum(axis=1) / norms).min() > 0.9995
    assert (exact != rounded).any()


@pytest.mark.numerical
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_embedding_has_the_same_bits_in_any_company(weights, planes, precision):
    # fc6, since a matrix product is where float32 bits differ between one row and several
    extractor = load_extractor(weights, "fc6", engine=Engine("cpu", precision, "channels_last"), batch=4)
    together = extractor(planes)
    assert (together == np.concatenate([extractor(plane[None]) for plane in planes])).all()
    assert (together[::-1] == extractor(planes[::-1])).all()


def test_stream_keeps_batches_apart_and_in_order(weights, planes):
    extractor = trunk_extractor(weights)
    parts = list(extractor.stream([planes[:3], planes[3:4], planes[4:]]))
    assert [len(part) for part in parts] == [3, 1, 2]
    assert (np.concatenate(parts) == extractor(planes)).all()


def test_stream_leaves_torchs_threads_as_they_were(weights, planes):
    before = torch.get_num_threads()
    trunk_extractor(weights)(planes)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *seen] == [before, before]


@pytest.mark.numerical
def test_each_batch_is_computed_by_one_thread(weights, planes):
    extractor = trunk_extractor(weights, batch=2)
    network, seen = extractor._network, []

    def watched(filled):
        seen.append((torch.get_num_threads(), tuple(filled.shape)))
        return network(filled)

    extractor._network = watched
    extractor(planes[:5])
    assert seen == [(1, (2, SIZE, SIZE))] * 3


def test_an_error_among_the_batches_comes_through(weights, planes):
    def batches():
        yield planes[:2]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(trunk_extractor(weights).stream(batches()))


@pytest.mark.numerical
@pytest.mark.parametrize("shape", [(2, 16, 56, 56), (1, 3, 13, 13), (2, 5, 8, 7), (1, 1, 3, 3)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_pooling_and_relu_have_the_bits_of_torchs(shape, layout, dtype):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    maps[0, 0, 0, :2] = torch.tensor([torch.inf, -torch.inf])
    maps[0, 0, 1, :2] = torch.tensor([-0.0, 1e-40])
    maps = maps.contiguous(memory_format=layout)
    expected = functional.max_pool2d(functional.relu(maps), 3, 2)

    assert torch.equal(pooled(maps), expected)
    assert torch.equal(rectified(maps.clone()), functional.relu(maps))
    assert pooled(-maps.abs()).sum() == 0


def test_no_planes_no_embeddings(weights, planes):
    assert trunk_extractor(weights)(planes[:0]).shape == (0, 9216)


@pytest.mark.parametrize(
    "planes",
    [
        np.zeros((1, 224, 224), np.uint8),
        np.zeros((1, SIZE, SIZE), np.float32),
        np.zeros((SIZE, SIZE), np.uint8),
    ],
)
def test_planes_of_another_kind_are_refused(weights, planes):
    with pytest.raises(BadSettings, match="uint8"):
        trunk_extractor(weights)(planes)


def test_description_holds_what_changes_an_embedding(weights):
    facts = trunk_extractor(weights).describe()
    assert json.loads(json.dumps(facts)) == facts
    assert (
        facts
        == load_extractor(weights, "pool5", engine=Engine("cpu", "float32", "contiguous"), batch=8).describe()
    )
    assert facts != trunk_extractor(weights, precision="bfloat16").describe()
    assert facts["weights"] == weights.sha256


def test_weights_that_end_too_early_are_refused():
    with pytest.raises(BadSettings, match="pool5 and do not reach fc7"):
        load_extractor(random_weights(0, "pool5"), "fc7", "float32", "cpu")


def test_unknown_options_are_refused_by_name(weights):
    with pytest.raises(BadSettings, match="'fc8'"):
        load_extractor(weights, "fc8")
    with pytest.raises(BadSettings, match="'tpu'"):
        load_extractor(weights, device="tpu")
    with pytest.raises(BadSettings, match="'half'"):
        load_extractor(weights, precision="half", device="cpu")
    with pytest.raises(BadSettings, match="batch 0"):
        load_extractor(weights, batch=0)
    with pytest.raises(BadSettings, match="float16"):
        load_extractor(weights, precision="float16", device="cpu")


def test_cuda_without_such_a_device_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(BadSettings, match="--device cpu"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("fpu avx512f avx512_bf16", "bfloat16"),
        ("fpu amx_bf16", "bfloat16"),
        ("fpu avx512f", "float32"),
        ("", "float32"),
    ],
)
def test_auto_precision_asks_the_hardware(monkeypatch, flags, precision):
    monkeypatch.setattr(engines, "_cpu_field", lambda name: flags if name == "flags" else "")
    assert has_bfloat16_hardware() == (precision == "bfloat16")
    assert resolve_precision("auto", "cpu") == precision
    assert resolve_precision("float32", "cpu") == "float32"
    assert resolve_precision("bfloat16", "cpu") == "bfloat16"


def test_engine_is_measured_once_per_host(cache):
    def contiguous_wins(engine):
        measured.append(engine)
        return 1.0 if engine.layout == "contiguous" else 2.0

    measured = []
    first = choose_engine("cpu", "float32", contiguous_wins)
    assert first == Engine("cpu", "float32", "contiguous")
    assert measured

    measured.clear()
    assert choose_engine("cpu", "float32", contiguous_wins) == first
    assert not measured

    choose_engine("cpu", "bfloat16", contiguous_wins)
    assert measured, "each precision has its own choice"
    (cache / "engines.json").write_text("[torn")
    measured.clear()
    assert choose_engine("cpu", "float32", contiguous_wins) == first
    assert measured


def test_engine_is_chosen_where_nothing_can_be_kept(cache, caplog):
    cache.write_text("a file where the folder should be")
    chosen = choose_engine("cpu", "float32", lambda engine: 1.0)
    assert chosen.layout in LAYOUTS
    assert "cannot be kept" in caplog.text


def test_chosen_engine_runs(weights, planes):
    extractor = load_extractor(replace(weights, layer="pool5"), "pool5", "float32", "cpu", batch=2)
    assert extractor.engine.layout in LAYOUTS
    assert extractor(planes[:1]).shape == (1, 9216)


def test_engine_reads_back_as_written():
    engine = Engine("cpu", "bfloat16", "channels_last")
    assert Engine.parse(str(engine)) == engine
    for text in ("", "cpu float32", "cpu float64 contiguous", "tpu float32 contiguous"):
        with pytest.raises(BadSettings, match="engine"):
            Engine.parse(text)
