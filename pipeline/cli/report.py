"""``haemo report``: one page to show to others."""

from pathlib import Path

import click

from haemo.pipeline.cli.compare import resampling_options
from haemo.pipeline.cli.console import progress, run_option

__all__ = ["report"]


@click.command()
@run_option
@click.option(
    "--anonymise/--names",
    default=True,
    help="Call slices and patients by codes and leave out paths, or call them by their names.  "
    "[default: codes, which haemo names explains]",
)
@click.option(
    "--share",
    is_flag=True,
    help="Write it to RUN/share, alone, to be given away: slices and patients have numbers, which "
    "RUN/share_key.csv explains.",
)
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Also give PPV and NPV at this share of positives in compare.json.",
)
@resampling_options
def report(
    run_path: Path,
    anonymise: bool,
    share: bool,
    prevalence: float | None,
    resamples: int,
    seed: int,
    level: float,
) -> None:
    """Write RUN/report.html: everything RUN has to show, in one file that needs no other.

    Also writes every figure as PNG and SVG to RUN/figures/, MODEL_CARD.md, CLAIM.md and TRIPOD.md. Run haemo
    leakage and haemo learning-curve first to have their sections.
    """
    if share and not anonymise:
        raise click.UsageError("give --share or --names, not both")
    from haemo.pipeline.evaluation.intervals import Resampling
    from haemo.pipeline.report import write_report
    from haemo.pipeline.run.directory import RunDirectory

    written = write_report(
        RunDirectory(run_path),
        anonymous=anonymise,
        share=share,
        prevalence=prevalence,
        resampling=Resampling(resamples, seed, level),
        progress=progress,
    )
    click.echo(written.claim)
    click.echo(
        f"written: {written.page}, {written.card.name}, {written.checklist.name}, "
        f"{written.tripod.name}, {written.figures.name}/"
    )
