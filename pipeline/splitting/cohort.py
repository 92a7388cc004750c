"""The cohort of a run: its slices, labels, patients and split, as one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from haemo.features.manifest import Manifest, ManifestRow
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.splitting.protocols import FACTS, ProtocolFacts, SplitRequest, split_for_training
from haemo.pipeline.splitting.split import Split, classes_of
from haemo.pipeline.splitting.splitfile import keep_split

__all__ = ["Cohort"]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Which slices a run has, how they are labelled, whose they are, and on which side each stands.

    Attributes
    ----------
    run : RunDirectory
    manifest : Manifest
    classes : tuple of str
        Of two classes the second is the positive one.
    split : Split
    is_new : bool
        Whether the split was drawn for this cohort, and is not kept in the run before `keep`.
    """

    run: RunDirectory
    manifest: Manifest
    classes: tuple[str, ...]
    split: Split
    is_new: bool = False

    @classmethod
    def of(cls, run: RunDirectory, wanted: SplitRequest | None = None) -> "Cohort":
        """Read a run's manifest, and read or draw its split.

        Raises
        ------
        MissingStep
            If the run has not been indexed.
        TooFewData, BadDataset, BadSettings
            As `classes_of` and `split_for_training`.
        """
        manifest = run.manifest()
        classes = classes_of(run, manifest)
        split, is_new = split_for_training(run, manifest, wanted or SplitRequest())
        return cls(run, manifest, classes, split, is_new)

    def keep(self) -> None:
        """Keep the split in the run, where it was drawn anew."""
        if self.is_new:
            keep_split(self.run, self.split, self.manifest)

    @property
    def protocol(self) -> ProtocolFacts:
        """What the split's protocol does."""
        return FACTS[self.split.protocol]

    @property
    def rows(self) -> list[ManifestRow]:
        """The labelled slices, or these and their rotated copies where the split deals copies."""
        return self.split.dealt(self.manifest.labelled)

    def targets(self, rows: Sequence[ManifestRow]) -> np.ndarray:
        """Class number of each row: ndarray of shape (n,), int."""
        return np.array([self.classes.index(row.label) for row in rows], dtype=int)
