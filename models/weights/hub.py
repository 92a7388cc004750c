"""Published files of weights, first of all AlexNet's: where torch.hub keeps them, and how they get there."""

import hashlib
import logging
import os
import queue
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from haemo.cache import replacing
from haemo.errors import WeightsUnavailable
from haemo.progress import Progress, silent

__all__ = ["URL", "check", "fetch", "kept_path"]

logger = logging.getLogger("haemo")

# AlexNet_Weights.IMAGENET1K_V1, named here so that finding it does not import torchvision.
URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
_SECONDS_TO_ANSWER = 8.0
_CHUNK = 1 << 20
# The largest network of torchvision takes 2.6 GB, AlexNet 0.24 GB. What is larger, or slower than 0.1 MB a
# second (40 minutes for AlexNet), is given up.
_MOST_BYTES = 4 << 30
_LEAST_BYTES_A_SECOND = 100_000
_SECONDS_OF_GRACE = 60.0


def kept_path(url: str = URL) -> Path:
    """Where torch.hub, and so torchvision, keeps a file: torch.hub.get_dir without importing torch."""
    home = os.environ.get("TORCH_HOME")
    if not home:
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints" / url.rpartition("/")[2]


def check(path: Path, url: str = URL) -> None:
    """Raise WeightsUnavailable if the file is not the one that was published at `url`."""
    with path.open("rb") as stream:
        if not hashlib.file_digest(stream, "sha256").hexdigest().startswith(_digits(url)):
            raise WeightsUnavailable(f"{path} is damaged: its sha256 does not begin with {_digits(url)}")


def fetch(path: Path, progress: Progress = silent, url: str = URL) -> None:
    """Fetch the file at `url` to `path`, whole or not at all.

    Raises
    ------
    WeightsUnavailable
        If it cannot be reached within seconds, breaks off, comes too slowly, is larger than any file of
        weights, or is not the file it should be.
    """
    response = _connect(url, _SECONDS_TO_ANSWER)
    logger.info("fetching %s to %s", url, path)
    digest = hashlib.sha256()
    try:
        with response, replacing(path) as stream:
            size = int(response.headers.get("Content-Length") or 0)
            if size > _MOST_BYTES:
                raise WeightsUnavailable(f"{url} has {size / 1e9:.1f} GB, more than any file of weights")
            total = -(-size // _CHUNK) or None
            for chunk in progress(_chunks(response, url), total=total, label="weights, MB"):
                digest.update(chunk)
                stream.write(chunk)
            if not digest.hexdigest().startswith(_digits(url)):
                raise WeightsUnavailable(f"{url} came with a wrong sha256, {digest.hexdigest()}")
    except WeightsUnavailable:
        raise
    except (OSError, HTTPException, ValueError) as error:
        raise WeightsUnavailable(f"{url} cannot be fetched: {error}") from error


def _digits(url: str) -> str:
    """First digits of a file's sha256: as in all of torch.hub, its name ends in them."""
    return url.rpartition("-")[2].partition(".")[0]


def _chunks(response: Any, url: str) -> Iterator[bytes]:
    """What comes, a MB at a time, as long as it comes in time and does not come without end."""
    start, size, chunk = time.monotonic(), 0, bytearray()
    # read1 gives what there is: each waits for seconds at most, as the connection does, a whole MB for ever.
    while some := response.read1(_CHUNK):
        chunk += some
        size += len(some)
        if size > _MOST_BYTES:
            raise WeightsUnavailable(f"{url} sends more than {_MOST_BYTES / 1e9:.1f} GB; that is given up")
        if time.monotonic() - start > _SECONDS_OF_GRACE + size / _LEAST_BYTES_A_SECOND:
            raise WeightsUnavailable(
                f"{url} sends less than {_LEAST_BYTES_A_SECOND / 1e3:.0f} kB a second; that is given up. "
                "Fetch it on another machine, copy it here and give --weights FILE"
            )
        if len(chunk) >= _CHUNK:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


def _connect(url: str, seconds: float) -> Any:
    """Open `url`, or give up after `seconds` altogether.

    The time-out of urlopen holds for each address and not at all for the name look-up, which behind a
    firewall that drops packets adds up to minutes; so the attempt runs in a thread that can be left alone.
    """
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            # The URL is https and one of ours; urllib follows no redirection to a file.
            answer.put(urllib.request.urlopen(url, timeout=seconds))  # noqa: S310
        except (OSError, HTTPException) as error:
            answer.put(error)

    threading.Thread(target=attempt, name="haemo-download", daemon=True).start()
    try:
        response = answer.get(timeout=seconds)
    except queue.Empty:
        response = TimeoutError()
    # Whichever clock runs out first: urlopen wraps the time-out of connecting, and not that of reading.
    if isinstance(getattr(response, "reason", response), TimeoutError):
        raise WeightsUnavailable(f"{url} does not answer within {seconds:.0f} s") from None
    if isinstance(response, Exception):
        raise WeightsUnavailable(f"{url} cannot be reached: {response}") from response
    return response
