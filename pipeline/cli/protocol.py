"""The option ``--protocol`` of every command that trains."""

from pathlib import Path

import click

__all__ = ["prepare_split", "protocol_option"]

protocol_option = click.option(
    "--protocol",
    type=click.Choice(["patient", "slice", "paper", "lenet", "thesis"]),
    default="patient",
    show_default=True,
    help="How a new split is drawn. All but patient are LEAKY: they exist to reproduce published figures.",
)


def prepare_split(
    run_path: Path, protocol: str, *, seed: int | None, folds: int | None, new_split: bool
) -> bool:
    """Draw the split of a leaky protocol where one is asked for; say whether one is still to be drawn."""
    if protocol == "patient":
        return new_split
    from pipeline.protocols import use_protocol
    from pipeline.run import RunDirectory

    use_protocol(RunDirectory(run_path), protocol, seed=seed, folds=folds, new=new_split)
    return False
