"""Embeddings made elsewhere, taken into a run under a fingerprint of their own."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from haemo.errors import BadDataset
from haemo.features.failures import Failure
from haemo.features.store.fingerprint import Fingerprint
from haemo.features.store.shards import remove_parts
from haemo.features.store.store import FeatureStore, create_store
from haemo.features.store.storefile import SCHEMA_VERSION
from haemo.pipeline.run.claim import claim
from haemo.pipeline.run.directory import RunDirectory

__all__ = ["ImportReport", "import_features"]

_LOG = logging.getLogger("haemo")


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import took.

    Attributes
    ----------
    rows : int
        Embeddings taken.
    dimension : int
        Numbers in each.
    missing : int
        Slices of the manifest without one.
    """

    rows: int
    dimension: int
    missing: int


def import_features(run: RunDirectory, path: Path, new: bool = False) -> ImportReport:
    """Make the feature store of a run from a file of embeddings.

    Parameters
    ----------
    run : RunDirectory
    path : Path
        HDF5 (.h5, .hdf5) with the data sets ``embedding`` (n, d) and ``slice_id`` (n), and ``variant`` (n)
        where there are rotations; another run's features.h5 is such a file. Or .npy with the embeddings and,
        beside it under the same name with .txt, the slice ids, one a line. Ids are those of the manifest.
    new : bool
        Whether a store made in another way is replaced.

    Raises
    ------
    MissingStep
        If the run has not been indexed.
    BadDataset
        If the file is not as described, no id stands in the manifest, or a value is not finite.
    FingerprintMismatch
        If the run has other features, and `new` is false.
    RunLocked
        If another process is making features for this run.
    """
    manifest = run.manifest()
    path = Path(path)
    with claim(run.path, run.features_step):
        run.store_path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        fingerprint = Fingerprint({"schema": SCHEMA_VERSION, "imported": path.name, "sha256": digest})
        if run.store_path.exists() and not new:
            with FeatureStore(run.store_path) as store:
                store.fingerprint.require(
                    fingerprint, str(run.store_path), "Use another run directory, or replace it with --new"
                )
        slice_ids, variants, embeddings = _read(path)
        wanted = {row.slice_id for row in manifest}
        rows = [row for row, slice_id in enumerate(slice_ids) if slice_id in wanted]
        if not rows:
            raise BadDataset(
                f"{path}: not one of its slice ids ({slice_ids[0]!r}, ...) stands in {run.manifest_path} "
                f"({manifest.rows[0].slice_id!r}, ...)"
            )
        if len(rows) < len(slice_ids):
            _LOG.warning(
                "%d of %d embeddings are of no slice of the run", len(slice_ids) - len(rows), len(slice_ids)
            )
        taken = [slice_ids[row] for row in rows]
        create_store(
            run.store_path, taken, embeddings[rows], fingerprint, variants=[variants[row] for row in rows]
        )
        remove_parts(run.store_path)
        failures = [
            Failure(str(row.path), "features", f"not in {path.name}")
            for row in manifest
            if row.slice_id not in set(taken)
        ]
        run.replace_failures(run.features_step, failures)
        run.record(
            run.features_step,
            imported=str(path.resolve()),
            embeddings=len(rows),
            fingerprint=fingerprint.facts,
            fingerprint_sha256=fingerprint.hash,
        )
    return ImportReport(len(rows), embeddings.shape[1], len(failures))


def _read(path: Path) -> tuple[list[str], list[int], np.ndarray]:
    """Slice ids, variants and embeddings of a file."""
    try:
        match path.suffix.lower():
            case ".h5" | ".hdf5":
                slice_ids, variants, embeddings = _read_hdf5(path)
            case ".npy":
                embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
                slice_ids = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
                variants = [0] * len(slice_ids)
            case _:
                raise BadDataset(f"{path}: embeddings are imported from .h5, .hdf5 or .npy")
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, BadDataset):
            raise
        raise BadDataset(f"{path} cannot be imported: {error}") from error
    if embeddings.ndim != 2 or not len(slice_ids) == len(variants) == len(embeddings) > 0:
        raise BadDataset(
            f"{path}: {len(slice_ids)} slice ids do not fit embeddings of shape {embeddings.shape}"
        )
    return slice_ids, variants, embeddings


def _read_hdf5(path: Path) -> tuple[list[str], list[int], np.ndarray]:
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        slice_ids = file["slice_id"].asstr(errors="surrogateescape")[:].tolist()
        variants = file["variant"][:].tolist() if "variant" in file else [0] * len(slice_ids)
        return slice_ids, variants, file["embedding"][:]
