"""The memory of a CUDA device: how many planes fit into it at once, and what is said where they do not."""

from collections.abc import Callable
from typing import TypeVar

import torch

__all__ = ["fitting_batch", "ran_out", "room_in_words", "unless_full"]

Result = TypeVar("Result")

# What a pass takes is told by one of so few planes that it fits into anything.
_TRIED = 8
# Of the free memory. The rest is for other programs, and for pieces that are too small to be of use.
_SHARE = 0.8
# cuDNN, cuBLAS and the driver have no error of their own for it in PyTorch.
_FULL = ("CUDA error: out of memory", "_STATUS_ALLOC_FAILED")


def ran_out(error: RuntimeError) -> bool:
    """Whether an error says that the memory of a device is full."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _FULL)


def unless_full(work: Callable[[], Result]) -> Result | None:
    """Give what `work` gives; None where the memory of the device did not hold it, all of it given back."""
    try:
        return work()
    except RuntimeError as error:
        if not ran_out(error):
            raise
    # Not before: the error holds on to all that its frames held.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def fitting_batch(most: int, work: Callable[[int], object]) -> int:
    """Choose how many planes a pass takes: `most`, halved until they fit into the free memory.

    Parameters
    ----------
    most : int
    work : callable
        Runs a pass of so many planes, to see what it takes.
    """
    few = min(_TRIED, most)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    if unless_full(lambda: (work(few),)) is None:
        return max(1, few // 2)
    bytes_a_plane = (torch.cuda.max_memory_allocated() - before) / few
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    while most > 1 and most * bytes_a_plane > _SHARE * free:
        most //= 2
    return most


def room_in_words() -> str:
    """How much memory the device has, in parentheses with a space before them; empty without a device."""
    if not torch.cuda.is_available():
        return ""
    free, total = torch.cuda.mem_get_info()
    return f" ({free / 1e9:.1f} of {total / 1e9:.1f} GB are free)"
