"""What the commands print with: progress, tables, notices, and the options that many share."""

import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

__all__ = ["crop_option", "progress", "run_option", "show_log", "table"]

_SECONDS_BETWEEN_LINES = 10.0

run_option = click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="RUN",
    help="Run directory, e.g. runs/first.",
)

crop_option = click.option(
    "--crop",
    type=click.Choice(["none", "head"]),
    default="none",
    show_default=True,
    help="head: cut every slice to the box of the head before it is resized.",
)


class _ClickHandler(logging.Handler):
    """Sends log records to standard error, warnings marked as such."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        click.echo(prefix + record.getMessage(), err=True)


def show_log(level: int) -> None:
    """Print what the library logs under ``haemo`` from `level` up, on standard error."""
    logger = logging.getLogger("haemo")
    logger.handlers = [_ClickHandler()]
    logger.setLevel(level)
    logger.propagate = False


def progress(items: Iterable[Any], *, total: int | None = None, label: str = "") -> Iterator[Any]:
    """Show how far a reader of `items` has come: a bar on a terminal, else a plain line now and then."""
    if total is None and isinstance(items, Sequence):
        total = len(items)
    if sys.stderr.isatty():
        yield from _bar(items, total, label)
    else:
        yield from _lines(items, total, label)


def _bar(items: Iterable[Any], total: int | None, label: str) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=total, description=label)


def _lines(items: Iterable[Any], total: int | None, label: str) -> Iterator[Any]:
    """Lines come by the clock and not by the item, so that one long item does not look like a stop."""
    of_total = f" of {total}" if total is not None else ""
    done, ended = 0, threading.Event()

    def tell() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LINES):
            click.echo(f"{label}: {done}{of_total}", err=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        for done, item in enumerate(items):  # noqa: B007 - `tell` reads it
            yield item
    finally:
        ended.set()
        teller.join()


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print a table on standard output: first column left-aligned, the others right-aligned.

    It is as wide as its content when the output is not a terminal, so that a file or pipe gets all of it.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold")
    for position, name in enumerate(columns):
        grid.add_column(name, justify="left" if position == 0 else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False, markup=False).print(grid)
