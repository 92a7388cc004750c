"""Pages of the site that no file in docs/ holds; mkdocs calls what is here (``hooks`` in mkdocs.yml).

README.md, CONTRIBUTING.md and CHANGELOG.md stand at the top of the checkout. The commands are written from
their help and the Python names from their docstrings, so that neither can fall behind.
"""

from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import haemo
from haemo.pipeline.cli import cli

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    pages = {"index.md": top("README.md"), "commands.md": commands(), "reference.md": reference()}
    pages |= {name: top(name) for name in ("CONTRIBUTING.md", "CHANGELOG.md")}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def top(name: str) -> str:
    """A page of the top folder; from the site it links to its neighbours, not down into docs/."""
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


def commands() -> str:
    """What ``--help`` says, of haemo and of every command in the order of the help page."""
    context = click.Context(cli, info_name="haemo", **cli.context_settings)
    parts = ["# Commands", fenced(cli.get_help(context))]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        inner = click.Context(command, info_name=name, parent=context)
        parts += [f"## haemo {name}", fenced(command.get_help(inner))]
    return "\n\n".join(parts)


def reference() -> str:
    """The public names of ``import haemo``."""
    names = [name for name in getattr(haemo, "__all__", ()) if not name.startswith("_")]
    return "\n\n".join(["# Python", haemo.__doc__, *(f"::: haemo.{name}" for name in names)])


def fenced(text: str) -> str:
    """Text as it stands."""
    return f"```text\n{text}\n```"
