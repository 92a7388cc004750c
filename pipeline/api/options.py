"""Options that are passed on by name: a slip is refused with the names there are."""

from collections.abc import Iterable, Mapping
from typing import Any

from haemo.errors import BadSettings

__all__ = ["refuse_unknown"]


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
