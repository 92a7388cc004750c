"""Files that a command is asked to write: looked at before the work begins, not after it."""

import os
from pathlib import Path
from typing import Any

import click

__all__ = ["NewFile"]


class NewFile(click.Path):
    """The path of a file to write, in a folder that is there and can be written to."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Give the path; a folder that is not there or cannot be written to is a wrong request."""
        path: Path = super().convert(value, param, ctx)
        if not path.parent.is_dir():
            self.fail(f"there is no folder {path.parent}", param, ctx)
        if not os.access(path.parent, os.W_OK):
            self.fail(f"the folder {path.parent} cannot be written to", param, ctx)
        return path
