"""What the commands print with: progress, tables, notices, and the options that many share."""

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from haemo.pipeline.run.directory import RunDirectory

__all__ = [
    "SlicePath",
    "aggregate_option",
    "by_option",
    "counted",
    "crop_option",
    "is_typed",
    "names_option",
    "network_names",
    "outline_option",
    "print_any_name",
    "progress",
    "run_option",
    "series_option",
    "show_log",
    "table",
    "track_option",
    "tracked",
    "trained_models",
    "trust_option",
    "unit_option",
]

_SECONDS_BETWEEN_LINES = 10.0
_UNBOUNDED = 1_000_000

trust_option = click.option(
    "--trust",
    multiple=True,
    metavar="CLASS",
    help="Admit a head that was trained on this estimator, as package.module.Class. May be given again.",
)

run_option = click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="RUN",
    help="Run directory, e.g. runs/first.",
)

series_option = click.option(
    "--series",
    metavar="all|REGEX",
    help="Which series of a DICOM study: all, or those with REGEX in number, description, kernel or UID.  "
    "[default: one, soft, complete, near 5 mm]",
)


class SlicePath(click.Path):
    """A file or folder that is there, or a slice of such a file, as ``scan.nii.gz#12``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the path, once its file is known to be there."""
        from haemo.features.reading.address import file_of

        path = super().convert(value, param, ctx)
        if not file_of(path).exists():
            self.fail(f"Path {str(value)!r} does not exist.", param, ctx)
        return path


unit_option = click.option(
    "--unit",
    type=click.Choice(["hu", "hu+1024", "gray"]),
    help="What the numbers are in files that do not say it: volumes, 16-bit pictures, DICOM without rescale. "
    "[default: told by how air, brain and bone look]",
)

outline_option = click.option(
    "--outline",
    type=click.Choice(["blood", "evidence"]),
    default="blood",
    show_default=True,
    help="What is outlined: blood, as the run's segmenter finds it (without one, the built-in one), or what "
    "is hot in the model's map of evidence.",
)

names_option = click.option(
    "--names",
    is_flag=True,
    help="Call pictures, and slices in regions.geojson, by file and study; else by their number alone, as "
    "names may be those of patients.",
)

track_option = click.option(
    "--track",
    metavar="auto|URI",
    help="Tell an MLflow store of the result: auto, an SQLite file beside RUN, or as http://HOST.",
)

by_option = click.option(
    "--by",
    type=click.Choice(["slice", "study", "patient"]),
    default="slice",
    show_default=True,
    help="What is counted.",
)


def aggregate_option(text: str | None = None, *names: str) -> Callable[[Any], Any]:
    """Give ``--aggregate`` with its help; the parameter is called so, or by `names`."""
    return click.option(
        "--aggregate",
        *names,
        type=click.Choice(["max", "mean-top", "noisy-or"]),
        default="max",
        show_default=True,
        help=text,
    )


crop_option = click.option(
    "--crop",
    type=click.Choice(["none", "head"]),
    default="none",
    show_default=True,
    help="head: cut every slice to the box of the head before it is resized.",
)


def tracked(run: "RunDirectory", name: str, uri: str | None) -> None:
    """Tell a store of a model where that is asked for, and say so."""
    if uri is None:
        return
    from haemo.pipeline.tracking.tracker import track

    found = track(run, name, uri)
    click.echo(f"{'tracked' if found else 'tracked before'}: {name} of experiment {run.path.resolve().name}")


def trained_models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of the models of the run, for the shell to complete; none before ``--run`` is given."""
    del parameter
    from haemo.pipeline.run.directory import RunDirectory

    run = context.params.get("run_path")
    return [name for name in RunDirectory(run).trained() if name.startswith(incomplete)] if run else []


def network_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Networks of stage one for the shell to complete; torchvision's only once their prefix is typed."""
    del context, parameter
    from haemo.models.networks.table import FROZEN_NETWORKS, TORCHVISION

    names = [*FROZEN_NETWORKS.names(), TORCHVISION]
    if incomplete.startswith(TORCHVISION):
        from haemo.models.networks.torchvision_models import model_names

        names = [TORCHVISION + name for name in model_names()]
    return [name for name in names if name.startswith(incomplete)]


class _ClickHandler(logging.Handler):
    """Sends log records to standard error, warnings marked as such."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        click.echo(prefix + record.getMessage(), err=True)


def print_any_name() -> None:
    """Have characters escaped that cannot be printed, in place of an error: a file name need not be UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def show_log(level: int) -> None:
    """Print what the library logs under ``haemo`` from `level` up, on standard error."""
    logger = logging.getLogger("haemo")
    logger.handlers = [_ClickHandler()]
    logger.setLevel(level)
    logger.propagate = False


def is_typed(name: str) -> bool:
    """Whether an option of the command that runs stands on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


def counted(count: int, thing: str) -> str:
    """A number of things as people write it: ``1 slice``, ``1,204 slices``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


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

    No cell and no title is ever cut. On a terminal that is narrower than the table, the table comes in blocks
    of columns that fit, each with the first column and at least one more, be it wider than the terminal.
    When the output is not a terminal, a file or pipe gets all columns side by side.

    Parameters
    ----------
    columns : sequence of str
        Their headings.
    rows : iterable of sequence of str
        Cells, as many a row as there are columns.
    title : str
        One line above.
    """
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(highlight=False, markup=False)
    rows = list(rows)

    def width(places: Sequence[int]) -> int:
        unbounded = console.options.update(max_width=_UNBOUNDED)
        return Measurement.get(console, unbounded, _grid(columns, rows, places)).maximum

    blocks = [list(range(len(columns)))]
    if sys.stdout.isatty():
        blocks = _blocks(len(columns), lambda places: width(places) <= console.width)
    if title:
        console.print(title, style="bold", soft_wrap=True)
    for places in blocks:
        Console(width=width(places), highlight=False, markup=False).print(_grid(columns, rows, places))


def _blocks(count: int, fits: Callable[[Sequence[int]], bool]) -> list[list[int]]:
    """Places of the columns of each block: the first of all, and as many others as fit, one or more."""
    blocks = [[0]]
    for place in range(1, count):
        if len(blocks[-1]) > 1 and not fits([*blocks[-1], place]):
            blocks.append([0])
        blocks[-1].append(place)
    return blocks


def _grid(columns: Sequence[str], rows: Iterable[Sequence[str]], places: Sequence[int]) -> "Table":
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD)
    for place in places:
        grid.add_column(columns[place], justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(row[place] for place in places))
    return grid
