"""The host of a worker: what it says of itself, and what speaks against one that cannot say it."""

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haemo.errors import ClusterFailed
from haemo.processors import usable_processors

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Host", "address_of", "answer_of", "result_of", "this_host"]

_SECONDS_FOR_A_RESULT = 60.0


@dataclass(frozen=True, kw_only=True)
class Host:
    """What a worker says of where it runs.

    Attributes
    ----------
    place : str
        Host, processors and control group: workers of one place share its processors.
    processors : int
    versions : dict of str to str
    """

    place: str
    processors: int
    versions: dict[str, str]

    def share(self, count: int) -> int:
        """How many threads each of `count` that work in this place may use."""
        return max(1, self.processors // max(1, count))


def this_host(names: Iterable[str]) -> Host:
    """Say where this process runs, with the versions of packages."""
    return Host(
        place=_place_of_this(),
        processors=usable_processors(),
        versions={name: version(name) for name in names},
    )


def _place_of_this() -> str:
    """Host, processors and control group."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    try:
        group = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        group = ""
    return f"{socket.gethostname()} {affinity} {group}"


def result_of(future: "Future") -> Any:
    """What a call that has ended gave, or the error that it raised."""
    return future.result(timeout=_SECONDS_FOR_A_RESULT)


def answer_of(client: "Client", future: "Future") -> tuple[Any, str]:
    """What a worker said when it was asked who it is, or why it cannot be used, with the remedy.

    Raises
    ------
    ClusterFailed
        If it is the scheduler that cannot be used.
    """
    try:
        return result_of(future), ""
    except (ImportError, AttributeError) as error:
        return None, f"it has no haemo, or another one ({error}); install the same there as here"
    except Exception as error:  # whatever a broken host raises, it is that host that cannot be used
        if "deserialization of the task graph" in str(error):
            raise ClusterFailed(
                f"the scheduler at {address_of(client)} has no haemo, or another one than this host; "
                "start it with the dask of the same environment, as the workers"
            ) from error
        return None, f"{type(error).__name__}: {error}; mend it there, see: haemo doctor"


def address_of(client: "Client") -> str:
    """Where the scheduler is, for messages."""
    return client.scheduler.address if client.scheduler else "its address"
