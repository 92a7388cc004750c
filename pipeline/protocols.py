"""How slices are put on two sides: the honest way, and the ways behind the published figures.

Every protocol but ``patient`` lets one patient, or even one slice and its rotated copies, stand on both
sides. They exist to reproduce published claims and to measure how much such a split inflates them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from features.manifest import Manifest, ManifestRow
from models.errors import BadSettings, TooFewData
from pipeline.copies import VARIANTS, copies_of
from pipeline.dealing import draw_sides
from pipeline.run import RunDirectory
from pipeline.splits import DEFAULT_FOLDS, Protocol, Split, classes_of, manifest_hash

__all__ = ["FACTS", "ProtocolFacts", "draw_training", "make_leaky_split", "use_protocol"]


@dataclass(frozen=True)
class ProtocolFacts:
    """What a protocol does.

    Attributes
    ----------
    train_fraction : float
        Share on the training side.
    unit : str
        What is drawn: ``patient``, ``slice`` or ``copy`` (a slice or a rotated copy of it).
    chosen_on_test : bool
        Whether settings are chosen by the very slices that are reported.
    source : str
        Where it was used.
    """

    train_fraction: float
    unit: str
    chosen_on_test: bool
    source: str

    @property
    def leaky(self) -> bool:
        """Whether its figures are too good."""
        return self.unit != "patient" or self.chosen_on_test

    @property
    def chosen_by(self) -> str:
        """What settings are chosen by, in plain words."""
        if self.chosen_on_test:
            return "the test slices themselves"
        units = {"patient": "whole patients", "slice": "single slices", "copy": "single copies of slices"}
        return f"cross-validation over {units[self.unit]}"

    @property
    def meaning(self) -> str:
        """In plain words."""
        words = {
            "patient": "patients kept whole",
            "slice": "slices mixed",
            "copy": "rotated first, then all copies mixed",
        }[self.unit]
        share = f"{self.train_fraction:.0%} / {1 - self.train_fraction:.0%}"
        return f"{words}, {share}" + (", validation = test" if self.chosen_on_test else "")


FACTS = {
    Protocol.PATIENT: ProtocolFacts(0.7, "patient", False, "the default"),
    Protocol.SLICE: ProtocolFacts(0.7, "slice", False, "common practice"),
    Protocol.PAPER: ProtocolFacts(0.7, "copy", False, "Dawud, Yurtkan and Oztoprak 2019"),
    Protocol.LENET: ProtocolFacts(0.75, "slice", True, "LeNet on 140 slices"),
    Protocol.THESIS: ProtocolFacts(0.8, "slice", False, "TinyVGG on 7,000 slices"),
}
"""What each protocol does."""


def draw_training(
    rows: Iterable[ManifestRow], classes: tuple[str, ...], protocol: Protocol, seed: int, copies: int = 1
) -> np.ndarray:
    """Which rows a protocol trains on; all others are tested.

    Parameters
    ----------
    rows : iterable of ManifestRow
        With labels.
    classes : tuple of str
    protocol : Protocol
    seed : int
    copies : int
        Variants of each slice. They stand variant after variant: all originals first.

    Returns
    -------
    ndarray of shape (copies * n_rows,), bool

    Raises
    ------
    TooFewData
        If a class has too few patients or slices for two sides.
    """
    rows = list(rows)
    facts = FACTS[protocol]
    if facts.unit == "patient":
        ordered = sorted(rows, key=lambda row: row.slice_id)
        side = draw_sides(ordered, classes, facts.train_fraction, seed)
        trains = np.array([side[row.slice_id] == "train" for row in rows])
        return np.tile(trains, copies)
    # Drawn in the order of the ids, so that the order of the manifest changes nothing.
    by_id = np.argsort([row.slice_id for row in rows], kind="stable")
    labels = np.array([row.label for row in rows])[by_id]
    chosen = _draw_slices(np.tile(labels, copies), classes, facts.train_fraction, seed)
    trains = np.empty(copies * len(rows), dtype=bool)
    trains[(np.arange(copies)[:, None] * len(rows) + by_id).ravel()] = chosen
    return trains


def make_leaky_split(
    manifest: Manifest, classes: tuple[str, ...], protocol: Protocol, seed: int, folds: int
) -> Split:
    """A split by slice, or by copy, for training heads and networks as the published systems did.

    It is marked leaky. Parts that the data set publishes are ignored. Folds are drawn by slice or copy too.

    Raises
    ------
    BadSettings
        For ``patient``, which is `pipeline.splits.make_split`'s.
    TooFewData
        If a class has too few slices.
    BadDataset
        If a slice is called as a rotated copy of another one would be.
    """
    facts = FACTS[protocol]
    if not facts.leaky:
        raise BadSettings(f"protocol {protocol.value} is not leaky: it is the default")
    by_copy = facts.unit == "copy"
    trains = draw_training(manifest.labelled, classes, protocol, seed, len(VARIANTS) if by_copy else 1)
    rows = copies_of(manifest.labelled) if by_copy else manifest.labelled.rows
    ids = np.array([row.slice_id for row in rows])
    labels = np.array([row.label for row in rows])
    fold = {}
    rng = np.random.default_rng([seed, 1])
    for name in classes:
        own = np.sort(ids[trains & (labels == name)])
        if len(own) < folds:
            raise TooFewData(f"class {name!r} has {len(own)} training slices; {folds} folds need as many")
        fold |= dict(zip(rng.permutation(own).tolist(), (i % folds for i in range(len(own))), strict=True))
    return Split(
        protocol=protocol,
        seed=seed,
        train_fraction=facts.train_fraction,
        folds=folds,
        manifest=manifest_hash(manifest),
        unit=facts.unit,
        part={
            name: "train" if trained else "test" for name, trained in zip(ids.tolist(), trains, strict=True)
        },
        fold=fold,
        leaky=True,
    )


def use_protocol(
    run: RunDirectory,
    protocol: Protocol | str,
    *,
    seed: int | None = None,
    folds: int | None = None,
    new: bool = False,
) -> None:
    """Give a run the split of a leaky protocol, so that whatever is trained next is split like that.

    Parameters
    ----------
    run : RunDirectory
    protocol : Protocol
        ``slice``, ``paper``, ``lenet`` or ``thesis``.
    seed, folds : int, optional
        Of a new split; 0 and 5 by default.
    new : bool
        Replace the split that the run has.

    Raises
    ------
    BadSettings
        If the run is split by another protocol and `new` is not set, or for ``patient``.
    TooFewData
        If a class has too few slices.
    """
    protocol = Protocol(protocol)
    if run.split_path.exists() and not new:
        kept = Split.read(run.split_path).protocol
        if kept is not protocol:
            raise BadSettings(
                f"{run.split_path} has protocol {kept.value}, not {protocol.value}; use another run, or draw "
                "it anew with --new-split and train every model again"
            )
        return
    manifest = run.manifest()
    split = make_leaky_split(
        manifest,
        classes_of(run, manifest),
        protocol,
        seed=0 if seed is None else seed,
        folds=DEFAULT_FOLDS if folds is None else folds,
    )
    split.write(run.split_path)


def _draw_slices(labels: np.ndarray, classes: tuple[str, ...], fraction: float, seed: int) -> np.ndarray:
    """A stratified draw of single slices."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=bool)
    for name in classes:
        own = np.flatnonzero(labels == name)
        count = round(fraction * len(own))
        if not 0 < count < len(own):
            raise TooFewData(f"class {name!r} has {len(own)} slices; two sides need two or more")
        chosen[rng.permutation(own)[:count]] = True
    return chosen
