"""Tests that need programs of Debian: run where these are, else counted, with what to type."""

import subprocess
import sys
from pathlib import Path

from debian_packages import PROVIDED

HERE = Path(__file__).resolve().parent


def test_what_is_not_run_is_said_in_the_last_line(tmp_path):
    for name in ("conftest.py", "debian_packages.py", "not_run.py"):
        (tmp_path / name).write_text((HERE / name).read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    debian: d\n    cuda: c\n")
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.debian('dcmtk')\ndef test_one(): raise AssertionError\n"
        "@pytest.mark.cuda\ndef test_three(): raise AssertionError\n"
        "def test_two(): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    last = done.stdout.splitlines()[-4:]
    assert "not run, for want of Debian packages: 1 test; to run it too: apt-get install dcmtk" in last
    assert (
        "not run, for want of a CUDA device: 1 test; to run it too: make bench-gpu where there is one" in last
    )


def test_the_checks_of_a_fresh_checkout_install_them_all():
    listed = subprocess.run(
        [sys.executable, HERE / "debian_packages.py"], capture_output=True, text=True, check=True
    )
    assert listed.stdout.split() == list(PROVIDED)
    assert "tests/debian_packages.py" in (HERE.parent / ".ci" / "run").read_text()
