"""What installs haemo elsewhere: the lock, containers, the bill of materials, citation."""

import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
FOR_US = {"demo", "dev", "docs"}  # extras for those who work on haemo


def settings() -> ConfigParser:
    found = ConfigParser()
    found.read(ROOT / "setup.cfg", encoding="utf-8")
    return found


def locked() -> dict[str, list[str]]:
    """Version by name; several where they depend on the Python."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-zA-Z0-9._-]+)==([^ ]+)", LOCK, re.MULTILINE):
        found.setdefault(name.lower().replace("_", "-"), []).append(version)
    return found


def needed() -> list[Requirement]:
    own = settings()
    texts = own["options"]["install_requires"].split("\n")
    for extra, names in own["options.extras_require"].items():
        texts += names.split("\n") if extra not in FOR_US else []
    return [Requirement(text) for text in texts if text]


@pytest.mark.parametrize("requirement", needed(), ids=str)
def test_the_lock_has_what_haemo_needs(requirement):
    versions = locked().get(requirement.name.lower().replace("_", "-"), [])
    assert versions, "make lock"
    assert all(requirement.specifier.contains(version) for version in versions), "make lock"


def test_every_locked_version_has_a_hash_and_no_host():
    for block in re.split(r"\n(?=[a-z0-9])", LOCK.split("\n", 2)[2]):
        assert "--hash=sha256:" in block, block
    assert "://" not in LOCK


@pytest.mark.parametrize(("variant", "index"), [("cpu", ""), ("cuda", "an index"), ("cpu", "an index")])
def test_containers_install_the_locked_versions(tmp_path, variant, index):
    for name in ("pip", "haemo"):
        stub = tmp_path / name
        stub.write_text(
            f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/said\nfor last; do :; done\n'
            f'[ ! -f "$last" ] || cp "$last" {tmp_path}/lock\n'
        )
        stub.chmod(0o755)
    paths = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    words = ["sh", ROOT / "containers" / "install", ROOT, variant, index]
    subprocess.run(words, env=paths, check=True, timeout=60)
    said = (tmp_path / "said").read_text().splitlines()
    assert said[-2:] == [f"pip install --no-cache-dir --no-deps {ROOT}", "haemo --version"]
    used = (tmp_path / "lock").read_text()
    if variant == "cpu" and index:
        assert re.search(r"--index-url an index torch==[\d.]+ torchvision==[\d.]+$", said[0])
        assert not re.search(r"^(torch|nvidia|triton)", used, re.MULTILINE)
        assert "\nnumpy==" in used
        hashes = re.findall(r"^numpy==.*?(?=^[a-z])", LOCK, re.MULTILINE | re.DOTALL)
        assert all(block in used for block in hashes)
    else:
        assert used == LOCK


def test_a_variant_that_there_is_not(tmp_path):
    words = ["sh", ROOT / "containers" / "install", ROOT, "gpu"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, "VARIANT is cpu or cuda, not 'gpu'\n")


def test_containers_take_what_there_is_and_all_that_is_imported():
    docker = (ROOT / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (.*) /", docker, re.MULTILINE) for word in line.split()}
    recipe = (ROOT / "containers" / "haemo.def").read_text()
    files = set(re.findall(r"^    (\S+) /opt/haemo/\S+$", recipe, re.MULTILINE))
    assert copied == files
    assert all((ROOT / name).exists() for name in copied)
    assert set(settings()["options"]["package_dir"].split()[2::3]) <= copied


def test_the_bill_of_materials_names_every_locked_package(tmp_path):
    out = tmp_path / "sbom.json"
    words = [BIN / "cyclonedx-py", "requirements", ROOT / "requirements.lock", "-o", out]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    found = json.loads(out.read_text())
    assert found["bomFormat"] == "CycloneDX"
    assert {one["name"].lower().replace("_", "-") for one in found["components"]} == set(locked())


def test_the_citation_is_of_this_version():
    version = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert version.group(1) == settings()["metadata"]["version"]
