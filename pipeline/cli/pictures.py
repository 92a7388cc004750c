"""The commands `summary` and `plot`: networks layer by layer, and pictures."""

from pathlib import Path

import click

from haemo.pipeline.cli.console import run_option, table
from haemo.pipeline.cli.outputs import NewFile

__all__ = ["plot", "summary"]


@click.command()
@click.argument("network", type=click.Choice(["cnn", "finetune", "lenet", "tinyvgg"]))
@click.option("--classes", type=click.IntRange(2), default=2, show_default=True, help="Number of classes.")
@click.option("--trunk", is_flag=True, help="finetune where only AlexNet's convolutional trunk can be had.")
def summary(network: str, classes: int, trunk: bool) -> None:
    """List the layers of NETWORK: output shape, parameters, multiply-adds for one slice.

    Adding a bias counts as one multiply-add.
    """
    from haemo.models.networks.layers import layer_table
    from haemo.models.training.recipes import build, recipe_for

    if trunk and network != "finetune":
        raise click.UsageError("--trunk is for finetune")
    recipe = recipe_for(network)
    layers = layer_table(build(network, classes, trunk=trunk), recipe.channels, recipe.input_size)
    rows = [
        (
            layer.name.rpartition(".")[2],
            layer.kind,
            "x".join(map(str, layer.output)),
            f"{layer.parameters:,}",
            f"{layer.multiply_adds:,}",
        )
        for layer in layers
    ]
    parameters = sum(layer.parameters for layer in layers)
    multiply_adds = sum(layer.multiply_adds for layer in layers)
    shape = f"{recipe.channels}x{recipe.input_size}x{recipe.input_size}"
    table(
        ("layer", "kind", "output", "parameters", "multiply-adds"),
        [("input", "", shape, "", ""), *rows, ("total", "", "", f"{parameters:,}", f"{multiply_adds:,}")],
        title=f"{network}: {recipe.title}",
    )


@click.command()
@click.argument("kind", type=click.Choice(["curves", "kernels", "maps", "samples", "transforms"]))
@run_option
@click.option(
    "--network", type=click.Choice(["cnn", "finetune", "lenet", "tinyvgg"]), help="Whose; the first trained."
)
@click.option("--slice", "slice_id", metavar="ID", help="slice_id for maps and transforms; drawn by default.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn at random.")
@click.option(
    "--out",
    type=NewFile(),
    metavar="FILE",
    help="PNG to write.  [default: RUN/pictures/...]",
)
def plot(
    kind: str, run_path: Path, network: str | None, slice_id: str | None, seed: int, out: Path | None
) -> None:
    """Draw a picture of a run as PNG.

    \b
    curves      loss and accuracy over the epochs, of one network or all
    kernels     the first convolution
    maps        what each convolution makes of a slice
    samples     some slices of every class
    transforms  a slice before and after the network's preprocessing, and augmented
    """
    from haemo.pipeline.report.pictures import make_picture
    from haemo.pipeline.run.directory import RunDirectory

    path = make_picture(RunDirectory(run_path), kind, network=network, slice_id=slice_id, seed=seed, out=out)
    click.echo(f"written to {path}")
