"""Inputs that could not be used: each with its path, the stage that gave up and the reason."""

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from features.atomic import write_text

__all__ = ["Failure", "read_failures", "replace_failures"]

COLUMNS = ("path", "stage", "reason")


@dataclass(frozen=True, slots=True)
class Failure:
    """One input that a stage could not use, and why."""

    path: str
    stage: str
    reason: str


def read_failures(path: Path) -> list[Failure]:
    """Read failures.csv; a missing file is an empty list."""
    if not Path(path).exists():
        return []
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return [Failure(**{name: entry[name] for name in COLUMNS}) for entry in csv.DictReader(stream)]


def replace_failures(path: Path, stage: str, failures: Iterable[Failure]) -> None:
    """Write the failures of one stage to failures.csv in place of those it had before.

    What other stages reported stays. The file is written atomically.
    """
    kept = [failure for failure in read_failures(path) if failure.stage != stage]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(failure) for failure in [*kept, *failures])
    write_text(path, stream.getvalue())
