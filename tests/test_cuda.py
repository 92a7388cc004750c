"""What a CUDA device computes: the same as the CPU, as closely as its precision allows.

HAEMO_CUDA_TESTS_ON=cpu runs these tests on the CPU.
"""

import json

import numpy as np
import pytest
import torch
from cohorts import class_folders
from embeddings import cohort
from not_run import cuda_tests_on
from sklearn.svm import SVC, LinearSVC

from haemo.features.extraction.extract import ExtractionRequest, extract_features
from haemo.features.manifest import Manifest
from haemo.features.reading.formats import read_slice
from haemo.features.store.store import FeatureStore
from haemo.features.views.preprocess import Preprocessing
from haemo.models.networks.alexnet import SIZE, load_extractor
from haemo.models.networks.engine import Engine, resolve_device, resolve_precision
from haemo.models.networks.frozen import NetworkRequest
from haemo.models.networks.torchvision_models import torchvision_network
from haemo.models.search.grid import SharedSearchCV
from haemo.models.training import loop as training_module
from haemo.models.training.batches import Batches
from haemo.models.training.checkpoint import Checkpoint
from haemo.models.training.loop import TrainingData, train
from haemo.models.training.recipes import Recipe, TrainingSettings, build, recipe_for
from haemo.models.weights.imagenet import random_weights
from haemo.pipeline.cli import main
from haemo.pipeline.run.directory import RunDirectory

pytestmark = pytest.mark.cuda

SETTINGS = TrainingSettings(epochs=4, batch_size=8, optimizer="adam", learning_rate=0.01, patience=0)


@pytest.fixture(scope="module")
def device() -> str:
    return cuda_tests_on()


@pytest.fixture(scope="module")
def weights():
    return random_weights(0, "fc6")


@pytest.fixture(scope="module")
def planes():
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(0).normal(size=(11, SIZE, SIZE)), (0, 5, 5))
    return np.clip(noise * 3000 + 60, 0, 255).astype(np.uint8)


def extractor(weights, device, precision="float32", layer="fc6"):
    return load_extractor(weights, layer, engine=Engine(device, precision, "channels_last"), batch=4)


def least_cosine(one, other):
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return ((one * other).sum(axis=1) / norms).min()


def test_the_device_is_taken_by_default(device):
    assert resolve_device("auto") == device or device == "cpu"


def test_float32_embeddings_are_those_of_the_cpu(weights, planes, device):
    ours, reference = extractor(weights, device)(planes), extractor(weights, "cpu")(planes)
    assert ours.dtype == np.float32
    assert np.abs(ours - reference).max() < 1e-4 * np.abs(reference).max()


def test_three_windows_are_embedded_as_on_the_cpu(weights, planes, device):
    three = np.stack([planes, planes // 2, 255 - planes], axis=1)
    ours, reference = extractor(weights, device)(three), extractor(weights, "cpu")(three)
    assert np.abs(ours - reference).max() < 1e-4 * np.abs(reference).max()
    equal = extractor(weights, device)(np.stack([planes] * 3, axis=1))
    assert np.abs(equal - extractor(weights, device)(planes)).max() < 1e-4 * np.abs(equal).max()


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_fewer_bits_stay_close_to_float32(weights, planes, device, precision):
    precision = resolve_precision(precision, device)
    ours = extractor(weights, device, precision)(planes)
    assert least_cosine(ours, extractor(weights, "cpu")(planes)) > 0.999


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_embedding_has_the_same_bits_in_any_company(weights, planes, device, precision):
    ours = extractor(weights, device, precision)
    together = ours(planes)
    np.testing.assert_array_equal(ours(planes[::-1])[::-1], together)
    np.testing.assert_array_equal(np.concatenate([ours(plane[None]) for plane in planes]), together)


def test_batches_come_in_their_order_and_stay_as_they_came(weights, planes, device):
    ours = extractor(weights, device)
    parts = list(ours.stream([planes[:3], planes[3:4], planes[4:8], planes[8:]]))
    copies = [part.copy() for part in parts]
    assert [len(part) for part in parts] == [3, 1, 4, 3]
    list(ours.stream([planes[::-1][:4]] * 3))  # memory that is used again must not be theirs
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate(copies))
    np.testing.assert_array_equal(np.concatenate(parts), ours(planes))


def test_a_stream_that_is_left_early_leaves_the_device_ready(weights, planes, device):
    ours = extractor(weights, device)
    stream = ours.stream([planes[:4], planes[4:8], planes[8:]])
    next(stream)
    stream.close()
    np.testing.assert_array_equal(ours(planes[:4]), ours(planes)[:4])


def test_a_network_of_torchvision_agrees_with_the_cpu(planes, device):
    network = torchvision_network("resnet18")
    found = []
    for where in (device, "cpu"):
        request = NetworkRequest(
            name="torchvision:resnet18", layer="layer1", weights="random", precision="float32", device=where
        )
        found.append(network.load(request)(np.ascontiguousarray(planes[:2, :224, :224])))
    assert np.abs(found[0] - found[1]).max() < 1e-3 * np.abs(found[1]).max()


def test_a_store_holds_what_the_network_gives(weights, device, tmp_path):
    data = class_folders(tmp_path / "data", patients=2, slices=2)
    assert main(["index", str(data), "--run", str(tmp_path / "run")]) == 0
    manifest = Manifest.read(RunDirectory(tmp_path / "run").manifest_path)
    ours = extractor(weights, device, layer="pool5")
    report = extract_features(
        manifest, tmp_path / "features.h5", ours, Preprocessing(), ExtractionRequest(rotations="paper")
    )
    assert (report.computed, report.rows) == (len(manifest), 7 * len(manifest))
    with FeatureStore(tmp_path / "features.h5") as store:
        ids = [row.slice_id for row in manifest]
        stored = store.embeddings(ids)
        turned = store.embeddings(ids, variant=3)
    own = np.stack([Preprocessing().plane(read_slice(row.path)) for row in manifest])
    np.testing.assert_array_equal(stored, ours(own))
    np.testing.assert_array_equal(turned, ours(np.rot90(own, 3, axes=(1, 2))))


def small_training(device, precision="float32"):
    """A network, and planes half of which have a bright square."""
    random = np.random.default_rng(0)
    some = random.integers(0, 60, (40, 16, 16), dtype=np.uint8)
    targets = np.arange(40) % 2
    some[targets == 1, 4:10, 4:10] += 150
    recipe = Recipe("small", "test", 16, 1, (0.0,), (1.0,), 2, SETTINGS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(784, 2)
        )
    batches = Batches(some, recipe, ("flip", "rotate"), device)
    data = TrainingData(batches, targets, classes=2, fit=np.arange(32), validation=np.arange(32, 40))
    return network, data, SETTINGS.with_options(precision=precision)


def test_training_takes_the_steps_of_the_cpu(device):
    histories = [train(*small_training(where)) for where in (device, "cpu")]
    ours, reference = ([epoch.train_loss for epoch in history] for history in histories)
    np.testing.assert_allclose(ours, reference, rtol=1e-3)


def test_training_in_bfloat16_learns(device):
    history = train(*small_training(device, "bfloat16"))
    assert history[-1].train_loss < history[0].train_loss / 2


def test_a_stopped_training_goes_on(device, tmp_path, monkeypatch):
    monkeypatch.setattr(training_module, "_SECONDS_BETWEEN_CHECKPOINTS", 0)
    whole = train(*small_training(device))
    network, data, settings = small_training(device)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "key")

    def stopping(items, *, total, label):
        for number, item in enumerate(items):
            if number == 9:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        train(network, data, settings, checkpoint=checkpoint, progress=stopping)
    network, data, settings = small_training(device)
    rest = train(network, data, settings, checkpoint=checkpoint)
    assert [epoch.epoch for epoch in rest] == [epoch.epoch for epoch in whole]
    np.testing.assert_allclose(
        [epoch.train_loss for epoch in rest], [epoch.train_loss for epoch in whole], rtol=1e-4
    )


@pytest.mark.parametrize(
    ("head", "grid"),
    [
        (SVC(tol=1e-9), {"C": [0.1, 10.0], "gamma": [1e-2, 1e-3]}),
        (SVC(kernel="linear", tol=1e-9), {"C": [1e-3, 0.1]}),
        (LinearSVC(tol=1e-9, max_iter=200_000, dual=True), {"C": [1e-3, 0.1]}),
    ],
)
def test_searches_find_what_they_find_on_the_cpu(device, head, grid):
    data = cohort(120, 60, dtype=np.float32)
    options = {"scoring": "roc_auc", "cv": data.folds()}
    ours = SharedSearchCV(head, grid, device=device, **options).fit(data.X, data.y)
    reference = SharedSearchCV(head, grid, **options).fit(data.X, data.y)
    for name in (name for name in ours.cv_results_ if name.startswith("split")):
        np.testing.assert_allclose(ours.cv_results_[name], reference.cv_results_[name], atol=1e-6)
    assert ours.best_params_ == reference.best_params_
    np.testing.assert_allclose(ours.decision_function(data.X), reference.decision_function(data.X), atol=1e-4)


def test_every_command_that_takes_a_device_runs_there(device, tmp_path, capsys):
    data = class_folders(tmp_path / "data", patients=16, slices=2)
    run = str(tmp_path / "run")
    there = ["--run", run, "--device", device]
    assert main(["index", str(data), "--run", run]) == 0
    assert main(["features", *there, "--weights", "random", "--layer", "pool5"]) == 0
    assert main(["svm", *there, "--kernel", "rbf", "--grid", "C=1,10", "--grid", "gamma=1e-4"]) == 0
    assert main(["softmax", *there, "--grid", "C=1e-4,1e-3"]) == 0
    assert main(["tinyvgg", *there, "--epochs", "1", "--batch-size", "8"]) == 0
    for name in ("svm", "tinyvgg"):
        out = tmp_path / name
        command = ["predict", str(data), *there, "--head", name, "--out", str(out)]
        assert main(command) == 0
    assert main(["compare", "--run", run]) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["steps"]["features"]["engine"].startswith(device)


def test_the_large_networks_are_trained_there_too(device):
    network = build("finetune", 2, seed=0, trunk=True)
    some = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE), dtype=np.uint8)
    recipe = recipe_for("finetune")
    data = TrainingData(
        Batches(some, recipe, device=device),
        np.arange(6) % 2,
        classes=2,
        fit=np.arange(4),
        validation=np.arange(4, 6),
    )
    settings = recipe.settings.with_options(epochs=1, batch_size=4, precision="bfloat16", augment=())
    (epoch,) = train(network, data, settings)
    assert np.isfinite([epoch.train_loss, epoch.validation_loss]).all()
