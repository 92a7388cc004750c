"""The documentation as a site: whole, and readable where there is no network."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import haemo
from haemo.pipeline.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parent.parent


class Page(HTMLParser):
    """What a page loads, where it leads, and the places in it that can be led to."""

    def __init__(self, path):
        super().__init__()
        self.loads, self.links, self.places = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.places |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag != "a":
            self.loads += [found[name] for name in ("src", "href", "data") if found.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as `make docs` builds it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(["make", "links"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """The pages by path; 404.html is for servers only, its paths begin at their top."""
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_nothing_is_loaded_from_the_network(site, pages):
    loaded = [url for page in pages.values() for url in page.loads]
    loaded += [
        url.strip("\"' ")
        for path in site.rglob("*.css")
        for url in re.findall(r"(?:url\(|@import )([^)]+)", path.read_text(encoding="utf-8"))
    ]
    assert any(url.endswith("iframe-worker.js") for url in loaded)  # without it search loads one itself
    assert [url for url in loaded if urlsplit(url).netloc or urlsplit(url).scheme not in ("", "data")] == []


def test_every_link_leads_to_a_place_in_the_site(pages):
    for path, page in pages.items():
        for url in (*page.links, *page.loads):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path not in ("", ".") else path
            assert target.exists(), f"{path.name}: {url}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].places, f"{path.name}: {url}"


def test_every_document_command_and_public_name_is_in_it(site):
    titles = {path.name for path in site.glob("*.html")}
    documents = [*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    assert {path.with_suffix(".html").name for path in documents} <= titles
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    start = (site / "index.html").read_text(encoding="utf-8")
    assert all(heading in start for heading in re.findall(r"^#+ (.+)$", readme, re.MULTILINE))
    commands = (site / "commands.html").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f'id="haemo-{name}"' in commands
        for parameter in cli.get_command(None, name).params:
            assert all(option in commands for option in parameter.opts if option.startswith("-"))
    places = Page(site / "reference.html").places
    assert {f"haemo.{name}" for name in getattr(haemo, "__all__", ()) if not name.startswith("_")} <= places


def test_the_search_knows_the_words_of_the_pages(site):
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert index.startswith("var __index")  # a script, which a page that is a file may load; JSON it may not
    assert "haemo learning-curve" in index
