"""Pieces of computations of stage two, on the workers of a cluster."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from haemo.errors import ClusterFailed, HaemoError
from haemo.features.cluster.connection import Cluster, connected
from haemo.features.cluster.hosts import Host, answer_of, this_host
from haemo.piecework import done_by, with_threads

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["DaskWorkers", "working_on"]

_LOG = logging.getLogger("haemo")
_ALIKE = ("haemo", "numpy", "scikit-learn", "scipy")
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_BETWEEN_ANSWERS = 0.02
_SECONDS_TO_ANSWER = 60.0
_SECONDS_FOR_THE_OTHERS = 10.0  # that one who has not answered yet is waited for, where another one has
_MOST_ROUNDS = 3


@contextmanager
def working_on(cluster: Cluster) -> Iterator[None]:
    """Have the pieces of everything in the block done by the workers of a cluster.

    Raises
    ------
    MissingExtra, BadSettings, ClusterFailed
        As `connected` does, and where the workers are lost.
    """
    with connected(cluster) as client, done_by(DaskWorkers(client, cluster.seconds_without_workers)):
        yield


class DaskWorkers:
    """Does pieces on the workers of a scheduler, each of which is sent once what is shared.

    Parameters
    ----------
    client : Client
    patience : float or None
        Seconds to wait for the first worker; None waits for ever.
    """

    def __init__(self, client: "Client", patience: float | None):
        self._client = client
        self._patience = patience
        self._hosts: dict[str, Host] = {}
        self._asked: dict[str, tuple[Future, float]] = {}  # and when, by the clock of `time.monotonic`
        self._refused: set[str] = set()

    def __call__(
        self,
        function: Callable[..., Any],
        shared: Any,
        pieces: Sequence[tuple[Any, ...]],
        threads: int | None,
    ) -> Iterator[Any]:
        """Give ``function(shared, *piece)`` of each piece, in their order, as `haemo.piecework.Workers`.

        Raises
        ------
        ClusterFailed
            If there is no worker that can do it, or they are lost again and again.
        """
        found: dict[int, Any] = {}
        given = 0
        for _ in range(_MOST_ROUNDS):
            left = [number for number in range(len(pieces)) if number not in found]
            for number, result in self._round(function, shared, {one: pieces[one] for one in left}, threads):
                found[number] = result
                while given in found:
                    yield found[given]
                    given += 1
            if len(found) == len(pieces):
                return
        raise ClusterFailed(
            f"workers were lost {_MOST_ROUNDS} times, with what they were given; type the same command "
            "again, or leave --cluster out"
        )

    def _round(
        self,
        function: Callable[..., Any],
        shared: Any,
        pieces: dict[int, tuple[Any, ...]],
        most_threads: int | None,
    ) -> Iterator[tuple[int, Any]]:
        """Results as they come; fewer than there are pieces where all workers were lost."""
        threads = {address: min(share, most_threads or share) for address, share in self._threads().items()}
        addresses = list(threads)
        try:
            (sent,) = self._client.scatter([shared], workers=addresses, broadcast=True, hash=False)
            waiting = {
                self._client.submit(
                    _piece, function, sent, piece, threads, workers=addresses, pure=False
                ): number
                for number, piece in pieces.items()
            }
            while waiting:
                ended = [future for future in waiting if future.status != "pending"]
                if not ended:
                    if not set(self._client.nthreads()) & set(addresses):
                        return
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
                for future in ended:
                    number = waiting.pop(future)
                    if future.status in ("cancelled", "lost"):
                        return
                    yield number, future.result()
        except (HaemoError, GeneratorExit):
            raise
        except Exception as error:  # of the piece, or of the way there
            if type(error).__module__.split(".")[0] == "distributed" or isinstance(
                error, OSError | TimeoutError
            ):
                raise ClusterFailed(
                    f"the workers did not get through ({type(error).__name__}: {error}); type the same "
                    "command again, or leave --cluster out"
                ) from error
            raise

    def _threads(self) -> dict[str, int]:
        """Threads of a piece by the address of the worker; workers of other versions are left out by name."""
        start = time.monotonic()
        wanted = {name: version(name) for name in _ALIKE}
        while True:
            tasks = self._client.nthreads()
            self._ask(tasks.keys())
            self._hear(wanted)
            useful = {address: host for address, host in self._hosts.items() if address in tasks}
            now = time.monotonic()
            if useful and all(now - since > _SECONDS_FOR_THE_OTHERS for _, since in self._asked.values()):
                break
            if not self._asked and self._patience is not None and now - start > self._patience:
                raise ClusterFailed(
                    f"there has been no worker that can do this for {self._patience:.0f} s; start some, or "
                    "leave --cluster out"
                )
            time.sleep(_SECONDS_BETWEEN_ANSWERS if self._asked else _SECONDS_BETWEEN_LOOKS)
        at_once: Counter[str] = Counter()
        for address, host in useful.items():
            at_once[host.place] += tasks[address]
        return {address: host.share(at_once[host.place]) for address, host in useful.items()}

    def _ask(self, there: Set[str]) -> None:
        """Ask all workers that have come who they are, and forget those that have gone."""
        for address in self._asked.keys() - there:
            del self._asked[address]
        for address in there - self._hosts.keys() - self._asked.keys() - self._refused:
            future = self._client.submit(this_host, _ALIKE, workers=[address], pure=False)
            self._asked[address] = future, time.monotonic()

    def _hear(self, wanted: dict[str, str]) -> None:
        """Take the answers that have come, and leave out who gives none in time or has other versions."""
        for address, (future, since) in list(self._asked.items()):
            if not future.done():
                if time.monotonic() - since > _SECONDS_TO_ANSWER:
                    said = f"it has not said who it is within {_SECONDS_TO_ANSWER:.0f} s"
                    self._leave_out(address, f"{said}; mend it there, see: haemo doctor")
                continue
            host, reason = answer_of(self._client, future)
            others = [] if reason else _of_other_versions(host, wanted)
            if others:
                reason = f"it has {', '.join(others)}; install the same there as here"
            if reason:
                self._leave_out(address, reason)
                continue
            del self._asked[address]
            self._hosts[address] = host

    def _leave_out(self, address: str, reason: str) -> None:
        del self._asked[address]
        self._refused.add(address)
        _LOG.warning("worker %s is left out: %s", address, reason)


def _of_other_versions(host: Host, wanted: dict[str, str]) -> list[str]:
    return [f"{name} {host.versions[name]}" for name in _ALIKE if host.versions[name] != wanted[name]]


def _piece(function: Callable[..., Any], shared: Any, piece: tuple[Any, ...], threads: dict[str, int]) -> Any:
    from distributed import get_worker
    from threadpoolctl import threadpool_limits

    own = threads.get(get_worker().address, 1)
    with with_threads(own), threadpool_limits(own):
        return function(shared, *piece)
