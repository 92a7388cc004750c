"""``haemo predict``: what a trained head says about new slices."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.console import progress, run_option, table

if TYPE_CHECKING:
    from pipeline.prediction import SliceScores

__all__ = ["predict"]

_MOST_ROWS = 40


@click.command()
@run_option
@click.option(
    "--head", default="svm", show_default=True, metavar="NAME", help="Which trained head or network."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Probability from which the positive class is predicted.  [default: its own]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write all rows to a CSV file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.argument(
    "paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path, exists=True)
)
def predict(
    run_path: Path,
    head: str,
    threshold: float | None,
    out: Path | None,
    as_json: bool,
    device: str,
    paths: tuple[Path, ...],
) -> int:
    """Score slices: image or DICOM files, or folders of them.

    Prints class, decision score and calibrated probability of each slice. Not a medical device: a score is
    no diagnosis. Exit code 3 if some files could not be used; they are named.
    """
    from pipeline.prediction import predict as predict_slices
    from pipeline.run import RunDirectory

    result = predict_slices(
        RunDirectory(run_path), head, paths, threshold=threshold, device=device, progress=progress
    )
    if out:
        result.write_csv(out)
    if as_json:
        click.echo(json.dumps({"run": str(run_path), "head": head, **result.as_json()}, indent=2))
    else:
        _print(result)
    for failure in result.failures:
        click.echo(f"{failure.path}: {failure.reason}", err=True)
    where = f" -> {out}" if out else ""
    click.echo(f"{len(result)} slices scored, {len(result.failures)} failed{where}", err=as_json)
    return 3 if result.failures else 0


def _print(result: "SliceScores") -> None:
    shown = min(len(result), _MOST_ROWS)
    names = [str(path) for path in result.paths[:shown]]
    predicted = [str(name) for name in result.predicted[:shown]]
    if len(result.classes) == 2:
        scores = [f"{score:+.3f}" for score in result.scores[:shown]]
        chances = [f"{chance:.3f}" for chance in result.probabilities[:shown]]
        rows = list(zip(names, predicted, scores, chances, strict=True))
        columns = ("slice", "class", "score", "probability")
        rule = f"{result.classes[1]} from a probability of {result.threshold:g}"
    else:
        chances = [f"{chance:.3f}" for chance in result.probabilities[:shown].max(axis=1)]
        rows = list(zip(names, predicted, chances, strict=True))
        columns = ("slice", "class", "probability")
        rule = "the most probable class"
    table(columns, rows, title=rule)
    if len(result) > shown:
        click.echo(f"... and {len(result) - shown} more; all of them with --out FILE or --json")
    counts = [f"{name}: {(result.predicted == name).sum()}" for name in result.classes]
    click.echo(f"slices by predicted class: {', '.join(counts)}")
