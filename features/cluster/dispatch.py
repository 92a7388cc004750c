"""Which batch of slices is with which worker, until all are done or none can be."""

import errno
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from haemo.errors import BadDataset, ClusterFailed
from haemo.features.cluster.crew import Crew, Member
from haemo.features.cluster.hosts import result_of
from haemo.features.cluster.messages import Batch, Done, Session
from haemo.features.cluster.worker import embed_batch
from haemo.features.extraction.ledger import Ledger
from haemo.features.failures import Failure
from haemo.features.reading.address import file_of
from haemo.features.store.contents import is_gone
from haemo.features.store.shards import Shards
from haemo.features.store.storefile import seal_of

if TYPE_CHECKING:
    from distributed import Future

__all__ = ["Hands"]

_LOG = logging.getLogger("haemo")
_MOST_DEATHS = 3
_MOST_FAULTS = 3
_FAULTS_IN_A_ROW = 2
_MOST_LISTED = 8
_SECONDS_BETWEEN_RATES = 30.0
_SLOW = 3.0  # times the slowest batch so far
_LEAST_SECONDS = 20.0


class Hands:
    """Batches on their way through the hands of workers."""

    def __init__(
        self,
        crew: Crew,
        session: Session,
        batches: list[Batch],
        ledger: Ledger,
        shards: Shards,
        threads: int | None,
    ):
        self._crew = crew
        self._session = session
        self._ledger = ledger
        self._shards = shards
        self._threads = threads
        self._queue = deque(batches)
        self._left = {batch.number for batch in batches}
        self._deaths: Counter[int] = Counter()
        self._faults: Counter[int] = Counter()
        self._slowest = 0.0
        self._rates = _Rates()

    def slices(self) -> Iterator[str]:
        """Give the id of each slice when its batch is done, or given up."""
        while self._left:
            self._crew.look()
            yield from self._bereaved()
            self._hand_out()
            for member, future in self._crew.reports():
                batch, member.batch = member.batch, None
                if batch is not None and batch.number in self._left:
                    yield from self._reported(member, batch, future)
            self._rates.tell_now_and_then()
        self._rates.tell()

    def _hand_out(self) -> None:
        for member in self._crew.useful():
            if not member.is_free:
                continue
            batch = self._queue.popleft() if self._queue else self._slow()
            if batch is None:
                return
            member.batch = batch
            threads = self._threads or self._crew.threads(member)
            writes = bool(member.card and member.card.writes)
            self._crew.call(member, embed_batch, self._session, batch, threads, writes)

    def _slow(self) -> Batch | None:
        """A batch that one worker alone has had for much too long: whoever is first with it counts."""
        in_hand = [member for member in self._crew.useful() if member.batch]
        count = Counter(member.batch.number for member in in_hand if member.batch)
        now = time.monotonic()
        for member in in_hand:
            late = now - member.since > max(_LEAST_SECONDS, _SLOW * self._slowest)
            batch = member.batch
            if batch and late and batch.number in self._left and count[batch.number] == 1:
                _LOG.info("worker %s is slow with %s", member.address, batch.words)
                return batch
        return None

    def _bereaved(self) -> Iterator[str]:
        """Take back the batches of workers that have gone."""
        while self._crew.left:
            member, batch = self._crew.left.pop()
            if batch.number not in self._left:
                continue
            self._deaths[batch.number] += 1
            if self._deaths[batch.number] >= _MOST_DEATHS:
                yield from self._give_up(batch)
                continue
            _LOG.warning("worker %s is gone; another one takes %s", member.address, batch.words)
            self._take_back(batch)

    def _take_back(self, batch: Batch) -> None:
        """Let another worker have a batch, the next one that is free."""
        if all(member.batch != batch for member in self._crew.useful()):
            self._queue.appendleft(batch)

    def _give_up(self, batch: Batch) -> Iterator[str]:
        _LOG.warning("%s ended %d workers in turn, and is left out", batch.words, _MOST_DEATHS)
        reason = (
            f"its batch ended {_MOST_DEATHS} workers in turn, perhaps for want of memory; without --cluster "
            "it is embedded on this host"
        )
        self._left.discard(batch.number)
        self._ledger.note_all(
            [], [Failure(path, "features", reason) for _, path in batch.slices], set(), 0, 0
        )
        yield from (name for name, _ in batch.slices)

    def _reported(self, member: Member, batch: Batch, future: "Future") -> Iterator[str]:
        from distributed import KilledWorker

        try:
            done: Done = result_of(future)
            problem = self._problem(done, batch)
        except BadDataset:
            raise
        except KilledWorker:  # one after the other at the same address, where Dask starts the batch again
            yield from self._give_up(batch)
            return
        except Exception as error:  # whatever goes wrong on a worker, another one may do better
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            if future.cancelled():
                self._take_back(batch)  # the scheduler is lost, or was and is back
                return
            problem = f"{type(error).__name__}: {error}"
        if problem is not None:
            self._fault(member, batch, problem)
            return
        self._take_in(done)
        self._left.discard(batch.number)
        self._slowest = max(self._slowest, done.seconds)
        member.faults = 0
        self._rates.add(member, len(batch.slices), done.seconds)
        yield from (name for name, _ in batch.slices)

    def _problem(self, done: Done, batch: Batch) -> str | None:
        """What is wrong with an answer: nothing that a worker alone sees so is believed."""
        for name, path in batch.slices:
            if name in done.gone and not is_gone(file_of(Path(path))):
                return f"it does not see {path}, which is there; mount the data there at the same path"
        if done.part and seal_of(done.part) != done.seal:
            return f"{done.part} is not as it wrote it; look at that disk"
        return None

    def _take_in(self, done: Done) -> None:
        if done.part:
            self._shards.receive(done.part, done.files)
        else:
            self._shards.put(done.keys, done.embeddings, done.files)
        self._ledger.note_all(done.files, done.failures, done.gone, done.colour, done.askew)

    def _fault(self, member: Member, batch: Batch, problem: str) -> None:
        member.faults += 1
        self._faults[batch.number] += 1
        if self._faults[batch.number] >= _MOST_FAULTS:
            raise ClusterFailed(
                f"{batch.words} failed on {_MOST_FAULTS} workers, at last on {member.address} ({problem}); "
                "what is finished is kept: mend that, and type the same command"
            )
        if member.faults >= _FAULTS_IN_A_ROW:
            self._crew.refuse(member, problem)
        else:
            _LOG.warning("worker %s failed (%s); another one takes %s", member.address, problem, batch.words)
        self._take_back(batch)


class _Rates:
    """Slices a second, of all workers and of each."""

    def __init__(self):
        self._start = self._told = time.monotonic()
        self._done: dict[str, tuple[int, float]] = {}

    def add(self, member: Member, slices: int, seconds: float) -> None:
        """Count a batch that a worker has done."""
        before, spent = self._done.get(member.address, (0, 0.0))
        self._done[member.address] = (before + slices, spent + max(seconds, 1e-9))

    def tell_now_and_then(self) -> None:
        """Say it, where that is some time ago."""
        if self._done and time.monotonic() - self._told > _SECONDS_BETWEEN_RATES:
            self.tell()

    def tell(self) -> None:
        """Say it."""
        self._told = time.monotonic()
        total = sum(slices for slices, _ in self._done.values())
        each = sorted(
            ((slices / seconds, slices, address) for address, (slices, seconds) in self._done.items()),
            reverse=True,
        )
        shown = [
            f"{address} {slices:,} at {_rounded(rate)}/s" for rate, slices, address in each[:_MOST_LISTED]
        ]
        if len(each) > _MOST_LISTED:
            shown.append(f"{len(each) - _MOST_LISTED} more, the slowest at {_rounded(each[-1][0])}/s")
        if each:
            rate = total / max(self._told - self._start, 1e-9)
            _LOG.info("%s slices at %s/s: %s", f"{total:,}", _rounded(rate), "; ".join(shown))


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
