"""Inputs that could not be used: each with its path, the stage that gave up and the reason."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from haemo.tables import Records, write_csv

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
    records = Records(path).require(COLUMNS, "delete it, and run the step again that wrote it")
    return [Failure(**{name: entry[name] for name in COLUMNS}) for entry in records]


def replace_failures(path: Path, stage: str, failures: Iterable[Failure]) -> None:
    """Write the failures of one stage to failures.csv in place of those it had before.

    What other stages reported stays. The file is written atomically.
    """
    kept = [failure for failure in read_failures(path) if failure.stage != stage]
    write_csv(path, [COLUMNS, *(astuple(failure) for failure in [*kept, *failures])])
