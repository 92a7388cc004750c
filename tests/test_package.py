"""What `make build` makes: everything is in it, and it runs where no checkout is to be seen."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from haemo.pipeline.doctor import examine

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("docs", "tests", "benchmarks")


def configuration():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


CONFIGURATION = configuration()
VERSION = CONFIGURATION["metadata"]["version"]
# Package -> the folder of the checkout that holds it: haemo.models -> models.
PACKAGE_DIR = dict(re.findall(r"^([\w.]+) *= *(\S+)$", CONFIGURATION["options"]["package_dir"], re.MULTILINE))


def files_below(folder):
    return {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def expected_in_wheel():
    """Every file in the folders of the packages, by its name in site-packages."""
    return {
        f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"
        for package, folder in PACKAGE_DIR.items()
        for path in files_below(ROOT / folder)
    }


def run(*command, folder, check=True, **environment):
    """Run a command without what this process was told of Python by its environment, e.g. PYTHONPATH."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=clean | environment,
    )
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def build(folder, *options):
    """Archives that `python -m build` makes of a checkout, in its folder dist."""
    run(sys.executable, "-m", "build", "--no-isolation", *options, folder=folder)
    return sorted((folder / "dist").iterdir())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what belongs to the project, without what building and running leave in a checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    for name in (*PACKAGE_DIR.values(), *FOLDERS):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def archives(checkout):
    """The sdist, and the wheel built from it."""
    wheel, sdist = build(checkout)
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(archives, tmp_path_factory):
    """An environment with the wheel in it, on top of the packages of the one that runs the tests."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # An editable install leaves a link to its checkout in site-packages. Python follows such a link only in
    # the environment's own site-packages, so that folders named by path bring packages and no checkout.
    layer = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "layer.pth").write_text("\n".join(layer))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python")
    run(*pip, "install", "--no-deps", "--no-index", archives[1], folder=folder)
    return folder


def test_the_changelog_tells_of_the_version_that_is_built():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(VERSION)} - \d{{4}}-\d\d-\d\d", headings[1])


def test_the_wheel_holds_every_file_of_the_packages_under_one_name(archives):
    wheel = zipfile.ZipFile(archives[1])
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == expected_in_wheel()
    assert "haemo/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"haemo"}
    assert wheel.read(f"haemo-{VERSION}.dist-info/top_level.txt").decode().split() == ["haemo"]
    assert f"haemo-{VERSION}.dist-info/licenses/LICENSE" in wheel.namelist()


def test_the_sdist_holds_the_checkout(archives):
    with tarfile.open(archives[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    belongs = {path for name in (*PACKAGE_DIR.values(), *FOLDERS) for path in files_below(ROOT / name)}
    belongs |= {*ROOT.glob("*.md"), *(ROOT / name for name in ("LICENSE", "Makefile", "mkdocs.yml"))}
    assert {path.relative_to(ROOT).as_posix() for path in belongs} <= names


def test_the_wheel_from_the_sdist_is_the_wheel_from_the_checkout(archives, checkout, tmp_path):
    def contents(path):
        wheel = zipfile.ZipFile(path)
        return {name: wheel.read(name) for name in wheel.namelist()}

    copy = shutil.copytree(checkout, tmp_path / "copy", ignore=shutil.ignore_patterns("dist", "*.egg-info"))
    (direct,) = build(copy, "--wheel")
    assert contents(direct) == contents(archives[1])


def test_installed_elsewhere_every_module_is_imported_from_there(installed, tmp_path):
    names = {
        re.sub(r"/__init__$", "", name.removesuffix(".py")).replace("/", ".")
        for name in expected_in_wheel()
        if name.endswith(".py")
    }
    script = (
        "import importlib, sys\n"
        f"for name in {sorted(names)!r}:\n"
        "    print(importlib.import_module(name).__file__)\n"
    )
    lines = run(installed / "bin" / "python", "-c", script, folder=tmp_path).stdout.splitlines()
    assert len(lines) == len(names)
    assert all(Path(line).is_relative_to(installed) for line in lines)


def test_installed_elsewhere_the_command_answers(installed, tmp_path):
    haemo = installed / "bin" / "haemo"
    assert "  features " in run(haemo, "--help", folder=tmp_path).stdout
    assert run(haemo, "--version", folder=tmp_path).stdout == f"haemo, version {VERSION}\n"


def test_installed_elsewhere_doctor_says_what_it_says_here(installed, tmp_path, monkeypatch):
    places = {"HAEMO_CACHE": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    expected = [f"{check.status.value}  {check.name}: " for check in examine(tmp_path / "runs")]
    result = run(installed / "bin" / "haemo", "doctor", folder=tmp_path, check=False, **places)
    lines = [line for line in result.stdout.splitlines() if not line.startswith("      -> ")]
    for line, start in zip(lines[:-1], expected, strict=True):
        assert line.startswith(start)
    failed = sum(start.startswith("FAIL") for start in expected)
    assert lines[-1].endswith(f" WARN, {failed} FAIL")
    assert result.returncode == (1 if failed else 0)
