import hashlib
import signal
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haemo.errors import BadDataset, DamagedStore, MissingStep
from haemo.features.manifest import ManifestRow
from haemo.features.store import storefile
from haemo.features.store.contents import Contents
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import FeatureStore, contents_path, create_store

MADE = Fingerprint({"layer": "fc7", "weights": "0"})


def numbers(rows, dimension=8, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)


def ids(count):
    return [f"scan/{number:04}.png" for number in range(count)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "features.h5"


def test_embeddings_come_back_exactly_and_in_the_order_asked_for(path):
    embeddings = numbers(200)
    create_store(path, ids(200), embeddings, MADE)
    order = np.random.default_rng(1).permutation(200)[:90]
    with FeatureStore(path) as store:
        np.testing.assert_array_equal(store.embeddings([ids(200)[i] for i in order]), embeddings[order])
        assert store.embeddings([]).shape == (0, 8)
        assert store.embeddings(ids(1)).dtype == np.float32
        assert (len(store), store.dimension, store.variants) == (200, 8, (0,))
        assert store.fingerprint == MADE


def test_blocks_are_the_same_embeddings_in_pieces(path):
    create_store(path, ids(150), numbers(150), MADE)
    with FeatureStore(path) as store:
        blocks = list(store.blocks(ids(150)[::-1], rows=40))
        assert [len(block) for block in blocks] == [40, 40, 40, 30]
        np.testing.assert_array_equal(np.concatenate(blocks), numbers(150)[::-1])


def test_variants_are_found_apart(path):
    create_store(path, ["a", "b", "a"], numbers(3), MADE, variants=[0, 0, 4])
    with FeatureStore(path) as store:
        assert store.variants == (0, 4)
        np.testing.assert_array_equal(store.embeddings(["a"], variant=4), numbers(3)[[2]])
        assert store.has(["a", "b"], variant=4).tolist() == [True, False]
        with pytest.raises(MissingStep, match=r"no embedding of b, variant 4; .* --rotations paper"):
            store.embeddings(["a", "b"], variant=4)


def test_missing_slices_are_named(path):
    create_store(path, ids(3), numbers(3), MADE)
    with FeatureStore(path) as store:
        assert store.has([*ids(3), "x"]).tolist() == [True, True, True, False]
        with pytest.raises(MissingStep) as caught:
            store.embeddings([*"abcdefg", *ids(3)])
    assert str(caught.value) == (
        f"{path} has no embedding of a, b, c, d, e and 2 more; run: haemo features --run {path.parent}"
    )


def test_slices_with_equal_pixels_share_a_row(path):
    embeddings = numbers(2)[[0, 1, 0]]
    create_store(path, ["a", "b", "copy of a"], embeddings, MADE, contents=["1" * 64, "2" * 64, "1" * 64])
    with FeatureStore(path) as store:
        assert len(store) == 2
        np.testing.assert_array_equal(store.embeddings(["copy of a", "b", "a"]), embeddings[[2, 1, 0]])
    with pytest.raises(BadDataset, match="a and b share pixels"):
        create_store(path, ["a", "b"], numbers(2), MADE, contents=["1" * 64] * 2)


def test_a_slice_of_the_same_name_in_another_folder_is_not_covered(path, tmp_path):
    create_store(path, ids(2), numbers(2), Fingerprint({}))
    known = list(Contents(contents_path(path)))
    here = [ManifestRow(name, tmp_path / name, "a", "p", "p") for name in ids(2)]
    there = [replace(row, path=tmp_path / "elsewhere" / row.slice_id) for row in here]
    with FeatureStore(path) as store:
        assert store.covers(here).tolist() == [True, True]  # imported: there is no file to compare
    Contents(contents_path(path)).replace(
        [replace(one, path=str(row.path)) for one, row in zip(known, here, strict=True)]
    )
    with FeatureStore(path) as store:
        assert store.covers(here).tolist() == [True, True]
        assert store.covers(there).tolist() == [False, False]
        assert store.covers(here[:1], variant=1).tolist() == [False]


def test_a_store_alone_knows_the_names_it_was_made_with(path, tmp_path):
    create_store(path, ids(3), numbers(3), MADE)
    moved = tmp_path / "elsewhere" / "features.h5"
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    with FeatureStore(moved) as store:
        np.testing.assert_array_equal(store.embeddings(ids(3)), numbers(3))


CONTENTS = [f"{number:064x}" for number in range(3)]


def test_a_store_that_lost_its_list_of_files_says_so(path, caplog):
    create_store(path, ids(3), numbers(3), MADE, contents=CONTENTS)
    contents_path(path).unlink()
    with caplog.at_level("WARNING", "haemo"), FeatureStore(path) as store:
        np.testing.assert_array_equal(store.embeddings(ids(3)), numbers(3))
    assert "contents.csv is not there" in caplog.text
    assert f"haemo features --run {path.parent} (one pass of decoding)" in caplog.text


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: b"", "knows no slice"),
        (lambda data: data[:60], "knows no slice"),
        (lambda data: bytes(range(256)), r"has damaged lines \(1\)"),
        (lambda data: data.replace(b"0001.png", b"0002.png"), r"has damaged lines \(1\)"),
    ],
)
def test_a_damaged_list_of_files_is_named_and_nothing_is_guessed(path, damage, problem):
    create_store(path, ids(3), numbers(3), MADE, contents=CONTENTS)
    data = contents_path(path).read_bytes()
    contents_path(path).write_bytes(damage(data))
    rows = [ManifestRow(name, path, "a", "p", "p") for name in ids(3)]
    with FeatureStore(path) as store:
        for ask in (lambda: store.covers(rows), lambda: store.embeddings(ids(1)), lambda: store.has(ids(1))):
            with pytest.raises(DamagedStore, match=rf"contents\.csv {problem}, .*haemo features --run "):
                ask()


def test_embeddings_from_elsewhere_need_no_list_of_files(path, caplog):
    create_store(path, ids(3), numbers(3), MADE)
    contents_path(path).write_bytes(b"")
    with FeatureStore(path) as store:
        np.testing.assert_array_equal(store.embeddings(ids(3)), numbers(3))
    assert caplog.text == ""


def test_half_a_line_at_the_end_costs_only_itself(path, caplog):
    create_store(path, ids(3), numbers(3), MADE, contents=CONTENTS)
    contents_path(path).write_bytes(contents_path(path).read_bytes()[:-20])
    with caplog.at_level("WARNING", "haemo"), FeatureStore(path) as store:
        assert store.has(ids(3)).tolist() == [True, True, False]
    assert "ends in half a line; go on with: haemo features" in caplog.text


def test_float16_is_kept_on_request_and_given_as_float32(path):
    create_store(path, ids(70), numbers(70).astype(np.float16), MADE)
    with FeatureStore(path) as store:
        assert store.dtype == "float16"
        found = store.embeddings(ids(70))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, numbers(70).astype(np.float16))


def test_equal_input_gives_equal_bytes(path, tmp_path):
    other = tmp_path / "other.h5"
    create_store(path, ids(70), numbers(70), MADE)
    create_store(other, ids(70), numbers(70), MADE)
    assert path.read_bytes() == other.read_bytes()
    assert list(tmp_path.glob(".*")) == []


def test_others_can_read_it_with_plain_h5py(path):
    create_store(path, ids(70), numbers(70), MADE)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["embedding"][:], numbers(70))
        assert file["slice_id"].asstr()[:].tolist() == ids(70)
        assert file["variant"][:].tolist() == [0] * 70
        assert Fingerprint.from_json(file.attrs["fingerprint"]) == MADE
        assert file.attrs["schema_version"] == 1
        assert (file["embedding"].chunks, file["embedding"].fletcher32) == ((64, 8), True)


def test_the_seal_can_be_checked_by_hand(path):
    create_store(path, ids(3), numbers(3), MADE)
    data = path.read_bytes()
    assert f"sha256 of the rest: {hashlib.sha256(data[512:]).hexdigest()}".encode() in data[:512]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_refused_by_name(path, value):
    embeddings = numbers(5)
    embeddings[3, 2] = value
    with pytest.raises(BadDataset, match=r"scan/0003\.png has values that are not finite in float32"):
        create_store(path, ids(5), embeddings, MADE)
    assert not path.exists()


def test_a_number_too_large_for_float16_is_refused_by_name(path):
    from haemo.features.store.storefile import RowKeys, write_store_file

    keys = RowKeys(ids(2), ["1" * 64, "2" * 64], [0, 0])
    with pytest.raises(BadDataset, match=r"scan/0001\.png .* float16"):
        write_store_file(path, keys, [np.array([[1], [1e5]], np.float32)], 1, "float16", MADE)


@pytest.mark.parametrize(
    ("names", "embeddings", "variants", "reason"),
    [
        ([], np.empty((0, 4)), None, "shape"),
        (["a"], np.zeros(4), None, "shape"),
        (["a"], np.zeros((2, 4)), None, "1 slice ids do not fit"),
        (["a", "a"], np.zeros((2, 4)), None, "the same slice and variant"),
        (["a", "a"], np.zeros((2, 4)), [1, 1], "the same slice and variant"),
    ],
)
def test_what_does_not_fit_together_is_refused(path, names, embeddings, variants, reason):
    with pytest.raises(BadDataset, match=reason):
        create_store(path, names, embeddings, MADE, variants=variants)


def test_no_store_says_how_to_make_one(path):
    with pytest.raises(MissingStep, match=f"haemo features --run {path.parent}"):
        FeatureStore(path)


@pytest.mark.parametrize("keep", [0, 100, 600, 5000])
def test_a_cut_file_is_damaged(path, keep):
    create_store(path, ids(70), numbers(70), MADE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DamagedStore, match="haemo verify"):
        FeatureStore(path)


def test_a_damaged_chunk_is_not_handed_out(path):
    create_store(path, ids(200), numbers(200), MADE)
    data = bytearray(path.read_bytes())
    place = data.index(numbers(200)[10].tobytes())
    data[place] ^= 1
    path.write_bytes(data)
    with FeatureStore(path) as store:
        np.testing.assert_array_equal(store.embeddings(ids(200)[64:]), numbers(200)[64:])
        with pytest.raises(DamagedStore, match="haemo verify"):
            store.embeddings(ids(200)[63:])


def test_a_layout_from_the_future_is_refused(path, monkeypatch):
    monkeypatch.setattr("haemo.features.store.storefile.SCHEMA_VERSION", 99)
    create_store(path, ids(3), numbers(3), MADE)
    with pytest.raises(DamagedStore, match="layout 99, this haemo reads up to 1; update haemo"):
        FeatureStore(path)


def test_a_new_store_forgets_the_names_of_the_old(path):
    create_store(path, ["old"], numbers(1), MADE)
    create_store(path, ["new"], numbers(1), MADE)
    assert "old" not in contents_path(path).read_text()
    with FeatureStore(path) as store:
        assert store.has(["old", "new"]).tolist() == [False, True]


@settings(deadline=None, max_examples=25)
@given(
    count=st.integers(1, 200),
    asked=st.lists(st.integers(0, 199), max_size=300),
    seed=st.integers(0, 9),
)
def test_reading_by_runs_of_chunks_equals_picking_rows(tmp_path_factory, count, asked, seed):
    path = tmp_path_factory.mktemp("store") / "features.h5"
    embeddings = numbers(count, 3, seed)
    create_store(path, ids(count), embeddings, MADE)
    rows = [row for row in asked if row < count]
    with FeatureStore(path) as store:
        found = store.embeddings([ids(count)[row] for row in rows])
    np.testing.assert_array_equal(found, embeddings[rows])


WRITE_ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from haemo.features.store.contents import Contents
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.manifest import ManifestRow
from haemo.features.store.store import create_store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
names, embeddings = [str(n) for n in range(200)], np.ones((200, 64), np.float32)
try:
    create_store(Path(sys.argv[1]), names, embeddings, Fingerprint({}))
except OSError as error:
    print(type(error).__name__, error.strerror)
"""


@pytest.mark.parametrize("room", [0, 300, 2_000, 50_000, 60_000])
def test_a_full_disk_is_an_error_and_not_a_crash(path, room):
    create_store(path, ids(3), numbers(3), MADE)
    before = path.read_bytes()
    result = subprocess.run(
        [sys.executable, "-c", WRITE_ON_A_FULL_DISK, str(path), str(room)], capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, "OSError File too large\n"), result.stderr
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["contents.csv", "features.h5"]


def test_ctrl_c_while_hdf5_writes_is_no_error_of_hdf5(tmp_path, monkeypatch):
    """HDF5 calls Python to write: an exception from there was a SystemError with a traceback."""
    write = storefile._ForgivingFile.write

    def stopped(self, data):
        signal.raise_signal(signal.SIGINT)
        return write(self, data)

    monkeypatch.setattr(storefile._ForgivingFile, "write", stopped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            create_store(
                tmp_path / "features.h5", ["a", "b"], np.ones((2, 3), np.float32), Fingerprint({"a": "b"})
            )
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(tmp_path.iterdir()) == []
