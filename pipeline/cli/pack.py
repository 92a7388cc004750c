"""``haemo pack`` and ``haemo export``: a trained model as one file to hand over."""

from pathlib import Path

import click

from haemo.pipeline.cli.console import counted, progress, run_option, trained_models, trust_option
from haemo.pipeline.cli.outputs import NewFile

__all__ = ["export", "pack"]

_MIB = 2**20

head_option = click.option(
    "--head",
    required=True,
    metavar="NAME",
    shell_complete=trained_models,
    help="Which head, network or segmenter.",
)


@click.command()
@run_option
@head_option
@trust_option
@click.option(
    "--no-weights",
    is_flag=True,
    help="Leave out the network before a head; it is fetched where the model is used.",
)
@click.option(
    "--hub-card",
    type=NewFile(),
    metavar="README.md",
    help="Also write a model card with metadata for the Hugging Face Hub; nothing is sent there.",
)
@click.option(
    "--licence",
    default="unknown",
    show_default=True,
    metavar="ID",
    help="What the hub card says of the model's licence, e.g. cc-by-nc-4.0.",
)
@click.argument("file", type=NewFile(), metavar="FILE")
def pack(
    run_path: Path,
    head: str,
    trust: tuple[str, ...],
    no_weights: bool,
    hub_card: Path | None,
    licence: str,
    file: Path,
) -> None:
    """Pack a model of RUN into FILE, e.g. svm.haemo, that haemo predict --model FILE needs nothing else for.

    It holds the model, the network before a head, what its training slices were like (so that others are
    flagged), thresholds, rules for studies, a model card and figures; no name, path or date of a patient or
    scan. The same run gives the same bytes. docs/sharing.md says what it tells all the same.
    """
    from haemo.errors import BadSettings
    from haemo.pipeline.packing.hubcard import LICENCES
    from haemo.pipeline.packing.packing import pack as pack_model
    from haemo.pipeline.run.directory import SEGMENTER, RunDirectory

    if licence not in LICENCES:
        raise BadSettings(f"licence {licence!r} is none of {', '.join(LICENCES)}")
    packed = pack_model(
        RunDirectory(run_path, trust),
        head,
        file,
        weights=not no_weights,
        hub_card=hub_card,
        licence=licence,
        progress=progress,
    )
    size = f"{counted(len(packed.members), 'member')}, {packed.size / _MIB:.1f} MiB"
    click.echo(f"{head} of {run_path} packed: {size}")
    click.echo(f"sha256 {packed.sha256}  {file}")
    if hub_card:
        click.echo(f"card for the Hub, not sent: {hub_card}")
    command = "segment predict --out DIR" if head == SEGMENTER else "predict"
    click.echo(f"next: haemo {command} --model {file} PATH")


@click.command()
@run_option
@head_option
@trust_option
@click.argument("file", type=NewFile(), metavar="FILE")
def export(run_path: Path, head: str, trust: tuple[str, ...], file: Path) -> int:
    """Export a head or network of RUN as an ONNX file, e.g. svm.onnx: planes in, probabilities out.

    Normalisation, network, scaler, classifier and calibration are one graph. It is held against the model on
    the test slices; a probability that differs by more than 1e-4 is an error. haemo predict --runtime onnx
    FILE PATH takes it, without PyTorch and scikit-learn.
    """
    from haemo.pipeline.exporting.export import LARGEST_DIFFERENCE, export_model
    from haemo.pipeline.run.directory import RunDirectory

    found = export_model(RunDirectory(run_path, trust), head, file, progress)
    for failure in found.failures:
        click.echo(f"{failure.path}: {failure.reason}", err=True)
    slices = counted(found.slices, "test slice")
    click.echo(
        f"largest difference of a probability on {slices}: {found.difference:.2g} "
        f"(allowed {LARGEST_DIFFERENCE:g})"
    )
    if found.from_run is not None:
        click.echo(f"from what {run_path} says, whose network has less precision: {found.from_run:.2g}")
    click.echo(f"{head} of {run_path} exported: {found.size / _MIB:.1f} MiB -> {file}")
    return 3 if found.failures else 0
