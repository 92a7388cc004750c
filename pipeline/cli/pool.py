"""The commands for labels that are not one class a slice: `pool` for studies, `types` for several types."""

from pathlib import Path

import click

from haemo.pipeline.cli.console import counted, progress, run_option, table
from haemo.pipeline.cli.figures import cell

__all__ = ["pool", "types"]


@click.command()
@run_option
@click.option(
    "--by",
    type=click.Choice(["mean", "max", "top"]),
    default="mean",
    show_default=True,
    help="What becomes of each number of the slices' embeddings; top is the mean of the largest quarter.",
)
def pool(run_path: Path, by: str) -> int:
    """Make one embedding of each study, where labels are of studies. Writes RUN/studies/, a run of its own.

    Its rows are studies, and so are the figures of what is trained on it: haemo svm --run RUN/studies. No
    slice is given a label because its study has one.
    """
    from haemo.pipeline.preparing.pooling import pool_studies
    from haemo.pipeline.run.directory import RunDirectory

    made = pool_studies(RunDirectory(run_path), by)
    classes = ", ".join(f"{name} {count:,}" for name, count in made.classes.items())
    click.echo(f"studies by class: {classes}")
    click.echo(
        f"{counted(made.slices, 'slice')} pooled by {by} into {made.studies:,} studies -> {made.run.path}"
    )
    click.echo(f"next: haemo svm --run {made.run}")
    return 3 if made.left_out else 0


@click.command()
@run_option
@click.option("--head", default="svm", show_default=True, type=click.Choice(["svm", "softmax", "mlp"]))
def types(run_path: Path, head: str) -> int:
    """Train one head for any bleed and one for each type, where slices have several types at once.

    Each type is told from all slices without it, and lies in RUN/types/NAME/, a run of its own on the same
    features: haemo compare, report and predict take it as any other.
    """
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.training.types import train_types

    rows, left = [], []
    for one in train_types(RunDirectory(run_path), head, progress=progress):
        figures = ("-", "-", "-") if one.result is None else _figures(one.result.metrics["test"])
        rows.append((one.type, f"{one.slices:,}", f"{one.patients:,}", *figures))
        left += [one] if one.result is None else []
    table(
        ("type", "slices", "patients", "ROC AUC", "sensitivity", "specificity"),
        rows,
        title=f"{head} by type of bleed, one against the rest, on test slices",
    )
    for one in left:
        click.echo(f"{one.type}: not trained, {one.reason}", err=True)
    click.echo(f"{counted(len(rows) - len(left), 'head')} trained -> {run_path / 'types'}")
    return 3 if left else 0


def _figures(test: dict) -> tuple[str, str, str]:
    return cell(test, "roc_auc"), cell(test, "sensitivity"), cell(test, "specificity")
