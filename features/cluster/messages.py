"""What is said between the host that the command was typed on and a worker; all of it can be pickled."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.features.cluster.hosts import Host
from haemo.features.failures import Failure
from haemo.features.store.contents import KnownFile
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.storefile import RowKeys

if TYPE_CHECKING:
    from haemo.features.views.preprocess import Preprocessing
    from haemo.models.networks.engine import Engine
    from haemo.models.networks.frozen import Embedder

__all__ = ["Batch", "Card", "Done", "Introduction", "Load", "Session"]

Load = Callable[[dict[str, str] | None], tuple["Embedder", "Preprocessing"]]
"""Makes network and preprocessing, with the notes of the store that is carried on; must be picklable."""


@dataclass(frozen=True)
class Introduction:
    """What a worker is asked before it is given work.

    Attributes
    ----------
    token : str
        Of this call of the command: what a worker has loaded is kept for it.
    load : callable
    notes : dict of str to str
        Of the store that is carried on, or empty.
    versions : dict of str to str
        Of the packages that must be alike.
    folder : Path
        Where parts are to be written; holds a file ``probe`` with the token.
    samples : dict of str to int
        Paths of files of the data, and their sizes in bytes.
    """

    token: str
    load: Load
    notes: dict[str, str]
    versions: dict[str, str]
    folder: Path
    samples: dict[str, int]

    def objection(self, card: "Card") -> str | None:
        """Why a worker with this card cannot do the work, with the remedy; None where it can."""
        for name, wanted in self.versions.items():
            if card.versions[name] != wanted:
                return (
                    f"it has {name} {card.versions[name]}, and this host {wanted}; install the same on both, "
                    "as requirements.lock has it"
                )
        if card.unseen:
            return f"it does not see {card.unseen} as this host does; mount the data there at the same path"
        return card.problem


@dataclass(frozen=True, kw_only=True)
class Card(Host):
    """What a worker says of itself.

    Attributes
    ----------
    place, processors, versions
        As in `Host`.
    writes : bool
        Whether it sees the run's folder and can write to it.
    unseen : str
        A file of the data that it does not see as the one who asks does; else empty.
    problem : str or None
        Why the network cannot be made ready.
    facts : dict
        Of the network, as `Embedder.describe` gives them; empty where it is not ready.
    preprocessing : Preprocessing or None
    engine : Engine or None
    batch, dimension : int
    layer : str
    origin : str
        Where the weights come from.
    """

    writes: bool
    unseen: str
    problem: str | None = None
    facts: dict[str, Any]
    preprocessing: "Preprocessing | None" = None
    engine: "Engine | None" = None
    batch: int = 0
    dimension: int = 0
    layer: str = ""
    origin: str = ""

    def describe(self) -> dict[str, Any]:
        """Give the facts that an embedding depends on, as the network itself does."""
        return self.facts


@dataclass(frozen=True, kw_only=True)
class Session:
    """What all batches of one call of the command have in common.

    Attributes
    ----------
    token, load
        As in `Introduction`.
    notes : dict of str to str
        Engine and batch that every worker takes.
    fingerprint : Fingerprint
        What every worker must come to.
    dtype : str
        How embeddings are kept.
    variants : tuple of int
        Of each slice.
    store_path : Path
    base : bool
        Whether rows of the present store are used.
    folder : Path
        Where parts are written.
    """

    token: str
    load: Load
    notes: dict[str, str]
    fingerprint: Fingerprint
    dtype: str
    variants: tuple[int, ...]
    store_path: Path
    base: bool
    folder: Path


@dataclass(frozen=True)
class Batch:
    """Slices that one worker takes at once.

    Attributes
    ----------
    number : int
    slices : tuple of (str, str)
        Id and path of each.
    """

    number: int
    slices: tuple[tuple[str, str], ...]

    @property
    def words(self) -> str:
        """How it is called in messages: by its slices."""
        first, last = self.slices[0][1], self.slices[-1][1]
        return first if len(self.slices) == 1 else f"the {len(self.slices)} slices {first} to {last}"


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a batch.

    Attributes
    ----------
    files, failures, gone, colour, askew
        As `Extraction` has them.
    part : Path or None
        The sealed part that was written; None where nothing was new, or nothing could be written.
    seal : bytes
        The first bytes of that part, which hold the sha256 of the others.
    keys, embeddings
        What was embedded, where it could not be written.
    seconds : float
    """

    files: list[KnownFile]
    failures: list[Failure]
    gone: set[str]
    colour: int
    askew: int
    part: Path | None
    seal: bytes
    keys: RowKeys
    embeddings: np.ndarray
    seconds: float
