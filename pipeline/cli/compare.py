"""``haemo compare``: every trained model in one table, with differences."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from haemo.pipeline.cli.clinical import show_clinical, show_subgroups
from haemo.pipeline.cli.clusters import cluster_options, on_cluster
from haemo.pipeline.cli.console import aggregate_option, by_option, progress, run_option, table, trust_option
from haemo.pipeline.cli.figures import cell, show_shortfalls

__all__ = ["compare", "resampling_options", "show_comparison", "show_rest"]


def resampling_options(command: Any) -> Any:
    """Add ``--resamples``, ``--seed`` and ``--level``."""
    for option in (
        click.option(
            "--level",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            default=0.95,
            show_default=True,
            help="Coverage of the intervals.",
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of what is drawn."),
        click.option(
            "--resamples",
            type=click.IntRange(100),
            default=2000,
            show_default=True,
            help="Groups of patients left out in turn, at most; bootstrap samples of a band.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@run_option
@trust_option
@click.option(
    "--part",
    type=click.Choice(["test", "cv"]),
    default="test",
    show_default=True,
    help="Test slices, or training slices as predicted out of fold.",
)
@by_option
@aggregate_option(
    "How slices make a study or patient: the highest, the mean of the three highest, or noisy-or.", "how"
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Probability from which a slice or unit is positive; by default as each model was trained.",
)
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Also give PPV and NPV at this share of positives.",
)
@click.option(
    "--clinical",
    is_flag=True,
    help="Also give calibration, net benefit, sensitivity at fixed specificity, and PPV and NPV elsewhere.",
)
@click.option(
    "--per-class", is_flag=True, help="Also give PPV, sensitivity, specificity, F1 and count of each class."
)
@click.option(
    "--cv",
    "plan",
    metavar="FOLDSxREPEATS",
    help="Cross-validate the trained heads again instead, e.g. 5x10, on all slices: for small data sets.",
)
@click.option(
    "--reader",
    "readers",
    multiple=True,
    metavar="NAME",
    help="Set who has read slices on the page (haemo serve) beside the models, on these. May be given again.",
)
@resampling_options
@cluster_options
def compare(
    run_path: Path,
    trust: tuple[str, ...],
    part: str,
    by: str,
    how: str,
    threshold: float | None,
    prevalence: float | None,
    clinical: bool,
    per_class: bool,
    plan: str | None,
    readers: tuple[str, ...],
    resamples: int,
    seed: int,
    level: float,
    cluster: str | None,
    cluster_config: Path | None,
) -> None:
    """Put every trained model of RUN in one table, and test their differences.

    Intervals come from whole patients left out in turn. Each pair of models is tested on the same slices:
    exact McNemar and DeLong, and the forms of both that keep patients whole, corrected for the number of
    tests (Holm). All of it is written to RUN/compare.json.
    """
    from haemo.pipeline.evaluation.comparison import compare as compare_models
    from haemo.pipeline.evaluation.intervals import Resampling
    from haemo.pipeline.run.directory import RunDirectory

    run = RunDirectory(run_path, trust)
    if plan is not None:
        for name, given in (("--per-class", per_class), ("--clinical", clinical)):
            if given:
                raise click.UsageError(f"{name} is not for --cv, which keeps figures over all classes only")
        with on_cluster(cluster, cluster_config):
            _cross_validate(run, plan, Resampling(resamples, seed, level))
        return
    if cluster is not None:
        raise click.UsageError("--cluster is for --cv, which fits heads again; the rest takes seconds here")
    if readers:
        if (part, by) != ("test", "slice") or clinical:
            raise click.UsageError(
                "--reader is for test slices one by one: without --part, --by and --clinical"
            )
        _beside_readers(run, readers, threshold, prevalence, Resampling(resamples, seed, level))
        return
    comparison = compare_models(
        run,
        part=part,
        by=by,
        how=how,
        threshold=threshold,
        prevalence=prevalence,
        clinical=clinical,
        resampling=Resampling(resamples, seed, level),
        progress=progress,
    )
    show_comparison(comparison, level)
    if per_class:
        _show_classes(comparison)
    show_rest(comparison)
    click.echo(f"all figures, per class too: {run.path / 'compare.json'}")


def show_comparison(comparison: Any, level: float) -> None:
    """Print the figures of each model, and its operating points."""
    _show_models(comparison, level)
    _show_points(comparison)


def show_rest(comparison: Any) -> None:
    """Print figures of use and by subgroup as far as there are any, pairs of models, and notes."""
    show_clinical(comparison.clinical, comparison.things)
    show_subgroups(comparison.subgroups)
    _show_pairs(comparison)
    for note in comparison.notes:
        click.echo(f"note: {note}")


def _beside_readers(
    run: Any, readers: tuple[str, ...], threshold: float | None, prevalence: float | None, resampling: Any
) -> None:
    from haemo.pipeline.evaluation.reader_comparison import compare_readers

    comparison = compare_readers(
        run,
        readers,
        threshold=threshold,
        prevalence=prevalence,
        resampling=resampling,
        progress=progress,
    )
    _show_models(comparison, resampling.level)
    show_rest(comparison)
    click.echo(f"all figures: {run.path / 'compare_readers.json'}")


def _cross_validate(run: Any, plan: str, resampling: Any) -> None:
    from haemo.pipeline.evaluation.repeated_cv import parse_plan, repeat_cv
    from haemo.pipeline.evaluation.tallies import metric_title

    folds, repeats = parse_plan(plan)
    found = repeat_cv(run, folds, repeats, resampling=resampling, progress=progress)
    metrics = list(next(iter(found.models.values())))
    rows = [
        [
            metric_title(metric),
            *(_spread(own.get(metric, {})) for own in (*found.models.values(), found.baseline)),
        ]
        for metric in metrics
    ]
    click.echo(
        f"{found.folds}-fold cross-validation over whole patients, mean of {found.repeats} repeats: "
        f"{found.slices} slices of {found.patients} patients; {resampling.level:.0%} intervals"
    )
    table(["", *found.models, found.baseline["name"]], rows)
    show_shortfalls(found.shortfalls)
    for pair in found.pairs:
        click.echo(pair["sentence"])
    click.echo(f"all figures: {run.path / 'compare_cv.json'}")


def _spread(entry: dict[str, Any]) -> str:
    from haemo.pipeline.evaluation.jackknife import rough_mark

    if "mean" not in entry:
        return "-"
    ends = f" ({rough_mark(entry)}{entry['low']:.3f}-{entry['high']:.3f})" if "low" in entry else ""
    return f"{entry['mean']:.3f}{ends}"


def _show_models(comparison: Any, level: float) -> None:
    from haemo.pipeline.evaluation.intervals import BY_CHANCE
    from haemo.pipeline.evaluation.tallies import METRICS, metric_title

    first, same = next(iter(comparison.models.values())), comparison.baseline
    leaky = " LEAKY" if comparison.leaky else ""
    average = "" if first["positive"] else ", averages over classes"
    by_patient = comparison.unit.startswith("patient")
    units = "" if by_patient else f"{first['slices']} {comparison.things} of "
    title = (
        f"{comparison.part}, by {comparison.unit}: {units}{first['patients']} patients"
        f"{average}; {level:.0%} intervals{leaky}"
    )
    rows = []
    for metric in (*METRICS, BY_CHANCE):
        cells = [cell(figures, metric) for figures in (*comparison.models.values(), same)]
        rows.append([metric_title(metric), *cells])
    if "at_prevalence" in first:
        share = first["at_prevalence"]["prevalence"]
        for metric in ("ppv", "npv"):
            cells = [cell(figures["at_prevalence"], metric) for figures in comparison.models.values()]
            rows.append([f"{metric_title(metric)} at {share:.3g}", *cells, "-"])
    table(["", *comparison.models, same["name"]], rows, title)
    for kind in ("undefined", "no_interval"):
        for line in _reasons(comparison.models, kind):
            click.echo(f"{kind.replace('_', ' ')}: {line}")
    show_shortfalls(comparison.shortfalls)


def _show_points(comparison: Any) -> None:
    """Each model at its own threshold, and at others."""
    from haemo.pipeline.evaluation.operating import SHOWN, heading_of_points, point_title, rows_of_points
    from haemo.pipeline.evaluation.tallies import metric_title

    if not comparison.points:
        return
    rows = [
        [
            f"{model} {point_title(point)}",
            f"{own['threshold']:.3f}" if "threshold" in own else "-",
            *(cell({"intervals": {}, **own}, metric) for metric in SHOWN),
        ]
        for model, point, own in rows_of_points(comparison.points)
    ]
    columns = ["", "threshold", *map(metric_title, SHOWN)]
    table(columns, rows, heading_of_points(comparison.points))
    for reason in sorted(
        {own["why_not"] for _, _, own in rows_of_points(comparison.points) if "why_not" in own}
    ):
        click.echo(f"operating points absent: {reason}")


def _reasons(models: Mapping[str, Mapping[str, Any]], kind: str) -> list[str]:
    """Why figures of the table are undefined or have no interval, each reason once.

    Parameters
    ----------
    models : mapping of str to mapping
        Figures of each model.
    kind : {'undefined', 'no_interval'}

    Returns
    -------
    list of str
        As ``NPV, F1 of svm, mlp; MCC of mlp: reason``; with one model it is not named.
    """
    from haemo.pipeline.evaluation.tallies import METRICS, metric_title

    concerned: dict[tuple[str, str], list[str]] = {}
    for name, figures in models.items():
        given = [(metric_title(metric), figures[kind].get(metric)) for metric in METRICS]
        other = figures.get("at_prevalence")
        if other:
            share = f" at {other['prevalence']:.3g}"
            given += [(metric_title(metric) + share, reason) for metric, reason in other[kind].items()]
        for title, reason in given:
            if reason:
                concerned.setdefault((reason, title), []).append(name)
    lines: dict[str, dict[str, list[str]]] = {}
    for (reason, title), names in concerned.items():
        whose = f" of {', '.join(names)}" if len(models) > 1 else ""
        lines.setdefault(reason, {}).setdefault(whose, []).append(title)
    return [
        "; ".join(f"{', '.join(titles)}{whose}" for whose, titles in groups.items()) + f": {reason}"
        for reason, groups in lines.items()
    ]


def _show_classes(comparison: Any) -> None:
    from haemo.pipeline.evaluation.metrics import classification_report

    for name, figures in comparison.models.items():
        click.echo(f"{name}, each class against the rest")
        click.echo(classification_report(figures, comparison.things) + "\n")


def _show_pairs(comparison: Any) -> None:
    if not comparison.pairs:
        return
    rows = []
    for pair in comparison.pairs:
        tests = pair["tests"]
        rows.append(
            [
                f"{pair['first']} - {pair['second']}",
                f"{pair['agreement']:.3f}",
                f"{pair['only_first_right']} / {pair['only_second_right']}",
                *(
                    f"{tests[test][kind]:.3g}" if test in tests else "-"
                    for test, kind in (
                        ("mcnemar", "p"),
                        ("patient_sign", "p_holm"),
                        ("delong", "p"),
                        ("delong_patients", "p_holm"),
                    )
                ),
            ]
        )
    columns = ["pair", "agree", "only one right", "McNemar p", "by patient*", "DeLong p", "by patient*"]
    table(columns, rows, "pairs (* patients kept whole, corrected by Holm)")
    for pair in comparison.pairs:
        click.echo(pair["sentence"])
