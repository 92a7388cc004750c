import random
from contextlib import suppress

import numpy as np
import pytest
from on_disk import as_written
from stand_ins import Network, extract, write_slices

from haemo.errors import DamagedStore, MissingStep
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.store import FeatureStore, create_store
from haemo.features.store.verify import repair_store, verify_store
from haemo.pipeline.cli import main

ROWS, DIMENSION = 150, 16
IDS = [f"scan/{number:03}.png" for number in range(ROWS)]
EMBEDDINGS = np.random.default_rng(0).normal(size=(ROWS, DIMENSION)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "features.h5"
    create_store(path, IDS, EMBEDDINGS, Fingerprint({"layer": "fc7"}))
    return path


def flip(path, place, bit=0):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def place_of(path, data):
    """Where some bytes stand in a file."""
    return path.read_bytes().index(data)


def test_a_sound_store_is_sound(path):
    found = verify_store(path)
    assert found.sound
    assert (found.rows, found.damaged, found.problem) == (ROWS, [], None)
    before = as_written(path)
    assert repair_store(path).sound
    assert as_written(path) == before


def test_a_flipped_bit_anywhere_is_found_and_never_read_in_silence(path):
    whole = path.read_bytes()
    rng = random.Random(0)
    places = [*range(0, 512, 37), *(rng.randrange(len(whole)) for _ in range(120))]
    for place in places:
        path.write_bytes(whole)
        flip(path, place, rng.randrange(8))
        with suppress(DamagedStore):
            assert not verify_store(path).sound, place
        with suppress(DamagedStore, MissingStep), FeatureStore(path) as store:
            np.testing.assert_array_equal(store.embeddings(IDS), EMBEDDINGS)


@pytest.mark.parametrize("row", [0, 63, 64, 149])
def test_repair_drops_exactly_the_damaged_row(path, row):
    flip(path, place_of(path, EMBEDDINGS[row].tobytes()) + 5, bit=3)
    found = verify_store(path)
    assert found.damaged == [f"row {row} ({IDS[row]})"]
    assert repair_store(path) == found
    assert verify_store(path).sound
    with FeatureStore(path) as store:
        kept = store.has(IDS)
        assert np.flatnonzero(~kept).tolist() == [row]
        np.testing.assert_array_equal(
            store.embeddings([name for name in IDS if name != IDS[row]]), EMBEDDINGS[kept]
        )


def test_a_row_whose_name_is_damaged_is_named_as_it_stands(path):
    flip(path, place_of(path, b"scan/007.png") + 7, bit=1)
    assert verify_store(path).damaged == ["row 7 (scan/005.png)"]


def test_a_bit_outside_the_rows_costs_no_row(path):
    flip(path, 500)
    found = repair_store(path)
    assert (found.damaged, found.problem) == ([], "the sha256 of the file is not the one it was sealed with")
    assert verify_store(path).sound
    with FeatureStore(path) as store:
        np.testing.assert_array_equal(store.embeddings(IDS), EMBEDDINGS)


def test_a_store_without_tables_is_lost_and_says_so(path):
    flip(path, 512)
    for look in (verify_store, repair_store):
        with pytest.raises(DamagedStore, match=r"no row can be told good .* --new"):
            look(path)


def test_another_file_is_no_store(path):
    path.write_text("not HDF5")
    with pytest.raises(DamagedStore):
        verify_store(path)
    path.unlink()
    with pytest.raises(MissingStep, match="haemo features"):
        verify_store(path)


@pytest.mark.parametrize("rotations", ["none", "paper"])
def test_after_a_repair_only_what_was_dropped_is_embedded_again(tmp_path, rotations):
    slices, run = write_slices(tmp_path / "slices", 30), tmp_path / "run"
    extract(slices, run, rotations=rotations)
    path = run / "features.h5"
    before = path.read_bytes()
    with FeatureStore(path) as store:
        rows = [store.embeddings([name])[0].tobytes() for name in ("003.png", "020.png")]
    for row in rows:
        flip(path, place_of(path, row))
    repair_store(path)
    network = Network()
    report = extract(slices, run, network, rotations=rotations)
    assert (report.cached, report.computed, network.planes_seen) == (28, 2, 2)
    assert path.read_bytes() == before


def test_the_command_says_what_it_found(path, capsys):
    run = path.parent
    assert main(["verify", "--run", str(run)]) == 0
    assert capsys.readouterr().out == f"{path}: 150 rows, every bit as it was written\n"

    flip(path, place_of(path, EMBEDDINGS[17].tobytes()))
    assert main(["verify", "--run", str(run)]) == 1
    assert capsys.readouterr().out == (
        f"damaged: row 17 ({IDS[17]})\n"
        f"{path}: the sha256 of the file is not the one it was sealed with; 1 of 150 rows are damaged\n"
        f"Drop them and keep the others: haemo verify --run {run} --repair\n"
    )
    assert main(["verify", "--run", str(run), "--repair"]) == 0
    assert capsys.readouterr().out.endswith(
        f"They are dropped, the others kept. Make them again: haemo features --run {run}\n"
    )
    assert main(["verify", "--run", str(run)]) == 0
    assert main(["verify", "--run", str(run / "nowhere")]) == 1
    assert "haemo features" in capsys.readouterr().err


def test_an_empty_file_is_called_empty(path):
    path.write_bytes(b"")
    for look in (verify_store, repair_store):
        with pytest.raises(
            DamagedStore, match=rf"features\.h5 is empty; .*: haemo features --run {path.parent} --new$"
        ):
            look(path)
