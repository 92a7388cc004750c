"""What training a head may take of the machine."""

from dataclasses import dataclass

from haemo.models.search.cells import available_memory

__all__ = ["Resources"]


@dataclass(frozen=True)
class Resources:
    """What of the machine a head may take.

    Attributes
    ----------
    jobs : int, optional
        Fits at a time, in threads; None is one a core.
    memory : int, optional
        Budget in bytes for features and kernel matrices; None is half of the free memory.
    device : str
        ``cpu``, or a torch device such as ``cuda`` for the products and the block solver.
    """

    jobs: int | None = None
    memory: int | None = None
    device: str = "cpu"

    @property
    def budget(self) -> int:
        """The memory in bytes."""
        return available_memory() if self.memory is None else self.memory
