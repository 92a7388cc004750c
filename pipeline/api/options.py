"""Options that are passed on by name: each goes where it belongs; a slip is refused with those there are."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from haemo.errors import BadSettings

__all__ = ["made_of", "names_of", "paths_of", "refuse_unknown"]

Settings = TypeVar("Settings")


def names_of(kind: type) -> set[str]:
    """Names of the fields of a dataclass."""
    return {field.name for field in fields(kind)}


def made_of(kind: type[Settings], options: Mapping[str, Any], *but: str, **others: Any) -> Settings:
    """A dataclass with the options that are its fields, but for some, and with others."""
    own = names_of(kind) - set(but)
    return kind(**{name: value for name, value in options.items() if name in own}, **others)


def refuse_unknown(options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Insist that all options are known.

    Raises
    ------
    BadSettings
        Naming those that are not, and those there are.
    """
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise BadSettings(f"there is no option {', '.join(unknown)}; there are {', '.join(sorted(known))}")


def paths_of(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """One path, or several, as a list."""
    return [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]
