"""Pieces of one computation that do not depend on each other: done here, or by workers elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from haemo.processors import usable_processors

__all__ = ["Workers", "done", "done_by", "has_workers", "threads_of_a_piece", "with_threads"]


class Workers(Protocol):
    """Does pieces elsewhere."""

    def __call__(
        self,
        function: Callable[..., Any],
        shared: Any,
        pieces: Sequence[tuple[Any, ...]],
        threads: int | None,
    ) -> Iterator[Any]:
        """Give ``function(shared, *piece)`` of each piece, in their order; as `done` does."""
        ...


_workers: ContextVar[Workers | None] = ContextVar("haemo_workers", default=None)
_threads: ContextVar[int | None] = ContextVar("haemo_threads", default=None)


@contextmanager
def done_by(workers: Workers) -> Iterator[None]:
    """Have the pieces of everything in the block done by workers."""
    token = _workers.set(workers)
    try:
        yield
    finally:
        _workers.reset(token)


def has_workers() -> bool:
    """Whether pieces are done elsewhere now."""
    return _workers.get() is not None


def done(
    function: Callable[..., Any],
    shared: Any,
    pieces: Sequence[tuple[Any, ...]],
    threads: int | None = None,
) -> Iterator[Any]:
    """Give ``function(shared, *piece)`` of each piece, in their order.

    Parameters
    ----------
    function : callable
        Of a module, so that a worker finds it; its result depends on nothing but its arguments.
    shared : object
        What all pieces need, such as features: a worker is sent it once.
    pieces : sequence of tuple
    threads : int, optional
        That products of a piece may use at most, where workers do it; here the caller says so.
    """
    workers = _workers.get()
    if workers is None:
        return (function(shared, *piece) for piece in pieces)
    return workers(function, shared, pieces, threads)


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    """Grant the piece in the block so many threads."""
    token = _threads.set(count)
    try:
        yield
    finally:
        _threads.reset(token)


def threads_of_a_piece() -> int:
    """How many threads a piece may use: what it was granted, or all that this process may use."""
    return _threads.get() or usable_processors()
