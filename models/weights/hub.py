"""Published files of weights, first of all AlexNet's: where torch.hub keeps them, and how they get there."""

import hashlib
import logging
import os
import queue
import threading
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
        If it cannot be reached within seconds, breaks off, or is not the file it should be.
    """
    response = _connect(url, _SECONDS_TO_ANSWER)
    logger.info("fetching %s to %s", url, path)
    digest = hashlib.sha256()
    try:
        with response, replacing(path) as stream:
            total = -(-int(response.headers.get("Content-Length") or 0) // _CHUNK)
            for chunk in progress(_chunks(response), total=total or None, label="weights, MB"):
                digest.update(chunk)
                stream.write(chunk)
            if not digest.hexdigest().startswith(_digits(url)):
                raise WeightsUnavailable(f"{url} came with a wrong sha256, {digest.hexdigest()}")
    except (OSError, HTTPException) as error:
        raise WeightsUnavailable(f"{url} cannot be fetched: {error}") from error


def _digits(url: str) -> str:
    """First digits of a file's sha256: as in all of torch.hub, its name ends in them."""
    return url.rpartition("-")[2].partition(".")[0]


def _chunks(response: Any) -> Iterator[bytes]:
    while chunk := response.read(_CHUNK):
        yield chunk


def _connect(url: str, seconds: float) -> Any:
    """Open `url`, or give up after `seconds` altogether.

    The time-out of urlopen holds for each address and not at all for the name look-up, which behind a
    firewall that drops packets adds up to minutes; so the attempt runs in a thread that can be left alone.
    """
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            answer.put(urllib.request.urlopen(url, timeout=seconds))
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
