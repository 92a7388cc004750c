"""``haemo blend``: several heads of a run as one more model."""

from pathlib import Path

import click

from haemo.pipeline.cli.console import run_option, trust_option
from haemo.pipeline.cli.figures import show_trained

__all__ = ["blend"]


@click.command()
@run_option
@trust_option
@click.option("--heads", metavar="NAME,NAME", help="Which heads.  [default: all of the run]")
@click.option(
    "--weights",
    type=click.Choice(["fitted", "mean"]),
    default="fitted",
    show_default=True,
    help="fitted: by logistic regression on log odds out of fold, none below 0; mean: all alike.",
)
@click.option(
    "--threshold",
    metavar="NUMBER|youden|sensitivity=S|specificity=S",
    help="Probability from which the positive class is predicted, or how it is chosen out of fold.  "
    "[default: youden; 0.5 under a published protocol]",
)
@click.option("--name", default="blend", show_default=True, metavar="NAME", help="What it is called in RUN.")
def blend(
    run_path: Path,
    trust: tuple[str, ...],
    heads: str | None,
    weights: str,
    threshold: str | None,
    name: str,
) -> None:
    """Join heads of a run: a weighted sum of the log odds that they give.

    Weights, calibration and threshold come from slices that were held out, and the test slices are predicted
    once. The blend stands in compare, report and predict as one more model. Writes RUN/blend/.
    """
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.training.blend import BlendSettings, train_blend

    run = RunDirectory(run_path, trust)
    chosen = tuple(one.strip() for one in heads.split(",")) if heads else ()
    result = train_blend(run, BlendSettings(chosen, weights, threshold), called=name)
    joined = ", ".join(f"{one} {weight:.3g}" for one, weight in result.facts["parameters"].items())
    click.echo(f"{name}: {joined} ({weights} weights)")
    show_trained(name, result.facts, result.metrics, "out of fold")
    click.echo(f"{'kept in' if result.up_to_date else 'written to'} {run.model_path(name)}")
    click.echo(f"next: haemo compare --run {run}")
