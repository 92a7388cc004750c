"""Stage one on the workers of a cluster, as one call that fills a ledger and its parts."""

import logging
import shutil
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from uuid import uuid4

from haemo.features.cluster.crew import Crew
from haemo.features.cluster.dispatch import Hands
from haemo.features.cluster.messages import Batch, Card, Introduction, Load, Session
from haemo.features.extraction.extract import ExtractionRequest, embedding_fingerprint, rows_of_a_part
from haemo.features.extraction.ledger import Ledger
from haemo.features.manifest import Manifest
from haemo.features.reading.address import file_of
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.shards import Shards, make_inbox
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Elsewhere"]

_LOG = logging.getLogger("haemo")
_ALIKE = ("haemo", "torch")  # packages whose versions must be
_BATCHES_A_WORKER = 4
_MOST_LISTED = 8


class Elsewhere:
    """Stage one on the workers of a cluster, and a context manager that leaves nothing of its own behind.

    Parameters
    ----------
    client : Client
    load : callable
        Makes network and preprocessing on a worker.
    manifest : Manifest
    store_path : Path
    request : ExtractionRequest
        Its workers are the threads of each worker; by default their share of the processors there.
    notes : dict of str to str
        Of the store that is carried on, or empty.
    fingerprint : Fingerprint or None
        Of that store.
    patience : float or None
        Seconds to wait where no worker is connected; None waits for ever.
    most : int
        How many workers there can be; 0 where nobody knows.

    Attributes
    ----------
    card : Card
        Of a worker as all that are given work, once inside the block.
    fingerprint : Fingerprint
    notes : dict of str to str
        Engine and batch.
    """

    def __init__(
        self,
        client: "Client",
        load: Load,
        manifest: Manifest,
        store_path: Path,
        request: ExtractionRequest,
        *,
        notes: dict[str, str],
        fingerprint: Fingerprint | None,
        patience: float | None,
        most: int = 0,
    ):
        self._manifest = manifest
        self._store_path = Path(store_path).absolute()
        self._request = request
        self._token = uuid4().hex
        self._inbox = make_inbox(self._store_path, self._token)
        self._asked = Introduction(
            token=self._token,
            load=load,
            notes=notes,
            versions={name: version(name) for name in _ALIKE},
            folder=self._inbox,
            samples=_samples(manifest),
        )
        self._crew = Crew(client, self._asked, self._fingerprint_of, fingerprint, patience, most)

    def _fingerprint_of(self, card: Card) -> Fingerprint:
        assert card.preprocessing is not None  # noqa: S101 - for type checkers: its network is ready
        return embedding_fingerprint(card, card.preprocessing, self._request.dtype)

    def __enter__(self) -> "Elsewhere":
        (self._inbox / "probe").write_text(self._token, encoding="utf-8")
        try:
            self.card = self._crew.gather()
        except BaseException:
            self._tidy()
            raise
        self.fingerprint = self._fingerprint_of(self.card)
        self.notes = {"engine": str(self.card.engine), "batch": str(self.card.batch)}
        members = self._crew.useful()
        others = [member.address for member in members if member.card and not member.card.writes]
        _LOG.info("weights: %s", self.card.origin)
        _LOG.info(
            "network: %s to %s (%d numbers a slice) on %s, %d worker%s",
            self.card.facts.get("network", "one of a plug-in"),
            self.card.layer,
            self.card.dimension,
            self.card.engine,
            len(members),
            "" if len(members) == 1 else "s",
        )
        if others:
            _LOG.info(
                "%s %s not see %s, and %s embeddings back over the network",
                _listed(others),
                "does" if len(others) == 1 else "do",
                self._store_path.parent,
                "hands its" if len(others) == 1 else "hand their",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tidy()

    def _tidy(self) -> None:
        """Remove the inbox, unless a part came in that nobody took: it is taken in when the run goes on."""
        with suppress(OSError):
            (self._inbox / "probe").unlink()
            self._inbox.rmdir()
            self._inbox.parent.rmdir()

    def embed(self, ledger: Ledger, shards: Shards, progress: Progress = silent) -> None:
        """Have all that waits embedded; whatever stops this, finished parts are kept.

        Raises
        ------
        ClusterFailed
            If the scheduler or all workers are lost, or no worker can do a batch.
        BadDataset
            If an embedding is not finite.
        OSError
            If the disk is full.
        """
        waiting = ledger.waiting()
        if not waiting:
            return
        session = Session(
            token=self._token,
            load=self._asked.load,
            notes=self.notes,
            fingerprint=self.fingerprint,
            dtype=self._request.dtype,
            variants=ledger.variants,
            store_path=self._store_path,
            base=not self._request.new,
            folder=self._inbox,
        )
        most = max(1, rows_of_a_part(self.card.dimension) // len(ledger.variants))
        size = -(-len(waiting) // (_BATCHES_A_WORKER * max(1, self._crew.hoped_for)))
        size = min(most, -(-size // self.card.batch) * self.card.batch)
        batches = [
            Batch(number, tuple((row.slice_id, str(row.path)) for row in waiting[start : start + size]))
            for number, start in enumerate(range(0, len(waiting), size), start=1)
        ]
        hands = Hands(self._crew, session, batches, ledger, shards, self._request.workers)
        for _ in progress(hands.slices(), total=len(waiting), label="slices"):
            pass
        shards.settle()
        ledger.sort_failures()
        # A slow worker whose batch another one has done may still want to write here.
        shutil.rmtree(self._inbox, ignore_errors=True)


def _samples(manifest: Manifest) -> dict[str, int]:
    """Some files of the data that are there, and their sizes: a worker must see the same ones."""
    rows = manifest.rows
    files = {file_of(rows[place].path) for place in (0, len(rows) // 2, -1)} if rows else set()
    return {str(path): path.stat().st_size for path in sorted(files) if path.is_file()}


def _listed(addresses: list[str]) -> str:
    shown = ", ".join(addresses[:_MOST_LISTED])
    more = len(addresses) - _MOST_LISTED
    return f"worker{'' if len(addresses) == 1 else 's'} {shown}" + (f" and {more} more" if more > 0 else "")
