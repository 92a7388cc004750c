"""The command `run`: a whole study from one file, which goes on where it was stopped."""

import shlex
from pathlib import Path
from typing import Any

import click

from haemo.pipeline.cli.configuration import Configuration, below
from haemo.pipeline.cli.console import counted

__all__ = ["run"]

_GOOD = (0, 3)


@click.command()
@click.argument("study", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--again", is_flag=True, help="Do all steps, also those that are done.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_context
def run(context: click.Context, study: Path, again: bool, dry_run: bool) -> int:
    """Do a whole study, from index to report, as a TOML file says.

    Steps that were done with the same settings are not done again; from the first one that was not, all
    are. Options are those of the commands, paths are seen from the current folder.

    \b
    run = "runs/first"
    steps = ["index", "features", "svm", "compare", "report"]
    [index]
    data = "path/to/slices"
    [svm]
    kernel = "rbf"
    """
    from haemo.errors import BadSettings
    from haemo.pipeline.cli import main
    from haemo.pipeline.run.directory import RunDirectory

    commands = context.find_root().command
    plan = Configuration.read(study, commands)
    if plan.run is None:
        raise BadSettings(f'{study} names no run directory; put run = "runs/first" at its top')
    if not plan.steps:
        raise BadSettings(f'{study} has no steps; name them: steps = ["index", "features", "svm"]')
    directory = RunDirectory(Path(plan.run))
    worst, going_on, skipped = 0, not again, 0
    for name in plan.steps:
        command, called, given = _step(plan, name, commands)
        words = [*called, *given]
        before = directory.read_record().get("steps", {}).get(_key(name), {})
        if going_on and before.get("words") == words and before.get("exit_code") in _GOOD:
            skipped += 1
            worst = max(worst, before["exit_code"])
            click.echo(f"done before: haemo {shlex.join(words)}")
            continue
        going_on = False
        click.echo(click.style(f"\n$ haemo {shlex.join(words)}", bold=True))
        if dry_run:
            continue
        settings = _effective(context, command, given)
        code = main(words)
        if code not in _GOOD:
            click.echo(
                f"stopped at {name}, exit code {code}; to go on: haemo run {shlex.quote(str(study))}",
                err=True,
            )
            return code
        worst = max(worst, code)
        directory.record(_key(name), words=words, settings=settings, exit_code=code)
    done = counted(len(plan.steps) - skipped, "step")
    click.echo(f"\n{done} {'to do' if dry_run else 'done'}, {skipped} done before -> {directory}")
    return worst


def _key(name: str) -> str:
    return f"study: {name}"


def _step(
    plan: Configuration, name: str, commands: click.Command
) -> tuple[click.Command, list[str], list[str]]:
    """The command of a step, its name, and what it is given, as a person would type them."""
    command, words = commands, plan.command_of(name)
    for word in words:
        command = below(command, word)
    return command, words, plan.words(name, command)


def _effective(context: click.Context, command: click.Command, given: list[str]) -> dict[str, Any]:
    """Every option of a step with its value, those that are the default too."""
    own = command.make_context(command.name, list(given), parent=context.find_root())
    return {
        name: value if isinstance(value, (bool, int, float, type(None))) else str(value)
        for name, value in own.params.items()
    }
