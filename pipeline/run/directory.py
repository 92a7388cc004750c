"""The run directory: one folder with fixed names that holds everything a run made, and where it came from."""

import fcntl
import json
import logging
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from haemo.atomic import json_of, write_text
from haemo.errors import BadDataset, BadSettings, MissingStep
from haemo.features.failures import Failure, replace_failures
from haemo.features.manifest import Manifest
from haemo.features.reading.address import file_of
from haemo.features.reading.unit import Unit
from haemo.features.store.contents import is_gone
from haemo.features.store.store import SETS, features_command
from haemo.pipeline.run.codes import Codes
from haemo.pipeline.run.predictions import Predictions
from haemo.pipeline.run.shown import restored, shown

__all__ = [
    "DEFAULT_SET",
    "HEADS",
    "NETWORKS",
    "PLAIN_NAME",
    "SEGMENTER",
    "RunDirectory",
    "read_json",
    "software_versions",
    "train_command",
]

HEADS = ("svm", "softmax", "mlp")
NETWORKS = ("cnn", "finetune", "lenet", "tinyvgg")
SEGMENTER = "segment"
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""What a person may call a head or a set of features: a folder bears that name."""
DEFAULT_SET = "default"
"""The set of features that has no name of its own: RUN/features.h5."""

log = logging.getLogger("haemo")

_PACKAGES = ("haemo", "torch", "torchvision", "scikit-learn", "numpy", "h5py", "scikit-image", "pydicom")


class RunDirectory:
    """Paths and provenance of one run.

    Parameters
    ----------
    path : Path
        The run directory. It is made by the first step that writes to it.
    trusted : sequence of str
        Estimators of others, as ``package.module.Class``, that heads of this run may be made of: what the
        person who opens it admits, beside those of scikit-learn.
    features : str
        The set of features that is meant where one is made, checked or read back.
    """

    def __init__(self, path: Path, trusted: Sequence[str] = (), features: str = DEFAULT_SET):
        self.path = Path(path)
        self.trusted = tuple(trusted)
        self.features = features

    def __str__(self) -> str:
        """The path as a shell takes it, for messages with commands in them; `path` is the path itself."""
        return shlex.quote(str(self.path))

    @property
    def manifest_path(self) -> Path:
        """manifest.csv, written by ``haemo index``."""
        return self.path / "manifest.csv"

    @property
    def attributes_path(self) -> Path:
        """attributes.csv, written by ``haemo index --keep``, for figures by subgroup alone."""
        return self.path / "attributes.csv"

    @property
    def failures_path(self) -> Path:
        """failures.csv: inputs that could not be used."""
        return self.path / "failures.csv"

    @property
    def store_path(self) -> Path:
        """features.h5 of the set that is meant, written by ``haemo features``."""
        folder = self.path if self.features == DEFAULT_SET else self.path / SETS / self.features
        return folder / "features.h5"

    @property
    def features_step(self) -> str:
        """What making this set of features is called in run.json, in claims and in failures.csv."""
        return "features" if self.features == DEFAULT_SET else f"features-{self.features}"

    @property
    def features_command(self) -> str:
        """What to type to make this set of features, or to complete it."""
        return features_command(self.store_path)

    def on(self, features: str) -> "RunDirectory":
        """The same run, with another set of features meant."""
        return RunDirectory(self.path, self.trusted, features)

    def refuse_set_name(self) -> None:
        """Refuse a name of a set of features that is no plain folder.

        Raises
        ------
        BadSettings
        """
        if not PLAIN_NAME.fullmatch(self.features):
            raise BadSettings(
                f"a set of features cannot be called {self.features!r}: give --name letters, digits, - and _"
            )

    def sets(self) -> list[str]:
        """Names of the sets of features that there are, the default one first."""
        named = sorted(path.parent.name for path in (self.path / SETS).glob("*/features.h5"))
        return [name for name in (DEFAULT_SET, *named) if self.on(name).store_path.exists()]

    @property
    def split_path(self) -> Path:
        """split.json, written by the first step that trains."""
        return self.path / "split.json"

    @property
    def record_path(self) -> Path:
        """run.json: versions, seeds, device, timings, commands, fingerprints; no paths of this machine."""
        return self.path / "run.json"

    @property
    def paths_path(self) -> Path:
        """paths.json: the paths that run.json leaves out."""
        return self.path / "paths.json"

    def model_path(self, name: str) -> Path:
        """Folder of one trained head or network, by its name."""
        return self.path / name

    def trained(self) -> list[str]:
        """Names of the heads and networks that have predictions, in alphabetical order."""
        return sorted(path.parent.name for path in self.path.glob("*/predictions.csv"))

    def models(self) -> list[str]:
        """Names as of `trained`, those that are built in first, in the order in which they are listed."""
        found = self.trained()
        known = (*HEADS, *NETWORKS)
        return [name for name in known if name in found] + [name for name in found if name not in known]

    def heads(self) -> list[str]:
        """Names of the classical heads that were trained here, those that are built in first."""
        others = [name for name in self.models() if name not in (*HEADS, *NETWORKS, SEGMENTER)]
        return [name for name in (*HEADS, *others) if (self.model_path(name) / "settings.json").exists()]

    def refuse_untrusted(self, estimator: str) -> None:
        """Refuse to import what a file names, unless scikit-learn has it or the person admitted it.

        Raises
        ------
        BadDataset
        """
        if not estimator.startswith("sklearn.") and estimator not in self.trusted:
            raise BadDataset(
                f"{self} has a head made of {estimator}; if you trained it yourself: --trust {estimator}"
            )

    def settings(self, name: str) -> dict[str, Any]:
        """What a trained model was made with, by its settings.json; empty where another program made it.

        Raises
        ------
        BadDataset
            If the file is not JSON.
        """
        path = self.model_path(name) / "settings.json"
        return read_json(path) if path.exists() else {}

    def chose_on_part_cv(self, name: str) -> bool:
        """Whether the slices of part ``cv`` chose a network's epoch, or a segmenter's thresholds."""
        return name == SEGMENTER or "network" in self.settings(name)

    def predictions(self, name: str) -> Predictions:
        """What a model of the run says, and at which thresholds; errors as `Predictions.read`."""
        found = Predictions.read(self.model_path(name) / "predictions.csv")
        settings = self.settings(name)
        if found.positive is None or "threshold" not in settings:
            return found
        each = [*settings.get("fold_thresholds", ()), settings["threshold"]]
        of_fold = found.fold if len(each) > 1 else np.full(len(found), -1)
        thresholds = np.array(each, dtype=np.float64)[of_fold]  # -1, of the test slices, is the model's own
        return replace(found, thresholds=thresholds)

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises
        ------
        MissingStep
            If the run has not been indexed.
        """
        self.require_manifest()
        return Manifest.read(self.manifest_path)

    def require_manifest(self) -> None:
        """Say that the run has not been indexed, before anything is written to it; errors as `manifest`."""
        if not self.manifest_path.exists():
            raise MissingStep(f"{self} has no manifest.csv; make it first: haemo index DATA --run {self}")

    def create(self) -> None:
        """Make the folder, and its parents, where they are not there yet."""
        self.path.mkdir(parents=True, exist_ok=True)

    def replace_failures(self, stage: str, failures: list[Failure]) -> None:
        """Write what `stage` could not use to failures.csv, in place of what it reported before."""
        if failures or self.failures_path.exists():
            with self._alone():
                replace_failures(
                    self.failures_path, stage, [replace(failure, stage=stage) for failure in failures]
                )

    def remedy(self, failures: Sequence[Failure]) -> str:
        """How many of the files that failed are gone, and what to do then; empty where all are there."""
        gone = sum(is_gone(file_of(failure.path)) for failure in failures)
        if not gone:
            return ""
        are = "1 of the files is" if gone == 1 else f"{gone:,} of the files are"
        return f"{are} not there any more; if the data has moved: haemo index NEWPLACE --run {self}"

    def record(self, step: str, **facts: Any) -> None:
        """Store what `step` did in run.json, in place of what it stored before.

        Parameters
        ----------
        step : str
            Name of the step, e.g. ``features``.
        **facts
            Whatever JSON can hold: settings, seed, device, seconds, counts, fingerprint.
        """
        with self._alone():
            record = self.read_record()
            record["haemo"] = software_versions()
            record.setdefault("steps", {})[step] = {
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": sys.argv,
                **facts,
            }
            self._write_record(record)

    def _write_record(self, record: dict[str, Any]) -> None:
        record, left_out = shown(record)
        # First: what stands there of a record that was never written fits nowhere, and is passed over.
        if left_out or self.paths_path.exists():
            write_text(self.paths_path, json.dumps(left_out, indent=2, sort_keys=True) + "\n")
        write_text(self.record_path, json.dumps(record, indent=2, sort_keys=True) + "\n")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for our turn: two models of one run may be done at the same moment."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            with suppress(OSError):  # a disk that knows no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def record_lost(self, step: str, **facts: Any) -> None:
        """Record a step that is done, where a kill came between its last file and its record."""
        if self.read_record().get("steps", {}).get(step, {}).get("key") != facts["key"]:
            self.record(step, **facts)

    def count_judgement(self, model: str, split: str, key: str) -> int:
        """Count that a model is judged on the test slices of the split with this hash once more.

        Each split has its own count in run.json, which drawing another one in between does not reset. What
        was counted last is not counted again: a training that was killed there, or whose files were lost, is
        the same judgement when it is done again.

        Parameters
        ----------
        model, split : str
        key : str
            Of the facts that the model is made of.

        Returns
        -------
        int
            How often it has been judged there, now included.
        """
        with self._alone():
            record = self.read_record()
            counts = record.setdefault("test_judgements", {}).setdefault(model, {})
            # Runs of before kept the count of the last split only, with the step.
            before = record.get("steps", {}).get(model, {})
            known = before.get("test_judgements", 0) if before.get("split") == split else 0
            judged = {"split": split, "key": key}
            is_same = record.setdefault("last_judged", {}).get(model) == judged
            record["last_judged"][model] = judged
            times = counts[split] = max(counts.get(split, known) + (not is_same), 1)
            self._write_record(record)
        if times > 1:
            log.info(
                "%s: these test slices now judge setting number %d; choose settings by the cross-validation "
                "figure, or the test figure will flatter",
                model,
                times,
            )
        return times

    def read_record(self) -> dict[str, Any]:
        """Read run.json, with the paths that it leaves out; an empty dictionary where there is none yet.

        Raises
        ------
        BadDataset
            If a file is not JSON.
        """
        if not self.record_path.exists():
            return {}
        record = read_json(self.record_path)
        return restored(record, read_json(self.paths_path)) if self.paths_path.exists() else record

    def shown_record(self) -> dict[str, Any]:
        """run.json without the paths of this machine, also where an earlier version wrote them there."""
        return shown(read_json(self.record_path))[0] if self.record_path.exists() else {}

    def codes(self) -> Codes:
        """What slices and patients are called in what the run shares; errors as `manifest`."""
        return Codes(self.manifest())

    def told_unit(self) -> Unit | None:
        """What the user said, at `index`, that the numbers are in files that do not say it."""
        return self.read_record().get("steps", {}).get("index", {}).get("unit")


def train_command(folder: Path) -> str:
    """What to type to train the model of a folder, again or for the first time: RUN/svm by ``haemo svm``."""
    return f"haemo {_training_of(folder)} --run {shlex.quote(str(folder.parent))}"


def _training_of(folder: Path) -> str:
    name, path = folder.name, folder / "settings.json"
    if name in (*HEADS, *NETWORKS):
        return name
    if name == SEGMENTER:
        return "segment train"
    facts = read_json(path) if path.exists() else {}
    if facts.get("blend"):
        return f"blend --heads {','.join(facts['blend'])} --name {name}"
    sets = f" --features {','.join(facts['features'])}" if facts.get("features") else ""
    if facts.get("estimator"):
        return f"train --estimator {facts['estimator']} --name {name}{sets}"
    if facts.get("head") in HEADS:
        return f"{facts['head']} --name {name}{sets}"
    return f"train --head {name}{sets}"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that a step wrote.

    Raises
    ------
    BadDataset
        If the file is not JSON, or holds something else.
    """
    try:
        values = json_of(path)
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        raise BadDataset(f"{path} is not JSON ({error}); delete it and run that step again") from error
    return values


@cache
def software_versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that results depend on, without importing them.

    They are looked up once, and the same dict is given to all.
    """
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
