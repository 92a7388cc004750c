"""The command `index`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from haemo.pipeline.cli.console import counted, progress, run_option, series_option, table, unit_option

if TYPE_CHECKING:
    from haemo.features.layouts import Index
    from haemo.features.manifest import ManifestRow
    from haemo.pipeline.run.directory import RunDirectory

__all__ = ["index"]

_SHOWN = 5


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@run_option
@click.option(
    "--layout",
    default="auto",
    metavar="NAME",
    help="Layout of DATA; recognised by default.",
)
@click.option("--positive", metavar="CLASS", help="The positive class, where its name does not say so.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV file or Excel workbook with labels.",
)
@click.option(
    "--label",
    metavar="NAME",
    help="Column with the label; in RSNA, CT-ICH, CQ500, masks and outlines: any, or a type of bleed.",
)
@click.option("--patient-column", metavar="NAME", help="Column that says which patient a slice is of.")
@series_option
@click.option(
    "--keep",
    metavar="NAMES",
    help="Attributes for figures by subgroup, from tags or columns: sex,age,scanner,kernel,thickness,site, "
    "bleed,size, any column, or NAME=COLUMN. They never reach a model.",
)
@click.option(
    "--keep-from",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Another table with such columns, by slice, study or patient.",
)
@unit_option
def index(
    data: Path,
    run_path: Path,
    layout: str,
    positive: str | None,
    labels: Path | None,
    label: str | None,
    patient_column: str | None,
    series: str | None,
    keep: str | None,
    keep_from: Path | None,
    unit: str | None,
) -> int:
    """Find the slices and labels in DATA and write RUN/manifest.csv.

    Reads class folders, a labels.csv, DICOM trees with or without outlines (SEG, RTSTRUCT), scans with masks,
    the 200-image head-CT set, PhysioNet CT-ICH, CQ500, INSTANCE 2022, BHSD and RSNA 2019.
    Headers are read; pixels are where nothing else tells what their numbers are.
    """
    from haemo.pipeline.preparing.indexing import SERIES, index_run
    from haemo.pipeline.run.directory import RunDirectory

    run = RunDirectory(run_path)
    found = index_run(
        data,
        run,
        layout,
        positive=positive,
        labels=labels,
        label=label,
        patient_column=patient_column,
        series=series,
        keep=keep,
        keep_from=keep_from,
        unit=unit,
        progress=progress,
    )
    _print(found)
    taken = [one.taken for one in found.series.series]
    if not all(taken):
        click.echo(f"series: {sum(taken):,} taken of {len(taken):,}; why: {run.path / SERIES}")
    if keep:
        click.echo(f"kept aside, for figures by subgroup alone: {run.attributes_path}")
    if found.failures:
        click.echo(f"failures: {run.failures_path}")
    slices = counted(len(found.manifest), "slice")
    click.echo(f"{slices} indexed, {len(found.failures):,} unusable -> {run.manifest_path}")
    click.echo(f"next: haemo features --run {run}{_then(found, run)}")
    return 3 if found.failures else 0


def _print(found: "Index") -> None:
    click.echo(f"layout: {found.layout}")
    click.echo(f"patients: {found.patients_from or 'unknown, each slice stands as its own'}")
    rows = []
    for name in found.classes:
        is_positive = len(found.classes) == 2 and name == found.classes[1]
        members = [row for row in found.manifest if row.label == name]
        rows.append((f"{name} (positive)" if is_positive else name, members))
    unlabelled = [row for row in found.manifest if not row.label]
    if unlabelled:
        rows.append(("(no label)", unlabelled))
    rows.append(("all", list(found.manifest)))
    parts = [part for part in ("train", "test") if any(row.part == part for row in found.manifest)]
    table(
        ("class", "slices", "patients", *parts), [(name, *_counts(members, parts)) for name, members in rows]
    )
    if found.study_labels:
        counts = Counter(found.study_labels.values())
        listed = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
        click.echo(f"labels are of studies, not of slices: {sum(counts.values()):,} studies ({listed})")
    if found.types:
        kinds = Counter(name for names in found.types.values() for name in names)
        listed = ", ".join(f"{name} {count:,}" for name, count in sorted(kinds.items()))
        click.echo(f"types of bleed, several a slice: {listed}")
    click.echo(f"sizes: {_sizes(found.sizes)}")
    click.echo(f"modes: {', '.join(f'{mode} ({count:,})' for mode, count in found.modes.most_common())}")
    if found.others:
        click.echo(
            f"other files, left aside: {len(found.others):,} ({_listed([p.name for p in found.others])})"
        )
    if found.aside:
        kinds = Counter(one.reason for one in found.aside).most_common()
        listed = "; ".join(f"{kind} ({count:,})" for kind, count in kinds)
        click.echo(f"DICOM files that are no axial slices, left aside: {len(found.aside):,}: {listed}")
    for failure in found.failures[:_SHOWN]:
        click.echo(f"cannot use {failure.path}: {failure.reason}")
    if len(found.failures) > _SHOWN:
        click.echo(f"... and {len(found.failures) - _SHOWN} more")


def _then(found: "Index", run: "RunDirectory") -> str:
    """What comes after the features, where that is more than to train a head."""
    if found.study_labels:
        return f", then: haemo pool --run {run}"
    return f", then: haemo types --run {run}" if found.types else ""


def _counts(rows: list["ManifestRow"], parts: list[str]) -> tuple[str, ...]:
    in_parts = [sum(row.part == part for row in rows) for part in parts]
    return tuple(f"{count:,}" for count in (len(rows), len({row.patient for row in rows}), *in_parts))


def _sizes(sizes: Counter) -> str:
    """Sizes as width x height, the way people say them; the range where there are many."""
    if len(sizes) <= _SHOWN:
        return ", ".join(f"{width}x{height} ({count:,})" for (height, width), count in sizes.most_common())
    (low_height, low_width), *_, (high_height, high_width) = sorted(sizes, key=lambda size: size[0] * size[1])
    return f"{len(sizes)} different, from {low_width}x{low_height} to {high_width}x{high_height}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
