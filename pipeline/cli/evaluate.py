"""``haemo evaluate``: an existing model, untouched, on slices of elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from haemo.pipeline.cli.clinical import entry_cell
from haemo.pipeline.cli.compare import resampling_options, show_comparison, show_rest
from haemo.pipeline.cli.console import (
    aggregate_option,
    by_option,
    progress,
    series_option,
    table,
    trained_models,
    trust_option,
    unit_option,
)

__all__ = ["evaluate"]

_SHOWN = 5


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL...] DATA")
@click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="RUN",
    help="Judge models of this run, in place of or beside MODEL.",
)
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="NAME",
    shell_complete=trained_models,
    help="Which head or network of RUN; may be given again.  [default: all of them]",
)
@trust_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for what is found; new, or of an earlier call that goes on.",
)
@click.option(
    "--labels", type=click.Path(path_type=Path), metavar="FILE", help="Table with the labels of DATA."
)
@click.option("--label", metavar="NAME", help="Column with the label, or the type of bleed.")
@click.option("--patient-column", metavar="NAME", help="Column that says which patient a slice is of.")
@click.option("--layout", default="auto", metavar="NAME", help="Layout of DATA; recognised by default.")
@series_option
@unit_option
@click.option(
    "--positive", metavar="LABEL", help="The label that means the positive class, where words do not say so."
)
@click.option(
    "--keep", metavar="NAMES", help="Attributes for figures by subgroup, as for haemo index --keep."
)
@click.option(
    "--keep-from",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Another table with such columns.",
)
@by_option
@aggregate_option("How slices make a study or patient.", "how")
@click.option(
    "--threshold", type=float, help="In place of each model's own; for a CSV file of scores, on the score."
)
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Give PPV and NPV at this share of positives.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@resampling_options
def evaluate(
    models: tuple[str, ...],
    run_path: Path | None,
    heads: tuple[str, ...],
    trust: tuple[str, ...],
    out: Path,
    keep: str | None,
    resamples: int,
    seed: int,
    level: float,
    device: str,
    **options: Any,
) -> int:
    """Judge trained models, untouched, on the labelled slices of DATA, or anyone's scores.

    \b
    haemo evaluate runs/first/svm other/hospital --out judged
    haemo evaluate --run runs/first --head svm --head mlp other/hospital --out judged
    haemo evaluate builtin other/hospital --labels truth.csv --out judged
    haemo evaluate scores.csv --out judged

    MODEL is the folder of a trained model, a packed one (haemo pack), or builtin. A CSV file has a column
    label and score or probability, best also patient, and needs no DATA. Each model decides at its own
    threshold. All figures have intervals by patient; beside them stand calibration, net benefit, the shift
    against what the model was trained on, and a recalibration as an offer. Stopped and typed again it goes
    on. Exit code 3 if some slices could not be judged, those without a label among them: DIR/failures.csv
    names each.
    """
    from haemo.pipeline.evaluation.intervals import Resampling
    from haemo.pipeline.judging.judgement import judge
    from haemo.pipeline.judging.judgement_documents import write_checklists
    from haemo.pipeline.judging.judgement_page import write_page
    from haemo.pipeline.judging.sides import JudgingSettings

    names, data = _asked(models, run_path, heads)
    by_index = ("labels", "label", "patient_column", "layout", "series", "unit", "keep_from")
    index = {name: options.pop(name) for name in by_index}
    settings = JudgingSettings(
        keep=keep,
        trusted=trust,
        device=device,
        resampling=Resampling(resamples, seed, level),
        index={name: value for name, value in index.items() if value is not None},
        **options,
    )
    found = judge(names, data, out, settings, progress)
    written = write_page(found, settings.resampling)
    write_checklists(found)
    show_comparison(found.comparison, level)
    show_rest(found.comparison)
    _show_shift(found.shift)
    _show_recalibration(found.recalibration)
    for failure in found.failures[:_SHOWN]:
        click.echo(f"not judged: {failure.path}: {failure.reason}", err=True)
    if len(found.failures) > _SHOWN:
        click.echo(f"... and {len(found.failures) - _SHOWN} more: {out / 'failures.csv'}", err=True)
    first = next(iter(found.comparison.models.values()))
    click.echo(f"written: {written}, judgement.json, CLAIM.md, TRIPOD.md, predictions of each model")
    click.echo(f"{first['slices']:,} {found.comparison.things} judged, {len(found.failures):,} not -> {out}")
    return 3 if found.failures else 0


def _asked(
    models: tuple[str, ...], run_path: Path | None, heads: tuple[str, ...]
) -> tuple[list[str], Path | None]:
    """The models and the folder of slices that were typed: the folder stands last, unless all are tables."""
    if heads and run_path is None:
        raise click.UsageError("--head NAME names a model of --run RUN")
    names = list(models)
    data = None
    if run_path is not None or not all(name.lower().endswith(".csv") for name in names):
        if not names:
            raise click.UsageError("name the folder of the slices")
        data = Path(names.pop())
    if run_path is not None:
        from haemo.pipeline.run.directory import RunDirectory

        chosen = heads or RunDirectory(run_path).models()
        if not chosen:
            raise click.UsageError(f"{run_path} has no trained model; train one: haemo svm --run {run_path}")
        names = [*(str(run_path / name) for name in chosen), *names]
    if not names:
        raise click.UsageError(
            "name a model and the folder of the slices: haemo evaluate runs/first/svm DATA"
        )
    return names, data


def _show_shift(shifts: Mapping[str, Mapping[str, Any]]) -> None:
    """Print how the slices differ from those of training, a column a model."""
    if not shifts:
        return
    rows: list[list[str]] = []

    def row(words: str, take: Any) -> None:
        rows.append([words, *(take(shift) for shift in shifts.values())])

    def outside(shift: Mapping[str, Any]) -> str:
        own = shift["outside"]
        return "-" if "why_not" in own else f"{entry_cell(own['share'])} of 0.01"

    row("outside what it knows, share of expected", outside)
    row("slices that it was trained on", lambda shift: "-" if shift["seen"] is None else str(shift["seen"]))
    for name in ("all", "negative", "positive"):
        row(
            f"mean score, {name}: here less training, in SD",
            lambda shift, name=name: entry_cell(shift["scores"].get(name, {}).get("distance"), 2, True),
        )
        row(
            f"largest gap of the distributions, {name}",
            lambda shift, name=name: _plain(shift["scores"].get(name, {}).get("largest_gap")),
        )
    row("share of positives, training", lambda shift: _plain(shift.get("positives", {}).get("there")))
    row("share of positives, here", lambda shift: _plain(shift.get("positives", {}).get("here")))
    row("ROC AUC, held out of training", lambda shift: entry_cell(shift.get("roc_auc", {}).get("there")))
    row("ROC AUC, here", lambda shift: entry_cell(shift.get("roc_auc", {}).get("here")))
    row(
        "ROC AUC, here less training",
        lambda shift: entry_cell(shift.get("roc_auc", {}).get("difference"), signed=True),
    )
    table(["", *shifts], rows, "shift against the slices that were held out of training")
    for name, shift in shifts.items():
        for part in ("outside", "scores"):
            if "why_not" in shift[part]:
                click.echo(f"{name}: {part} not told: {shift[part]['why_not']}")


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _show_recalibration(offers: Mapping[str, Mapping[str, Any]]) -> None:
    from haemo.pipeline.judging.recalibration import MARK, WAYS

    rows = []
    for name, offer in offers.items():
        if "why_not" in offer:
            click.echo(f"{name}: no recalibration offered: {offer['why_not']}")
            continue
        for way in ("before", *WAYS):
            own = offer[way]
            how = (
                "as it is" if way == "before" else f"{own['intercept']:+.3f} + {own['slope']:.3f} x log odds"
            )
            calibration = own["calibration"]
            rows.append(
                [
                    f"{name}, {way}",
                    how,
                    *(f"{own['figures'][one]:.3f}" for one in ("brier", "log_loss", "calibration_error")),
                    entry_cell(calibration.get("in_the_large")),
                    entry_cell(calibration.get("slope")),
                ]
            )
    if rows:
        columns = [
            "",
            "new log odds",
            "Brier score",
            "log loss",
            "calibration error",
            "in the large",
            "slope",
        ]
        table(columns, rows, f"recalibration, an offer, each patient by the others; {MARK}")
