"""Look-alikes: the same scan under two names is found, two people are not."""

import numpy as np
import pytest
from scipy import ndimage

from haemo.features.manifest import ManifestRow
from haemo.pipeline.evaluation.duplicates import ALIKE_BITS, look_alikes, picture_hash


def picture(seed: int, size: int = 227) -> np.ndarray:
    """A smooth random scene."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), size / 12)
    return np.uint8(np.clip(128 + 50 * field / field.std(), 0, 255))


def test_a_picture_stays_itself_when_resized_brightened_or_made_noisy():
    own = picture(0)
    rng = np.random.default_rng(1)
    resized = np.clip(ndimage.zoom(own.astype(float), 0.6, order=1), 0, 255).astype(np.uint8)
    changed = [
        np.uint8(np.clip(own * 0.9 + 20, 0, 255)),
        np.uint8(np.clip(own + rng.normal(size=own.shape) * 4, 0, 255)),
        resized,
    ]
    for other in changed:
        assert np.sum(picture_hash(own) != picture_hash(other)) <= ALIKE_BITS
    strangers = [np.sum(picture_hash(own) != picture_hash(picture(seed))) for seed in range(2, 12)]
    assert min(strangers) > 2 * ALIKE_BITS


def test_an_empty_picture_has_no_bits():
    assert not picture_hash(np.zeros((50, 40), dtype=np.uint8)).any()


@pytest.fixture
def cohort():
    rng = np.random.default_rng(3)
    rows = [ManifestRow(f"s{i}", f"/x/{i}", "normal", f"p{i}", f"p{i}") for i in range(20)]
    embeddings = rng.normal(size=(20, 50)).astype(np.float32)
    return rows, np.arange(20) < 12, embeddings, [f"c{i}" for i in range(20)]


def test_pairs_are_those_of_a_plain_double_loop(cohort):
    rows, trains, embeddings, contents = cohort
    embeddings[15] = embeddings[2] + 0.01  # the same features
    embeddings[16] = 0.8 * embeddings[3] + 0.45 * embeddings[16]  # like, and the pictures too
    embeddings[17] = 0.8 * embeddings[4] + 0.45 * embeddings[17]  # like, but other pictures
    contents[18] = contents[5]  # the same pixels
    embeddings[1] = embeddings[0]  # both in training
    hashes = {row.slice_id: picture_hash(picture(i)) for i, row in enumerate(rows)}
    hashes["s16"] = hashes["s3"]
    pairs, count = look_alikes(rows, trains, embeddings, contents, hashes)
    assert count == 3
    assert [(pair.train, pair.test) for pair in pairs] == [("s5", "s18"), ("s2", "s15"), ("s3", "s16")]
    assert pairs[0].identical
    assert pairs[2].bits == 0
    centred = embeddings - embeddings.mean(axis=0)
    expected = centred[2] @ centred[15] / np.linalg.norm(centred[2]) / np.linalg.norm(centred[15])
    assert pairs[1].cosine == pytest.approx(expected, abs=1e-5)


def test_without_pictures_embeddings_alone_decide(cohort):
    rows, trains, embeddings, _ = cohort
    embeddings[15] = embeddings[2]
    pairs, count = look_alikes(rows, trains, embeddings, [None] * 20, {})
    assert count == 1
    assert pairs[0].bits is None
    assert not pairs[0].identical


def test_only_so_many_pairs_are_listed_and_all_are_counted(cohort):
    rows, trains, embeddings, contents = cohort
    embeddings[:] = embeddings[0] * np.where(trains, 1, 1.0)[:, None]
    embeddings[0] += 1
    pairs, count = look_alikes(rows, trains, embeddings, contents, {}, most=5)
    assert len(pairs) == 5
    assert count > 5
