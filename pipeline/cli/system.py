"""The commands about the machine and the whole: ``haemo doctor`` and ``haemo demo``."""

import shlex
from pathlib import Path

import click

__all__ = ["demo", "doctor"]

_COLOURS = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}


@click.command()
@click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    metavar="RUN",
    help="Where runs will be written; its disk is looked at.",
)
def doctor(run_path: Path) -> int:
    """Check this machine: PASS, WARN or FAIL, and the remedy.

    Looks at torch and torchvision, the device, bfloat16 in hardware, the network weights that can be
    reached, the DICOM decoders, memory and disk room. Exit code 1 if anything is FAIL.
    """
    from haemo.pipeline.doctor import Status, examine

    checks = examine(run_path)
    for check in checks:
        word = click.style(check.status.value, fg=_COLOURS[check.status.value], bold=True)
        click.echo(f"{word}  {check.name}: {check.detail}")
        if check.remedy:
            click.echo(f"      -> {check.remedy}")
    counts = {status: sum(check.status is status for check in checks) for status in Status}
    click.echo(", ".join(f"{count} {status.value}" for status, count in counts.items()))
    return 1 if counts[Status.FAIL] else 0


@click.command()
@click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/demo"),
    show_default=True,
    metavar="RUN",
    help="Run directory; the phantom slices are written to its folder 'phantom'.",
)
@click.option("--patients", type=click.IntRange(8), default=160, show_default=True, help="Phantom patients.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the cohort and of the run.")
@click.option(
    "--weights",
    default="auto",
    show_default=True,
    help="Network weights: auto, trunk, builtin, random, or a file.",
)
def demo(run_path: Path, patients: int, seed: int, weights: str) -> int:
    """Run all of it on a phantom cohort, in minutes: no data, no GPU and no licence needed.

    Every step is printed as you would type it. A second run reuses the slices and their features.
    """
    from haemo.errors import WeightsUnavailable
    from haemo.models.weights.imagenet import resolve_weights
    from haemo.pipeline.cli import main

    layer = "fc7"
    try:
        resolve_weights(weights, seed=seed, need=layer)
    except WeightsUnavailable as error:
        click.echo(f"{error}\nThe demo goes on with the convolutional trunk and layer pool5.", err=True)
        layer = "pool5"
    for step in _steps(run_path, patients, seed, layer, weights):
        click.echo(click.style(f"\n$ haemo {shlex.join(step)}", bold=True))
        code = main(step)
        if code not in (0, 3):
            return code
    page = run_path / "report.html"
    click.echo(
        "\nThe phantom is hard on purpose: many bleeds are small, and nothing but the bleed tells who\n"
        "bleeds. Expect a ROC AUC near 0.7 of the heads, and 0.9 of the segmenter that learned from other\n"
        "phantoms; larger bleeds and more patients give more (docs/phantom.md)."
    )
    click.echo(f"all steps done; open {page}, or go on with your own slices: haemo index DATA --run RUN")
    return 0


def _steps(run_path: Path, patients: int, seed: int, layer: str, weights: str) -> list[list[str]]:
    """What a person would type."""
    slices = str(run_path / "phantom")
    run = ["--run", str(run_path)]
    seeded = ["--seed", str(seed)]
    return [
        ["phantom", slices, "--patients", str(patients), "--slices", "8..10", "--size", "256", *seeded],
        ["index", slices, *run],
        ["features", *run, "--layer", layer, "--crop", "head", "--weights", weights, *seeded],
        *([head, *run, *seeded] for head in ("svm", "softmax", "mlp")),
        ["compare", *run],
        ["report", *run],
        ["segment", "score", *run, "--model", "builtin"],
        ["predict", *run, "--head", "svm", str(run_path / "phantom" / "P0001")],
        ["explain", *run, "--head", "svm"],
    ]
