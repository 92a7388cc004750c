import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from on_disk import as_written
from PIL import Image
from stand_ins import SIZE, Network, embed, extract, folder_manifest, write_slices

from haemo.errors import BadDataset, DamagedStore, FingerprintMismatch
from haemo.features.extraction import extract as extract_module
from haemo.features.failures import Failure
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.reading.formats import read_slice
from haemo.features.store.store import FeatureStore
from haemo.features.store.verify import verify_store
from haemo.features.views.augment import rotate_planes
from haemo.features.views.preprocess import Preprocessing

FORBIDDEN = AssertionError("the network was asked for what is there already")


def unused():
    """A network that must not be used."""
    return Network(limit=0, stop=FORBIDDEN)


def plane(path):
    return Preprocessing(size=SIZE).plane(read_slice(path))


def stored(run, names, variant=0):
    with FeatureStore(run / "features.h5") as store:
        return store.embeddings(names, variant)


def names_in(folder):
    return [path.name for path in sorted(folder.iterdir())]


@pytest.fixture
def slices(tmp_path):
    return write_slices(tmp_path / "slices", 20)


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 64 embeddings, the least there can be."""
    monkeypatch.setattr(extract_module, "_PART_BYTES", 0)


@pytest.mark.numerical
def test_every_slice_is_embedded_as_the_obvious_loop_does(slices, run):
    report = extract(slices, run)
    assert (report.cached, report.computed, report.failures, report.rows) == (0, 20, [], 20)
    expected = embed(Network(), [plane(path) for path in sorted(slices.iterdir())])
    np.testing.assert_array_equal(stored(run, names_in(slices)), expected)
    assert sorted(path.name for path in run.iterdir()) == ["contents.csv", "features.h5"]


@pytest.mark.numerical
def test_rotations_are_embedded_as_the_obvious_loop_does(slices, run):
    report = extract(slices, run, rotations="paper")
    assert (report.computed, report.rows) == (20, 140)
    for number, variants in enumerate(
        rotate_planes(np.array([plane(path) for path in sorted(slices.iterdir())])).swapaxes(0, 1)
    ):
        np.testing.assert_array_equal(stored(run, names_in(slices), number), embed(Network(), variants))


def test_what_is_there_is_neither_decoded_nor_embedded_again(slices, run, monkeypatch):
    extract(slices, run)
    before = as_written(run / "features.h5")
    monkeypatch.setattr("haemo.features.reading.reader.SliceReader.__call__", None)
    report = extract(slices, run, unused())
    assert (report.cached, report.computed, report.failures) == (20, 0, [])
    assert as_written(run / "features.h5") == before


def test_moved_renamed_and_relabelled_slices_cost_no_pass_of_the_network(slices, run, tmp_path):
    extract(slices, run)
    expected = stored(run, names_in(slices))
    moved = tmp_path / "moved"
    shutil.move(slices, moved)
    manifest = Manifest(
        ManifestRow(f"new/{path.name}", path, "other", "patient", "study") for path in sorted(moved.iterdir())
    )
    report = extract(manifest, run, unused())
    assert (report.cached, report.computed, report.failures) == (20, 0, [])
    np.testing.assert_array_equal(stored(run, [row.slice_id for row in manifest]), expected)


def test_a_file_that_changed_is_embedded_again(slices, run):
    extract(slices, run)
    shutil.copy(write_slices(slices.parent / "other", 1, seed=5) / "000.png", slices / "007.png")
    report = extract(slices, run)
    assert (report.cached, report.computed) == (19, 1)
    np.testing.assert_array_equal(stored(run, ["007.png"]), embed(Network(), [plane(slices / "007.png")]))


def test_a_touched_file_is_decoded_and_not_embedded_again(slices, run):
    extract(slices, run)
    os.utime(slices / "003.png", (1, 1))
    assert extract(slices, run, unused()).cached == 20


def test_equal_pixels_are_embedded_once(slices, run):
    for number in range(5):
        shutil.copy(slices / "000.png", slices / f"000-{number}.png")
    Image.open(slices / "000.png").save(slices / "same.bmp")
    network = Network()
    report = extract(slices, run, network)
    assert (report.cached, report.shared, report.computed, report.rows) == (0, 6, 26, 20)
    assert network.planes_seen == 20
    found = stored(run, ["000.png", "000-4.png", "same.bmp"])
    np.testing.assert_array_equal(found[1:], found[[0, 0]])


def test_rotations_come_to_what_is_there(slices, run, tmp_path):
    extract(slices, run)
    network = Network()
    report = extract(slices, run, network, rotations="paper")
    assert (report.cached, report.computed, report.rows, network.planes_seen) == (0, 20, 140, 120)
    assert extract(slices, run, unused(), rotations="paper").cached == 20
    extract(slices, tmp_path / "at once", rotations="paper")
    assert (run / "features.h5").read_bytes() == (tmp_path / "at once" / "features.h5").read_bytes()


def test_unusable_slices_are_named_and_the_others_done(slices, run):
    (slices / "002.png").write_bytes((slices / "002.png").read_bytes()[:60])
    (slices / "005.png").write_bytes(b"")
    manifest = folder_manifest(slices)
    (slices / "009.png").unlink()
    report = extract(manifest, run)
    assert (report.computed, report.rows) == (17, 17)
    assert [Path(failure.path).name for failure in report.failures] == ["002.png", "005.png", "009.png"]
    assert {failure.stage for failure in report.failures} == {"features"}
    assert report.failures[1] == Failure(str(slices / "005.png"), "features", "the file is empty")
    with FeatureStore(run / "features.h5") as store:
        assert store.has(["001.png", "002.png", "005.png", "009.png"]).tolist() == [True, False, False, False]


def test_a_slice_that_can_no_longer_be_read_is_not_given_its_old_embedding(slices, run):
    extract(slices, run)
    (slices / "002.png").write_bytes(b"spoilt")
    report = extract(slices, run)
    assert (report.cached, len(report.failures)) == (19, 1)
    with FeatureStore(run / "features.h5") as store:
        assert store.has(["001.png", "002.png"]).tolist() == [True, False]


def test_a_slice_whose_file_is_gone_keeps_its_embedding(slices, run, tmp_path):
    extract(slices, run)
    manifest, before = folder_manifest(slices), stored(run, names_in(slices))
    slices.rename(tmp_path / "elsewhere")
    report = extract(manifest, run, unused())
    assert (report.cached, len(report.failures), report.rows) == (0, 20, 20)
    with FeatureStore(run / "features.h5") as store:
        assert store.covers(manifest.rows).all()
        np.testing.assert_array_equal(store.embeddings([row.slice_id for row in manifest]), before)
    (tmp_path / "elsewhere").rename(slices)
    assert extract(manifest, run, unused()).cached == 20


def test_of_gone_changed_and_spoilt_files_only_the_gone_keep_theirs(slices, run, tmp_path):
    extract(slices, run)
    manifest = folder_manifest(slices)
    (slices / "002.png").unlink()
    (slices / "003.png").write_bytes(b"spoilt")
    other = write_slices(tmp_path / "other", 1, seed=5) / "000.png"
    shutil.copy(other, slices / "004.png")
    report = extract(manifest, run)
    assert [Path(failure.path).name for failure in report.failures] == ["002.png", "003.png"]
    with FeatureStore(run / "features.h5") as store:
        assert store.covers(manifest.rows[2:5]).tolist() == [True, False, True]
    np.testing.assert_array_equal(stored(run, ["004.png"]), embed(Network(), [plane(other)]))
    # What comes back in the place of a file that was gone is embedded for what it is.
    shutil.copy(other, slices / "002.png")
    extract(manifest, run, unused())
    np.testing.assert_array_equal(stored(run, ["002.png"]), stored(run, ["004.png"]))


def test_a_file_that_changes_while_it_is_read_is_not_used(slices, run, monkeypatch):
    def read_and_write(reader, path):
        slice_ = read_slice(path)
        if path.name == "004.png":
            os.utime(path, (1, 1))
        return slice_

    monkeypatch.setattr("haemo.features.reading.reader.SliceReader.__call__", read_and_write)
    report = extract(slices, run)
    assert report.failures == [
        Failure(str(slices / "004.png"), "features", "changed while it was being read")
    ]


def test_without_a_usable_slice_there_is_no_store(tmp_path, run):
    slices = tmp_path / "slices"
    slices.mkdir()
    (slices / "a.png").write_text("no picture")
    report = extract(slices, run)
    assert (report.rows, len(report.failures)) == (0, 1)
    assert list(run.iterdir()) == []


@pytest.mark.numerical
@pytest.mark.parametrize("workers", [1, 5])
def test_the_bytes_do_not_depend_on_the_number_of_threads(slices, tmp_path, workers):
    extract(slices, tmp_path / "a")
    extract(slices, tmp_path / "b", workers=workers)
    assert (tmp_path / "a" / "features.h5").read_bytes() == (tmp_path / "b" / "features.h5").read_bytes()


@pytest.mark.parametrize("rotations", ["none", "paper"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), BadDataset("stopped")])
def test_an_interrupted_extraction_goes_on_and_ends_with_the_same_bytes(
    tmp_path, run, small_parts, stop, rotations
):
    slices = write_slices(tmp_path / "slices", 100)
    extract(slices, tmp_path / "undisturbed", rotations=rotations)
    for limit in (0, 3, 9):
        with pytest.raises(type(stop)):
            extract(slices, run, Network(limit=limit, stop=stop), rotations=rotations)
        assert not (run / "features.h5").exists()
    rest = Network()
    extract(slices, run, rest, rotations=rotations)
    assert rest.planes_seen == (700 if rotations == "paper" else 100) - 12 * Network.batch
    for name in ("features.h5", "contents.csv"):
        assert (run / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert sorted(path.name for path in run.iterdir()) == ["contents.csv", "features.h5"]


def test_more_parts_than_files_may_be_open_are_merged(tmp_path, run, small_parts, monkeypatch):
    monkeypatch.setattr("haemo.features.store.shards._OPEN_STORES", 2)
    slices = write_slices(tmp_path / "slices", 60)
    extract(slices, tmp_path / "undisturbed", rotations="paper")
    with pytest.raises(KeyboardInterrupt):
        extract(slices, run, Network(limit=50, stop=KeyboardInterrupt()), rotations="paper")
    assert len(list((run / "features.parts").iterdir())) > 6
    extract(slices, run, rotations="paper")
    assert (run / "features.h5").read_bytes() == (tmp_path / "undisturbed" / "features.h5").read_bytes()


def test_what_killed_processes_left_is_cleared_away(slices, run):
    extract(slices, run)
    (run / ".features.h5.123.abc.tmp").write_text("half")
    (run / ".contents.csv.123.abc.tmp").write_text("half")
    (run / "features.parts").mkdir()
    (run / "features.parts" / ".part-000001.h5.123.abc.tmp").write_text("half")
    extract(slices, run, unused())
    assert sorted(path.name for path in run.iterdir()) == ["contents.csv", "features.h5"]


def test_parts_that_are_in_the_store_already_are_dropped(slices, run, small_parts):
    with pytest.raises(KeyboardInterrupt):
        extract(slices, run, Network(limit=2, stop=KeyboardInterrupt()))
    parts = shutil.copytree(run / "features.parts", run / "saved")
    extract(slices, run)
    before = as_written(run / "features.h5")
    shutil.move(parts, run / "features.parts")
    assert extract(slices, run, unused()).cached == 20
    assert as_written(run / "features.h5") == before
    assert not (run / "features.parts").exists()


def test_a_damaged_part_is_named_and_made_again(slices, run, tmp_path, caplog):
    with pytest.raises(KeyboardInterrupt):
        extract(slices, run, Network(limit=2, stop=KeyboardInterrupt()))
    part = run / "features.parts" / "part-000001.h5"
    data = bytearray(part.read_bytes())
    data[1500] ^= 4
    part.write_bytes(data)
    with caplog.at_level(logging.WARNING, "haemo"):
        extract(slices, run)
    assert f"{part}: the sha256 of the file is not the one it was sealed with" in caplog.text
    extract(slices, tmp_path / "undisturbed")
    assert (run / "features.h5").read_bytes() == (tmp_path / "undisturbed" / "features.h5").read_bytes()


def test_a_damaged_store_is_not_built_upon(slices, run):
    extract(slices, run)
    path = run / "features.h5"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedStore, match=r"haemo verify --run .* --repair"):
        extract(slices, run)
    extract(slices, run, new=True)
    assert verify_store(path).sound


def test_other_weights_are_refused_with_the_key_and_the_remedy(slices, run):
    extract(slices, run)
    with pytest.raises(FingerprintMismatch, match=r"weights is '0', asked for '1'. .*--new"):
        extract(slices, run, Network(seed=1))
    with pytest.raises(FingerprintMismatch, match="stored_as is 'float32', asked for 'float16'"):
        extract(slices, run, dtype="float16")


def test_parts_of_other_weights_are_refused_too(slices, run):
    with pytest.raises(KeyboardInterrupt):
        extract(slices, run, Network(limit=2, stop=KeyboardInterrupt()))
    with pytest.raises(FingerprintMismatch, match=r"left by an interrupted run, .* or delete"):
        extract(slices, run, Network(seed=1))
    assert extract(slices, run, Network(seed=1), new=True).computed == 20


def test_new_replaces_the_store_only_when_it_is_done(slices, run, tmp_path):
    extract(slices, run)
    before = (run / "features.h5").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        extract(slices, run, Network(seed=1, limit=2, stop=KeyboardInterrupt()), new=True)
    assert (run / "features.h5").read_bytes() == before
    rest = Network(seed=1)
    extract(slices, run, rest)  # with or without --new: it goes on
    assert rest.planes_seen == 20 - 2 * Network.batch
    extract(slices, tmp_path / "undisturbed", Network(seed=1))
    assert (run / "features.h5").read_bytes() == (tmp_path / "undisturbed" / "features.h5").read_bytes()


def test_new_without_a_usable_slice_leaves_the_store_as_it_is(slices, run):
    extract(slices, run)
    before = (run / "features.h5").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        extract(slices, run, Network(limit=2, stop=KeyboardInterrupt()), new=True)
    for path in slices.iterdir():
        path.write_bytes(b"")
    report = extract(slices, run, new=True)
    assert (report.rows, len(report.failures)) == (0, 20)
    assert (run / "features.h5").read_bytes() == before


def test_slices_of_another_manifest_are_kept_until_new(slices, run):
    extract(slices, run)
    few = Manifest(folder_manifest(slices).rows[:5])
    assert extract(few, run, unused()).rows == 20
    assert extract(slices, run, unused()).cached == 20
    assert extract(few, run, new=True).rows == 5


def test_float16_is_half_the_size(slices, run):
    extract(slices, run, dtype="float16")
    expected = embed(Network(), [plane(path) for path in sorted(slices.iterdir())]).astype(np.float16)
    np.testing.assert_array_equal(stored(run, names_in(slices)), expected)


def test_an_embedding_that_is_not_finite_names_the_slice_and_keeps_the_others(slices, run):
    class Broken(Network):
        def stream(self, batches):
            for number, embeddings in enumerate(super().stream(batches)):
                if number == 1:
                    embeddings[3, 0] = np.nan
                yield embeddings

    with pytest.raises(BadDataset, match=r"embedding of 011\.png is not finite"):
        extract(slices, run, Broken())
    rest = Network()
    extract(slices, run, rest)
    assert rest.planes_seen == 20 - 11


def test_the_folder_may_move(slices, run, tmp_path):
    extract(slices, run)
    shutil.move(run, tmp_path / "moved")
    assert extract(slices, tmp_path / "moved", unused()).cached == 20


def test_progress_counts_the_slices_that_are_to_be_done(slices, run):
    seen = []

    def progress(items, *, total=None, label=""):
        seen.append((label, total))
        yield from items

    extract(slices, run, progress=progress)
    assert seen == [("slices", 20), ("writing the store", 1)]


EXTRACT_ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from haemo.features.extraction import extract as module
from stand_ins import Network, extract
module._PART_BYTES = 0
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    extract(Path(sys.argv[1]), Path(sys.argv[2]))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("room", [1_000, 12_000, 30_000])
def test_a_full_disk_stops_the_extraction_and_costs_nothing_that_was_done(tmp_path, run, room, small_parts):
    slices = write_slices(tmp_path / "slices", 150)
    script = [sys.executable, "-c", EXTRACT_ON_A_FULL_DISK, str(slices), str(run)]
    result = subprocess.run([*script, str(Path(__file__).parent), str(room)], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "File too large\n"), result.stderr
    assert not (run / "features.h5").exists()
    extract(slices, run)
    extract(slices, tmp_path / "undisturbed")
    assert (run / "features.h5").read_bytes() == (tmp_path / "undisturbed" / "features.h5").read_bytes()
