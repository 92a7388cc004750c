"""The training loop: it learns, counts right, stops, goes on after a kill, and refuses nonsense."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from haemo.errors import MemoryBudgetExceeded, MissingStep, TooFewData, TrainingDiverged, WeightsUnavailable
from haemo.models.training import loop as training_module
from haemo.models.training.batches import EVALUATION_BATCH, ROTATIONS_DEG, Batches, rotate
from haemo.models.training.checkpoint import Checkpoint, read_network, write_network
from haemo.models.training.history import Epoch, best_epoch
from haemo.models.training.loop import TrainingData, class_weights, train
from haemo.models.training.recipes import Recipe, TrainingSettings, build, recipe_for
from haemo.models.training.trained import TrainedNetwork

SETTINGS = TrainingSettings(epochs=6, batch_size=8, optimizer="adam", learning_rate=0.01, patience=0)
SMALL = Recipe("small", "test", 8, 1, (0.0,), (1.0,), 2, SETTINGS)


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_network(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(36, 2),
        )


def bright_squares(count: int = 40, size: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, every other plane with a bright square somewhere."""
    random = np.random.default_rng(seed)
    planes = random.integers(0, 60, (count, size, size), dtype=np.uint8)
    targets = np.arange(count) % 2
    for row in np.flatnonzero(targets):
        top, left = random.integers(0, size - 3, 2)
        planes[row, top : top + 3, left : left + 3] += 150
    return planes, targets


def run(network, settings=SETTINGS, count=40, augment=(), targets=None, **options) -> list[Epoch]:
    size = SMALL.plane_size(augment)
    planes, drawn = bright_squares(count, size)
    data = TrainingData(
        Batches(planes, SMALL, augment),
        drawn if targets is None else targets,
        classes=2,
        fit=np.arange(0, count * 3 // 4),
        validation=np.arange(count * 3 // 4, count),
    )
    return train(network, data, replace(settings, augment=augment), **options)


def state_bytes(network: nn.Module) -> bytes:
    return b"".join(value.contiguous().numpy().tobytes() for value in network.state_dict().values())


# ---- what a network is fed -----------------------------------------------------------------------------


@pytest.mark.numerical
def test_inputs_are_normalised_planes_in_every_channel():
    recipe = recipe_for("finetune")
    planes = np.random.default_rng(0).integers(0, 256, (3, 227, 227), dtype=np.uint8)
    ((inputs, rows),) = Batches(planes, recipe).evaluation(np.array([2, 0]))
    assert inputs.shape == (EVALUATION_BATCH, 3, 227, 227)
    assert list(rows) == [2, 0]
    for channel in range(3):
        expected = (planes[2] / 255 - recipe.mean[channel]) / recipe.std[channel]
        np.testing.assert_allclose(inputs[0, channel].numpy(), expected, atol=1e-5)


@pytest.mark.numerical
def test_rotations_are_those_of_scikit_image():
    from skimage.transform import rotate as reference

    ramp = np.add.outer(np.arange(33.0), 2 * np.arange(33.0))
    planes = torch.tensor(np.stack([ramp] * len(ROTATIONS_DEG)), dtype=torch.float32)
    turned = rotate(planes, np.array(ROTATIONS_DEG)).numpy()
    for angle, plane in zip(ROTATIONS_DEG, turned, strict=True):
        np.testing.assert_allclose(plane, reference(ramp, angle, preserve_range=True), atol=0.01)
    assert np.array_equal(turned[0], ramp)


def test_training_crops_move_and_evaluation_takes_the_middle():
    plane = np.arange(100, dtype=np.uint8).reshape(1, 10, 10)
    batches = Batches(plane, SMALL, ("crop",))
    corners = set()
    for seed in range(60):
        ((inputs, _),) = batches.training(np.array([0]), 8, np.random.default_rng(seed))
        corners.add(round(float(inputs[0, 0, 0, 0]) * 255))
    assert corners == {0, 1, 2, 10, 11, 12, 20, 21, 22}
    ((inputs, _),) = batches.evaluation(np.array([0]))
    assert round(float(inputs[0, 0, 0, 0]) * 255) == 11


def test_flips_mirror_left_and_right_only():
    plane = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    batches = Batches(plane, SMALL, ("flip",))
    seen = set()
    for seed in range(20):
        ((inputs, _),) = batches.training(np.array([0]), 8, np.random.default_rng(seed))
        seen.add(tuple((inputs[0, 0] * 255).round().int().flatten().tolist()))
    assert seen == {tuple(plane[0].ravel().tolist()), tuple(plane[0, :, ::-1].ravel().tolist())}


def test_each_epoch_shows_each_slice_once_and_leaves_the_planes_as_they_were():
    planes, _ = bright_squares(20, 10)
    kept = planes.copy()
    batches = Batches(planes, SMALL, ("rotate", "flip", "crop"))
    shown = [rows for _, rows in batches.training(np.arange(3, 20), 4, np.random.default_rng(0))]
    assert [len(rows) for rows in shown] == [4, 4, 4, 4, 1]
    assert sorted(np.concatenate(shown)) == list(range(3, 20))
    assert np.array_equal(planes, kept)


# ---- the loop ------------------------------------------------------------------------------------------


@pytest.mark.numerical
def test_it_learns_what_there_is_to_learn():
    history = run(small_network(), replace(SETTINGS, epochs=30))
    assert history[-1].train_accuracy > 0.9
    assert max(epoch.validation_accuracy for epoch in history) == 1.0


@pytest.mark.numerical
def test_loss_and_accuracy_are_those_of_the_slices_whatever_the_batches():
    """With a rate next to nothing the network stands still: an epoch's figures can be worked out."""
    settings = replace(SETTINGS, epochs=1, batch_size=7, optimizer="sgd", learning_rate=1e-12)
    targets = (np.arange(40) % 3 == 0).astype(int)
    network = small_network()
    (epoch,) = run(network, settings, targets=targets)
    planes, _ = bright_squares(40)
    with torch.no_grad():
        logits = network(torch.tensor(planes[:30, None] / 255, dtype=torch.float32))
    weights = torch.tensor(class_weights(targets[:30], 2, "balanced"))
    expected = nn.functional.cross_entropy(logits, torch.tensor(targets[:30]), weight=weights)
    assert epoch.train_loss == pytest.approx(float(expected), rel=1e-5)
    assert epoch.train_accuracy == pytest.approx(float((logits.argmax(1).numpy() == targets[:30]).mean()))


@pytest.mark.numerical
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_takes_the_steps_of_a_plain_loop(optimizer):
    settings = replace(
        SETTINGS, epochs=3, optimizer=optimizer, weight_decay=0.01, class_weight="none", seed=5
    )
    ours, plain = small_network(), small_network()
    assert best_epoch(run(ours, settings)).epoch == 3, "whose weights are kept"
    planes, targets = bright_squares(40)
    if optimizer == "sgd":
        peer = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    else:
        peer = torch.optim.Adam(plain.parameters(), lr=0.01, weight_decay=0.01)
    for epoch in (1, 2, 3):
        random = np.random.default_rng([5, epoch])
        random.integers(2**31)  # the draw that seeds dropout
        order = random.permutation(np.arange(30))
        for start in range(0, 30, 8):
            rows = order[start : start + 8]
            logits = plain(torch.tensor(planes[rows, None] / 255, dtype=torch.float32))
            peer.zero_grad()
            nn.functional.cross_entropy(logits, torch.tensor(targets[rows])).backward()
            nn.utils.clip_grad_norm_(plain.parameters(), settings.clip_norm)
            peer.step()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_class_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    targets = np.array([0, 0, 0, 1, 2, 2])
    reference = compute_class_weight("balanced", classes=np.arange(3), y=targets)
    np.testing.assert_allclose(class_weights(targets, 3, "balanced"), reference)
    assert list(class_weights(targets, 3, "none")) == [1, 1, 1]
    with pytest.raises(TooFewData, match="class number 1"):
        class_weights(np.array([0, 2]), 3, "balanced")


@pytest.mark.numerical
def test_frozen_and_evaluated_slices_teach_nothing():
    """Changing the labels of validation slices may change which epoch is taken, but no epoch itself."""
    targets = np.arange(40) % 2
    other = targets.copy()
    other[30:] = 1 - other[30:]
    first, second = run(small_network(), targets=targets), run(small_network(), targets=other)
    assert [epoch.train_loss for epoch in first] == [epoch.train_loss for epoch in second]


def test_the_weights_of_the_best_epoch_are_kept():
    network = small_network()
    targets = np.random.default_rng(3).integers(0, 2, 40)  # nothing to learn: validation gets worse
    history = run(network, replace(SETTINGS, epochs=15), targets=targets)
    best = best_epoch(history)
    assert best.epoch < 15
    again = small_network()
    run(again, replace(SETTINGS, epochs=best.epoch), targets=targets)
    assert state_bytes(network) == state_bytes(again)


def test_it_stops_when_the_validation_loss_has_not_fallen_for_so_long():
    targets = np.random.default_rng(3).integers(0, 2, 40)
    history = run(small_network(), replace(SETTINGS, epochs=50, patience=3), targets=targets)
    best = best_epoch(history)
    assert len(history) == best.epoch + 3


@pytest.mark.numerical
def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    results = []
    for seed in (1, 1, 2):
        network = small_network(dropout=0.5)
        run(network, replace(SETTINGS, seed=seed), augment=("rotate", "flip", "crop"))
        results.append(state_bytes(network))
    assert results[0] == results[1] != results[2]


def test_the_learning_rate_follows_the_schedule():
    history = run(small_network(), replace(SETTINGS, schedule="cosine", epochs=4))
    expected = [0.01 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert [epoch.learning_rate for epoch in history] == pytest.approx(expected)
    assert {epoch.learning_rate for epoch in run(small_network())} == {0.01}


def test_pretrained_layers_learn_more_slowly_and_frozen_ones_not_at_all():
    from haemo.models.networks.finetune import freeze_below

    network = build("finetune", 2, trunk=True)
    freeze_below(network, "conv5")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    planes = np.random.default_rng(0).integers(0, 255, (4, 227, 227), dtype=np.uint8)
    settings = TrainingSettings(1, 2, "sgd", 1e-2, pretrained_rate=0.0, class_weight="none")
    batches = Batches(planes, recipe_for("finetune"))
    train(
        network,
        TrainingData(batches, np.array([0, 1, 0, 1]), 2, fit=np.array([0, 1]), validation=np.array([2, 3])),
        settings,
    )
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"classifier.fc6.weight", "classifier.fc6.bias"} | {
        "classifier.fc8.weight",
        "classifier.fc8.bias",
    }


def test_progress_counts_the_batches():
    seen = []

    def count(items, *, total=None, label=""):
        seen.append((total, label))
        for item in items:
            seen.append(item)
            yield item

    run(small_network(), replace(SETTINGS, epochs=2), progress=count, label="cnn")
    assert seen == [(8, "cnn"), *range(8)]


@pytest.mark.numerical
def test_bfloat16_trains_to_the_same_place_within_its_rounding():
    plain, short = small_network(), small_network()
    first = run(plain, replace(SETTINGS, epochs=10))
    second = run(short, replace(SETTINGS, epochs=10, precision="bfloat16"))
    assert all(parameter.dtype == torch.float32 for parameter in short.parameters())
    for one, other in zip(first, second, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, abs=0.05)


# ---- what can go wrong ---------------------------------------------------------------------------------


def test_a_loss_that_is_no_longer_finite_stops_the_training():
    with pytest.raises(TrainingDiverged, match=r"cnn, epoch \d.*--learning-rate"):
        run(small_network(), replace(SETTINGS, learning_rate=1e38, optimizer="sgd"), label="cnn")


def test_nothing_to_learn_from_or_to_validate_on_is_an_error():
    planes, targets = bright_squares(8)
    nobody = np.array([], dtype=int)
    data = TrainingData(Batches(planes, SMALL), targets, classes=2, fit=np.arange(8), validation=nobody)
    with pytest.raises(TooFewData, match="0 to validate on"):
        train(small_network(), data, SETTINGS)


# ---- a kill --------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def killed_after(batches: int):
    def stop(items, *, total=None, label=""):
        for done, item in enumerate(items):
            if done == batches:
                raise Killed
            yield item

    return stop


@pytest.mark.numerical
@pytest.mark.parametrize("batches", [4, 9, 22])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_stopped_training_goes_on_to_the_same_bytes(tmp_path, monkeypatch, batches, optimizer):
    monkeypatch.setattr(training_module, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    settings = replace(SETTINGS, optimizer=optimizer, schedule="cosine")
    options = {"augment": ("rotate", "flip", "crop")}
    undisturbed = small_network(dropout=0.5)
    whole = run(undisturbed, settings, **options)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "key")
    with pytest.raises(Killed):
        run(
            small_network(dropout=0.5),
            settings,
            checkpoint=checkpoint,
            progress=killed_after(batches),
            **options,
        )
    resumed = small_network(seed=9, dropout=0.5)  # other weights: those of the checkpoint must win
    rest = run(resumed, settings, checkpoint=checkpoint, **options)
    assert state_bytes(resumed) == state_bytes(undisturbed)
    assert [replace(epoch, seconds=0) for epoch in rest] == [replace(epoch, seconds=0) for epoch in whole]


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_not_gone_on_from(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert Checkpoint(path, "a").load() is None
    Checkpoint(path, "a").save({"history": []})
    assert Checkpoint(path, "a").load() == {"key": "a", "history": []}
    assert Checkpoint(path, "b").load() is None
    path.write_bytes(path.read_bytes()[:-200])
    assert Checkpoint(path, "a").load() is None
    Checkpoint(path, "a").remove()
    assert not list(tmp_path.iterdir())


def test_a_kill_while_the_checkpoint_is_written_leaves_the_one_before(tmp_path):
    script = (
        "import os, signal, torch, sys\n"
        "from pathlib import Path\n"
        "from haemo.models.training.checkpoint import Checkpoint\n"
        "checkpoint = Checkpoint(Path(sys.argv[1]), 'key')\n"
        "checkpoint.save({'epoch': 1})\n"
        "save = torch.save\n"
        "def half(state, stream):\n"
        "    save(state, stream)\n"
        "    stream.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "torch.save = half\n"
        "checkpoint.save({'epoch': 2})\n"
    )
    path = tmp_path / "checkpoint.pt"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert Checkpoint(path, "key").load()["epoch"] == 1


# ---- a trained network on disk -------------------------------------------------------------------------


def trained_tinyvgg() -> TrainedNetwork:
    settings = recipe_for("tinyvgg").settings.describe()
    facts = {"network": "tinyvgg", "classes": ["normal", "bleed"], "trunk": False, "settings": settings}
    return TrainedNetwork(build("tinyvgg", 2, seed=4), recipe_for("tinyvgg"), ("normal", "bleed"), facts)


def test_a_network_read_back_gives_the_same_scores(tmp_path):
    network = trained_tinyvgg()
    planes = np.random.default_rng(0).integers(0, 255, (5, 64, 64), dtype=np.uint8)
    network.write(tmp_path / "model.safetensors")
    again = TrainedNetwork.load(tmp_path / "model.safetensors")
    assert (again.classes, again.facts) == (network.classes, network.facts)
    assert np.array_equal(again.logits(planes), network.logits(planes))


@pytest.mark.numerical
def test_a_score_does_not_depend_on_what_is_scored_beside_it():
    network = trained_tinyvgg()
    planes = np.random.default_rng(0).integers(0, 255, (EVALUATION_BATCH + 3, 64, 64), dtype=np.uint8)
    together = network.logits(planes)
    for row in (0, 7, EVALUATION_BATCH + 2):
        assert np.array_equal(network.logits(planes[row : row + 1])[0], together[row])
    assert np.array_equal(network.logits(planes, np.array([9, 3])), together[[9, 3]])


@pytest.mark.numerical
def test_probabilities_follow_from_the_scores():
    head = trained_tinyvgg().head()
    logits = np.array([[0.0, 2.0], [3.0, -1.0], [800.0, -800.0], [1.0, 1.0]], dtype=np.float32)
    scores = head.decision_function(logits)
    assert list(scores) == [2.0, -4.0, -1600.0, 0.0]
    chances = head.probabilities(scores)
    np.testing.assert_allclose(chances, torch.softmax(torch.from_numpy(logits), 1).numpy(), atol=1e-7)
    assert list(head.classes_[head.choose(chances)]) == ["bleed", "normal", "normal", "bleed"]
    head.threshold = 0.9
    assert list(head.classes_[head.choose(chances)]) == ["normal"] * 4


@pytest.mark.numerical
@pytest.mark.parametrize("counts", [[88, 12], [70, 25, 5]])
def test_probabilities_of_a_balanced_loss_are_those_of_the_training_slices(counts):
    """Oracle: log odds of two or three normal distributions, with equal priors and with true ones."""
    classes = tuple("abc"[: len(counts)])
    trained = replace(trained_tinyvgg(), classes=classes)
    balanced = replace(trained, facts={**trained.facts, "class_slices": counts})
    rng, places = np.random.default_rng(0), np.arange(len(counts))
    y = rng.choice(places, size=4000, p=np.array(counts) / 100)
    x = y + rng.normal(size=4000)
    log_likelihood = -((x[:, None] - places) ** 2) / 2
    true = np.exp(log_likelihood) * counts
    true /= true.sum(axis=1, keepdims=True)
    plain, head = trained.head(), balanced.head()
    scores = head.decision_function(log_likelihood)
    np.testing.assert_allclose(head.probabilities(scores), true, atol=1e-12)
    assert np.abs(plain.probabilities(scores) - true).max() > 0.3
    if len(counts) == 2:  # it decides where it did
        assert head.threshold == pytest.approx(0.12)
        decided = [one.choose(one.probabilities(scores)) for one in (plain, head)]
        np.testing.assert_array_equal(*decided)


def test_with_several_classes_the_most_probable_is_predicted():
    head = replace(trained_tinyvgg(), classes=("a", "b", "c")).head()
    logits = np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 3.0]], dtype=np.float32)
    chances = head.probabilities(head.decision_function(logits))
    np.testing.assert_allclose(chances[0], 1 / 3)
    assert list(head.choose(chances)) == [0, 2]


def test_whoever_may_read_the_run_may_read_the_network(tmp_path):
    trained_tinyvgg().write(tmp_path / "model.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_file_that_is_no_network_of_ours_is_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(MissingStep, match="train that network first"):
        read_network(tmp_path / "none.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsUnavailable, match="not a network that haemo trained"):
        read_network(tmp_path / "other.safetensors")
    write_network(tmp_path / "cut.safetensors", nn.Linear(50, 50), {"network": "x"})
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    with pytest.raises(WeightsUnavailable, match="damaged"):
        read_network(tmp_path / "cut.safetensors")


def test_a_batch_that_the_device_does_not_hold_is_told_with_the_remedy():
    class Large(nn.Sequential):
        def forward(self, inputs):
            if self.training and len(inputs) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
            return super().forward(inputs)

    said = "test: the memory of the GPU does not hold a batch of 8 slices; give a smaller --batch-size"
    with pytest.raises(MemoryBudgetExceeded, match=said):
        run(Large(*small_network()), label="test")
    assert len(run(Large(*small_network()), replace(SETTINGS, epochs=1, batch_size=4), label="test")) == 1
