"""How slices are put on two sides: the honest way, and the ways behind the published figures.

Every protocol but ``patient`` lets one patient, or even one slice and its rotated copies, stand on both
sides. They exist to reproduce published claims and to measure how much such a split inflates them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from haemo.errors import BadSettings, TooFewData
from haemo.features.manifest import Manifest, ManifestRow
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.splitting.copies import VARIANTS, copies_of
from haemo.pipeline.splitting.dealing import draw_sides
from haemo.pipeline.splitting.split import (
    DEFAULT_FOLDS,
    Protocol,
    Split,
    classes_of,
    make_split,
    manifest_hash,
)
from haemo.pipeline.splitting.splitfile import keep_split, load_split, warn_of

__all__ = [
    "FACTS",
    "ProtocolFacts",
    "SplitRequest",
    "draw_training",
    "load_or_make_split",
    "make_leaky_split",
    "split_for_training",
]


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
        For ``patient``, which is `pipeline.splitting.split.make_split`'s.
    TooFewData
        If a class has too few slices.
    BadDataset
        If a slice is called as a rotated copy of another one would be.
    """
    facts = FACTS[protocol]
    if not facts.leaky:
        raise BadSettings(f"protocol {protocol.value} is not leaky: it is the default")
    by_copy, rows = facts.unit == "copy", manifest.labelled.rows
    trains = draw_training(rows, classes, protocol, seed, len(VARIANTS) if by_copy else 1)
    rows = copies_of(rows) if by_copy else rows
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


@dataclass(frozen=True)
class SplitRequest:
    """What is asked of a run's split.

    Attributes
    ----------
    protocol : Protocol or str, optional
        None takes that of the kept split, or ``patient`` for a new one.
    seed, train_fraction, folds : optional
        None takes what the kept split has, or the defaults for a new one: 0, 0.7 (or the share of the
        protocol) and 5.
    new : bool
        Draw anew, whatever the run keeps.
    """

    protocol: Protocol | str | None = None
    seed: int | None = None
    train_fraction: float | None = None
    folds: int | None = None
    new: bool = False


def split_for_training(run: RunDirectory, manifest: Manifest, wanted: SplitRequest) -> tuple[Split, bool]:
    """The split that a run keeps, or one that is drawn by a protocol and not kept yet.

    Parameters
    ----------
    run : RunDirectory
    manifest : Manifest
        The run's manifest.
    wanted : SplitRequest

    Returns
    -------
    split : Split
    is_new : bool
        Whether it was drawn, and the caller has still to keep it: `pipeline.splitting.splitfile.keep_split`.

    Raises
    ------
    BadDataset
        If the kept split was made for other slices, labels or patients.
    BadSettings
        If the kept split has another protocol, seed, share or number of folds than is asked for, or the
        protocol has another share.
    TooFewData
        As `pipeline.splitting.split.make_split`.
    """
    protocol = None if wanted.protocol is None else Protocol(wanted.protocol)
    asked = {"seed": wanted.seed, "train_fraction": wanted.train_fraction, "folds": wanted.folds}
    is_new = wanted.new or not run.split_path.exists()
    if is_new:
        split = _drawn(run, manifest, protocol or Protocol.PATIENT, asked)
    else:
        split = load_split(run, manifest, **asked)
        if protocol not in (None, split.protocol):
            raise BadSettings(
                f"{run.split_path} has protocol {split.protocol.value}, not {protocol.value}; use another "
                "run, or draw it anew with --new-split and train every model again"
            )
    warn_of(split, manifest)
    return split, is_new


def load_or_make_split(run: RunDirectory, manifest: Manifest, **asked: Any) -> Split:
    """The run's split; drawn by whole patients, and kept, where there is none yet.

    Parameters
    ----------
    run, manifest
        As for `split_for_training`.
    **asked
        Attributes of `SplitRequest`.

    Raises
    ------
    BadDataset, BadSettings, TooFewData
        As `split_for_training`.
    """
    split, is_new = split_for_training(run, manifest, SplitRequest(**asked))
    if is_new:
        keep_split(run, split, manifest)
    return split


def _drawn(run: RunDirectory, manifest: Manifest, protocol: Protocol, asked: dict[str, Any]) -> Split:
    facts, classes = FACTS[protocol], classes_of(run, manifest)
    given = {name: value for name, value in asked.items() if value is not None}
    if not facts.leaky:
        return make_split(manifest, classes, **given)
    if given.pop("train_fraction", facts.train_fraction) != facts.train_fraction:
        raise BadSettings(
            f"protocol {protocol.value} trains on {facts.train_fraction:.0%}; leave --train-fraction out"
        )
    return make_leaky_split(manifest, classes, protocol, **{"seed": 0, "folds": DEFAULT_FOLDS, **given})


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
