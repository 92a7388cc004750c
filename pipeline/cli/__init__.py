"""The command line: parse, call, print. Only this package imports click and rich.

Modules are commands: `index`, `features`, `pool`, `heads`, `networks`, `compare`, `evaluate`, `predict`,
`pacs`, `segment`, `explain`, `leakage`, `report`, `names`, `pack`, `serve`, `phantom`, `pictures`, `study`,
`system`. They share `console` (printing and common options), `choices`, `clinical`, `clusters`,
`configuration`, `figures`, `models` (those of one file), `outputs` and `protocol`. `blend` joins heads,
and `trunk` is one of the commands of `segment`. Nothing imports it.
"""

import importlib
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from haemo.errors import HaemoError
from haemo.extensions import did_you_mean
from haemo.pipeline.cli.choices import suggest_choices
from haemo.processors import processors

__all__ = ["COMMANDS", "main", "prepare_libraries"]

# Command name -> the module that defines it, in the order of the help page. Modules are imported when
# their command is called, and heavy packages inside the command, so that help answers at once.
COMMANDS = {
    "index": "index",
    "features": "features",
    "pool": "pool",
    "types": "pool",
    "svm": "heads",
    "softmax": "heads",
    "mlp": "heads",
    "train": "heads",
    "blend": "blend",
    "cnn": "networks",
    "finetune": "networks",
    "lenet": "networks",
    "tinyvgg": "networks",
    "compare": "compare",
    "evaluate": "evaluate",
    "predict": "predict",
    "pacs": "pacs",
    "segment": "segment",
    "explain": "explain",
    "leakage": "leakage",
    "learning-curve": "leakage",
    "report": "report",
    "names": "names",
    "pack": "pack",
    "export": "pack",
    "serve": "serve",
    "verify": "features",
    "phantom": "phantom",
    "summary": "pictures",
    "plot": "pictures",
    "run": "study",
    "doctor": "system",
    "demo": "system",
}

# Commands that keep what they finish: typed again, they go on where they were stopped.
_RESUMABLE = {
    "features",
    "svm",
    "softmax",
    "mlp",
    "train",
    "types",
    "cnn",
    "finetune",
    "lenet",
    "tinyvgg",
    "demo",
    "run",
    "evaluate",
}

_LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # which of three ways is the kernel's
_NO_MEMORY = ("could not create a primitive", "can't allocate memory", "not enough memory", "out of memory")
_NO_MEMORY += ("can't start new thread",)  # whose stack has no room


class _LazyGroup(click.Group):
    """A group that imports a command's module only when that command is wanted."""

    def list_commands(self, context: click.Context) -> list[str]:
        del context
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        del context
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"haemo.pipeline.cli.{COMMANDS[name]}")
        command = getattr(module, name.replace("-", "_"))
        suggest_choices(command)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            name, command, rest = super().resolve_command(context, args)
            if name and command and context.params.get("config"):
                rest = _configured(context.params["config"], name, command, rest)
            return name, command, rest
        except click.UsageError as error:
            if not args[0].startswith("-"):
                error.message += did_you_mean(args[0], COMMANDS)
            raise


@click.group(
    cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="haemo")
@click.option("--quiet", "-q", is_flag=True, help="Show warnings and errors only.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="TOML file with options of commands; what is typed goes before it.",
)
def cli(quiet: bool, config: Path | None) -> None:
    """Tell brain haemorrhage from normal on head-CT slices.

    \b
    haemo index DATA --run runs/first
    haemo features   --run runs/first
    haemo svm        --run runs/first
    haemo compare    --run runs/first

    Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but some inputs could not be used (failures.csv).
    """
    from haemo.pipeline.cli.console import print_any_name, show_log

    del config  # the commands have it (`_LazyGroup.resolve_command`)
    print_any_name()
    show_log(logging.WARNING if quiet else logging.INFO)


def _configured(path: Path, name: str, command: click.Command, typed: list[str]) -> list[str]:
    """What was typed behind a command, and what a study file adds to it."""
    from haemo.pipeline.cli.configuration import Configuration

    plan = Configuration.read(path, cli)
    words = [name]
    while isinstance(command, click.Group) and typed:
        below = command.get_command(click.Context(command), typed[0])
        if below is None:
            return [*words[1:], *typed]
        words, typed, command = [*words, typed[0]], typed[1:], below
    return [*words[1:], *plan.words(" ".join(words), command, typed)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code when called with arguments, else exits with it."""
    code = _run(arguments)
    if arguments is None:
        sys.exit(code)
    return code


def prepare_libraries() -> None:
    """Set what torch, BLAS and OpenMP read when they are loaded, unless it is set."""
    found = processors()
    if found.usable < found.allowed:  # they know the affinity alone
        os.environ.setdefault("OMP_NUM_THREADS", str(found.usable))
    # Maps of a batch take 51 MB, given back after use: large pages are had sooner than 13,000 small ones.
    with suppress(OSError):
        if "[madvise]" in _LARGE_PAGES.read_text(encoding="ascii"):
            os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _run(arguments: list[str] | None) -> int:
    try:
        prepare_libraries()
        code = cli.main(args=arguments, prog_name="haemo", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        kept = "; what was finished is kept, the same command goes on from there"
        click.echo(f"stopped{kept if _typed(arguments) in _RESUMABLE else ''}", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except HaemoError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {place}{error.strerror or error}", err=True)
        return 1
    except (MemoryError, RuntimeError) as error:
        # PyTorch and oneDNN have no error of their own for it on a CPU.
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in _NO_MEMORY):
            raise
        click.echo(
            "error: there is not enough memory for this; end other programs, or give it smaller work, such "
            "as a smaller --batch-size",
            err=True,
        )
        return 1
    return code if isinstance(code, int) else 0


def _typed(arguments: list[str] | None) -> str | None:
    """The command that a person typed: of a step of the demo, that is ``demo``."""
    outer = click.get_current_context(silent=True)
    if outer is not None:
        return outer.info_name
    words = sys.argv[1:] if arguments is None else arguments
    return next((word for word in words if not word.startswith("-")), None)
