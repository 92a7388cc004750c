"""A data folder to a manifest from Python."""

from pathlib import Path

from haemo.features.layouts import Index
from haemo.pipeline.preparing.indexing import index_folder, index_run
from haemo.pipeline.run.directory import RunDirectory
from haemo.progress import Progress, silent

__all__ = ["index"]


def index(
    data: str | Path,
    run: str | Path | None = None,
    *,
    layout: str = "auto",
    positive: str | None = None,
    labels: str | Path | None = None,
    label: str | None = None,
    patient_column: str | None = None,
    progress: Progress = silent,
) -> Index:
    """Find the slices, labels and patients in a data folder; headers are read, pixels are not.

    Parameters
    ----------
    data : str or Path
    run : str or Path, optional
        Run directory to write manifest.csv and failures.csv to; without one nothing is written.
    layout : str
        Name of a layout (docs/data.md), or ``auto`` to recognise it.
    positive : str, optional
        The positive class of two, where its name does not say so.
    labels : str or Path, optional
        The table of labels, where it is not in the folder.
    label, patient_column : str, optional
        Headings of the columns with label and patient.
    progress : Progress

    Returns
    -------
    Index
        ``manifest`` holds the slices (iterate over its rows: ``slice_id``, ``path``, ``label``, ``patient``,
        ``study``, ``position``, ``part``), ``failures`` the files that cannot be used, each with its reason,
        ``classes`` the class names, of two the positive one last.

    Raises
    ------
    BadDataset
        If the folder holds no slices, or no labels that could be found.
    BadSettings
        If an option does not fit the data.
    """
    options = {
        "layout": layout,
        "positive": positive,
        "labels": None if labels is None else Path(labels),
        "label": label,
        "patient_column": patient_column,
        "progress": progress,
    }
    if run is None:
        return index_folder(Path(data), **options)
    return index_run(Path(data), RunDirectory(Path(run)), **options)
