"""The benchmark for a CUDA device does on the CPU all that it would do there."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "benchmarks" / "bench_gpu.py"
PARTS = ("this_machine", "ready", "from_files", "agreement", "fine_tuning", "searches")
ROWS = (
    "ready uint8, float32",
    "PNG, float32",
    "DICOM, ",
    "PNG, 7 rot",
    "fine-tuning",
    "RBF SVM",
    "linear SVM",
)


def bench(*arguments, **environment):
    return subprocess.run(
        [sys.executable, BENCH, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_part_runs_on_the_cpu_and_agrees():
    done = bench("--device", "cpu", "--quick", "--only", *PARTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert "not run" not in done.stdout
    assert all(f"({part}: " in done.stdout for part in PARTS)
    for row in ROWS:
        line = next(line for line in done.stdout.splitlines() if line.startswith(row))
        assert len(re.findall(r" [\d,]+\.\d", line)) == 3, line
    assert "float32: least cosine 1.000000" in done.stdout


def test_without_such_a_device_it_says_what_to_type():
    done = bench(CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--device cpu --quick" in done.stderr
