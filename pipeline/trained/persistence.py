"""Trained heads on disk, in skops files: read back without running anything that a file may hold."""

import io
import json
import re
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from haemo.atomic import replacing
from haemo.errors import BadDataset, MissingStep
from haemo.models.heads.calibration import CalibratedHead
from haemo.pipeline.run.directory import train_command

__all__ = ["TRUSTED", "check_head", "head_of", "load_head", "save_head"]

TRUSTED = (
    "haemo.models.heads.blending.LogitBlend",
    "haemo.models.heads.calibration.CalibratedHead",
    "haemo.models.heads.calibration.PriorShift",
    "haemo.models.heads.calibration.SigmoidCalibrator",
    "haemo.models.heads.log_odds.LogOdds",
    "haemo.models.heads.mlp.EarlyStoppingMLP",
    "haemo.models.heads.scaling.FlooredScaler",
)
"""Types of our own that a head file may hold, beside those of numpy and scikit-learn that skops trusts."""

# What scikit-learn's classifiers are made of: skops trusts the classifiers, and not these.
_PARTS = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
)

# Where those types were imported from before there was a package haemo: heads of that time are still read.
_MOVED = {
    "models.calibration": "haemo.models.heads.calibration",
    "models.mlp": "haemo.models.heads.mlp",
    "models.scaling": "haemo.models.heads.scaling",
}
_SCHEMA = "schema.json"
_MOST_TIMES, _MOST_BYTES = 20, 64 << 20
# The address of an object, by which others of the file refer to it, and the file of its values called so.
_ADDRESS = re.compile(r'("__id__": |"file": ")(\d+)(\.\w+"|)')


def save_head(head: CalibratedHead, path: Path) -> None:
    """Write a fitted head, atomically; equal heads give equal bytes."""
    with replacing(path) as temporary:
        temporary.write_bytes(_without_addresses(_skops_io().dumps(head)))


def _without_addresses(data: bytes) -> bytes:
    """The same file with its objects numbered, where skops calls them by their addresses, without dates."""
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return found[1] + numbers.setdefault(found[2], str(len(numbers) + 1)) + found[3]

    whole = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(whole, "w") as target:
        schema = _ADDRESS.sub(number, source.read(_SCHEMA).decode())
        for name in source.namelist():
            stem, dot, suffix = name.partition(".")
            member = zipfile.ZipInfo(f"{numbers.get(stem, stem)}{dot}{suffix}")
            target.writestr(member, schema.encode() if name == _SCHEMA else source.read(name))
    return whole.getvalue()


def load_head(path: Path, trusted: Sequence[str] = ()) -> CalibratedHead:
    """Read a head that `save_head` wrote.

    Parameters
    ----------
    path : Path
    trusted : sequence of str
        Types that the file may hold too, as ``package.module.Class``: named by the person who asks, never by
        the file.

    Raises
    ------
    MissingStep
        If there is no such file.
    BadDataset
        If the file is damaged, or holds a type that is not trusted; nothing of it is run then.
    """
    path = Path(path)
    if not path.exists():
        raise MissingStep(f"{path} is not there; train that head first: {train_command(path.parent)}")
    try:
        data = _bytes_of(path)
    except (zipfile.BadZipFile, ValueError) as error:
        raise _is_damaged(path, error) from error
    return head_of(data, str(path), f"train it again: {train_command(path.parent)}", trusted)


def head_of(data: bytes, name: str, remedy: str, trusted: Sequence[str] = ()) -> CalibratedHead:
    """Read the bytes of a file that `save_head` wrote.

    Parameters
    ----------
    data : bytes
    name : str
        What errors call them.
    remedy : str
        What to do about damage.
    trusted : sequence of str
        As for `load_head`.

    Raises
    ------
    BadDataset
        As `load_head`.
    """
    skops_io = _skops_io()
    try:
        data = _with_names_of_today(_within_bounds(data))
        admitted = {*TRUSTED, *_PARTS, *trusted}
        foreign = sorted(set(skops_io.get_untrusted_types(data=data)) - admitted)
        if foreign:
            raise BadDataset(
                f"{name} holds types that no head of haemo has: {', '.join(foreign)}. It was not loaded. If "
                "you trained it yourself on such an estimator, admit them: "
                f"{' '.join(f'--trust {one}' for one in foreign)}; else do not use this file"
            )
        head = skops_io.loads(data, trusted=sorted(admitted))
    except (
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        TypeError,
        EOFError,
        AttributeError,
        NotImplementedError,
        RecursionError,
        SyntaxError,
        tokenize.TokenError,
        OSError,
        zlib.error,
    ) as error:
        if isinstance(error, BadDataset):
            raise
        raise BadDataset(f"{name} is damaged ({error}); {remedy}") from error
    if not isinstance(head, CalibratedHead):
        raise BadDataset(f"{name} holds a {type(head).__name__}, not a head; {remedy}")
    return head


def _is_damaged(path: Path, error: Exception) -> BadDataset:
    return BadDataset(f"{path} is damaged ({error}); train it again: {train_command(path.parent)}")


def _bytes_of(path: Path) -> bytes:
    """The file, unless it is far more than its members make up: it may be larger than the memory."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.compress_size for member in archive.infolist())
    if path.stat().st_size > 2 * size + _MOST_BYTES:
        raise ValueError(f"{path.stat().st_size:,} bytes around {size:,} of its members")
    return path.read_bytes()


def _within_bounds(data: bytes) -> bytes:
    """The file, unless it would unpack to far more than it is: skops packs nothing."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > _MOST_TIMES * len(data) + _MOST_BYTES:
        raise ValueError(f"{len(data):,} bytes that would unpack to {size:,}")
    return data


def check_head(path: Path) -> None:
    """Check every byte of a head's file by its checksums, without importing what would load it.

    Raises
    ------
    BadDataset
        If the file is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(_within_bounds(_bytes_of(path)))) as archive:
            damaged = archive.testzip()
    except OSError as error:
        if error.filename is not None:
            raise
        raise _is_damaged(path, error) from error  # of a place outside the file
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise BadDataset(
            f"{path} is damaged ({error}); train it again: {train_command(path.parent)}"
        ) from error
    if damaged:
        raise BadDataset(f"{path} is damaged ({damaged}); train it again: {train_command(path.parent)}")


def _with_names_of_today(data: bytes) -> bytes:
    """A head's file as it is, or with the modules of `_MOVED` under the names that they have now."""

    def moved(node: dict[str, Any]) -> dict[str, Any]:
        module = node.get("__module__")
        return {**node, "__module__": _MOVED[module]} if module in _MOVED else node

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = archive.read(_SCHEMA).decode()
        renamed = json.dumps(json.loads(schema, object_hook=moved))
        if renamed == json.dumps(json.loads(schema)):
            return data
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as copy:
            for name in archive.namelist():
                copy.writestr(name, renamed if name == _SCHEMA else archive.read(name))
    return stream.getvalue()


def _skops_io() -> ModuleType:
    """Import skops.io, but not PyTorch.

    skops lists the estimators of scikit-learn by importing every one of its modules, and one of those imports
    torch where it is installed: seconds, for a stage that has no use for it. With its name blocked that
    module is passed over, as it is where torch is not installed.
    """
    blocked = "torch" not in sys.modules
    if blocked:
        sys.modules["torch"] = None
    try:
        import skops.io
    finally:
        if blocked:
            del sys.modules["torch"]
    return skops.io
