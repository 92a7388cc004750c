"""The option ``--protocol`` of every command that trains."""

import click

__all__ = ["protocol_option"]

protocol_option = click.option(
    "--protocol",
    type=click.Choice(["patient", "slice", "paper", "lenet", "thesis"]),
    show_default="that of the run's split, or patient",
    help="How a new split is drawn. All but patient are LEAKY: they exist to reproduce published figures.",
)
