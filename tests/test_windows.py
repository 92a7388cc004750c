"""Three windows as the three channels of the network: planes, embeddings, and all that stands on them."""

import csv
import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawn_heads import as_picture, cohort, head
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

import haemo
from haemo.errors import BadSettings, UnreadableSlice
from haemo.features.extraction.extract import ExtractionRequest, extract_features
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.reading.formats import read_slice
from haemo.features.reading.slice import Slice
from haemo.features.store.store import FeatureStore
from haemo.features.views.augment import rotate_planes
from haemo.features.views.preprocess import Preprocessing
from haemo.models.evidence.explain import ExplainedModel, explain_extractor
from haemo.models.heads.calibration import CalibratedHead
from haemo.models.heads.spec import HeadSpec
from haemo.models.networks.alexnet import SIZE, load_extractor
from haemo.models.networks.engine import Engine
from haemo.models.networks.frozen import NetworkRequest
from haemo.models.networks.gray import IMAGENET_MEAN, IMAGENET_STD, GrayConv
from haemo.models.networks.mirrored import MirroredExtractor, mirrored
from haemo.models.networks.table import frozen_network
from haemo.models.weights.imagenet import random_weights
from haemo.pipeline.cli import main
from haemo.pipeline.explaining.perturbation import perturbation
from haemo.pipeline.exporting.export import export_model
from haemo.pipeline.exporting.runtime import OnnxModel
from haemo.pipeline.packing.bundlefile import write_bundle
from haemo.pipeline.packing.packed_head import packed_head, shared_networks
from haemo.pipeline.packing.unpacking import open_bundle
from haemo.pipeline.predicting.blended_model import load_model
from haemo.pipeline.predicting.prediction import predict
from haemo.pipeline.preparing.extraction import command_anew
from haemo.pipeline.report.background import preprocessing_of
from haemo.pipeline.report.documents import _windows as in_words_of_windows
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.predictions import Predictions

THREE = "brain,subdural,bone"
WINDOWS = THREE.split(",")


def stacked(image, names=WINDOWS, **options):
    """The slow way: a plane for each window, one upon the other."""
    return np.stack([Preprocessing.for_window(name, **options).plane(image) for name in names])


def slice_of(seed, blood_mm=12):
    return Slice(head(seed, blood_mm)[0], is_hu=True, spacing_mm=(1.25, 1.25))


@pytest.fixture(scope="module")
def weights():
    return random_weights(0, "pool5")


def alexnet(weights, layer="pool5", precision="float32", layout="channels_last", batch=4):
    return load_extractor(weights, layer, engine=Engine("cpu", precision, layout), batch=batch)


@settings(deadline=None, max_examples=12)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    names=st.permutations(["brain", "bone", "380/40", "brain"]),
    of_integers=st.booleans(),
    crop=st.sampled_from(["none", "head"]),
)
def test_three_windows_are_three_planes_of_one_window_each(shape, names, of_integers, crop):
    hu = np.random.default_rng(shape).integers(-1100, 1500, shape).astype(np.int16)
    image = Slice.of_integers(hu, True) if of_integers else Slice(hu.astype(np.float32) + 0.5, True)
    seen = Preprocessing.for_windows(", ".join(names[:3]), crop)
    plane = seen.plane(image)
    assert plane.shape == seen.plane_shape == (3, SIZE, SIZE)
    np.testing.assert_array_equal(plane, stacked(image, names[:3], crop=crop))
    assert seen.one_window == Preprocessing.for_window(names[0], crop)


def test_heads_that_are_turned_are_turned_once_for_all_windows():
    image = Slice(head(4, 12, turn_deg=12)[0], is_hu=True, spacing_mm=(1.25, 1.25))
    seen = Preprocessing.for_windows(THREE, "head", upright=True)
    assert seen.view(image).turn is not None
    np.testing.assert_array_equal(seen.plane(image), stacked(image, crop="head", upright=True))
    assert np.abs(seen.plane(image) - seen.reference(image)).max() < 0.51


def test_a_description_tells_windows_from_one_and_survives_json():
    three = Preprocessing.for_windows(THREE)
    assert Preprocessing.from_description(json.loads(json.dumps(three.describe()))) == three
    assert "other_windows_hu" not in Preprocessing().describe()
    told = dict(three.describe())
    assert told.pop("other_windows_hu") == [[200.0, 80.0], [2800.0, 600.0]]
    assert told == Preprocessing().describe()


@pytest.mark.parametrize(
    ("windows", "told"),
    [
        ("brain,subdural", "are 2: name 3"),
        ("brain,subdural,bone,80/40", "are 4: name 3"),
        ("brain,subdual,bone", "window 'subdual' is none of .*Did you mean subdural?"),
        ("brain,,bone", "window '' is none of"),
        ("brain,0/40,bone", "the width above 0"),
        ("brain,nan/40,bone", "finite numbers"),
    ],
)
def test_what_are_no_three_windows_is_refused(windows, told):
    with pytest.raises(BadSettings, match=told):
        Preprocessing.for_windows(windows)


def test_gray_levels_have_one_window_and_are_refused():
    picture = Slice(as_picture(head(1)[0]).astype(np.float32), is_hu=False)
    with pytest.raises(UnreadableSlice, match=r"gray levels.*three windows.*DICOM.*--window"):
        Preprocessing.for_windows(THREE).plane(picture)
    Preprocessing.for_windows(THREE).one_window.plane(picture)


def test_each_channel_is_rotated_and_mirrored():
    planes = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 40), dtype=np.uint8)
    turned = rotate_planes(planes)
    assert turned.shape == (2, 7, 3, 40, 40)
    for channel in range(3):
        np.testing.assert_array_equal(turned[:, :, channel], rotate_planes(planes[:, channel]))
        np.testing.assert_array_equal(mirrored(planes)[:, channel], mirrored(planes[:, channel]))


@pytest.mark.numerical
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("size", [227, 224, 23])
def test_conv1_of_three_channels_is_exact_up_to_the_border(weights, size, layout):
    kernel, bias = weights.state_dict["features.0.weight"], torch.linspace(-1, 1, 64)
    planes = torch.from_numpy(np.random.default_rng(size).integers(0, 256, (2, 3, size, size), np.uint8))
    folded = GrayConv(kernel, bias, size, torch.float64, layout)(planes)
    plain = functional.conv2d(
        normalised(planes.double()), kernel.double(), bias.double(), stride=4, padding=2
    )
    assert (folded - plain).abs().max() < 1e-11


def normalised(planes):
    mean, std = (torch.tensor(own, dtype=planes.dtype).view(3, 1, 1) for own in (IMAGENET_MEAN, IMAGENET_STD))
    return (planes / 255 - mean) / std


@pytest.mark.numerical
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_embeddings_are_those_of_the_plain_network_on_planes_stacked_by_hand(weights, layout):
    from torchvision.models import alexnet as torchvisions

    with torch.device("meta"):
        plain = torchvisions(weights=None).eval()
    plain.load_state_dict(weights.state_dict, strict=False, assign=True)
    images = [slice_of(seed) for seed in range(5)]
    by_hand = torch.from_numpy(np.stack([stacked(image) for image in images]))
    with torch.inference_mode():
        expected = plain.avgpool(plain.features(normalised(by_hand.float()))).flatten(1).numpy()
    seen = Preprocessing.for_windows(THREE)
    found = alexnet(weights, layout=layout)(np.stack([seen.plane(image) for image in images]))
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    rounded = alexnet(weights, precision="bfloat16")(by_hand.numpy())
    cosine = (rounded * expected).sum(1) / np.linalg.norm(rounded, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.999


@pytest.mark.numerical
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("mirror", [False, True])
def test_one_window_three_times_is_that_window_bit_for_bit(weights, precision, mirror):
    network = alexnet(weights, "pool4", precision)
    if mirror:
        network = MirroredExtractor(network)
    images = [slice_of(seed) for seed in range(6)]
    one, three = Preprocessing(), Preprocessing.for_windows("brain,brain,80/40")
    expected = network(np.stack([one.plane(image) for image in images]))
    np.testing.assert_array_equal(network(np.stack([three.plane(image) for image in images])), expected)


@pytest.mark.numerical
def test_torchvisions_networks_take_three_windows():
    name = "torchvision:squeezenet1_1"
    network = frozen_network(name).load(
        NetworkRequest(name=name, layer="features.3", weights="random", precision="float32", batch=2)
    )
    seen = replace(Preprocessing.for_windows(THREE), size=network.size)
    planes = np.stack([seen.plane(slice_of(seed)) for seed in range(3)])
    with torch.inference_mode():
        expected = network.reference().features[:4](normalised(torch.from_numpy(planes).float())).flatten(1)
    np.testing.assert_allclose(network(planes), expected, rtol=1e-3, atol=1e-4)
    gray = planes[:, 0]
    np.testing.assert_array_equal(network(np.stack([gray] * 3, axis=1)), network(gray))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Heads in HU and one picture among them, embedded through three windows; an svm."""
    root = tmp_path_factory.mktemp("windows")
    data = cohort(root / "data", patients=10, slices=3)
    run = RunDirectory(root / "run")
    assert main(["index", str(data), "--run", str(run)]) == 0
    picture = data / "picture.png"
    Image.fromarray(as_picture(head(1)[0])).save(picture)
    row = ManifestRow("picture.png", picture, "normal", "P00", "P00")
    Manifest([*run.manifest(), row]).write(run.manifest_path)
    options = ["--layer", "pool3", "--weights", "random", "--precision", "float32"]
    assert main(["features", "--run", str(run), *options, "--crop", "head", "--windows", THREE]) == 3
    assert main(["svm", "--run", str(run), "--grid", "C=1e-4"]) == 3  # the picture has no features
    return run


def of_hu(run):
    return [row for row in run.manifest() if row.path.suffix == ".dcm"]


def test_a_picture_is_refused_by_name_and_the_others_are_embedded(run):
    with run.failures_path.open() as stream:
        (failure,) = csv.DictReader(stream)
    assert (Path(failure["path"]).name, failure["stage"]) == ("picture.png", "features")
    assert "three windows (--windows) are made of HU" in failure["reason"]
    rows = of_hu(run)[:4]
    with FeatureStore(run.store_path) as store:
        assert len(store) == len(of_hu(run)) == 30
        kept = store.embeddings([row.slice_id for row in rows])
        assert store.fingerprint.facts["preprocessing"]["other_windows_hu"] == [[200, 80], [2800, 600]]
    planes = np.stack([stacked(read_slice(row.path), crop="head") for row in rows])
    network = alexnet(random_weights(0, "pool3"), "pool3")
    np.testing.assert_allclose(kept, network(planes), rtol=1e-4, atol=1e-5)
    extracted = haemo.extract(
        [rows[0].path, read_slice(rows[1].path)],
        "pool3",
        weights="random",
        precision="float32",
        crop="head",
        windows=THREE,
    )
    np.testing.assert_array_equal(extracted, kept[:2])


def test_options_are_kept_said_and_held_against_others(run, capsys):
    typed = shlex.split(command_anew(run))
    assert typed[typed.index("--windows") + 1] == THREE
    assert main(["features", "--run", str(run)]) == 3
    said = capsys.readouterr()
    assert f"windows {THREE}" in said.err.split("as in this run so far: ")[1].splitlines()[0]
    assert "recipe: no name (crop head, no upright, no mirror, layer pool3, windows brain" in said.err
    assert said.out.startswith("30 cached, 0 new, 1 failed")
    for typed, code, told in (
        (["--window", "brain"], 1, "other_windows_hu is [[200.0, 80.0], [2800.0, 600.0]], asked for none"),
        (["--windows", "bone,subdural,brain"], 1, "window_width_hu is 80.0, asked for 2800.0"),
        (["--window", "bone", "--windows", THREE], 2, "one window (bone) and three"),
        (["--recipe", "best", "--windows", THREE], 2, "recipe best has one window, and windows brain"),
        (["--windows", "brain,subdual,bone", "--new"], 2, "Did you mean subdural?"),
        (["--network", "cnn", "--weights", str(run.path), "--windows", THREE], 2, "--windows is for AlexNet"),
    ):
        assert main(["features", "--run", str(run), *typed]) == code
        assert told in " ".join(capsys.readouterr().err.split())


def test_rotated_and_mirrored_copies_have_three_windows(run, tmp_path):
    row = of_hu(run)[3]
    network = alexnet(random_weights(0, "pool3"), "pool3", batch=2)
    extract_features(
        Manifest([row]),
        tmp_path / "features.h5",
        MirroredExtractor(network),
        Preprocessing.for_windows(THREE),
        ExtractionRequest(rotations="paper"),
    )
    copies = rotate_planes(stacked(read_slice(row.path))[None])[0]
    with FeatureStore(tmp_path / "features.h5") as store:
        for variant in (0, 2):
            one, other = network(np.stack([copies[variant], copies[variant][..., ::-1]]))
            (kept,) = store.embeddings([row.slice_id], variant=variant)
            np.testing.assert_array_equal(kept, np.concatenate([one + other, np.abs(one - other)]))


def test_arrays_in_gray_levels_are_refused_by_their_place():
    hu = head(1)[0]
    with pytest.raises(UnreadableSlice, match="item 1: it is in gray levels"):
        haemo.extract(
            [Slice(hu, True), as_picture(hu)], "pool3", weights="random", windows=THREE, precision="float32"
        )
    with pytest.raises(BadSettings, match="window bone and windows brain"):
        haemo.extract([hu], units="hu", window="bone", windows=THREE)


def test_new_slices_are_scored_as_cached_ones_and_pictures_are_named(run):
    expected = Predictions.read(run.model_path("svm") / "predictions.csv").of_part("test")
    paths = [row.path for row in run.manifest() if row.slice_id in set(expected.slice_id)]
    picture = next(row.path for row in run.manifest() if row.path.suffix == ".png")
    result = predict(run, "svm", [*paths, picture], device="cpu")
    by_path = dict(zip(result.paths, result.scores, strict=True))
    own = {row.path: row.slice_id for row in run.manifest()}
    kept = dict(zip(expected.slice_id.tolist(), expected.scores, strict=True))
    assert {own[path]: score for path, score in by_path.items()} == kept
    assert [Path(one.path) for one in result.failures] == [picture]
    assert "three windows" in result.failures[0].reason


def test_maps_of_evidence_are_of_all_three_channels(run):
    model = load_model(run, "svm", "cpu")
    planes = np.stack([model.preprocessing.plane(read_slice(row.path)) for row in of_hu(run)[3:6]])
    embeddings = model.extractor(planes)
    network, method = model.explained()
    assert (method, network.references.shape[1:]) == ("contrast", (3, SIZE, SIZE))
    np.testing.assert_allclose(network.scores(planes), model.head.decision_function(embeddings), rtol=1e-3)
    assert network.maps(planes, "contrast").shape == (3, 13, 13)
    twice = MirroredExtractor(model.extractor)
    rows = twice(np.concatenate([planes, planes[:, :, ::-1]]))
    spec, labels = HeadSpec("softmax"), np.array(["a", "b"] * 3)
    own = CalibratedHead(spec.build(C=1e-4), ("a", "b"), "none", cv=2).fit(rows, labels)
    both = explain_extractor(twice, own)
    np.testing.assert_allclose(both.scores(planes), own.decision_function(rows[:3]), rtol=1e-3, atol=1e-5)


def small_model():
    """One convolution of three channels, and a linear score."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 2, 5, stride=4, padding=2), nn.ReLU()]
    above = nn.Sequential(nn.Flatten(), nn.Linear(2 * 12 * 12, 1), nn.Flatten(0))
    return ExplainedModel(layers, above, 48, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3), ("no", "yes"))


def test_occlusion_paints_soft_tissue_over_every_channel():
    network = small_model()
    plane = replace(Preprocessing.for_windows("bone,subdural,brain"), size=48).plane(slice_of(1))
    (fallen,) = network.maps(plane[None], "occlusion")
    assert fallen.shape == (48, 48)
    painted, tissue = plane.copy(), ((plane > 0) & (plane < 255)).all(axis=0)
    for channel in range(3):  # the corner lies under one patch alone
        painted[channel, :32, :32] = np.median(plane[channel][tissue])
    before, after = network.scores(np.stack([plane, painted]))
    assert fallen[0, 0] == pytest.approx(before - after, rel=1e-4, abs=1e-6)


def test_perturbation_blurs_each_channel_for_itself():
    network = small_model()
    plane = replace(Preprocessing.for_windows(THREE), size=48).plane(slice_of(1))
    found = perturbation(network, plane[None], ["yes"], "hirescam", 0)
    blurred = [np.rint(gaussian_filter(one.astype(np.float32), 4.8)).astype(np.uint8) for one in plane]
    sharp, blunt = network.scores(np.stack([plane, blurred]))
    for name, ends in (("deletion", (sharp, blunt)), ("insertion", (blunt, sharp))):
        np.testing.assert_allclose((found[name][0], found[name][-1]), ends, rtol=1e-4, atol=1e-5)


def test_a_packed_and_an_exported_model_have_the_three_windows(run, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    paths = [row.path for row in of_hu(run)[3:6]]
    expected = predict(run, "svm", paths, device="cpu")
    own = packed_head(run, load_model(run, "svm", "cpu"), True)
    members = {**own.members, **shared_networks([own])}
    facts = {**own.facts, "name": "svm", "made_by": "haemo", "study_rules": {}, "points": {}}
    write_bundle(tmp_path / "svm.haemo", facts, members)
    assert export_model(run, "svm", tmp_path / "svm.onnx").difference < 1e-5
    packed = open_bundle(tmp_path / "svm.haemo", "cpu")
    assert packed.preprocessing == Preprocessing.for_windows(THREE, "head")
    exported = OnnxModel.load(tmp_path / "svm.onnx")
    (given,) = exported.extractor.onnx.get_inputs()
    assert given.shape[1:] == [3, SIZE, SIZE]
    for name, exactly in (("svm.haemo", True), ("svm.onnx", False)):
        model = haemo.Model(tmp_path / name, device="cpu")
        scores = model.predict(paths).scores
        np.testing.assert_allclose(scores, expected.scores, rtol=0 if exactly else 1e-3)
        picture = tmp_path / "new" / "picture.png"
        picture.parent.mkdir(exist_ok=True)
        Image.fromarray(as_picture(head(1)[0])).save(picture)
        (failure,) = model.predict([*paths, picture]).failures
        assert "three windows" in failure.reason


def test_the_report_says_the_windows_and_shows_the_first(run):
    described = load_model(run, "svm", "cpu").preprocessing.describe()
    assert in_words_of_windows(described) == "windows 80/40, 200/80, 2800/600 HU, a channel each"
    shown = preprocessing_of(SimpleNamespace(made_with={"preprocessing": described}))
    assert shown == Preprocessing.for_window("brain", "head")
