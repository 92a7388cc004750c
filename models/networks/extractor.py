"""Planes to embeddings through a frozen network: batches, threads and devices, for any network."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from haemo.errors import BadSettings, MemoryBudgetExceeded
from haemo.models.networks.device_memory import fitting_batch, room_in_words, unless_full
from haemo.models.networks.engine import Engine
from haemo.models.weights.imagenet import Weights
from haemo.processors import usable_processors

__all__ = ["PlaneExtractor"]

_LOG = logging.getLogger("haemo")

_CHANNELS = 3

Pass = TypeVar("Pass")


class PlaneExtractor:
    """Planes to embeddings, in batches of one fixed size.

    Results of float32 convolutions and products depend on the size of the batch, not on the place in it. So
    short batches are filled up with black planes, and a slice's embedding has the same bits whatever is
    computed beside it. Where the memory of a CUDA device does not hold a batch, it is halved, once and for
    all, and the slices that were in hand go through again.

    Parameters
    ----------
    name : str
        As `describe` has it.
    network : Module
        Takes uint8 planes of shape (batch, size, size) or (batch, 3, size, size) on the engine's device;
        gives float32 of shape (batch, dimension).
    weights : Weights
    layer : str
    engine : Engine
    batch : int or None
        Slices per pass; None takes `usual`, or as many of them as fit into the free memory of a CUDA device.
    usual : int
    dimension : int
        Numbers per slice.
    size : int
        Height and width of a plane.
    mean, std : sequence of float
        The normalisation, per channel of RGB values in 0..1.

    Attributes
    ----------
    batch : int
        Slices per pass; less than at first where memory ran out.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        weights: Weights,
        layer: str,
        engine: Engine,
        batch: int | None,
        *,
        usual: int,
        dimension: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        self.name = name
        self.weights = weights
        self.layer = layer
        self.engine = engine
        self.dimension = dimension
        self.size = size
        self.mean, self.std = tuple(mean), tuple(std)
        self._network = network
        self._halving = threading.Lock()
        self.batch = self._told = self._most = batch or self._usual(usual)

    def describe(self) -> dict[str, Any]:
        """Give the facts that an embedding depends on, for the fingerprint.

        Device, layout and batch size are not among them: they change results by rounding alone.
        """
        return {
            "network": self.name,
            "layer": self.layer,
            "weights": self.weights.sha256,
            "precision": self.engine.precision,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def __call__(self, planes: np.ndarray) -> np.ndarray:
        """Embed planes.

        Parameters
        ----------
        planes : ndarray of shape (n, size, size), or (n, 3, size, size) of three windows, uint8

        Returns
        -------
        ndarray of shape (n, dimension), float32
        """
        size = self.batch
        starts = range(0, len(planes), size)
        parts = list(self.stream(planes[start : start + size] for start in starts))
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), dtype=np.float32)

    def stream(self, batches: Iterable[np.ndarray]) -> Generator[np.ndarray]:
        """Embed batches of at most `batch` planes each, as it was at first, in their order.

        On a CPU each batch is computed by one thread, and as many batches at once as torch has threads and
        this process may use processors: so no core waits for another, least of all where slices are decoded
        beside it, and results do not depend on the number of cores. On CUDA the next batch is taken and sent
        while the one before it is computed.
        """
        return self._stream_cuda(batches) if self.engine.device == "cuda" else self._stream_cpu(batches)

    def _stream_cpu(self, batches: Iterable[np.ndarray]) -> Generator[np.ndarray]:
        threads = torch.get_num_threads()
        workers = min(threads, usable_processors())
        pool = ThreadPoolExecutor(workers, "haemo-network", initializer=torch.set_num_threads, initargs=(1,))
        waiting: deque[Future[np.ndarray]] = deque()
        try:
            for planes in batches:
                waiting.append(pool.submit(self._embed, planes))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)  # what a thread sets is also what threads made later begin with

    def _embed(self, planes: np.ndarray) -> np.ndarray:
        return _joined(self._passes(planes, self._embed_here))

    def _embed_here(self, filled: np.ndarray, count: int) -> np.ndarray:
        with torch.inference_mode():
            return self._network(torch.from_numpy(filled))[:count].numpy()

    def _usual(self, usual: int) -> int:
        """The batch where none was asked for."""
        if self.engine.device != "cuda":
            return usual
        square = (self.size, self.size)
        batch = fitting_batch(
            usual, lambda count: self._compute(torch.zeros(count, *square, dtype=torch.uint8))
        )
        if batch < usual:
            _LOG.info("batch: %d slices, of %d: the GPU has no more memory%s", batch, usual, room_in_words())
        return batch

    def _passes(self, planes: np.ndarray, run: Callable[[np.ndarray, int], Pass]) -> list[Pass]:
        """What passes through the network give for one batch: one, or several where memory ran out.

        Parameters
        ----------
        planes : ndarray
        run : callable
            Takes planes, filled up, and how many of them count.
        """
        square = (self.size, self.size)
        fits = planes.shape[1:] in (square, (_CHANNELS, *square))
        if planes.dtype != np.uint8 or not fits or len(planes) > self._most:
            raise BadSettings(
                f"planes are {planes.dtype} of shape {planes.shape}; the network takes uint8, at most "
                f"{self._most} of {self.size} x {self.size}, or of {_CHANNELS} channels of that"
            )
        passes: list[Pass] = []
        start = 0
        while start < len(planes) or not passes:
            size = self.batch
            some = planes[start : start + size]
            passed = unless_full(partial(run, self._filled(some, size), len(some)))
            if passed is None:
                self._halve(size)
                continue
            passes.append(passed)
            start += size
        self._tell()
        return passes

    def _filled(self, planes: np.ndarray, size: int) -> np.ndarray:
        if len(planes) == size:
            return np.ascontiguousarray(planes)
        filled = np.zeros((size, *planes.shape[1:]), dtype=np.uint8)
        filled[: len(planes)] = planes
        return filled

    def _halve(self, size: int) -> None:
        """Take smaller batches from now on; several threads may find at once that `size` is too many."""
        if size == 1:
            raise MemoryBudgetExceeded(
                f"the memory of the GPU does not hold a single slice{room_in_words()}; end other programs "
                "there, or use --device cpu"
            )
        with self._halving:
            self.batch = min(self.batch, size // 2)

    def _tell(self) -> None:
        with self._halving:
            before, self._told = self._told, self.batch
        if self._told < before:
            _LOG.warning(
                "the memory of the GPU does not hold %d slices at once: going on with %d, nothing is lost "
                "(--batch-size %d takes them from the start)",
                before,
                self._told,
                self._told,
            )

    def _stream_cuda(self, batches: Iterable[np.ndarray]) -> Generator[np.ndarray]:
        pending = None
        copies = torch.cuda.Stream()
        for planes in batches:
            sent = self._passes(planes, partial(self._send, copies))
            if pending is not None:
                yield _joined([_wait(*one) for one in pending])
            pending = sent
        if pending is not None:
            yield _joined([_wait(*one) for one in pending])

    def _send(
        self, copies: torch.cuda.Stream, filled: np.ndarray, count: int
    ) -> tuple[torch.Tensor, int, torch.cuda.Event, torch.Tensor]:
        """Have the device embed planes: the arguments of `_wait`."""
        sent = torch.from_numpy(filled).pin_memory()
        with torch.cuda.stream(copies):
            on_device = sent.to("cuda", non_blocking=True)
        torch.cuda.current_stream().wait_stream(copies)
        on_device.record_stream(torch.cuda.current_stream())
        computed = self._compute(on_device)
        received = torch.empty(computed.shape, dtype=torch.float32, pin_memory=True)
        received.copy_(computed, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return received, count, done, sent

    def _compute(self, planes: torch.Tensor) -> torch.Tensor:
        """Embed planes on a CUDA device."""
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            return self._network(planes.to("cuda"))


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _wait(received: torch.Tensor, count: int, done: torch.cuda.Event, sent: torch.Tensor) -> np.ndarray:
    """Wait for one pass; `sent` is held until then, since the device may still be reading it."""
    done.synchronize()
    del sent
    return received[:count].numpy()
