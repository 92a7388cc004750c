"""The way to a scheduler of Dask: one that runs, one on this host, or one whose workers are SLURM jobs."""

import logging
import re
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.errors import BadSettings, ClusterFailed, MissingExtra
from haemo.extensions import did_you_mean

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster
    from distributed import Client

__all__ = ["Cluster", "connected", "slurm_cluster"]

_SECONDS_TO_CONNECT = 20
_SECONDS_WITHOUT_WORKERS = 60.0
_SECONDS_TO_COME_AGAIN = 300.0  # of a process that Dask starts again, on a host that is busy
_PAGE = "127.0.0.1:0"  # of Dask itself: for this host alone, wherever there is a port
_ADDRESS = re.compile(r"(tcp|tls)://[^/\s]+:\d+")
_LOCAL = re.compile(r"local:(\d+)")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where the workers are.

    Attributes
    ----------
    name : str
        ``tcp://HOST:PORT`` or ``tls://HOST:PORT`` of a scheduler, ``local:N`` or ``slurm``.
    options : dict
        For ``slurm``: ``jobs``, how many, and what `dask_jobqueue.SLURMCluster` takes.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, name: str, config: Path | None = None) -> "Cluster":
        """Read what ``--cluster`` and ``--cluster-config`` say.

        Raises
        ------
        BadSettings
            If it is no cluster, or the file is needed and not given, not needed, or not as it should be.
        """
        if name != "slurm":
            if config is not None:
                raise BadSettings(f"--cluster-config is for --cluster slurm, not for {name}; leave it out")
            if not (_ADDRESS.fullmatch(name) or _processes(name)):
                raise BadSettings(
                    f"cluster {name!r} is none; give tcp://HOST:PORT of a scheduler, local:N for N processes "
                    "on this host, or slurm with --cluster-config FILE"
                )
            return cls(name=name)
        if config is None:
            raise BadSettings("--cluster slurm needs --cluster-config FILE, which says what a job is given")
        return cls(name=name, options=_job_options(config))

    @property
    def most(self) -> int:
        """How many workers there will be; 0 where nobody knows."""
        return self.options["jobs"] if self.name == "slurm" else _processes(self.name)

    @property
    def seconds_without_workers(self) -> float | None:
        """How long to wait for the first worker, or the next one; jobs may stay in a queue for ever."""
        if self.name == "slurm":
            return None
        return _SECONDS_TO_COME_AGAIN if self.most else _SECONDS_WITHOUT_WORKERS


@contextmanager
def connected(cluster: Cluster) -> Iterator["Client"]:
    """Give a client of the scheduler; a cluster that was started for it ends with the block.

    Raises
    ------
    MissingExtra
        If distributed or dask-jobqueue is not installed.
    BadSettings
        If SLURM is asked for where it is not.
    ClusterFailed
        If no scheduler answers.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingExtra(f"--cluster needs {error.name}: pip install 'haemo[cluster]'") from error
    # What happens to workers and scheduler is said by haemo, with what it means for the run.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if _processes(cluster.name):
        try:
            started = distributed.LocalCluster(
                n_workers=cluster.most,
                threads_per_worker=1,
                processes=True,
                dashboard_address=_PAGE,
                memory_limit=0,
                preload=["haemo.features.cluster.worker"],
                silence_logs=logging.CRITICAL,
            )
        except (OSError, RuntimeError) as error:
            raise ClusterFailed(
                f"{cluster.most} processes could not be started here ({error}); try fewer, or none: leave "
                "--cluster out"
            ) from error
        with started, distributed.Client(started) as client:
            yield client
    elif cluster.name == "slurm":
        if not shutil.which("sbatch"):
            raise BadSettings(
                "--cluster slurm submits jobs, and there is no sbatch here; run this on a host of the "
                "cluster that has it, or give tcp://HOST:PORT of a scheduler"
            )
        with slurm_cluster(cluster) as started, distributed.Client(started) as client:
            started.scale(jobs=cluster.options["jobs"])
            yield client
    else:
        try:
            client = distributed.Client(cluster.name, timeout=_SECONDS_TO_CONNECT)
        except (OSError, TimeoutError) as error:
            raise ClusterFailed(
                f"no scheduler answers at {cluster.name} within {_SECONDS_TO_CONNECT} s; start one with: "
                f"dask scheduler; and workers with: dask worker {cluster.name}"
            ) from error
        with client:
            yield client


def slurm_cluster(cluster: Cluster) -> "SLURMCluster":
    """Make the cluster whose workers are jobs, one worker process each; no job is submitted yet.

    Raises
    ------
    MissingExtra
        If dask-jobqueue is not installed.
    BadSettings
        If it does not know an option.
    """
    try:
        from dask_jobqueue import SLURMCluster
        from dask_jobqueue.core import Job, JobQueueCluster
        from dask_jobqueue.slurm import SLURMJob
    except ImportError as error:
        raise MissingExtra(f"--cluster slurm needs {error.name}: pip install 'haemo[cluster]'") from error
    options = {name: value for name, value in cluster.options.items() if name != "jobs"}
    known = [name for own in (SLURMJob, Job, JobQueueCluster) for name in signature(own).parameters]
    for name in options.keys() - set(known):
        raise BadSettings(f"--cluster-config: there is no option {name!r}.{did_you_mean(name, known)}")
    try:
        return SLURMCluster(**{"processes": 1, "scheduler_options": {"dashboard_address": _PAGE}, **options})
    except (TypeError, ValueError) as error:
        raise BadSettings(f"--cluster-config: dask-jobqueue refuses it: {error}") from error


def _processes(name: str) -> int:
    """How many processes ``local:N`` means; 0 where it is none."""
    match = _LOCAL.fullmatch(name)
    return int(match[1]) if match else 0


def _job_options(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise BadSettings(f"{path} cannot be read: {error.strerror}") from error
    jobs = found.get("jobs")
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise BadSettings(f"{path}: jobs must be the number of jobs to submit, such as: jobs = 8")
    missing = [name for name in ("cores", "memory") if name not in found]
    if missing:
        raise BadSettings(
            f'{path} lacks {" and ".join(missing)} of a job, such as: cores = 8, memory = "16GB"'
        )
    return found
