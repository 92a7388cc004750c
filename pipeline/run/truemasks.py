"""True masks that `index` drew from DICOM outlines: pictures in a folder of the run, and whose they are."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from haemo.pipeline.run.directory import RunDirectory
from haemo.tables import Records, write_csv

__all__ = ["read_true_masks", "write_true_masks"]

_FOLDER, _TABLE = "masks", "masks.csv"


def write_true_masks(run: RunDirectory, pictures: Mapping[str, bytes]) -> None:
    """Write masks/ and masks.csv, a row a slice; without any, those of an earlier index go.

    Parameters
    ----------
    run : RunDirectory
    pictures : mapping of str to bytes
        PNG files by slice id. Equal ones, as those without blood often are, are one file.
    """
    folder, table = run.path / _FOLDER, run.path / _TABLE
    building = run.path / f".{_FOLDER}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    names = {slice_id: f"{hashlib.sha256(data).hexdigest()[:20]}.png" for slice_id, data in pictures.items()}
    try:
        building.mkdir()
        for slice_id, data in pictures.items():
            (building / names[slice_id]).write_bytes(data)
        # The table goes first and comes last: what it names is there.
        if table.exists():
            table.unlink()
            shutil.rmtree(folder, ignore_errors=True)
        if pictures:
            building.replace(folder)
            write_csv(table, [("slice_id", "mask"), *names.items()])
    finally:
        shutil.rmtree(building, ignore_errors=True)


def read_true_masks(run: RunDirectory) -> dict[str, Path]:
    """Read where the masks of slices are, by slice id; empty where the run has none.

    Raises
    ------
    BadDataset
        If masks.csv is malformed; the message names the line.
    """
    table = run.path / _TABLE
    if not table.exists():
        return {}
    records = Records(table).require(("slice_id", "mask"), "rebuild it with 'haemo index'")
    return {one["slice_id"]: run.path / _FOLDER / Path(one["mask"]).name for one in records}
