"""What commands that train ask of the run's split: the options, and the request."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from haemo.pipeline.splitting.protocols import SplitRequest

__all__ = [
    "folds_option",
    "new_split_option",
    "protocol_option",
    "split_request",
    "train_fraction_option",
]

folds_option = click.option("--folds", type=click.IntRange(2), help="Folds of a new split.  [default: 5]")
train_fraction_option = click.option(
    "--train-fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the slices for training in a new split.  [default: 0.7]",
)
new_split_option = click.option(
    "--new-split", is_flag=True, help="Draw the split anew; train every model again then."
)

protocol_option = click.option(
    "--protocol",
    type=click.Choice(["patient", "slice", "paper", "lenet", "thesis"]),
    show_default="that of the run's split, or patient",
    help="How a new split is drawn. All but patient are LEAKY: they exist to reproduce published figures.",
)


def split_request(options: dict[str, Any], *names: str) -> "SplitRequest":
    """Take `names`, ``protocol``, ``train_fraction`` and ``new_split`` out of a command's options."""
    from haemo.pipeline.splitting.protocols import SplitRequest

    asked = {name: options.pop(name) for name in ("protocol", "train_fraction", *names)}
    return SplitRequest(**asked, new=options.pop("new_split"))
