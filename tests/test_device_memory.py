"""Where the memory of a CUDA device does not hold a batch: smaller ones, and no slice lost or doubled."""

import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins import SIZE, extract, write_slices
from torch import nn

from haemo.errors import MemoryBudgetExceeded
from haemo.features.extraction.embedding import embed_slices
from haemo.features.store.store import FeatureStore
from haemo.features.views.preprocess import Preprocessing
from haemo.models.networks import extractor as extractor_module
from haemo.models.networks.device_memory import fitting_batch, ran_out
from haemo.models.networks.engine import Engine
from haemo.models.networks.extractor import PlaneExtractor
from haemo.models.networks.mirrored import MirroredExtractor

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
CPU = Engine("cpu", "float32", "contiguous")
WEIGHTS = SimpleNamespace(sha256="made up", origin="made up")


class Device(nn.Module):
    """Sums of rows, whole numbers whatever the batch, on a device that holds `room` planes."""

    def __init__(self, room: int = 99, full: RuntimeError = FULL):
        super().__init__()
        self.room, self.full, self.taken = room, full, []

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        if len(planes) > self.room:
            raise self.full
        self.taken.append(len(planes))
        return planes.float().sum(2)


def network(room: int = 99, batch: int | None = None, full: RuntimeError = FULL) -> PlaneExtractor:
    sizes = {"usual": 16, "dimension": SIZE, "size": SIZE}
    return PlaneExtractor(
        "sums", Device(room, full), WEIGHTS, "only", CPU, batch, **sizes, mean=(0.0,), std=(1.0,)
    )


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if "going on with" in record.getMessage()]


@given(
    counts=st.lists(st.integers(0, 9), max_size=6),
    room=st.integers(1, 12),
    mirrors=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_batches_come_whole_and_in_their_order(counts, room, mirrors):
    random = np.random.default_rng(0)
    batches = [random.integers(0, 256, (count, SIZE, SIZE), dtype=np.uint8) for count in counts]
    ours, ample = network(room, batch=9), network(batch=9)
    if mirrors:
        ours, ample = MirroredExtractor(ours), MirroredExtractor(ample)
    found, wanted = list(ours.stream(batches)), list(ample.stream(batches))
    assert [len(part) for part in found] == counts
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    planes = np.concatenate([np.empty((0, SIZE, SIZE), np.uint8), *batches])
    np.testing.assert_array_equal(ours(planes), ample(planes))
    assert ours.batch <= max(room, 9 if not counts else room)


@pytest.mark.parametrize("batch", [None, 12])
def test_a_store_is_as_from_a_device_with_enough_memory(two_threads, tmp_path, caplog, batch):
    slices = write_slices(tmp_path / "slices", 23)
    shutil.copy(slices / "003.png", slices / "021.png")
    (slices / "007.png").write_bytes(b"spoilt")
    with caplog.at_level(logging.WARNING, "haemo"):
        small = network(room=3, batch=batch)
        report = extract(slices, tmp_path / "small", small, rotations="paper")
    first = batch or 16
    (message,) = said(caplog)
    assert message.startswith(f"the memory of the GPU does not hold {first} slices at once: going on with")
    assert message.endswith(f"(--batch-size {small.batch} takes them from the start)")
    assert set(small._network.taken) == {small.batch}
    ample = extract(slices, tmp_path / "ample", network(batch=batch), rotations="paper")
    assert (report.computed, report.rows, len(report.failures)) == (22, 7 * 21, 1)
    assert (ample.computed, ample.rows, ample.failures) == (report.computed, report.rows, report.failures)
    stores = [FeatureStore(tmp_path / name / "features.h5") for name in ("small", "ample")]
    assert stores[0].keys == stores[1].keys
    rows = np.arange(report.rows)
    np.testing.assert_array_equal(stores[0].read_rows(rows), stores[1].read_rows(rows))
    assert [store.notes["batch"] for store in stores] == [str(small.batch), str(first)]
    contents = [(tmp_path / name / "contents.csv").read_bytes() for name in ("small", "ample")]
    assert contents[0] == contents[1]


def test_embeddings_from_python_too(tmp_path):
    paths = sorted(write_slices(tmp_path / "slices", 20).iterdir())
    some = [*paths, paths[2]]
    how, path = Preprocessing(size=SIZE), tmp_path / "features.h5"
    found = embed_slices(some, network(room=5), how, path)
    np.testing.assert_array_equal(found, embed_slices(some, network(), how))
    with FeatureStore(path) as store:
        assert store.notes["batch"] == "4"


def test_a_device_that_holds_no_slice_is_told_so():
    with pytest.raises(MemoryBudgetExceeded, match="does not hold a single slice; end other programs there"):
        network(room=0)(np.zeros((5, SIZE, SIZE), np.uint8))


def test_other_errors_stay_what_they_are():
    broken = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        network(room=2, full=broken)(np.zeros((5, SIZE, SIZE), np.uint8))


@pytest.mark.parametrize(
    ("words", "is_full"),
    [
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: out of memory", True),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", False),
    ],
)
def test_libraries_say_it_in_their_own_words(words, is_full):
    assert ran_out(RuntimeError(words)) == is_full


@pytest.mark.parametrize(("free_gb", "batch"), [(80.0, 256), (1.0, 64), (0.02, 1), (0.0, 1)])
def test_the_batch_is_what_fits_into_free_memory(monkeypatch, free_gb, batch):
    """A pass of n planes takes n times 10 MB beside 300 MB of weights."""
    peak = [300_000_000]
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 300_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peak[0])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(free_gb * 1e9), int(80e9)))

    def work(count):
        peak[0] += count * 10_000_000

    assert fitting_batch(256, work) == batch


def test_a_device_that_does_not_hold_the_first_few_gets_fewer(monkeypatch):
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 0)

    def work(count):
        raise FULL

    assert fitting_batch(256, work) == 4


def test_the_memory_is_asked_only_where_no_batch_was(monkeypatch, caplog):
    monkeypatch.setattr(extractor_module, "fitting_batch", lambda most, work: most // 4)
    there = Engine("cuda", "float32", "channels_last")

    def on(engine, batch):
        return PlaneExtractor(
            "", Device(), WEIGHTS, "", engine, batch, usual=256, dimension=1, size=SIZE, mean=(), std=()
        ).batch

    with caplog.at_level(logging.INFO, "haemo"):
        assert [on(there, None), on(there, 100), on(CPU, None)] == [64, 100, 256]
    assert caplog.text.count("batch: 64 slices, of 256") == 1
