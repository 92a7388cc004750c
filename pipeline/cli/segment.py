"""``haemo segment``: which pixels are blood, learned from masks, drawn on new slices, and measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haemo.pipeline.cli.console import (
    SlicePath,
    counted,
    is_typed,
    progress,
    run_option,
    series_option,
    table,
    unit_option,
)
from haemo.pipeline.cli.figures import cell, mean_cell, show_trained
from haemo.pipeline.cli.models import named_segmenter, precision_option, say_precision
from haemo.pipeline.cli.protocol import (
    folds_option,
    new_split_option,
    protocol_option,
    split_request,
    train_fraction_option,
)
from haemo.pipeline.cli.trunk import palest_option, trunk
from haemo.pipeline.packing.modelfile import BUILTIN

if TYPE_CHECKING:
    from haemo.features.reading.unit import Unit
    from haemo.pipeline.segmenting.outlining import Outlined
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = [
    "run_segmenter",
    "say_caveat",
    "segment",
    "segmenter_option",
    "show_study_measures",
    "show_volumes",
]

_KINDS = ("trees", "logistic", "svm")
_FEATURES = ("anatomy+cells", "anatomy", "cells", "alexnet", "trained", "anatomy+alexnet", "anatomy+trained")
_MOST_ROWS = 40
_GROUPS = {"all": "all bleeds", "over_1_cm2": "over 1 cm2", "under_1_cm2": "up to 1 cm2"}
_FIGURES = ("pointing", "dice", "pixel_sensitivity", "pixel_precision", "bleed_sensitivity")

_masks_option = click.option(
    "--masks",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="FOLDER",
    help="True masks, files named like the slices.  [default: as index found them, or folders called masks]",
)
_jobs_option = click.option("--jobs", type=click.IntRange(1), help="Processes.  [default: one a core]")
segmenter_option = click.option(
    "--model",
    metavar="builtin|FILE",
    help="In place of that of a run: the segmenter that comes with haemo and needs no data, a model that "
    "was packed (haemo pack), or a segmenter's model.safetensors; for haemo predict also a model that was "
    "exported (.onnx).",
)


@click.group()
def segment() -> None:
    """Find the blood, pixel by pixel: train on masks, outline new slices, measure outlines."""


segment.add_command(trunk)


@segment.command()
@run_option
@click.option("--kind", type=click.Choice(_KINDS), default="trees", show_default=True)
@click.option(
    "--features",
    type=click.Choice(_FEATURES),
    default="anatomy+cells",
    show_default=True,
    help="What pixels are described by. cells: where the trunk that comes with haemo sees blood; alexnet: "
    "hypercolumns, what conv1 to conv5 of the frozen network say there; trained: those of this network "
    "further trained on the masks; or one of these joined to anatomy.",
)
@click.option(
    "--trunk-steps", type=click.IntRange(1), default=400, show_default=True, help="Training of 'trained'."
)
@click.option(
    "--from",
    "start",
    metavar="builtin|FILE",
    help="Take the classifier of pixels from this segmenter, and choose only what is outlined and called "
    "bleeding, on the training patients: some dozens are enough.",
)
@_masks_option
@click.option(
    "--as-is",
    is_flag=True,
    help="Learn from slices as they are. Without, slices in HU are given other looks: paler blood, other "
    "windows and sharpness, grain.",
)
@click.option(
    "--looks", type=click.IntRange(1), default=1, show_default=True, help="How many looks of each slice."
)
@palest_option
@folds_option
@train_fraction_option
@click.option("--seed", type=int, help="Seed of a new split and of the model.  [default: 0]")
@protocol_option
@new_split_option
@_jobs_option
def train(
    run_path: Path,
    kind: str,
    features: str,
    trunk_steps: int,
    start: str | None,
    masks: Path | None,
    as_is: bool,
    looks: int,
    palest: float | None,
    jobs: int | None,
    **options: Any,
) -> int:
    """Train a classifier of pixels on the masks of the training patients. Writes RUN/segment/.

    Each pixel inside the skull is described by 25 numbers (its level, its surroundings, the mirrored side,
    how far bone is, where a trunk that has seen blood sees it) and told blood or not by boosted trees,
    logistic regression or a linear SVM. What remains to be chosen is chosen on patients held out; the test
    slices are scored once. Needs no features.
    """
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.segmenting.training import SegmenterSettings, train_segmenter

    for name in ("kind", "features"):
        if start and is_typed(name):
            raise click.UsageError(
                f"--{name} is that of the segmenter which --from names; leave one of the two out"
            )
    run = RunDirectory(run_path)
    result = train_segmenter(
        run,
        SegmenterSettings(
            kind, not as_is, looks, named_segmenter(start) if start else None, features, trunk_steps, palest
        ),
        masks=masks,
        split=split_request(options, "seed", "folds"),
        jobs=jobs,
        progress=progress,
    )
    show_trained("segment", result.facts, result.metrics, "held-out patients")
    for failure in result.failures:
        click.echo(f"{failure.path}: {failure.reason}", err=True)
    where = "kept in" if result.up_to_date else "written to"
    slices = counted(result.facts["slices"]["train"], "slice")
    what = "tuned on" if start else "learned from"
    click.echo(f"segment ({result.facts['kind']}) {what} {slices}; {where} {run.path / 'segment'}")
    click.echo(f"next: haemo segment score --run {run}")
    return 3 if result.failures else 0


@segment.command()
@click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="RUN",
    help="Take the segmenter of this run.  [default: the built-in one]",
)
@segmenter_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for masks, overlays, outlines and tables; new or empty.",
)
@click.option("--probabilities", is_flag=True, help="Write maps of probability too, as 16-bit PNG.")
@click.option("--no-overlays", is_flag=True, help="Draw no pictures.")
@click.option("--overwrite", is_flag=True, help="What an earlier call left in DIR gives way.")
@precision_option
@series_option
@unit_option
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=SlicePath(path_type=Path))
def predict(
    run_path: Path | None,
    model: str | None,
    out: Path,
    probabilities: bool,
    no_overlays: bool,
    overwrite: bool,
    precision: str,
    series: str | None,
    unit: "Unit | None",
    paths: tuple[Path, ...],
) -> int:
    """Outline blood on image or DICOM files, or folders of them, and sum up each study.

    Writes to DIR: masks/ (255 is blood), overlays/, regions.geojson, slices.csv, and studies.csv with volume,
    ABC/2, largest diameter, side of the picture and range of slices of each study; what slices do not tell
    (pictures have no spacing) is left empty. Not a medical device. Exit code 3 if some files could not be
    used; they are named, and listed in failures.csv.
    """
    from haemo.pipeline.segmenting.outlining import Outputs, outline_slices

    if run_path and model:
        raise click.UsageError("give --run or --model, not both")
    outputs = Outputs(out, overlays=not no_overlays, probabilities=probabilities, overwrite=overwrite)
    segmenter = run_segmenter(run_path) if run_path else named_segmenter(model or BUILTIN)
    segmenter = segmenter.with_precision(precision)
    result = outline_slices(segmenter, paths, outputs, series=series, unit=unit, progress=progress)
    show_study_measures(result)
    if not run_path:
        say_caveat(segmenter)
    say_precision(segmenter)
    for failure in result.scores.failures:
        click.echo(f"{failure.path}: {failure.reason}", err=True)
    slices, pictures = counted(len(result.scores), "slice"), counted(len(result.pictures), "overlay")
    click.echo(f"{slices} outlined, {len(result.scores.failures)} failed; masks and {pictures} -> {out}")
    return 3 if result.scores.failures else 0


@segment.command()
@run_option
@segmenter_option
@_masks_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of the groups of patients.")
@_jobs_option
def score(run_path: Path, model: str | None, masks: Path | None, seed: int, jobs: int | None) -> int:
    """Measure outlines on the test slices that have true masks. Writes RUN/explain/segment.json.

    Pointing (the most probable place lies on the bleed), Dice, sensitivity and precision by pixel and by
    bleed, false outlines a slice, and volumes of studies; for all bleeds, by size and by subtype.
    """
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.segmenting.agreement import measure_outlines

    run = RunDirectory(run_path)
    segmenter = named_segmenter(model) if model else run_segmenter(run_path)
    name = f"segment-{Path(model).stem}" if model else "segment"
    result = measure_outlines(
        run,
        segmenter,
        name=name,
        masks=masks,
        seed=seed,
        jobs=jobs,
        progress=progress,
    )
    rows = [
        [
            _GROUPS.get(group, group),
            str(own["slices"]),
            str(own["patients"]),
            *(mean_cell(own.get(figure)) for figure in _FIGURES),
        ]
        for group, own in result["groups"].items()
    ]
    heads = (
        "bleeds",
        "slices",
        "patients",
        "pointing",
        "Dice",
        "pixel sens.",
        "pixel precision",
        "bleeds found",
    )
    table(heads, rows, title=f"{name}: test slices with masks")
    said = result["classified"]
    click.echo(
        f"slices with a bleed told from those without: ROC AUC {cell(said, 'roc_auc')}, sensitivity "
        f"{cell(said, 'sensitivity')}, specificity {cell(said, 'specificity')} at its threshold"
    )
    click.echo(f"false outlines a slice: {mean_cell(result['false_regions'])}")
    show_volumes(result["volume"], result["volume_by_subtype"])
    for failure in result["failures"]:
        click.echo(f"{failure['path']}: {failure['reason']}", err=True)
    click.echo(f"{counted(result['slices'], 'test slice')} measured -> {run.path / 'explain' / name}.json")
    return 3 if result["failures"] else 0


def say_caveat(segmenter: "Segmenter", aside: bool = False) -> None:
    """Say what a segmenter must not be taken for, where that is known; `aside` where output is data."""
    if "caveat" in segmenter.facts:
        click.echo(segmenter.facts["caveat"], err=aside)


def run_segmenter(run_path: Path) -> "Segmenter":
    """The segmenter of a run, trained on the split that the run has now."""
    from haemo.pipeline.run.directory import SEGMENTER, RunDirectory
    from haemo.pipeline.segmenting.segmenterfolder import SegmenterFolder
    from haemo.pipeline.splitting.splitfile import refuse_model_of_other_split

    run = RunDirectory(run_path)
    folder = SegmenterFolder(run.model_path(SEGMENTER))
    refuse_model_of_other_split(folder.facts(), run, SEGMENTER)
    return folder.segmenter()


def show_study_measures(result: "Outlined") -> None:
    """Print volume and place of each study's bleed; what cannot be known is left empty."""
    rows = []
    for row in result.study_rows()[:_MOST_ROWS]:
        rows.append(
            [
                row["study"],
                str(row["slices"]),
                str(row["slices_with_blood"]),
                "" if row["first"] is None else f"{row['first']}-{row['last']}",
                *(_number(row[name]) for name in ("volume_ml", "abc2_ml", "diameter_mm")),
                row["side"] or "",
            ]
        )
    heads = ("study", "slices", "with blood", "range", "ml", "ABC/2 ml", "diameter mm", "side of picture")
    table(heads, rows, title="blood outlined, by study")
    if len(result.studies) > _MOST_ROWS:
        click.echo(f"... and {len(result.studies) - _MOST_ROWS} more in studies.csv")
    if any(row["volume_ml"] is None for row in result.study_rows()):
        click.echo("no volume where slices do not say their spacing and place, or a study has but one")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def show_volumes(every: dict[str, float] | None, by_subtype: dict[str, dict[str, float]]) -> None:
    """Print how far outlined volumes are from true ones, for all studies and by subtype."""
    if every is None:
        click.echo("volumes: too few studies whose slices say spacing and place")
        return
    rows = [
        [
            name,
            str(int(own["studies"])),
            *(_volume_cells(own) if "bias_ml" in own else ("too few", "", "", "")),
        ]
        for name, own in {"all with blood or an outline": every, **_named(by_subtype)}.items()
    ]
    heads = ("studies", "n", "true ml", "bias ml", "limits of agreement", "mean absolute ml")
    table(heads, rows, title="volume of studies: outlined less true (Bland and Altman)")


def _named(by_subtype: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {"no bleed, but an outline" if name == "none" else name: own for name, own in by_subtype.items()}


def _volume_cells(own: dict[str, float]) -> tuple[str, str, str, str]:
    return (
        f"{own['mean_true_ml']:.1f}",
        f"{own['bias_ml']:+.1f}",
        f"{own['low_ml']:+.1f} to {own['high_ml']:+.1f}",
        f"{own['mean_absolute_ml']:.1f}",
    )
