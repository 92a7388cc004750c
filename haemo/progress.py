"""How long work reports that it moves on, without the library printing anything."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

__all__ = ["Progress", "silent"]

Item = TypeVar("Item")


class Progress(Protocol):
    """Wraps an iterable and shows how far its reader has come.

    The command line passes one that draws a bar (plain lines when standard error is not a terminal);
    library functions take it as ``progress=silent``.
    """

    def __call__(self, items: Iterable[Item], *, total: int | None = None, label: str = "") -> Iterator[Item]:
        """Yield every item of `items`; `total` is their number where it is known."""
        ...


def silent(items: Iterable[Item], *, total: int | None = None, label: str = "") -> Iterator[Item]:
    """Yield every item and show nothing."""
    del total, label
    yield from items
