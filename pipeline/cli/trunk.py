"""``haemo segment trunk``: weights for stage one, trained on the masks of runs."""

from pathlib import Path
from typing import Any

import click

from haemo.pipeline.cli.console import counted, progress
from haemo.pipeline.cli.figures import cell, mean_cell
from haemo.pipeline.cli.protocol import new_split_option, train_fraction_option

__all__ = ["palest_option", "trunk"]

palest_option = click.option(
    "--palest",
    type=float,
    metavar="HU",
    help="Other looks make the blood of a slice no paler than this. Give 46 where it is pale already.",
)


@click.command()
@click.option(
    "--run",
    "run_paths",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    required=True,
    metavar="RUN",
    help="A run with masks; name it again for more of them.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Where the weights go: a .safetensors file.",
)
@click.option("--steps", type=click.IntRange(1), default=2000, show_default=True, help="Training steps.")
@click.option("--batch-size", "batch", type=click.IntRange(2), default=48, show_default=True)
@click.option(
    "--looks",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Other looks of each slice in HU, as for 'segment train', beside the slice as it is.",
)
@palest_option
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="auto: bfloat16 where the hardware has it.",
)
@click.option("--note", default="", metavar="TEXT", help="What the file shall say of itself.")
@train_fraction_option
@new_split_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of the training.")
@click.option("--jobs", type=click.IntRange(1), help="Processes that read slices.  [default: one a core]")
def trunk(
    run_paths: tuple[Path, ...],
    out: Path,
    steps: int,
    batch: int,
    looks: int,
    palest: float | None,
    precision: str,
    train_fraction: float | None,
    new_split: bool,
    **options: Any,
) -> int:
    """Train AlexNet's conv1 to conv5 further to say where blood is: weights for 'haemo features'.

    It learns from the masks of the training patients of each RUN, from heads cropped and upright, and is
    judged on the test patients. Stop it at any moment: the same command goes on. Use the weights in runs of
    other patients: where it has learned from a patient, figures are too good.
    """
    from haemo.models.training.blood_trunk import TrunkSettings
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.segmenting.trunk_training import train_trunk
    from haemo.pipeline.splitting.protocols import SplitRequest

    result = train_trunk(
        [RunDirectory(path) for path in run_paths],
        out,
        TrunkSettings(steps=steps, batch=batch, varied=True, precision=precision),
        looks=looks,
        palest_hu=palest,
        split=SplitRequest(train_fraction=train_fraction, new=new_split),
        progress=progress,
        **options,
    )
    if judged := result.judged:
        click.echo(
            f"test patients, {counted(judged['slices'], 'slice')}: ROC AUC of slices "
            f"{cell(judged['classified'], 'roc_auc')}, of cells {judged['cells_roc_auc']:.3f}; hottest cell "
            f"on the bleed, over 1 cm2: {mean_cell(judged['pointing']) or '-'} of {judged['large_bleeds']}"
        )
    for failure in result.failures:
        click.echo(f"{failure.path}: {failure.reason}", err=True)
    where = "kept in" if result.up_to_date else "written to"
    slices, patients = (counted(result.facts[f"{one}s"], one) for one in ("slice", "patient"))
    click.echo(f"trunk learned from {slices} of {patients}; {where} {out}")
    view = "--crop head --upright --mirror --layer pool4"
    click.echo(f"next: haemo features --run OTHER --weights {out} {view}")
    return 3 if result.failures else 0
