"""make bench-scale: growth is measured right, and its run is one that haemo can work on."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import bench_scale

from haemo.features.cluster import dispatch, elsewhere
from haemo.features.layouts import index_dataset
from haemo.features.manifest import Manifest
from haemo.features.reading.formats import read_slice
from haemo.features.store.store import FeatureStore


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_exponent_leaves_start_up_out(power):
    sizes = [10, 10_000, 100_000]
    times = [2.0 + 1e-5 * size**power for size in sizes]
    assert bench_scale.exponent(sizes, times) == pytest.approx(power, abs=0.01)


def test_exponent_of_two_sizes_is_the_slope():
    assert bench_scale.exponent([10, 1000], [1.0, 10.0]) == pytest.approx(0.5)
    assert bench_scale.exponent([10], [1.0]) is None


def test_parts_merge_to_a_store_of_all_slices_which_is_then_up_to_date(tmp_path):
    data, run, count = tmp_path / "data", tmp_path / "run", 130
    bench_scale.write_data(data, count)
    manifest = index_dataset(data).manifest
    bench_scale.write_manifest(run, data, count)
    assert Manifest.read(run / "manifest.csv") == manifest
    assert len(manifest) == count
    assert {row.label for row in manifest} == {"normal", "haemorrhage"}
    assert len({row.patient for row in manifest}) == 4
    assert read_slice(manifest.rows[0].path).pixels.shape == (1, 1)
    bench_scale.write_parts(run, 4)
    bench_scale.merge_parts(run, 4)
    with FeatureStore(run / "features.h5") as store:
        assert store.covers(manifest.rows).all()
        assert store.keys.slice_ids == [row.slice_id for row in manifest]


def test_workers_that_sleep_leave_a_store_of_all_slices(tmp_path, capsys, monkeypatch):
    for module, name in ((dispatch, "embed_batch"), (elsewhere, "rows_of_a_part")):
        monkeypatch.setattr(module, name, getattr(module, name))  # so that it is put back
    run = tmp_path / "run"
    bench_scale.write_manifest(run, tmp_path / "data", 100)
    bench_scale.features_of_sleepers(run, 4, 1, 0.01)
    with FeatureStore(run / "features.h5") as store:
        assert store.covers(Manifest.read(run / "manifest.csv").rows).all()
    assert "1 workers, 0.01 ms a slice" in capsys.readouterr().out
