"""What the README and the documents tell people to type exists."""

import re
import shlex
from pathlib import Path

import click
import pytest

from haemo.pipeline.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def shell_lines(page):
    """Command lines of the indented blocks of a page, continued lines joined, comments cut off."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^    (?:\$ )?((?:haemo|make) .+)$", text, re.MULTILINE)
    return [re.sub(r"\s+#.*|  +\S.*", "", line) for line in lines]


def command_lines(program):
    return [
        pytest.param(shlex.split(line), id=f"{page.name}: {line}"[:80])
        for page in PAGES
        for line in shell_lines(page)
        if line.startswith(f"{program} ")
    ]


@pytest.mark.parametrize("words", command_lines("haemo"))
def test_every_haemo_command_in_the_documents_is_understood(words):
    if words[1] == "--config":  # and its file: options of the command itself follow
        words = [words[0], *words[3:]]
    if words[1].startswith("-"):
        assert words[1] in ("--help", "--version")
        return
    assert words[1] in COMMANDS
    command = cli.get_command(None, words[1])
    if isinstance(command, click.Group):
        assert words[2] in command.commands
        command = command.commands[words[2]]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.split("=")[0] for word in words[2:] if re.match(r"--?[a-zA-Z]", word)}
    assert used <= options | {"--help"}


@pytest.mark.parametrize("words", command_lines("make"))
def test_every_make_target_in_the_documents_exists(words):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {word for word in words[1:] if "=" not in word} <= set(targets)


def test_the_readme_shows_the_main_job():
    lines = shell_lines(ROOT / "README.md")
    for start in ("make demo", "make test", "haemo index", "haemo features", "haemo svm", "haemo compare"):
        assert any(line.startswith(start) for line in lines), start


def prose(page):
    """A page without its indented and fenced blocks."""
    return re.sub(r"^(?:    .*|```[\s\S]*?^```)$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)


def anchors(page):
    """Names of the headings of a page, as they stand behind # in a link."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", prose(page)):
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_documents_name_exist(page):
    for name in re.findall(r"`([\w/]+/\w+\.py)`", prose(page)):
        assert (ROOT / name).exists(), name
