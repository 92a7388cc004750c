"""How many threads are started and how much memory is taken: no more than control groups grant."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

import haemo.pipeline.cli
import haemo.pipeline.doctor
import haemo.processors
from haemo.memory import free_memory
from haemo.pipeline.cli import main
from haemo.pipeline.doctor import examine
from haemo.processors import Processors, processors

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes a fake root of a machine with 8 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)

    def make(group: str, mounts: list[str], files: dict[str, str]) -> Path:
        for name, text in {
            "proc/self/cgroup": group,
            "proc/self/mountinfo": "\n".join(["22 1 8:1 / / rw - ext4 /dev/sda1 rw", *mounts]) + "\n",
            **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
        }.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("files", "quota", "usable"),
    [
        ({}, None, 8),
        ({"a/b/cpu.max": "max 100000\n"}, None, 8),
        ({"a/b/cpu.max": "150000 100000\n"}, 1.5, 2),
        ({"a/b/cpu.max": "1000 100000\n"}, 0.01, 1),
        ({"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3.0, 3),
        ({"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "max 100000", "cpu.max": "200000 100000"}, 2.0, 2),
        ({"a/b/cpu.max": "6400000 100000\n"}, 64.0, 8),
        ({"a/other/cpu.max": "100000 100000\n"}, None, 8),
        ({"a/b/cpu.max": "nonsense\n"}, None, 8),
        ({"a/b/cpu.max": "100000 0\n"}, None, 8),
        ({"a/b/cpu.max": ""}, None, 8),
    ],
)
def test_version_2_is_followed_up_the_whole_path(tree, files, quota, usable):
    found = processors(tree("0::/a/b\n", [V2], files))
    assert found == Processors(8, quota)
    assert found.usable == usable


@pytest.mark.parametrize(
    ("limits", "quota"),
    [({"job": 250000}, 2.5), ({"job": -1}, None), ({"job": -1, ".": 100000}, 1.0), ({"job": 0}, None)],
)
def test_version_1_is_followed_up_the_whole_path(tree, limits, quota):
    files = {}
    for group, limit in limits.items():
        files[f"cpu,cpuacct/{group}/cpu.cfs_quota_us"] = f"{limit}\n"
        files[f"cpu,cpuacct/{group}/cpu.cfs_period_us"] = "100000\n"
    group = "7:memory:/elsewhere\n5:cpu,cpuacct:/job/step\n1:name=systemd:/\n"
    assert processors(tree(group, [MEMORY, V1], files)).quota == quota


def test_of_two_versions_side_by_side_the_smaller_quota_counts(tree):
    unified = V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "300000",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "unified/cpu.max": "400000 100000",
    }
    assert processors(tree("5:cpu,cpuacct:/\n0::/\n", [V1, unified], files)).quota == 3.0


@pytest.mark.parametrize("group", ["/docker/abc", "/docker/abc/inner", "/", "/../../system.slice"])
def test_in_a_container_the_group_may_be_named_as_the_host_names_it(tree, group):
    mount = V2.replace("0:26 / ", "0:26 /docker/abc ")
    assert processors(tree(f"0::{group}\n", [mount], {"cpu.max": "200000 100000"})).quota == 2.0


def test_a_folder_with_a_space_in_its_name_is_found(tree):
    mount = V2.replace("/sys/fs/cgroup ", r"/sys/fs/cgroup/my\040groups ")
    assert processors(tree("0::/a\n", [mount], {"my groups/a/cpu.max": "200000 100000"})).quota == 2.0


def test_without_control_groups_the_affinity_decides(tree, tmp_path):
    assert processors(tmp_path / "nothing") == Processors(8)
    assert processors(tree("broken", ["broken", "1 2 3 - cgroup2 x"], {})) == Processors(8)


def stands(limit: str, used: int, cached: int, names=("memory.max", "memory.current"), prefix=""):
    """Files of a group with a limit of memory."""
    stat = f"anon 5\n{prefix}inactive_file {cached}\nactive_file 7\n"
    return dict(zip((*names, "memory.stat"), (f"{limit}\n", f"{used}\n", stat), strict=True))


@pytest.mark.parametrize(
    ("groups", "free"),
    [
        ({}, 8000 * 1024),
        ({"a/b": ("max", 4_000_000, 0)}, 8000 * 1024),
        ({"a/b": ("5000000", 4_000_000, 0)}, 1_000_000),
        ({"a/b": ("5000000", 4_000_000, 500_000)}, 1_500_000),
        ({"a/b": ("5000000", 4_000_000, 0), "a": ("6000000", 5_500_000, 0)}, 500_000),
        ({"a/b": ("5000000", 6_000_000, 0)}, 0),
        ({"a/b": ("99999999999", 0, 0)}, 8000 * 1024),
        ({"a/other": ("5000000", 4_000_000, 0)}, 8000 * 1024),
    ],
)
def test_free_memory_is_what_the_host_has_and_every_group_leaves(tree, groups, free):
    files = {f"{group}/{name}": text for group, is_ in groups.items() for name, text in stands(*is_).items()}
    root = tree("0::/a/b\n", [V2], files)
    (root / "proc/meminfo").write_text("MemTotal: 16000 kB\nMemAvailable:    8000 kB\nHugePages_Total: 0\n")
    assert free_memory(root) == free


def test_free_memory_in_groups_of_version_1(tree):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    files = {"memory/job/" + name: text for name, text in stands("5000", 4000, 100, names, "total_").items()}
    unlimited = stands(str(2**63 - 4096), 4000, 100, names, "total_")
    files |= {"memory/" + name: text for name, text in unlimited.items()}
    group = "7:memory:/job\n5:cpu,cpuacct:/elsewhere\n"
    assert free_memory(tree(group, [V1, MEMORY], files)) == 1100


@pytest.fixture
def granted(monkeypatch):
    """A machine of 8 processors with the time of one and a half."""
    found = Processors(8, 1.5)
    for module in (haemo.processors, haemo.pipeline.cli, haemo.pipeline.doctor):
        monkeypatch.setattr(module, "processors", lambda: found)


def test_doctor_says_how_many_and_why(granted, tmp_path):
    checks = {check.name: check for check in examine(tmp_path)}
    assert checks["processors"].detail == "2 in use of 8 allowed; the control group grants the time of 1.5"


@pytest.mark.parametrize(("before", "after"), [(None, "2"), ("5", "5")])
def test_commands_bound_the_threads_of_libraries_where_nobody_has(granted, monkeypatch, before, after):
    monkeypatch.setenv("OMP_NUM_THREADS", before or "")
    if before is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    assert main(["--version"]) == 0
    assert os.environ["OMP_NUM_THREADS"] == after


@pytest.mark.parametrize(
    ("kernel", "before", "after"),
    [
        ("always [madvise] never", None, "1"),
        ("always [madvise] never", "0", "0"),
        ("always madvise [never]", None, None),
        (None, None, None),
    ],
)
def test_commands_ask_for_large_pages_where_the_kernel_gives_them(
    tmp_path, monkeypatch, kernel, before, after
):
    # Elsewhere torch would warn that it gets none.
    if kernel:
        (tmp_path / "enabled").write_text(kernel)
    monkeypatch.setattr(haemo.pipeline.cli, "_LARGE_PAGES", tmp_path / "enabled")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", before or "")
    if before is None:
        monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    assert main(["--version"]) == 0
    assert os.environ.get("THP_MEM_ALLOC_ENABLE") == after


def test_stage_one_computes_no_more_batches_at_once_than_may_work(granted):
    import torch

    from haemo.models.networks.engine import Engine
    from haemo.models.networks.extractor import PlaneExtractor

    busy: list[int] = []
    seen: list[int] = []

    class Slow(torch.nn.Module):
        def forward(self, planes):
            busy.append(1)
            seen.append(len(busy))
            time.sleep(0.02)
            busy.pop()
            return planes.float().mean(dim=(1, 2))[:, None]

    threads = torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        engine = Engine("cpu", "float32", "contiguous")
        facts = {"dimension": 1, "size": 4, "mean": (0,), "std": (1,)}
        extractor = PlaneExtractor("slow", Slow(), None, "mean", engine, 2, usual=2, **facts)
        extractor(np.zeros((24, 4, 4), np.uint8))
        assert max(seen) == 2
        assert torch.get_num_threads() == 6
    finally:
        torch.set_num_threads(threads)
