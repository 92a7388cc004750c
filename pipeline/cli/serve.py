"""``haemo serve``: the reader's page."""

from contextlib import suppress
from pathlib import Path

import click

from haemo.pipeline.cli.console import progress, trained_models, trust_option
from haemo.pipeline.cli.segment import segmenter_option
from haemo.pipeline.packing.modelfile import BUILTIN

__all__ = ["serve"]


@click.command()
@click.option(
    "--run",
    "run_paths",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    metavar="RUN",
    help="Run to be read, e.g. runs/first. May be given again.",
)
@segmenter_option
@trust_option
@click.option(
    "--head",
    default="svm",
    show_default=True,
    metavar="NAME",
    shell_complete=trained_models,
    help="Which head or network of the first run scores what is dropped.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1.  [default: any free one]"
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path, exists=True))
def serve(
    run_paths: tuple[Path, ...],
    model: str | None,
    trust: tuple[str, ...],
    head: str,
    port: int,
    paths: tuple[Path, ...],
) -> int:
    """Open a page on this machine to read studies, with what a model says of them.

    Studies are dropped on the page, named here by PATH, or those of a run. Prints the address; it holds a
    key, so that nobody else on the machine gets in. Nothing leaves the machine, and what was dropped is
    deleted when the command ends (Ctrl-C). Not a medical device.
    """
    from haemo.pipeline.run.directory import RunDirectory
    from haemo.pipeline.serving import server

    if not run_paths and model is None:
        raise click.UsageError(
            f"name what is served: --run RUN, or --model FILE or {BUILTIN}, which needs no run"
        )
    runs = tuple(RunDirectory(path, trust) for path in run_paths)
    serving = server.Serving(runs, paths, head, model or "", port, trust)

    def ready(address: str) -> None:
        click.echo(f"{address}\nopen this address in a browser on this machine; Ctrl-C ends it")

    with suppress(KeyboardInterrupt):
        server.serve(serving, ready, progress)
    click.echo("ended; what was dropped is deleted", err=True)
    return 0
