"""Inputs that could not be used: each with its path, the stage that gave up and the reason."""

import unicodedata
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from haemo.features.reading.address import file_of
from haemo.tables import Records, write_csv

__all__ = ["Failure", "by_volume", "read_failures", "replace_failures"]

COLUMNS = ("path", "stage", "reason")
_UNSEEN = {
    "Cc",
    "Cf",
    "Zl",
    "Zp",
}  # Unicode's control characters, direction marks and the like, ends of lines


@dataclass(frozen=True, slots=True)
class Failure:
    """One input that a stage could not use, and why.

    A reason may quote what a stranger's file says of itself: in it characters that show nothing, and may
    command a terminal, are written as Python writes them (``\\x1b``). The path stays as it is, to find the
    file by.
    """

    path: str
    stage: str
    reason: str

    def __post_init__(self) -> None:
        if not self.reason.isprintable():
            object.__setattr__(self, "reason", _visible(self.reason))


def by_volume(failures: Iterable[Failure]) -> list[Failure]:
    """Say once, under its name, what several slices of one volume failed for; the rest stays as it is."""
    groups: dict[tuple[str, str, str], list[Failure]] = {}
    for one in failures:
        groups.setdefault((str(file_of(one.path)), one.stage, one.reason), []).append(one)
    return [
        members[0] if len(members) == 1 else Failure(file, stage, f"{reason} ({len(members)} slices)")
        for (file, stage, reason), members in groups.items()
    ]


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


def _visible(text: str) -> str:
    return "".join(
        one.encode("unicode_escape").decode("ascii") if unicodedata.category(one) in _UNSEEN else one
        for one in text
    )
