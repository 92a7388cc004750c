"""The commands `cnn`, `finetune`, `lenet` and `tinyvgg`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haemo.models.training.recipes import AUGMENTATIONS, recipe_for
from haemo.pipeline.cli.console import counted, crop_option, progress, run_option, track_option, tracked
from haemo.pipeline.cli.figures import show_trained
from haemo.pipeline.cli.protocol import (
    new_split_option,
    protocol_option,
    split_request,
    train_fraction_option,
)

if TYPE_CHECKING:
    from haemo.models.training.recipes import TrainingSettings
    from haemo.pipeline.training.network import NetworkResult

__all__ = ["cnn", "finetune", "lenet", "tinyvgg"]


class _Augmentations(click.ParamType):
    """Names separated by commas, or none."""

    name = "names"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = () if value == "none" else tuple(str(value).split(","))
        for name in names:
            if name not in AUGMENTATIONS:
                self.fail(f"{name!r} is none of {', '.join(AUGMENTATIONS)}", param, ctx)
        return names


def _network_options(name: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the options of a network, with the defaults of its recipe."""
    options = (run_option, *_setting_options(recipe_for(name).settings), *_SHARED)

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _setting_options(settings: "TrainingSettings") -> list[Callable[..., Any]]:
    """Options of the training itself."""

    def setting(option: str, kind: Any, text: str = "") -> Callable[..., Any]:
        default = getattr(settings, option.removeprefix("--").replace("-", "_"))
        return click.option(option, type=kind, default=default, show_default=True, help=text)

    return [
        setting("--epochs", click.IntRange(1), "Passes over the training slices, at most."),
        setting("--batch-size", click.IntRange(1), "Slices a step."),
        setting("--optimizer", click.Choice(["adam", "sgd"])),
        setting("--learning-rate", float, "Of new layers."),
        setting("--schedule", click.Choice(["constant", "cosine"]), "Of the rate, over the epochs."),
        setting("--weight-decay", float),
        setting("--patience", int, "Epochs without a lower validation loss; 0: never stop early."),
        click.option(
            "--augment",
            type=_Augmentations(),
            default=",".join(settings.augment) or "none",
            show_default=True,
            metavar="NAMES",
            help="rotate,flip,crop or some of them, or none; training slices only.",
        ),
        setting("--class-weight", click.Choice(["balanced", "none"])),
        setting("--precision", click.Choice(["auto", "float32", "bfloat16"]), "Of the training."),
        setting("--seed", int, "Of weights, order and augmentation, and of a new split."),
    ]


# How slices are read, where the network runs, and the split.
_SHARED = (
    click.option(
        "--window", default="brain", show_default=True, help="brain, subdural, bone or WIDTH/CENTRE in HU."
    ),
    crop_option,
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
    click.option("--workers", type=click.IntRange(1), help="Decoding threads.  [default: CPUs]"),
    train_fraction_option,
    protocol_option,
    new_split_option,
    track_option,
)


def _train(name: str, run_path: Path, window: str, crop: str, track: str | None, **options: Any) -> int:
    from haemo.features.views.preprocess import Preprocessing
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.training.network import NetworkRequest, train_network

    split = split_request(options)
    start = {field: options.pop(field) for field in ("weights", "freeze_below") if field in options}
    request = NetworkRequest(
        preprocessing=Preprocessing.for_window(window, crop),
        device=options.pop("device"),
        workers=options.pop("workers"),
        **start,
    )
    run = RunDirectory(run_path)
    result = train_network(run, name, request, split=split, progress=progress, **options)
    _print(run, result)
    tracked(run, name, track)
    return 3 if result.failures else 0


def _print(run: Any, result: "NetworkResult") -> None:
    best = result.history[result.facts["best_epoch"] - 1]
    is_leaky = result.facts["leaky"]
    held_out = "slices, LEAKY" if is_leaky else "patients"
    click.echo(
        f"{result.name}: {len(result.history)} epochs, best {best.epoch} "
        f"(loss {best.train_loss:.3f} in training, {best.validation_loss:.3f} on validation {held_out})"
    )
    show_trained(result.name, result.facts, result.metrics, "validation")
    if result.failures:
        click.echo(f"{counted(len(result.failures), 'slice')} could not be read: {run.failures_path}")
    click.echo(f"{'kept in' if result.up_to_date else 'written to'} {run.model_path(result.name)}")
    click.echo(f"next: haemo compare --run {run}")


@click.command()
@_network_options("cnn")
def cnn(run_path: Path, **options: Any) -> int:
    """Train the scratch CNN: 227x227x3, four convolutions, on this run's slices alone.

    Its hidden layer can then stand in for AlexNet's: haemo features --network cnn --weights RUN/cnn.
    """
    return _train("cnn", run_path, **options)


@click.command()
@click.option(
    "--weights",
    default="auto",
    show_default=True,
    metavar="SOURCE",
    help="auto, trunk, builtin, random, or a file with torchvision's AlexNet.",
)
@click.option(
    "--freeze-below",
    default="",
    metavar="LAYER",
    help="Keep the layers below this one (conv2 ... conv5, fc6, fc7, fc8) as they are.",
)
@click.option(
    "--pretrained-rate",
    type=float,
    default=recipe_for("finetune").settings.pretrained_rate,
    show_default=True,
    help="Learning rate of pretrained layers, as a multiple of that of new ones.",
)
@_network_options("finetune")
def finetune(run_path: Path, **options: Any) -> int:
    """Fine-tune AlexNet end to end: stage one's weights, a new last layer.

    Where only the convolutional trunk can be had, a new hidden layer stands in place of fc6 and fc7.
    """
    return _train("finetune", run_path, **options)


@click.command()
@_network_options("lenet")
def lenet(run_path: Path, **options: Any) -> int:
    """Train LeNet on 135x135 slices, as posted for the 140-slice set.

    The augmented variant of the post: --augment crop --epochs 7 (135x135 cut at random from 139x139).
    """
    return _train("lenet", run_path, **options)


@click.command()
@_network_options("tinyvgg")
def tinyvgg(run_path: Path, **options: Any) -> int:
    """Train TinyVGG on 64x64 RGB slices, as in the undergraduate thesis (8,132 parameters)."""
    return _train("tinyvgg", run_path, **options)
