"""``haemo explain``: where the evidence lies, and whether the maps can be trusted."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haemo.pipeline.cli.console import (
    SlicePath,
    counted,
    is_typed,
    names_option,
    outline_option,
    progress,
    series_option,
    table,
    trained_models,
    trust_option,
    unit_option,
)
from haemo.pipeline.cli.figures import mean_cell
from haemo.pipeline.cli.models import outliner_of, precision_option, say_precision

if TYPE_CHECKING:
    from haemo.features.reading.unit import Unit
    from haemo.pipeline.predicting.blended_model import BlendedModel
    from haemo.pipeline.predicting.trained_model import TrainedModel
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = ["explain"]

# `models.evidence.maps.METHODS`, which cannot be imported before the command is called: it loads torch.
_METHODS = ("contrast", "hirescam", "gradcam", "gradcam++", "occlusion")
_GROUPS = {"all": "all", "over_1_cm2": "over 1 cm2"}
_MOST_OVERLAYS = 12


@click.command()
@click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="RUN",
    help="Run directory of the model, e.g. runs/first.",
)
@click.option(
    "--model", metavar="FILE", help="A model that was packed (haemo pack), in place of one of a run."
)
@trust_option
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="NAME",
    shell_complete=trained_models,
    help="Which head or network; may be given again with --score.  [default: svm; with --score all]",
)
@names_option
@outline_option
@precision_option
@click.option("--method", type=click.Choice(_METHODS), default=None, show_default="contrast")
@click.option(
    "--slices",
    type=click.IntRange(min=1),
    default=_MOST_OVERLAYS,
    show_default=True,
    help="Without PATH: how many test slices, the most probably bleeding first.",
)
@click.option(
    "--overlays",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where pictures go.  [default: RUN/explain/NAME]",
)
@click.option("--score", is_flag=True, help="Measure the maps on the test slices in place of drawing them.")
@click.option(
    "--masks",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="FOLDER",
    help="True masks for --score, files named like the slices.  "
    "[default: as index found them, or folders called masks]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of random networks and intervals.")
@series_option
@unit_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=SlicePath(path_type=Path))
def explain(
    run_path: Path | None,
    model: str | None,
    trust: tuple[str, ...],
    heads: tuple[str, ...],
    names: bool,
    outline: str,
    precision: str,
    method: str | None,
    slices: int,
    overlays: Path | None,
    score: bool,
    masks: Path | None,
    seed: int,
    series: str | None,
    unit: "Unit | None",
    device: str,
    paths: tuple[Path, ...],
) -> int:
    """Show on slices what speaks for a bleed (orange) and against it (blue), and outline blood.

    Draws every slice of PATH, or the test slices of RUN that most probably show a bleed. With more than two
    classes colours are for and against the class that is predicted, and the slices are those that are least
    probably normal (or, where no class is called so, surest of their class).

    With --score the maps are measured instead, on test slices with true masks: the pointing game, IoU, Dice
    and energy beside baselines that know nothing; deletion and insertion; and whether maps change with the
    head. Exit code 3 if some files could not be used; they are named.
    """
    from haemo.pipeline.run.directory import RunDirectory

    if (run_path is None) == (model is None):
        raise click.UsageError("name one: --run RUN, or --model FILE, a model that was packed")
    if model is not None and (score or heads or not paths or not overlays):
        raise click.UsageError(
            "with --model FILE give PATH and --overlays DIR; --head and --score are for --run"
        )
    run = RunDirectory(run_path, trust) if run_path else None
    if run is not None and score:
        if paths:
            raise click.UsageError("--score measures test slices of RUN; give it no PATH")
        if is_typed("precision"):
            raise click.UsageError(
                "--score measures outlines as they are drawn by default; it has no --precision"
            )
        return _score(run, heads, masks, method, seed, device)
    if masks:
        raise click.UsageError("--masks is for --score")
    if is_typed("precision") and outline != "blood":
        raise click.UsageError("--precision is of outlines of blood; leave out --outline, or --precision")
    if len(heads) > 1:
        raise click.UsageError("draw one model at a time; several are for --score")
    if run is None:
        loaded, folder = _packed(str(model), device, trust), overlays
    else:
        from haemo.pipeline.predicting.blended_model import load_model

        loaded = load_model(run, heads[0] if heads else "svm", device, progress)
        folder = overlays or run.path / "explain" / loaded.name
        paths = paths or _likeliest(run, loaded, slices)
    segmenter = outliner_of(run_path, precision) if outline == "blood" else None
    return _draw(loaded, folder, names, segmenter, method, series, unit, paths)


def _packed(model: str, device: str, trust: tuple[str, ...]) -> "TrainedModel | BlendedModel":
    """A head or network of a file."""
    from haemo.pipeline.packing.modelfile import is_exported, open_model
    from haemo.pipeline.segmenting.segmenter import Segmenter

    if is_exported(model):
        raise click.UsageError(f"{model} draws no evidence; the packed model does, and the run")
    found = open_model(model, device, trust, progress)
    if isinstance(found, Segmenter):
        raise click.UsageError(
            f"{model} is a segmenter, which draws by itself: haemo segment predict --model {model}"
        )
    return found


def _draw(
    model: "TrainedModel | BlendedModel",
    folder: Path,
    names: bool,
    segmenter: "Segmenter | None",
    method: str | None,
    series: str | None,
    unit: "Unit | None",
    paths: tuple[Path, ...],
) -> int:
    from haemo.pipeline.explaining.explanation import explain_slices
    from haemo.pipeline.predicting.prediction import score_slices

    name = model.name
    result = score_slices(model, paths, None, progress, series=series, unit=unit)
    everything = range(len(result))
    explained = explain_slices(
        model,
        result,
        folder,
        chosen=everything,
        method=method,
        segmenter=segmenter,
        names=names,
        progress=progress,
    )
    rows = []
    for number, one in enumerate(explained):
        row = result.row(number)
        chance = row["probability"] if "probability" in row else row[f"probability_{row['predicted']}"]
        region = one.regions[0] if one.regions else None
        area = "" if region is None or region.area_mm2 is None else f"{region.area_mm2:.0f}"
        kind = "" if region is None else "blood" if region.is_blood else "hot"
        rows.append(
            [
                one.picture.name,
                row["path"],
                row["predicted"],
                f"{chance:.3f}",
                str(len(one.regions)),
                kind,
                area,
            ]
        )
    table(
        ("overlay", "slice", "class", "probability", "regions", "kind", "mm2"),
        rows,
        title=f"{name}, {method}" if method else name,
    )
    for failure in result.failures:
        click.echo(f"{failure.path}: {failure.reason}", err=True)
    say_precision(segmenter)
    click.echo(f"{counted(len(explained), 'overlay')} and regions.geojson -> {folder}")
    return 3 if result.failures else 0


def _likeliest(run: "RunDirectory", model: "TrainedModel", count: int) -> tuple[Path, ...]:
    """Files of the test slices that most probably show what is looked for, see `likeliest`."""
    from haemo.pipeline.explaining.explanation import likeliest
    from haemo.pipeline.splitting.split import Split
    from haemo.pipeline.splitting.splitfile import refuse_model_of_other_split

    refuse_model_of_other_split(run.settings(model.name), run, model.name)
    predictions = run.predictions(model.name).of_part("test")
    rows = Split.read(run.split_path).dealt(run.manifest().labelled)
    paths = {row.slice_id: row.path for row in rows}
    # A slice and its rotated copies may all be among them; it is drawn once, as it is.
    return tuple(dict.fromkeys(paths[str(name)] for name in predictions.slice_id[likeliest(predictions)]))[
        :count
    ]


def _score(
    run: "RunDirectory",
    heads: tuple[str, ...],
    masks: Path | None,
    method: str | None,
    seed: int,
    device: str,
) -> int:
    from haemo.errors import MissingStep
    from haemo.pipeline.explaining.localisation import localise
    from haemo.pipeline.run.directory import SEGMENTER

    names = heads or tuple(name for name in run.models() if name != SEGMENTER)
    if not names:
        raise MissingStep(f"{run} has no trained model; train one first: haemo svm --run {run}")
    result = localise(run, names, masks=masks, method=method, seed=seed, device=device, progress=progress)
    if result["slices"]["with_mask"]:
        _print_pointing(result)
    rows = []
    for name, entry in result["models"].items():
        area = entry["perturbation"]["area"]
        same = entry["sanity"]["rank_correlation_with_randomised_head"]
        keys = ("deletion", "random_deletion", "insertion", "random_insertion")
        rows.append([name, *(f"{area[key]:+.3f}" for key in keys), f"{same:+.2f}"])
    table(
        ("model", "deletion", "random order", "insertion", "random order", "head randomised: rank corr."),
        rows,
        title="mean score while places are blurred, or sharpened, hottest first",
    )
    for failure in result["failures"]:
        click.echo(f"{failure['path']}: {failure['reason']}", err=True)
    counts = result["slices"]
    click.echo(
        f"{counted(counts['with_mask'], 'test slice')} with a mask, {counts['without_mask']} without -> "
        f"{run.path / 'explain' / 'score.json'}"
    )
    return 3 if result["failures"] else 0


def _print_pointing(result: dict[str, Any]) -> None:
    entries = {name: entry["pointing"] for name, entry in result["models"].items()}
    entries |= result["outlines"] | result["baselines"]
    groups = list(next(iter(entries.values())))
    for group in groups:
        if group.endswith("_over_1_cm2"):
            continue
        first = next(iter(entries.values()))[group]
        seen = f"{counted(first['slices'], 'slice')} of {counted(first['patients'], 'patient')}"
        rows = [
            [
                name,
                *(
                    mean_cell(entry[group][figure])
                    for figure in ("hit", "near", "region_hit", "iou", "dice", "energy")
                ),
            ]
            for name, entry in entries.items()
        ]
        table(
            ("map", "pointing", "within 15 px", "region's peak", "IoU", "Dice", "energy"),
            rows,
            title=f"{_GROUPS.get(group, group)}: {seen}",
        )
