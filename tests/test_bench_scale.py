"""make bench-scale: growth is measured right, and its run is one that haemo can work on."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
import bench_scale
from growth import Measured, at_size, growth_of

from haemo.features.cluster import dispatch, elsewhere
from haemo.features.layouts import index_dataset
from haemo.features.manifest import Manifest
from haemo.features.reading.formats import read_slice
from haemo.features.store.store import FeatureStore


def took(**seconds: float) -> dict[int, Measured]:
    """Processor time by number of slices, as `of_1000=2.0`; repeats of the first differ by 0.1 s."""
    found = {int(name.removeprefix("of_")): Measured(0, cpu, 0, "", False) for name, cpu in seconds.items()}
    least = min(found)
    return found | {least: replace(found[least], spread=0.1)}


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_exponent_leaves_start_up_out(power):
    found = took(**{f"of_{size}": 2.0 + 1e-5 * size**power for size in (10, 1000, 10_000, 100_000)})
    grown = growth_of(found)
    assert grown.exponent == pytest.approx(power, abs=0.01)
    assert grown.least < grown.exponent < grown.most


def test_exponent_is_as_sure_as_start_up():
    work = took(of_10=4.0, of_10000=4.3, of_100000=7.0)
    assert str(growth_of(work)) == "1.00 (0.89 to 1.16)"
    assert str(growth_of(took(of_10=4.0, of_10000=3.9, of_100000=7.0))) == "start-up decides"
    assert growth_of(took(of_10=4.0, of_1000=5.0)) is None
    refused = {1_000_000: replace(work[100_000], refused=True)}
    assert growth_of(work | refused) == growth_of(work)


def test_start_up_is_that_of_the_same_minutes():
    work = took(of_10=1.0, of_10000=1.3, of_100000=4.0)
    slow = {10: replace(work[10], cpu=1.25)}  # it was measured while something else worked
    assert growth_of(work | slow).exponent == pytest.approx(1.74, abs=0.01)
    beside = {size: replace(work[size], start_up=1.0) for size in (10_000, 100_000)}
    assert growth_of(work | slow | beside) == growth_of(work)
    slow |= {10_000: replace(work[10_000], cpu=1.8, start_up=1.5), 100_000: beside[100_000]}
    assert growth_of(work | slow).exponent == growth_of(work).exponent


def test_steps_are_measured_in_turn_with_their_start_up(tmp_path, monkeypatch):
    times = iter((2.0, 0.5, 1.9, 0.4, 2.1, 0.6, 30.0, 0.9, 0.8, 0.7))
    places = []

    def run(command):
        places.append(Path(command[-1]).parent.name)
        return Measured(0, next(times), 0, "", False)

    monkeypatch.setattr(bench_scale, "in_process", run)
    compare = next(step for step in bench_scale.STEPS if step.name == "compare")
    short, long = (
        bench_scale.measured(compare, tmp_path / count, tmp_path / "400", (), 3)
        for count in ("10000", "752803")
    )
    assert (short.cpu, short.start_up, short.spread) == (1.9, 0.4, pytest.approx(0.2))
    assert (long.cpu, long.start_up, long.spread) == (30.0, 0.7, 0.0)
    assert places == ["10000", "400"] * 3 + ["752803", "400", "400", "400"]


def test_another_size_lies_on_the_line_through_the_last_two():
    assert at_size(took(of_10=4.0, of_1000=5.0, of_2000=7.0), 10_000) == pytest.approx(23.0)
    assert at_size(took(of_10=4.0), 10_000) is None


def test_goes_of_one_folder_are_one_table(tmp_path, capsys):
    kept = tmp_path / "measured.json"
    svm, rbf = (next(step for step in bench_scale.STEPS if step.name == name) for name in ("svm", "rbf"))
    for count, cpu in ((400, 4.0), (10_000, 4.5), (100_000, 24.0)):
        bench_scale.Results(kept).add(svm, count, Measured(9.0, cpu, 100.0, "", False, 0.1))
    bench_scale.Results(kept).add(rbf, 400, Measured(9.0, 4.0, 100.0, "error: no room", True))
    capsys.readouterr()
    bench_scale.Results(kept).show(200_000)
    assert capsys.readouterr().out.splitlines() == [
        "| step | 400 | 10,000 | 100,000 | exponent | MB at 400 | 10,000 | 100,000 |",
        "|---|---|---|---|---|---|---|---|",
        "| svm | 4.00 | 4.50 | 24.00 | 1.58 (1.50 to 1.67), above 1.1 | 100 | 100 | 100 |",
        "| rbf | refused |  |  |  |  |  |  |",
        "svm at 200,000 slices, by the line through the last two sizes: 46 s CPU",
    ]


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
