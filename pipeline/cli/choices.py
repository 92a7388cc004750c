"""Choices that answer a name which is none of them with the nearest ones."""

from typing import Any

import click

from haemo.extensions import did_you_mean

__all__ = ["suggest_choices"]


class _Choice(click.Choice):
    """A click.Choice whose refusal asks for the nearest choices."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            error.message += did_you_mean(str(value), map(str, self.choices))
            raise


def suggest_choices(command: click.Command) -> None:
    """Have every click.Choice of a command suggest the nearest names."""
    for parameter in command.params:
        if type(parameter.type) is click.Choice:
            parameter.type = _Choice(parameter.type.choices, parameter.type.case_sensitive)
