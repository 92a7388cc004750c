"""The options of commands that can do their work on the workers of a cluster."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from haemo.features.cluster.connection import Cluster

__all__ = ["chosen_cluster", "cluster_options", "on_cluster"]


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--cluster`` and ``--cluster-config``."""
    name = click.option(
        "--cluster",
        metavar="tcp://HOST:PORT|local:N|slurm",
        help="Do it on the workers of a Dask scheduler, on N processes of this host, or on SLURM jobs "
        "(docs/scale.md).",
    )
    config = click.option(
        "--cluster-config",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="For slurm: a TOML file that says what a job is given.",
    )
    return name(config(command))


def chosen_cluster(name: str | None, config: Path | None) -> "Cluster | None":
    """Give the cluster that was typed; None where there is none."""
    from haemo.errors import BadSettings
    from haemo.features.cluster.connection import Cluster

    if name is None:
        if config is not None:
            raise BadSettings("--cluster-config is for --cluster slurm; give that too")
        return None
    return Cluster.parse(name, config)


def on_cluster(name: str | None, config: Path | None) -> AbstractContextManager[None]:
    """Have what computations of the block can share done by the cluster that was typed."""
    from contextlib import nullcontext

    cluster = chosen_cluster(name, config)
    if cluster is None:
        return nullcontext()
    from haemo.features.cluster.sharing import working_on

    return working_on(cluster)
