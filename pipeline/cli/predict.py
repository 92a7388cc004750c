"""``haemo predict``: what a trained model says about new slices."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haemo.pipeline.cli.console import (
    SlicePath,
    aggregate_option,
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
from haemo.pipeline.cli.models import outliner_of, precision_option, say_precision
from haemo.pipeline.cli.outputs import NewFile
from haemo.pipeline.cli.segment import run_segmenter, say_caveat, segmenter_option
from haemo.pipeline.packing.modelfile import BUILTIN, is_exported, open_model

if TYPE_CHECKING:
    from haemo.features.failures import Failure
    from haemo.features.reading.unit import Unit
    from haemo.pipeline.dicom_results.results import StudyResult
    from haemo.pipeline.predicting.blended_model import BlendedModel
    from haemo.pipeline.predicting.slice_scores import SliceScores
    from haemo.pipeline.predicting.trained_model import TrainedModel
    from haemo.pipeline.segmenting.outlining import Outlined
    from haemo.pipeline.segmenting.segmenter import Segmenter

__all__ = ["predict"]

_MOST_ROWS = 40


@click.command()
@click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="RUN",
    help="Run directory of the model, e.g. runs/first.",
)
@segmenter_option
@click.option(
    "--runtime",
    type=click.Choice(["torch", "onnx"]),
    help="What runs a model; with onnx the first PATH may be the model, FILE.onnx.  "
    "[default: as the model is]",
)
@trust_option
@click.option(
    "--head",
    default="svm",
    show_default=True,
    metavar="NAME",
    shell_complete=trained_models,
    help="Which head or network.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Probability from which the positive class is predicted.  [default: the model's own]",
)
@aggregate_option("How the slices of a study make one answer.")
@click.option(
    "--out",
    type=NewFile(),
    metavar="FILE",
    help="Write all rows to a CSV file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the tables.")
@click.option(
    "--explain",
    is_flag=True,
    help="Write overlays and outlines of slices called positive; of several classes, of those not normal.",
)
@click.option(
    "--overlays",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where --explain writes.  [default: RUN/explain/NAME]",
)
@names_option
@outline_option
@precision_option
@series_option
@click.option(
    "--dicom",
    "dicom_folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write DICOM results to this new or empty folder: a structured report a study, and a segmentation "
    "of the outlines where it is called positive.",
)
@unit_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=SlicePath(path_type=Path))
def predict(
    run_path: Path | None,
    model: str | None,
    runtime: str | None,
    threshold: float | None,
    aggregate: str,
    out: Path | None,
    as_json: bool,
    dicom_folder: Path | None,
    paths: tuple[Path, ...],
    **options: Any,
) -> int:
    """Score slices: image or DICOM files, or folders of them.

    Prints class, decision score and calibrated probability of each slice and of each study: a DICOM series,
    or a folder of pictures, called by the end of its path that no other has. With more than two classes a
    study can have several at once. Slices unlike those the model was trained on are marked. Not a medical
    device: a score is no diagnosis. Of each DICOM study in a folder one series is taken, as index does it.
    Exit code 3 if some files could not be used; they are named.
    """
    from haemo.pipeline.run.directory import SEGMENTER
    from haemo.pipeline.segmenting.segmenter import Segmenter

    if runtime == "onnx" and model is None and run_path is None:
        model, *rest = map(str, paths)
        paths = tuple(map(Path, rest))
        if not paths:
            raise click.UsageError("name the slices too: haemo predict --runtime onnx FILE.onnx PATH")
    if runtime is not None and (runtime == "onnx") != is_exported(str(model)):
        raise click.UsageError(f"--runtime {runtime} does not run {model or 'a run'}: haemo export")
    if (run_path is None) == (model is None):
        raise click.UsageError(f"name one: --run RUN, or --model FILE or {BUILTIN}, which needs no run")
    if run_path is None and options["explain"] and not options["overlays"]:
        raise click.UsageError("--model has no run to write pictures to; say where with --overlays DIR")
    if is_exported(str(model)) and (options["explain"] or options["overlays"]):
        raise click.UsageError(f"{model} draws no evidence; the packed model does, and the run")
    if is_typed("precision") and (dicom_folder or options["outline"] != "blood"):
        raise click.UsageError("--precision is of pictures of blood, not for --dicom or --outline evidence")
    if dicom_folder:
        from haemo.pipeline.dicom_results.results import prepare

        prepare(dicom_folder)
    options["how"] = aggregate if dicom_folder else None
    head = options.pop("head")
    if model is not None:
        asked = {"model": model}
        loaded = open_model(model, options["device"], options["trust"], progress)
    else:
        asked = {"run": str(run_path), "head": head}
        is_segmenter = head == SEGMENTER
        loaded = run_segmenter(run_path) if is_segmenter else _of_run(run_path, head, **options)
    usual = run_path / "explain" / head if run_path else None
    if isinstance(loaded, Segmenter):
        answer = _segmented(loaded, paths, threshold, as_json, usual, **options)
    else:
        answer = _predicted(loaded, run_path, usual, paths, threshold, as_json, **options)
    result, pictures = answer.scores, answer.pictures
    written: list[StudyResult] = []
    failures = list(result.failures)
    if dicom_folder:
        written, without = _write_dicom(dicom_folder, answer, aggregate, run_path, model, head, loaded)
        failures += without
    if out:
        result.write_csv(out)
    if as_json:
        said = {**asked, **result.as_json(aggregate), **pictures, **_listed(dicom_folder, written)}
        click.echo(json.dumps(said, indent=2))
    else:
        _print(result, aggregate, pictures.get("overlay_of", {}))
    for failure in failures:
        click.echo(f"{failure.path}: {failure.reason}", err=True)
    if pictures:
        drawn = counted(len(pictures["overlays"]), "overlay")
        click.echo(f"{drawn}, outlines in {pictures['regions']}", err=as_json)
    if dicom_folder:
        outlines = counted(sum(len(one.outlines) for one in written), "segmentation")
        click.echo(f"{counted(len(written), 'report')}, {outlines} as DICOM -> {dicom_folder}", err=as_json)
    where = f" -> {out}" if out else ""
    click.echo(f"{_counted(result)} scored, {len(result.failures)} failed{where}", err=as_json)
    return 3 if failures else 0


@dataclass(frozen=True)
class _Answer:
    """What a model says, what was drawn, and what is outlined for DICOM results, if these are asked for."""

    scores: "SliceScores"
    pictures: dict[str, Any]
    outlined: "Outlined | None" = None


def _of_run(
    run_path: Path, head: str, *, trust: tuple[str, ...], device: str, **unused: Any
) -> "TrainedModel":
    from haemo.pipeline.predicting.blended_model import load_model
    from haemo.pipeline.run.directory import RunDirectory

    del unused
    return load_model(RunDirectory(run_path, trust), head, device, progress)


def _counted(result: "SliceScores") -> str:
    if result.of_studies:
        return f"{len(result):,} {'study' if len(result) == 1 else 'studies'}"
    return counted(len(result), "slice")


def _predicted(
    model: "TrainedModel",
    run_path: Path | None,
    usual: Path | None,
    paths: tuple[Path, ...],
    threshold: float | None,
    as_json: bool,
    *,
    explain: bool,
    overlays: Path | None,
    names: bool,
    outline: str,
    precision: str,
    series: str | None,
    unit: "Unit | None",
    how: str | None,
    **unused: Any,
) -> _Answer:
    """What a head or network says, and what was drawn."""
    from haemo.pipeline.dicom_results.outlines import outline_positive, require_bleed
    from haemo.pipeline.predicting.prediction import score_slices

    del unused
    folder = overlays or (usual if explain else None)
    if is_typed("precision") and not folder:
        raise click.UsageError("--precision is of outlines, and none are drawn; add --explain")
    if how:
        require_bleed(model.classes)
    result = score_slices(model, paths, threshold, progress, series=series, unit=unit)
    outlined = outline_positive(result, how, outliner_of(run_path), progress) if how else None
    if not folder:
        return _Answer(result, {}, outlined)
    from haemo.pipeline.explaining.explanation import explain_slices

    segmenter = outliner_of(run_path, precision) if outline == "blood" else None
    explained = explain_slices(model, result, folder, segmenter=segmenter, names=names, progress=progress)
    pictures = _pictures([one.picture for one in explained], folder)
    say_precision(segmenter, as_json)
    pictures["overlay_of"] = {str(one.path): one.picture.name for one in explained}
    return _Answer(result, pictures, outlined)


def _segmented(
    segmenter: "Segmenter",
    paths: tuple[Path, ...],
    threshold: float | None,
    as_json: bool,
    usual: Path | None,
    *,
    explain: bool,
    overlays: Path | None,
    names: bool,
    precision: str,
    series: str | None,
    how: str | None,
    unit: "Unit | None",
    **unused: Any,
) -> _Answer:
    """What a segmenter says, and what it outlined."""
    from haemo.pipeline.dicom_results.outlines import require_bleed
    from haemo.pipeline.segmenting.outlining import Outputs, outline_slices

    del unused
    folder = overlays or (usual if explain else None)
    if how:
        require_bleed(segmenter.classes)
    outputs = Outputs(folder, masks=False, overwrite=True, names=names) if folder else None
    segmenter = segmenter.with_precision(precision)
    result = outline_slices(
        segmenter, paths, outputs, threshold=threshold, series=series, unit=unit, progress=progress
    )
    say_caveat(segmenter, as_json)
    say_precision(segmenter, as_json)
    return _Answer(result.scores, _pictures(result.pictures, folder) if folder else {}, result)


def _write_dicom(
    folder: Path,
    answer: _Answer,
    how: str,
    run_path: Path | None,
    model: str | None,
    head: str,
    loaded: "TrainedModel | BlendedModel | Segmenter",
) -> "tuple[list[StudyResult], list[Failure]]":
    from haemo.pipeline.dicom_results.results import write_results
    from haemo.pipeline.dicom_results.scorer import file_identity, run_identity
    from haemo.pipeline.run.directory import RunDirectory

    if run_path is not None:
        name = run_identity(RunDirectory(run_path), head)
    else:
        name = file_identity(loaded, None if model == BUILTIN else Path(str(model)))
    return write_results(folder, answer.scores, answer.outlined, name, how, progress)


def _listed(folder: Path | None, written: "list[StudyResult]") -> dict[str, Any]:
    """DICOM results, as JSON can hold them."""
    if folder is None:
        return {}
    rows = [
        {"study": one.study_uid, "report": str(one.report), "outlines": [str(path) for path in one.outlines]}
        for one in written
    ]
    return {"dicom": rows}


def _pictures(overlays: list[Path], folder: Path) -> dict[str, Any]:
    return {"overlays": [str(path) for path in overlays], "regions": f"{folder}/regions.geojson"}


def _print(result: "SliceScores", how: str, overlay_of: dict[str, str]) -> None:
    shown = min(len(result), _MOST_ROWS)
    rows = []
    for number in range(shown):
        row = result.row(number)
        mark = "yes" if row["outside"] else ""
        if result.positive is not None:
            values = [f"{row['score']:+.3f}", f"{row['probability']:.3f}"]
        else:
            values = [f"{row['probability_' + row['predicted']]:.3f}"]
        drawn = [overlay_of.get(row["path"], "")] if overlay_of else []
        rows.append([row["path"], row["predicted"], *values, mark, *drawn])
    score = ["score"] if result.positive is not None else []
    rule = "the most probable class"
    if result.positive is not None:
        rule = f"{result.positive} from a probability of {result.threshold:g}"
    thing = "study" if result.of_studies else "slice"
    drawn = ["overlay"] if overlay_of else []
    table((thing, "class", *score, "probability", "outside", *drawn), rows, title=rule)
    if len(result) > shown:
        click.echo(f"... and {len(result) - shown} more; all of them with --out FILE or --json")
    _print_studies(result, how)
    reasons = {why: result.outside.count(why) for why in result.outside if why}
    if reasons:
        flagged = counted(sum(reasons.values()), "slice")
        click.echo(f"outside what this model knows: {flagged}; do not rely on such scores")
        for why in sorted({reason.split(" (")[0].split(":")[0] for reason in reasons}):
            count = sum(times for reason, times in reasons.items() if reason.startswith(why))
            click.echo(f"  {count} {why}")
    if points := _other_points(result):
        click.echo(f"other thresholds, chosen on what was held out of training: {points}")
    if not result.distance_checked:
        click.echo("not checked: how far slices are from the training slices, which this model has not kept")
    counts = [f"{name}: {(result.predicted == name).sum()}" for name in result.classes]
    click.echo(f"{'studies' if result.of_studies else 'slices'} by predicted class: {', '.join(counts)}")


def _other_points(result: "SliceScores") -> str:
    from haemo.pipeline.evaluation.operating import point_title

    others = {name: value for name, value in result.points.items() if value != result.threshold}
    return ", ".join(f"{point_title(name)} {value:.3f}" for name, value in sorted(others.items()))


def _print_studies(result: "SliceScores", how: str) -> None:
    rows = result.study_rows(how)
    if not rows or len(rows) == len(result):
        return
    title = f"studies, slices joined by {how}"
    columns: tuple[str, ...] = ("study", "slices", "positive", "outside", "class", "score", "probability")
    if result.positive is not None:
        title += f"; {result.positive} from a probability of {rows[0]['threshold']:.3g}"
    else:
        title += ": probability of each class (slices predicted as it)"
        columns = ("study", "slices", "outside", "classes", *result.classes)
    table(columns, [_study_cells(result, row) for row in rows[:_MOST_ROWS]], title=title)
    if len(rows) > _MOST_ROWS:
        click.echo(f"... and {len(rows) - _MOST_ROWS} more; all of them with --json")


def _study_cells(result: "SliceScores", row: dict[str, Any]) -> list[str]:
    slices, outside = str(row["slices"]), str(row["slices_outside"])
    if result.positive is not None:
        answer = [row["predicted"], f"{row['score']:+.3f}", f"{row['probability']:.3f}"]
        return [row["study"], slices, str(row["slices_positive"]), outside, *answer]
    each = [
        f"{row[f'probability_{name}']:.3f} ({row[f'slices_predicted_{name}']})" for name in result.classes
    ]
    return [row["study"], slices, outside, row["predicted"] or "none", *each]
