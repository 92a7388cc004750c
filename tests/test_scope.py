"""What is outside a model's knowledge is flagged."""

import numpy as np
import pytest

from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.reading.slice import Slice
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import FeatureStore, create_store
from haemo.pipeline.splitting.split import make_split
from haemo.pipeline.trained.scope import Scope, implausible


def hu(bone, tissue):
    """An HU slice with these shares of bone and of soft tissue; the rest is air."""
    pixels = np.full(10_000, -1000, dtype=np.float32)
    pixels[: int(bone * 10_000)] = 900
    pixels[len(pixels) - int(tissue * 10_000) :] = 35
    return Slice(pixels.reshape(100, 100), True)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (hu(0.1, 0.4), ""),
        (hu(0.0, 0.4), "no bone"),
        (hu(0.3, 0.0), "no soft tissue"),
        (Slice(np.full((9, 9), 77.0, dtype=np.float32), False), "one even gray"),
        (Slice(np.eye(50, dtype=np.float32) * 255, False), "black and white"),
        (Slice(np.arange(100, dtype=np.float32).reshape(10, 10), False), ""),
    ],
)
def test_what_cannot_be_a_head_is_told_by_its_pixels(image, reason):
    found = implausible(image)
    assert reason in found
    assert bool(found) == bool(reason)


@pytest.fixture
def training(tmp_path):
    """A store of 20 patients with 5 slices each, in three directions of 40."""
    random = np.random.default_rng(0)
    rows, embeddings = [], []
    for number in range(100):
        patient = number // 5
        path = tmp_path / f"{number:03}.png"
        rows.append(ManifestRow(path.name, path, ("normal", "bleed")[patient % 2], f"p{patient:02}", "s"))
        own = np.zeros(40)
        own[number % 3] = 5
        embeddings.append(own + random.normal(size=40) * 0.3)
    create_store(
        tmp_path / "features.h5",
        [row.slice_id for row in rows],
        np.array(embeddings, dtype=np.float32),
        Fingerprint({"network": "none"}),
    )
    manifest = Manifest(rows)
    return tmp_path / "features.h5", manifest, make_split(manifest, ("normal", "bleed"))


@pytest.mark.numerical
def test_the_limit_is_what_training_patients_show_out_of_fold(training):
    path, manifest, split = training
    with FeatureStore(path) as store:
        scope = Scope.of_training(store, manifest, split)
        rows = [row for row in manifest if split.parts([row])[0] == "train"]
        X = store.embeddings([row.slice_id for row in rows]).astype(np.float64)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    folds = split.fold_numbers(rows)
    nearest = [
        min(1 - X[one] @ X[other] for other in range(len(X)) if folds[other] != folds[one])
        for one in range(len(X))
    ]
    assert scope.limit == pytest.approx(np.quantile(nearest, 0.99), abs=1e-6)
    np.testing.assert_allclose(scope.distances(X[:4].astype(np.float32)), 0, atol=1e-6)


def test_the_limit_of_a_network_is_what_patients_show_that_it_did_not_learn_from():
    random = np.random.default_rng(5)
    learned, held_out = random.random((30, 7)), random.random((11, 7)) * 9
    nearest = [
        min(1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other) for other in learned)
        for one in held_out
    ]
    scope = Scope.of_network(learned, held_out)
    assert scope.limit == pytest.approx(np.quantile(nearest, 0.99), abs=1e-6)
    np.testing.assert_allclose(scope.distances(held_out), nearest, atol=1e-6)
    assert sum(bool(scope.reason(one)) for one in nearest) == 1


def test_at_most_500_slices_are_kept_and_they_are_spread_evenly():
    assert list(Scope.sample(np.arange(7))) == list(range(7))
    kept = Scope.sample(np.arange(5000))
    assert (len(kept), kept[0], kept[-1]) == (500, 0, 4999)
    assert set(np.diff(kept)) == {10, 11}


@pytest.mark.numerical
def test_the_like_is_inside_and_the_unlike_outside_at_any_length(training):
    path, manifest, split = training
    with FeatureStore(path) as store:
        scope = Scope.of_training(store, manifest, split)
    like, unlike = np.zeros((2, 40)), np.zeros((2, 40))
    like[:, 1] = unlike[:, 30] = (0.1, 100)
    assert [scope.reason(one) for one in scope.distances(like)] == ["", ""]
    assert all("unlike the training slices" in scope.reason(one) for one in scope.distances(unlike))
