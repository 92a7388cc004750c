"""The sets of features of a run, opened for a head: one, or several side by side."""

from collections.abc import Sequence
from contextlib import ExitStack

from haemo.extensions import unknown
from haemo.features.store.store import FeatureStore
from haemo.features.store.table import FeatureTable
from haemo.pipeline.run.directory import DEFAULT_SET, RunDirectory

__all__ = ["open_features"]


def open_features(run: RunDirectory, sets: Sequence[str] = (), context: int = 0) -> FeatureTable:
    """Open some sets of features of a run; the table closes them.

    Parameters
    ----------
    run : RunDirectory
    sets : sequence of str
        By default the one that `run` means.
    context : int
        Neighbours on either side of each slice.

    Raises
    ------
    MissingStep
        If the run has no features.
    BadSettings
        If there is no set of that name, or a slice has no position, which a context needs.
    """
    names = tuple(sets) or (run.features,)
    for name in names:
        if name not in (DEFAULT_SET, *run.sets()):
            raise unknown("set of features", name, run.sets())
    with ExitStack() as opened:
        stores = {name: opened.enter_context(FeatureStore(run.on(name).store_path)) for name in names}
        table = FeatureTable(stores, run.manifest().rows if context else (), context)
        opened.pop_all()
    return table
