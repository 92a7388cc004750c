"""Gray planes to embeddings through a frozen network: batches, threads and devices, for any network."""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import nn

from haemo.errors import BadSettings
from haemo.models.networks.engine import Engine
from haemo.models.weights.imagenet import Weights
from haemo.processors import usable_processors

__all__ = ["PlaneExtractor"]


class PlaneExtractor:
    """Gray planes to embeddings, in batches of one fixed size.

    Results of float32 convolutions and products depend on the size of the batch, not on the place in it. So
    short batches are filled up with black planes, and a slice's embedding has the same bits whatever is
    computed beside it.

    Parameters
    ----------
    name : str
        As `describe` has it.
    network : Module
        Takes uint8 planes of shape (batch, size, size) on the engine's device; gives float32 of shape
        (batch, dimension).
    weights : Weights
    layer : str
    engine : Engine
    batch : int
        Slices per pass.
    dimension : int
        Numbers per slice.
    size : int
        Height and width of a plane.
    mean, std : sequence of float
        The normalisation, per channel of RGB values in 0..1.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        weights: Weights,
        layer: str,
        engine: Engine,
        batch: int,
        *,
        dimension: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        self.name = name
        self.weights = weights
        self.layer = layer
        self.engine = engine
        self.batch = batch
        self.dimension = dimension
        self.size = size
        self.mean, self.std = tuple(mean), tuple(std)
        self._network = network

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
        planes : ndarray of shape (n, size, size), uint8

        Returns
        -------
        ndarray of shape (n, dimension), float32
        """
        starts = range(0, len(planes), self.batch)
        parts = list(self.stream(planes[start : start + self.batch] for start in starts))
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), dtype=np.float32)

    def stream(self, batches: Iterable[np.ndarray]) -> Generator[np.ndarray]:
        """Embed batches of at most `batch` planes each, in their order.

        On a CPU each batch is computed by one thread, and as many batches at once as torch has threads and
        this process may use processors: so
        no core waits for another, least of all where slices are decoded beside it, and results do not depend
        on the number of cores. On CUDA the next batch is taken and sent while the one before it is computed.
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
        with torch.inference_mode():
            return self._network(torch.from_numpy(self._filled(planes)))[: len(planes)].numpy()

    def _filled(self, planes: np.ndarray) -> np.ndarray:
        if planes.dtype != np.uint8 or planes.shape[1:] != (self.size, self.size) or len(planes) > self.batch:
            raise BadSettings(
                f"planes are {planes.dtype} of shape {planes.shape}; "
                f"the network takes uint8, at most {self.batch} of {self.size} x {self.size}"
            )
        if len(planes) == self.batch:
            return np.ascontiguousarray(planes)
        filled = np.zeros((self.batch, self.size, self.size), dtype=np.uint8)
        filled[: len(planes)] = planes
        return filled

    def _stream_cuda(self, batches: Iterable[np.ndarray]) -> Generator[np.ndarray]:
        pending = None
        copies = torch.cuda.Stream()
        for planes in batches:
            sent = torch.from_numpy(self._filled(planes)).pin_memory()
            with torch.cuda.stream(copies):
                on_device = sent.to("cuda", non_blocking=True)
            torch.cuda.current_stream().wait_stream(copies)
            on_device.record_stream(torch.cuda.current_stream())
            with (
                torch.inference_mode(),
                torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            ):
                computed = self._network(on_device)
            received = torch.empty(computed.shape, dtype=torch.float32, pin_memory=True)
            received.copy_(computed, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
            if pending is not None:
                yield _wait(*pending)
            pending = (received, len(planes), done, sent)
        if pending is not None:
            yield _wait(*pending)


def _wait(received: torch.Tensor, count: int, done: torch.cuda.Event, sent: torch.Tensor) -> np.ndarray:
    """Wait for one batch; `sent` is held until then, since the device may still be reading it."""
    done.synchronize()
    del sent
    return received[:count].numpy()
