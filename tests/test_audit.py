"""make audit: holes are named, and what nobody has looked up is not called safe."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).resolve().parent.parent / "benchmarks" / "audit.py"
SAFE = {"name": "numpy", "version": "2.4.6", "vulns": []}
HOLE = {"name": "pillow", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["13.0.0"]}]}
UNKNOWN = [{"name": f"p{number}", "skip_reason": "not found"} for number in range(7)]
OURSELVES = {"name": "haemo", "skip_reason": "editable"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([SAFE, OURSELVES], 0, "1 packages looked up, 0 known holes\n"),
        ([SAFE, HOLE], 1, "pillow 1.0: CVE-1, mended in 13.0.0\n2 packages looked up, 1 known holes\n"),
        (
            [SAFE, *UNKNOWN],
            2,
            "1 packages looked up, 0 known holes\nNOT AUDITED: the service knows nothing of p0, ",
        ),
        ([HOLE, *UNKNOWN], 1, "and 2 more"),
        (None, 2, "NOT AUDITED: pip-audit could not ask pypi"),
    ],
)
def test_the_exit_code_says_what_is_known(tmp_path, packages, code, said):
    report = tmp_path / "report.json"
    report.write_text("" if packages is None else json.dumps({"dependencies": packages}))
    done = subprocess.run(
        [sys.executable, AUDIT, "--report", report], capture_output=True, text=True, check=False
    )
    assert (done.returncode, said in done.stdout) == (code, True), done.stdout + done.stderr
