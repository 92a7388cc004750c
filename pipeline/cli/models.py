"""Models that outline, and stand in one file or in a run."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from haemo.pipeline.cli.console import progress

if TYPE_CHECKING:
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = ["named_segmenter", "outliner_of", "precision_option", "say_precision"]

_USUAL = "float32"

precision_option = click.option(
    "--precision",
    type=click.Choice([_USUAL, "bfloat16"]),
    default=_USUAL,
    show_default=True,
    help="Of the trunk that outlines are drawn by. In bfloat16 it takes a third of the time where the "
    "hardware has that; outlines differ by single pixels, and one at its limit may come or go.",
)


def named_segmenter(model: str) -> "Segmenter":
    """The built-in segmenter, or that of a file.

    Raises
    ------
    BadSettings
        If the file holds another model.
    """
    from haemo.errors import BadSettings
    from haemo.pipeline.packing.modelfile import open_model
    from haemo.pipeline.segmenting.segmenter import Segmenter

    found = open_model(model, progress=progress)
    if not isinstance(found, Segmenter):
        raise BadSettings(
            f"{model} holds {found.name}, which outlines nothing; it scores slices: haemo predict --model "
            f"{model} PATH"
        )
    return found


def outliner_of(run_path: Path | None, precision: str = _USUAL) -> "Segmenter":
    """What outlines blood for the models of a run, or for one that has no run."""
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.segmenting.segmenter import builtin_segmenter
    from haemo.pipeline.segmenting.segmenterfolder import outliner

    found = outliner(RunDirectory(run_path)) if run_path else builtin_segmenter()
    return found.with_precision(precision)


def say_precision(segmenter: "Segmenter | None", aside: bool = False) -> None:
    """Say what outlines were drawn by, where that is not the usual; `aside` where output is data."""
    if segmenter is not None and segmenter.features.precision != _USUAL:
        click.echo(f"outlined with the trunk in {segmenter.features.precision}", err=aside)
