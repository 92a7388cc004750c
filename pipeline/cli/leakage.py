"""``haemo leakage`` and ``haemo learning-curve``: what the figures of a run are worth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from haemo.pipeline.cli.clusters import cluster_options, on_cluster
from haemo.pipeline.cli.compare import resampling_options
from haemo.pipeline.cli.console import counted, progress, run_option, table

__all__ = ["leakage", "learning_curve"]

_PAIRS_SHOWN = 5


_features_option = click.option(
    "--features", default="default", metavar="SET", help="Set of features of the run, by its name."
)


@click.command()
@run_option
@_features_option
@click.option(
    "--repeats",
    type=click.IntRange(2),
    default=10,
    show_default=True,
    help="Draws of each protocol.",
)
@click.option(
    "--pixels/--no-pixels",
    default=True,
    show_default=True,
    help="Read the files for the shortcut control and the picture hashes.",
)
@resampling_options
@cluster_options
def leakage(
    run_path: Path,
    features: str,
    repeats: int,
    pixels: bool,
    resamples: int,
    seed: int,
    level: float,
    cluster: str | None,
    cluster_config: Path | None,
) -> int:
    """Measure what can make the figures of RUN too good.

    The same features and linear SVM under every protocol, with true labels and with labels shuffled between
    patients (sequences are rolled, so that neither the disease nor the level of a slice goes with the
    label); what the file alone tells; patients, studies, pictures and look-alikes on both sides of the
    split; labels that the model contradicts. All of it is written to RUN/leakage.json.
    """
    from haemo.pipeline.evaluation.intervals import Resampling
    from haemo.pipeline.evaluation.leakage import measure_leakage
    from haemo.pipeline.run.directory import RunDirectory

    run = RunDirectory(run_path, features=features)
    with on_cluster(cluster, cluster_config):
        result = measure_leakage(
            run,
            repeats=repeats,
            pixels=pixels,
            resampling=Resampling(resamples, seed, level),
            progress=progress,
        )
    _show_protocols(
        result.protocols, f"the same features and linear SVM, mean of {repeats} draws; {level:.0%} intervals"
    )
    if result.shuffled:
        _show_protocols(result.shuffled, "labels shuffled between patients: 0.5 is right, more is leakage")
    if result.shortcuts:
        _show_shortcuts(result.shortcuts)
    for name, reason in result.absent.items():
        click.echo(f"no {name}: {reason}")
    _show_findings(result.findings)
    click.echo(f"all of it, with the slices: {run.path / 'leakage.json'}")
    if result.failures:
        unread = counted(len(result.failures), "slice")
        click.echo(f"{unread} could not be read (see {run.failures_path})", err=True)
        return 3
    return 0


def _show_protocols(protocols: Sequence[dict[str, Any]], title: str) -> None:
    rows, absent = [], []
    for entry in protocols:
        name = f"{entry['protocol']} LEAKY" if entry["leaky"] else entry["protocol"]
        if "absent" in entry:
            absent.append(f"{entry['protocol']}: {entry['absent']}")
            continue
        inflation = entry.get("inflation", {})
        rows.append(
            [
                name,
                _range(entry["figures"].get("roc_auc")),
                _range(inflation.get("roc_auc"), signed=True),
                _range(entry["figures"].get("accuracy")),
                _range(inflation.get("accuracy"), signed=True),
                entry["meaning"],
            ]
        )
    table(["protocol", "ROC AUC", "inflation", "accuracy", "inflation", "what it does"], rows, title)
    for line in absent:
        click.echo(f"absent: {line}")


def _show_shortcuts(shortcuts: Sequence[dict[str, Any]]) -> None:
    rows = []
    for entry in shortcuts:
        patient, mixed = entry["patient"], entry["slice"]
        rows.append(
            [
                entry["name"],
                *(f"{patient[name]:.3f}" if name in patient else "-" for name in ("roc_auc", "accuracy")),
                f"{entry['p']:.2g}",
                f"{mixed['accuracy']:.3f}" if "accuracy" in mixed else "-",
            ]
        )
    columns = ["without the brain", "ROC AUC", "accuracy", "p*", "LEAKY accuracy"]
    table(
        columns,
        rows,
        "what the file alone tells, cross-validated by patient (LEAKY: slices mixed; * labels permuted "
        f"between patients, corrected for {len(rows)} controls)",
    )


def _show_findings(findings: Sequence[Any]) -> None:
    colours = {"fine": "green", "look": "yellow", "LEAK": "red"}
    for finding in findings:
        word = click.style(f"{finding.verdict.value:>4}", fg=colours[finding.verdict.value], bold=True)
        click.echo(f"{word}  {finding.name}: {finding.found}")
        if finding.verdict.value == "fine":
            continue
        click.echo(f"      {finding.meaning}")
        if finding.action:
            click.echo(f"      -> {finding.action}")
        for item in finding.items[:_PAIRS_SHOWN]:
            click.echo(f"         {_item(item)}")


def _item(item: dict[str, Any]) -> str:
    if "cosine" in item:
        bits = "" if item["bits"] is None else f", {item['bits']} of 256 bits differ"
        same = ", identical pixels" if item["identical"] else ""
        return f"{item['train']} = {item['test']}: cosine {item['cosine']:.3f}{bits}{same}"
    if "model_says" in item:
        return f"{item['slice']}: labelled {item['label']}, {item['model_says']} {item['probability']:.3f}"
    return ", ".join(" = ".join(value) if isinstance(value, list) else str(value) for value in item.values())


def _range(entry: dict[str, Any] | None, signed: bool = False) -> str:
    from haemo.pipeline.evaluation.jackknife import rough_mark

    if entry is None or "mean" not in entry:
        return "-"
    sign = "+" if signed else ""
    text = f"{entry['mean']:{sign}.3f}"
    if "low" not in entry:
        return text
    between = " to " if signed else "-"
    return f"{text} ({rough_mark(entry)}{entry['low']:{sign}.3f}{between}{entry['high']:{sign}.3f})"


@click.command("learning-curve")
@run_option
@_features_option
@click.option(
    "--repeats", type=click.IntRange(3), default=20, show_default=True, help="Splits that are drawn."
)
@click.option("--patients", metavar="N,N,N", help="Numbers of training patients; by default eight of them.")
@click.option(
    "--wanted",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Score for which the number of patients is predicted.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Coverage of the intervals.",
)
@cluster_options
def learning_curve(
    run_path: Path,
    features: str,
    repeats: int,
    patients: str | None,
    wanted: float,
    seed: int,
    level: float,
    cluster: str | None,
    cluster_config: Path | None,
) -> None:
    """Measure how the score of RUN grows with the number of training patients.

    A linear SVM on cached features, nested training sets of whole patients, and the fit
    y = 100 + b1 * x^b2. All of it is written to RUN/learning_curve.json.
    """
    from haemo.pipeline.evaluation.learning_curve import measure_learning_curve
    from haemo.pipeline.run.directory import RunDirectory

    run = RunDirectory(run_path, features=features)
    sizes = None if patients is None else _whole_numbers(patients)
    with on_cluster(cluster, cluster_config):
        curve = measure_learning_curve(
            run, repeats=repeats, sizes=sizes, wanted=wanted, seed=seed, level=level, progress=progress
        )
    rows = [
        [
            str(point["patients"]),
            f"{point['slices']:.0f}",
            *(_range(point[name]) for name in ("roc_auc", "accuracy", "balanced_accuracy")),
        ]
        for point in curve.points
    ]
    columns = ["patients", "slices", "ROC AUC", "accuracy", "balanced accuracy"]
    table(columns, rows, f"training patients, {repeats} splits by patient; {level:.0%} intervals")
    for name, words in (("roc_auc", "ROC AUC"), ("accuracy", "accuracy")):
        fit = curve.fits[name]
        click.echo(f"{words} in % = 100 {fit.b1:+.3g} * patients^{fit.b2:.3f}")
        if fit.patients is not None:
            low, high = (f"{end:,.0f}" for end in fit.patients_interval)
            click.echo(f"  {fit.wanted:g} % at about {fit.patients:,.0f} training patients ({low} to {high})")
        for warning in fit.warnings:
            click.echo(f"  not earned: {warning}")
    click.echo(f"all figures: {run.path / 'learning_curve.json'}")


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of whole numbers, e.g. 10,20,40") from None
