"""The commands `cnn`, `finetune`, `lenet` and `tinyvgg`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.console import progress, run_option, table

if TYPE_CHECKING:
    from pipeline.networks import NetworkResult

__all__ = ["cnn", "finetune", "lenet", "tinyvgg"]

_SHOWN = (
    ("roc_auc", "ROC AUC"),
    ("average_precision", "average precision"),
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("sensitivity", "sensitivity"),
    ("specificity", "specificity"),
    ("mse", "MSE of the probability"),
)


class _Augmentations(click.ParamType):
    """Names separated by commas, or none."""

    name = "names"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        from models.recipes import AUGMENTATIONS

        if isinstance(value, tuple):
            return value
        names = () if value == "none" else tuple(str(value).split(","))
        for name in names:
            if name not in AUGMENTATIONS:
                self.fail(f"{name!r} is none of {', '.join(AUGMENTATIONS)}", param, ctx)
        return names


_OPTIONS = (
    click.option("--epochs", type=click.IntRange(1), help="Passes over the training slices, at most."),
    click.option("--batch-size", type=click.IntRange(1)),
    click.option("--optimizer", type=click.Choice(["adam", "sgd"])),
    click.option("--learning-rate", type=float),
    click.option("--schedule", type=click.Choice(["constant", "cosine"])),
    click.option("--weight-decay", type=float),
    click.option("--patience", type=int, help="Epochs without a lower validation loss; 0: never stop early."),
    click.option(
        "--augment", type=_Augmentations(), metavar="NAMES", help="rotate,flip,crop or some of them, or none."
    ),
    click.option("--class-weight", type=click.Choice(["balanced", "none"])),
    click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), help="Of the training."),
    click.option(
        "--seed", type=int, help="Of weights, order and augmentation, and of a new split.  [default: 0]"
    ),
    click.option(
        "--window", default="brain", show_default=True, help="brain, subdural, bone or WIDTH/CENTRE."
    ),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
    click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Decoding threads."),
    click.option(
        "--train-fraction",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Share of the slices for training in a new split.  [default: 0.7]",
    ),
    click.option("--new-split", is_flag=True, help="Draw the split anew; train every model again then."),
)


def _network_options(command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return run_option(command)


def _train(name: str, run_path: Path, window: str, **options: Any) -> int:
    from features.preprocess import Preprocessing
    from pipeline.networks import train_network
    from pipeline.run import RunDirectory

    run = RunDirectory(run_path)
    result = train_network(
        run, name, preprocessing=Preprocessing.for_window(window), progress=progress, **options
    )
    _print(run, result)
    return 3 if result.failures else 0


def _print(run: Any, result: "NetworkResult") -> None:
    best = result.history[result.facts["best_epoch"] - 1]
    click.echo(
        f"{result.name}: {len(result.history)} epochs, best {best.epoch} "
        f"(loss {best.train_loss:.3f} in training, {best.validation_loss:.3f} on validation patients)"
    )
    parts = [result.metrics["cv"], result.metrics["test"]]
    leaky = "  LEAKY split: too good" if result.facts["leaky"] else ""
    table(
        ("", "validation", "test"),
        [
            ("slices", *(str(part["slices"]) for part in parts)),
            ("patients", *(str(part["patients"]) for part in parts)),
            *((title, *(_figure(part, name) for part in parts)) for name, title in _SHOWN),
        ],
        title=f"{result.name} at threshold 0.5{leaky}",
    )
    for reason in sorted(set(result.metrics["test"]["undefined"].values())):
        click.echo(f"undefined on the test slices: {reason}")
    if result.failures:
        click.echo(f"{len(result.failures)} slices could not be read: {run.failures_path}")
    click.echo(f"written to {run.model_path(result.name)}")
    click.echo(f"next: haemo compare --run {run}")


def _figure(metrics: dict[str, Any], name: str) -> str:
    return f"{metrics[name]:.3f}" if name in metrics else "undefined"


@click.command()
@_network_options
def cnn(run_path: Path, window: str, **options: Any) -> int:
    """Train the scratch CNN: 227x227x3, four convolutions, on this run's slices alone.

    Its hidden layer can then stand in for AlexNet's: haemo features --network cnn --weights RUN/cnn.
    """
    return _train("cnn", run_path, window, **options)


@click.command()
@click.option(
    "--weights",
    default="auto",
    show_default=True,
    metavar="SOURCE",
    help="auto, trunk, random, or a file with torchvision's AlexNet.",
)
@click.option(
    "--freeze-below",
    default="",
    metavar="LAYER",
    help="Keep the layers below this one (conv2 ... conv5, fc6, fc7, fc8) as they are.",
)
@click.option("--pretrained-rate", type=float, help="Rate of pretrained layers, as a multiple.")
@_network_options
def finetune(run_path: Path, window: str, **options: Any) -> int:
    """Fine-tune AlexNet end to end: stage one's weights, a new last layer.

    Where only the convolutional trunk can be had, a new hidden layer stands in place of fc6 and fc7.
    """
    return _train("finetune", run_path, window, **options)


@click.command()
@_network_options
def lenet(run_path: Path, window: str, **options: Any) -> int:
    """Train LeNet on 135x135 slices, as posted for the 140-slice set.

    The augmented variant of the post: --augment crop --epochs 7 (135x135 cut at random from 139x139).
    """
    return _train("lenet", run_path, window, **options)


@click.command()
@_network_options
def tinyvgg(run_path: Path, window: str, **options: Any) -> int:
    """Train TinyVGG on 64x64 RGB slices, as in the undergraduate thesis (8,132 parameters)."""
    return _train("tinyvgg", run_path, window, **options)
