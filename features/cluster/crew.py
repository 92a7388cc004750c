"""The workers of a scheduler: who is there, who can do the work alike, and who is refused and why."""

import logging
import queue
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from haemo.errors import ClusterFailed
from haemo.features.cluster.hosts import address_of, answer_of
from haemo.features.cluster.messages import Batch, Card, Introduction
from haemo.features.cluster.worker import introduce
from haemo.features.store.fingerprint import Fingerprint

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Crew", "Member"]

_LOG = logging.getLogger("haemo")
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_FOR_THE_OTHERS = 30.0
_SECONDS_WITH_NONE_BUT_REFUSED = 60.0
_SECONDS_BETWEEN_NOTICES = 60.0


@dataclass(eq=False)
class Member:
    """A worker that is connected.

    Attributes
    ----------
    address : str
    card : Card or None
        None until it has introduced itself.
    refused : bool
    call : Future or None
        What it is asked to do now.
    batch : Batch or None
        The batch that it has in hand.
    since : float
        When it was given that, by the clock of `time.monotonic`.
    faults : int
        Batches in a row that it could not do.
    """

    address: str
    card: Card | None = None
    refused: bool = False
    call: "Future | None" = None
    batch: Batch | None = None
    since: float = 0.0
    faults: int = 0

    @property
    def is_free(self) -> bool:
        """Whether it may be given a batch."""
        return self.card is not None and not self.refused and self.call is None


class Crew:
    """The workers of one scheduler, each asked to introduce itself before it is given work.

    Parameters
    ----------
    client : Client
    asked : Introduction
    fingerprint_of : callable
        Gives the fingerprint of what a worker with a card makes.
    fingerprint : Fingerprint or None
        Of the store that is carried on. Without one, what most workers come to is right.
    patience : float or None
        Seconds to wait where no worker is connected; None waits for ever.
    most : int
        How many workers there can be; 0 where nobody knows.

    Attributes
    ----------
    members : dict of str to Member
        Those that are connected, by address.
    left : list of (Member, Batch)
        Those that went away with a batch in hand, since this was emptied.
    """

    def __init__(
        self,
        client: "Client",
        asked: Introduction,
        fingerprint_of: Callable[[Card], Fingerprint],
        fingerprint: Fingerprint | None,
        patience: float | None,
        most: int = 0,
    ):
        self._client = client
        self._asked = asked
        self._fingerprint_of = fingerprint_of
        self._fingerprint = fingerprint
        self._patience = patience
        self._most = most
        self._reports: queue.Queue[tuple[Member, Future]] = queue.Queue()
        self._last_useful = self._last_look = self._last_notice = time.monotonic()
        self._refusals: dict[str, str] = {}
        self.members: dict[str, Member] = {}
        self.left: list[tuple[Member, Batch]] = []

    def gather(self) -> Card:
        """Wait until every worker that is there has introduced itself, at most some time after the first.

        Returns
        -------
        Card
            Of a worker that is as the store that is carried on, or else as most of them are.

        Raises
        ------
        ClusterFailed
            If there is none that can do the work, or the scheduler is lost.
        """
        first = None
        while True:
            self.look()
            self.reports()
            ready = [member.card for member in self.members.values() if member.card and not member.refused]
            if ready:
                first = first or time.monotonic()
                waiting = any(member.card is None and not member.refused for member in self.members.values())
                if not waiting or time.monotonic() - first > _SECONDS_FOR_THE_OTHERS:
                    break
        found = Counter(map(self._fingerprint_of, ready))
        chosen = self._fingerprint if self._fingerprint in found else found.most_common(1)[0][0]
        self._fingerprint = chosen
        for member in self.members.values():
            self._compare(member)
        engines = Counter(card.engine for card in ready if self._fingerprint_of(card) == chosen)
        return next(
            card
            for card in ready
            if self._fingerprint_of(card) == chosen and card.engine == engines.most_common(1)[0][0]
        )

    def useful(self) -> list[Member]:
        """Workers that are at work or may be given some."""
        return [member for member in self.members.values() if member.card and not member.refused]

    @property
    def hoped_for(self) -> int:
        """How many workers there will be for the work, as far as anybody knows."""
        refused = sum(member.refused for member in self.members.values())
        return max(len(self.members), self._most) - refused

    def threads(self, member: Member) -> int:
        """How many threads a worker may use: its share of the processors, where it is not there alone."""
        assert member.card is not None  # noqa: S101 - for type checkers: it has introduced itself
        place = member.card.place
        sharing = sum(1 for other in self.useful() if other.card and other.card.place == place)
        return member.card.share(sharing)

    def call(self, member: Member, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a worker do something; `reports` gives what became of it."""
        future = self._client.submit(
            function, *arguments, workers=[member.address], allow_other_workers=False, pure=False
        )
        member.call, member.since = future, time.monotonic()
        future.add_done_callback(lambda done: self._reports.put((member, done)))

    def refuse(self, member: Member, reason: str) -> None:
        """Give a worker no work any more, and say why; the same reason on the same host is said once."""
        member.refused = True
        said = f"{_host(member)} {reason}"
        if said not in self._refusals:
            _LOG.warning("worker %s is left out: %s", member.address, reason)
        self._refusals[said] = f"{member.address}: {reason}"

    def look(self) -> None:
        """See who has come and who has gone.

        Raises
        ------
        ClusterFailed
            If the scheduler is lost, or has had no worker of use for too long.
        """
        now = time.monotonic()
        if self.members and now - self._last_look < _SECONDS_BETWEEN_LOOKS:
            return
        self._last_look = now
        try:
            there = set(self._client.nthreads())
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            raise ClusterFailed(_lost(self._client)) from error
        for address in self.members.keys() - there:
            member = self.members.pop(address)
            member.call = None  # whatever still comes of it comes too late
            if member.batch is not None:
                self.left.append((member, member.batch))
        for address in sorted(there - self.members.keys()):
            self.members[address] = Member(address)
        self._welcome()
        if self.useful():
            self._last_useful = self._last_notice = now
            return
        asked = sum(not member.refused for member in self.members.values())
        if now - self._last_notice > _SECONDS_BETWEEN_NOTICES:
            self._last_notice = now
            what = f"{asked} that did not answer yet" if asked else "none so far"
            _LOG.info("waiting for workers, %s (Ctrl-C stops, and what is finished is kept)", what)
        if asked:
            self._last_useful = now
            return
        alone = now - self._last_useful
        if self.members and (alone > _SECONDS_WITH_NONE_BUT_REFUSED or len(self.members) == self._most):
            raise ClusterFailed(
                "no worker can do this work: "
                + "; ".join(self._refusals.values())
                + ". What is finished is kept, the same command goes on from there"
            )
        if not self.members and self._patience is not None and alone > self._patience:
            raise ClusterFailed(
                f"the scheduler at {address_of(self._client)} has had no worker for {self._patience:.0f} s; "
                "start some, then type the same command: what is finished is kept"
            )

    def reports(self) -> list[tuple[Member, "Future"]]:
        """Calls that have ended; waits a little for the first. Introductions are dealt with here."""
        found = []
        try:
            found.append(self._reports.get(timeout=_SECONDS_BETWEEN_LOOKS))
            while True:
                found.append(self._reports.get_nowait())
        except queue.Empty:
            pass
        others = []
        for member, future in found:
            if member.call is not future:
                continue  # of a worker that has gone
            member.call = None
            if member.card is None:
                self._introduced(member, future)
            else:
                others.append((member, future))
        return others

    def _welcome(self) -> None:
        """Ask newcomers who they are; of each host one first, which may measure what others then know.

        Where that one does not answer, the others of its host do not wait for it.
        """
        known = {_host(member) for member in self.members.values() if member.card or member.refused}
        asked = {_host(member) for member in self.members.values() if member.call}
        long_ago = time.monotonic() - _SECONDS_FOR_THE_OTHERS
        known |= {
            _host(member) for member in self.members.values() if member.call and member.since < long_ago
        }
        for member in self.members.values():
            if member.card is None and not member.refused and member.call is None:
                if _host(member) in asked and _host(member) not in known:
                    continue
                asked.add(_host(member))
                self.call(member, introduce, self._asked)

    def _introduced(self, member: Member, future: "Future") -> None:
        card, fault = answer_of(self._client, future)
        objection = fault or self._asked.objection(card)
        if objection:
            self.refuse(member, objection)
            return
        member.card = card
        self._compare(member)
        self._welcome()

    def _compare(self, member: Member) -> None:
        if member.card is None or member.refused or self._fingerprint is None:
            return
        found = self._fingerprint_of(member.card).differences(self._fingerprint)
        if found:
            listed = "; ".join(f"{key} is {mine!r} there, and {theirs!r} here" for key, mine, theirs in found)
            keys = {key for key, _, _ in found}
            remedy = "give it the same weights"
            if keys == {"precision"}:
                remedy = "--precision float32 is the same everywhere"
            self.refuse(member, f"{listed}; {remedy}")


def _host(member: Member) -> str:
    return member.address.rsplit(":", 1)[0]


def _lost(client: "Client") -> str:
    return (
        f"the scheduler at {address_of(client)} does not answer any more; what is finished is kept: start it "
        "again with its workers, and type the same command"
    )
