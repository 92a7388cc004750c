"""Stage one on the workers of a Dask scheduler: same bytes, whatever becomes of workers and scheduler."""

import functools
import logging
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest
import remote
from PIL import Image
from remote import extract_elsewhere
from stand_ins import extract, folder_manifest, write_slices

from haemo.errors import BadSettings, ClusterFailed, MissingExtra
from haemo.features.cluster import connection as connection_module
from haemo.features.cluster import crew as crew_module
from haemo.features.cluster import dispatch as dispatch_module
from haemo.features.cluster.connection import Cluster, connected, slurm_cluster
from haemo.features.cluster.messages import Card, Introduction
from haemo.features.manifest import Manifest
from haemo.features.store.shards import make_inbox
from haemo.features.store.verify import verify_store
from haemo.pipeline.cli import main
from haemo.pipeline.preparing import extraction as extraction_module
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.shown import shown

SLICES = 100


@pytest.fixture(scope="module")
def client():
    with connected(Cluster.parse("local:2")) as client:
        yield client


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """Files of which two have the pixels of others, far from them, one is spoilt and one in colour."""
    folder = write_slices(tmp_path_factory.mktemp("data") / "slices", SLICES)
    shutil.copy(folder / "002.png", folder / "090.png")
    shutil.copy(folder / "070.png", folder / "005.png")
    (folder / "050.png").write_bytes(b"spoilt")
    Image.new("RGB", (28, 30), (200, 10, 10)).save(folder / "060.png")
    return folder


@pytest.fixture(scope="module")
def alone(slices, tmp_path_factory):
    """The same, extracted in this process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    return run, extract(slices, run, remote.RemoteNetwork())


def state(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in ("features.h5", "contents.csv")}


def kill_a_worker() -> None:
    for process in psutil.Process().children(recursive=True):
        if "spawn_main" in " ".join(process.cmdline()):
            process.kill()
            return


def at(moments, action):
    """A progress that acts when so many slices are done."""

    def progress(items, *, total=None, label=""):
        del total, label
        for number, item in enumerate(items):
            if number in moments:
                action()
            yield item

    return progress


def test_the_bytes_and_the_counts_are_those_of_one_host(client, slices, alone, tmp_path):
    report = extract_elsewhere(client, folder_manifest(slices), tmp_path / "run")
    assert state(tmp_path / "run") == state(alone[0])
    assert report == alone[1]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["contents.csv", "features.h5"]
    # What is there is not embedded again, whatever it is called now.
    moved = shutil.copytree(slices, tmp_path / "moved")
    (tmp_path / "marks").mkdir()
    load = functools.partial(remote.load_marked, folder=tmp_path / "marks")
    again = extract_elsewhere(client, folder_manifest(moved), tmp_path / "run", load)
    assert (again.cached, again.computed, list((tmp_path / "marks").iterdir())) == (SLICES - 1, 0, [])


def test_ctrl_c_is_for_the_command_and_not_for_its_workers(client):
    assert set(client.run(signal.getsignal, signal.SIGINT).values()) == {signal.SIG_IGN}


def test_rotations_and_float16_too(client, slices, tmp_path):
    few = folder_manifest(write_slices(tmp_path / "few", 30))
    extract(few, tmp_path / "alone", remote.RemoteNetwork(), rotations="paper", dtype="float16")
    extract_elsewhere(client, few, tmp_path / "run", rotations="paper", dtype="float16")
    assert state(tmp_path / "run") == state(tmp_path / "alone")


def test_workers_that_do_not_see_the_run_hand_embeddings_back(client, slices, alone, tmp_path):
    extract_elsewhere(client, folder_manifest(slices), tmp_path / "run", hands_back=True)
    assert state(tmp_path / "run") == state(alone[0])


def test_a_worker_without_weights_gets_no_work(client, slices, alone, tmp_path, caplog):
    load = functools.partial(remote.load_or_refuse, mark=tmp_path / "mark")
    extract_elsewhere(client, folder_manifest(slices), tmp_path / "run", load)
    assert state(tmp_path / "run") == state(alone[0])
    assert "is left out: no weights are there; give --weights FILE" in caplog.text


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (remote.load_other, "weights is '1' there, and '0' here; give it the same weights"),
        (
            remote.load_half,
            "precision is 'bfloat16' there, and 'float32' here; --precision float32 is the same everywhere",
        ),
    ],
)
def test_a_worker_that_is_not_as_the_store_gets_no_work(client, slices, alone, tmp_path, caplog, load, said):
    run = tmp_path / "run"
    extract(Manifest(folder_manifest(slices).rows[:10]), run, remote.RemoteNetwork())
    load = functools.partial(load, mark=tmp_path / "mark")
    extract_elsewhere(client, folder_manifest(slices), run, load, carries_on=True)
    assert state(run) == state(alone[0])
    assert f"is left out: {said}" in caplog.text


def test_a_worker_that_fails_loses_its_batches_to_the_others(client, slices, alone, tmp_path, caplog):
    load = functools.partial(remote.load_broken, mark=tmp_path / "mark")
    extract_elsewhere(client, folder_manifest(slices), tmp_path / "run", load)
    assert state(tmp_path / "run") == state(alone[0])
    assert "failed (OSError: [Errno 5] Input/output error); another one takes the " in caplog.text


def test_a_slow_worker_is_not_waited_for(client, slices, alone, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(dispatch_module, "_LEAST_SECONDS", 0.5)
    monkeypatch.setattr(dispatch_module, "_SLOW", 1.0)
    load = functools.partial(remote.load_slow, mark=tmp_path / "mark")
    with caplog.at_level(logging.INFO, "haemo"):
        report = extract_elsewhere(client, folder_manifest(slices), tmp_path / "run", load)
    assert state(tmp_path / "run") == state(alone[0])
    assert report == alone[1]
    assert " is slow with the " in caplog.text


def test_without_a_worker_that_can_it_is_said_why(client, slices, tmp_path, monkeypatch):
    monkeypatch.setattr(crew_module, "_SECONDS_WITH_NONE_BUT_REFUSED", 0.0)
    with pytest.raises(ClusterFailed, match=r"no worker can do this work: .*: no weights are there"):
        extract_elsewhere(client, folder_manifest(slices), tmp_path / "run", remote.load_or_refuse)
    assert list((tmp_path / "run").iterdir()) == []


def test_what_a_stopped_run_has_finished_is_kept(client, slices, alone, tmp_path):
    def stop():
        raise KeyboardInterrupt

    run, manifest = tmp_path / "run", folder_manifest(slices)
    with pytest.raises(KeyboardInterrupt):
        extract_elsewhere(client, manifest, run, progress=at({50}, stop))
    assert list((run / "features.parts").glob("part-*.h5"))
    (tmp_path / "marks").mkdir()
    load = functools.partial(remote.load_marked, folder=tmp_path / "marks")
    extract_elsewhere(client, manifest, run, load)
    seen = sum(int(mark.read_text()) for mark in (tmp_path / "marks").iterdir())
    assert 0 < seen <= SLICES - 40
    assert state(run) == state(alone[0])


def test_a_part_that_came_in_after_the_stop_is_taken_in(slices, alone, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract(slices, tmp_path / "run", remote.RemoteNetwork(limit=5, stop=KeyboardInterrupt()))
    parts = tmp_path / "run" / "features.parts"
    inbox = make_inbox(tmp_path / "run" / "features.h5", "token")
    (parts / "part-000001.h5").rename(inbox / "batch-000007.h5")
    network = remote.RemoteNetwork()
    extract(slices, tmp_path / "run", network)
    assert network.planes_seen == SLICES - 3 - 40
    assert state(tmp_path / "run") == state(alone[0])


# From here on workers are killed: others come in their place, in time.


def test_a_worker_killed_on_the_way_changes_no_byte(client, slices, alone, tmp_path, caplog):
    load = functools.partial(remote.load, pause=0.1)
    with caplog.at_level(logging.INFO, "haemo"):
        progress = at({20}, kill_a_worker)
        report = extract_elsewhere(client, folder_manifest(slices), tmp_path / "run", load, progress=progress)
    assert state(tmp_path / "run") == state(alone[0])
    assert report == alone[1]
    assert "is gone; another one takes the " in caplog.text


def test_a_batch_that_ends_workers_again_and_again_is_named_and_the_others_done(
    client, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(dispatch_module, "_MOST_DEATHS", 2)
    folder = write_slices(tmp_path / "slices", 40)
    Image.new("L", (28, 30)).save(folder / "013.png")
    report = extract_elsewhere(client, folder_manifest(folder), tmp_path / "run", remote.load_deadly)
    lost = [Path(failure.path).name for failure in report.failures]
    assert "013.png" in lost
    assert "ended 2 workers in turn" in report.failures[0].reason
    assert 24 <= report.computed == 40 - len(lost)
    assert "ended 2 workers in turn, and is left out" in caplog.text
    # On one host it is embedded.
    assert extract(folder, tmp_path / "run").failures == []


def test_parts_made_in_any_order_end_with_the_same_bytes(slices, alone, tmp_path):
    """A slice of equal pixels that stands later in the manifest was embedded first."""
    later = Manifest(folder_manifest(slices).rows[62:])
    with pytest.raises(KeyboardInterrupt):
        extract(later, tmp_path / "run", remote.RemoteNetwork(limit=3, stop=KeyboardInterrupt()))
    extract(slices, tmp_path / "run", remote.RemoteNetwork())
    assert state(tmp_path / "run") == state(alone[0])


@pytest.fixture
def scheduler():
    """A scheduler and a worker of their own, as a person starts them."""
    path = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    own = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen([*own, "--no-dashboard"], stderr=subprocess.PIPE, text=True, env=path) as one:
        address = next(line.split()[-1] for line in one.stderr if "Scheduler at:" in line)
        words = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
        with subprocess.Popen([*words, "--nthreads", "1"], stderr=subprocess.DEVNULL, env=path) as other:
            yield address, one
            other.kill()
        one.kill()


def test_a_scheduler_that_is_lost_costs_nothing_that_was_finished(
    scheduler, slices, alone, tmp_path, monkeypatch
):
    monkeypatch.setattr(connection_module, "_SECONDS_TO_CONNECT", 5)  # and to connect again
    address, process = scheduler
    load = functools.partial(remote.load, pause=0.05)
    progress = at({40}, process.kill)
    with (
        connected(Cluster.parse(address)) as client,
        pytest.raises(ClusterFailed, match="does not answer any more; what is finished is kept"),
    ):
        extract_elsewhere(client, folder_manifest(slices), tmp_path / "run", load, progress=progress)
    assert list((tmp_path / "run" / "features.parts").glob("part-*.h5"))
    network = remote.RemoteNetwork()
    extract(slices, tmp_path / "run", network)
    assert network.planes_seen < SLICES - 20
    assert state(tmp_path / "run") == state(alone[0])


def test_the_command(slices, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(extraction_module, "load_stage_one", remote.load_of_settings)
    run = RunDirectory(tmp_path / "run")
    run.create()
    folder_manifest(slices).write(run.manifest_path)
    assert main(["features", "--run", str(run), "--cluster", "local:1"]) == 3
    said = capsys.readouterr()
    assert said.out == f"0 cached, {SLICES - 1} new, 1 failed (see {run}/failures.csv)\n"
    assert "network: stand-in to only (16 numbers a slice) on cpu float32 contiguous, 1 worker\n" in said.err
    assert f"{SLICES} slices at " in said.err
    assert verify_store(run.store_path).sound
    assert run.read_record()["steps"]["features"]["weights"] == "made up"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cluster", "ftp://x"], "cluster 'ftp://x' is none; give tcp://HOST:PORT of a scheduler, local:N"),
        (["--cluster", "local:0"], "cluster 'local:0' is none"),
        (["--cluster", "slurm"], "--cluster slurm needs --cluster-config FILE"),
        (["--cluster-config", "x"], "--cluster-config is for --cluster slurm; give that too"),
        (["--cluster", "local:2", "--cluster-config", "x"], "is for --cluster slurm, not for local:2"),
        (["--cluster", "local:2", "--import", __file__], "--import takes what was embedded elsewhere"),
        (["--cluster", "slurm", "--cluster-config", "nowhere"], "nowhere cannot be read: No such file"),
    ],
)
def test_what_is_no_cluster_is_refused(slices, tmp_path, capsys, words, said):
    run = RunDirectory(tmp_path / "run")
    run.create()
    folder_manifest(slices).write(run.manifest_path)
    assert main(["features", "--run", str(run), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_run_does_not_show_the_host_of_a_scheduler():
    words = ["haemo", "features", "--cluster", "tcp://scheduler.hospital:8786"]
    assert shown({"command": words})[0]["command"] == ["haemo", "features", "--cluster", "<path>"]


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(connection_module, "_SECONDS_TO_CONNECT", 0.2)
    with (
        pytest.raises(ClusterFailed, match=r"no scheduler answers at tcp://127.0.0.1:9 .* dask scheduler"),
        connected(Cluster.parse("tcp://127.0.0.1:9")),
    ):
        pass


def test_without_its_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(MissingExtra, match=r"pip install 'haemo\[cluster\]'"),
        connected(Cluster(name="local:1")),
    ):
        pass


class TestSlurm:
    def test_the_job_is_as_the_file_says(self, tmp_path):
        file = tmp_path / "slurm.toml"
        file.write_text(
            'jobs = 8\ncores = 16\nmemory = "32GB"\nqueue = "gpu"\naccount = "radiology"\n'
            'walltime = "04:00:00"\njob_extra_directives = ["--gres=gpu:1"]\n'
            'job_script_prologue = ["module load python"]\n'
        )
        with slurm_cluster(Cluster.parse("slurm", file)) as cluster:
            script = cluster.job_script()
        for line in ("-p gpu", "-A radiology", "--cpus-per-task=16", "-t 04:00:00", "--gres=gpu:1"):
            assert f"#SBATCH {line}\n" in script
        assert "\nmodule load python\n" in script
        assert "dask_worker tcp://" in script
        assert "--nworkers 1 " in script or "--nworkers" not in script

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("jobs = ", "is not TOML"),
            ("cores = 8", "jobs must be the number of jobs to submit"),
            ("jobs = 8", "lacks cores and memory of a job"),
        ],
    )
    def test_a_file_that_does_not_say_it_is_refused(self, tmp_path, text, said):
        file = tmp_path / "slurm.toml"
        file.write_text(text)
        with pytest.raises(BadSettings, match=said):
            Cluster.parse("slurm", file)

    def test_an_option_that_there_is_not(self, tmp_path):
        file = tmp_path / "slurm.toml"
        file.write_text('jobs = 1\ncores = 1\nmemory = "1GB"\nqueues = "gpu"\n')
        with pytest.raises(BadSettings, match=r"there is no option 'queues'. Did you mean queue\?"):
            slurm_cluster(Cluster.parse("slurm", file))

    def test_where_there_is_no_slurm(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(BadSettings, match="there is no sbatch here"), connected(Cluster(name="slurm")):
            pass


def test_a_worker_of_another_version_or_without_the_data_is_told_so(tmp_path):
    versions = {"haemo": "0.1.0"}
    asked = Introduction("", remote.load, {}, versions, tmp_path, {})
    sound = {"place": "", "processors": 1, "writes": True, "facts": {}}
    older = Card(**sound, versions={"haemo": "0.0.9"}, unseen="")
    assert asked.objection(older).startswith("it has haemo 0.0.9, and this host 0.1.0; install the same")
    blind = Card(**sound, versions=versions, unseen="/data/1.png")
    assert "does not see /data/1.png as this host does; mount the data there" in asked.objection(blind)
    assert asked.objection(Card(**sound, versions=versions, unseen="")) is None


class StillAsked:
    """A client whose workers are asked, and say nothing."""

    def __init__(self, *addresses: str):
        self.addresses, self.asked = addresses, []

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self.addresses, 1)

    def submit(self, *_, workers, **__) -> Future:
        self.asked += workers
        return Future()


def test_one_that_hangs_holds_up_no_other_worker_of_its_host(monkeypatch):
    client = StillAsked("tcp://10.0.0.7:1", "tcp://10.0.0.7:2", "tcp://10.0.0.7:3", "tcp://10.0.0.8:1")
    crew = crew_module.Crew(client, None, None, None, None)
    monkeypatch.setattr(crew_module, "_SECONDS_BETWEEN_LOOKS", 0.0)
    crew.look()
    assert client.asked == ["tcp://10.0.0.7:1", "tcp://10.0.0.8:1"]
    crew.look()
    assert len(client.asked) == 2
    monkeypatch.setattr(crew_module, "_SECONDS_FOR_THE_OTHERS", 0.0)
    crew.look()
    assert client.asked[2:] == ["tcp://10.0.0.7:2", "tcp://10.0.0.7:3"]
