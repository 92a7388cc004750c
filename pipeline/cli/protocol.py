"""What every command that trains asks of the run's split: the option ``--protocol``, and the request."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from haemo.pipeline.splitting.protocols import SplitRequest

__all__ = ["protocol_option", "split_request"]

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
