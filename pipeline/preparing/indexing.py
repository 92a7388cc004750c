"""The first step of a run: index a data folder, and keep the manifest and what could not be used."""

import logging
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from haemo.errors import BadSettings
from haemo.features.labels import order_classes
from haemo.features.layouts import Index, index_dataset
from haemo.features.manifest import Manifest
from haemo.features.pixels.masks import mask_png
from haemo.pipeline.preparing.attributes import gather_attributes, parse_keep
from haemo.pipeline.run.directory import RunDirectory
from haemo.pipeline.run.studylabels import write_study_labels, write_types
from haemo.pipeline.run.truemasks import write_true_masks
from haemo.pipeline.splitting.dealing import LEAST_PATIENTS, remedy
from haemo.progress import Progress, silent
from haemo.tables import write_table

__all__ = ["SERIES", "UNPACKED", "index", "index_run"]

SERIES, UNPACKED = "series.csv", "unpacked"

_log = logging.getLogger("haemo")


def index(
    data: str | Path,
    layout: str = "auto",
    *,
    positive: str | None = None,
    labels: str | Path | None = None,
    label: str | None = None,
    patient_column: str | None = None,
    series: str | None = None,
    unpack_to: Path | None = None,
    unit: str | None = None,
    progress: Progress = silent,
) -> Index:
    """Find the slices, labels and patients in a data folder; headers are read, pixels are not.

    Nothing is written.

    Parameters
    ----------
    data : str or Path
        A folder, or an archive of one (.zip, .tar.gz ...); archives in a folder are read as folders.
    layout : str
        Name of a layout (docs/data.md), or ``auto`` to recognise it.
    positive : str, optional
        Name of the positive class; without it the layout or the class names decide.
    labels : str or Path, optional
        The table of labels, where it is not in the folder or there are several.
    label : str, optional
        Heading of the label column; in RSNA and CT-ICH the type of bleed, or ``any``.
    patient_column : str, optional
        Heading of the patient column.
    series : str, optional
        Which series of each DICOM study to take: ``all``, or a regular expression that is looked for in
        number, description, kernel and UID; by default one is chosen.
    unpack_to : Path, optional
        Where archives are unpacked; by default a folder of haemo's cache.
    unit : {'hu', 'hu+1024', 'gray'}, optional
        What the numbers are in files that do not say it; by default told by how air, brain and bone look.
    progress : Progress

    Returns
    -------
    Index
        ``manifest`` holds the slices (iterate over its rows: ``slice_id``, ``path``, ``label``, ``patient``,
        ``study``, ``position``, ``part``), ``failures`` the files that cannot be used, each with its reason,
        ``classes`` the class names, of two the positive one last, ``study_labels`` labels of whole studies,
        ``types`` types of bleed where slices have several, ``masks`` true masks from DICOM outlines,
        ``series`` which series of each study were taken and why.

    Raises
    ------
    BadDataset
        If there is no such folder, nothing in it that could be a slice, or no layout fits.
    BadSettings
        If there is no such layout, `positive` is no class, or an option does not fit the data.
    """
    found = _index(
        data,
        layout,
        positive=positive,
        labels=labels,
        label=label,
        patient_column=patient_column,
        series=series,
        unpack_to=unpack_to,
        unit=unit,
        progress=progress,
    )
    _warn(found)
    return found


def _index(
    data: str | Path, layout: str, *, positive: str | None, labels: str | Path | None, **options: Any
) -> Index:
    """`index` without its warnings."""
    found = index_dataset(Path(data), layout, labels=None if labels is None else Path(labels), **options)
    classes = found.manifest.classes or tuple(sorted(set(found.study_labels.values())))
    if positive is not None and positive not in classes:
        listed = ", ".join(classes) or "none: the slices have no labels"
        raise BadSettings(f"the positive class {positive!r} is none of the classes ({listed})")
    return replace(found, positive=positive or found.positive)


def index_run(
    data: str | Path,
    run: RunDirectory,
    layout: str = "auto",
    *,
    keep: str | None = None,
    keep_from: Path | None = None,
    to_train: bool = True,
    **options: Any,
) -> Index:
    """Index `data` into `run`: manifest.csv, failures.csv, series.csv, and the step ``index`` of run.json.

    Archives are unpacked in the run. Parameters, result and errors are those of `index`, and:

    Parameters
    ----------
    keep : str, optional
        Attributes for figures by subgroup, as `pipeline.preparing.attributes.parse_keep` reads them. They go
        to attributes.csv, which nothing that trains reads. Without, an attributes.csv of before is deleted:
        it was of other slices.
    keep_from : Path, optional
        A table that has them.
    to_train : bool
        Whether to warn of what stands in the way of training on this data.
    """
    wanted = parse_keep(keep) if keep else ()
    if keep_from and not wanted:
        raise BadSettings("a table of attributes needs the names of those to keep: --keep sex,age")
    started = time.monotonic()
    options["unpack_to"] = run.path / UNPACKED
    if to_train:
        found = index(data, layout, **options)
    else:
        found = _index(data, layout, **{"positive": None, "labels": None, **options})
    attributes = None
    if wanted:
        attributes = gather_attributes(
            Path(data),
            found.manifest,
            wanted,
            masks=found.masks,
            labels=options.get("labels"),
            table=keep_from,
            unpack_to=run.path / UNPACKED,
            progress=options.get("progress", silent),
        )
    run.create()
    found.manifest.write(run.manifest_path)
    if attributes:
        attributes.write(run.attributes_path)
    else:
        run.attributes_path.unlink(missing_ok=True)
    run.replace_failures("index", list(found.failures))
    _write_series(run, found)
    write_study_labels(run, found.manifest, found.study_labels)
    write_types(run, found.types)
    write_true_masks(run, {slice_id: mask_png(mask.unpack()) for slice_id, mask in found.masks.items()})
    run.record(
        "index",
        data=str(Path(data).absolute()),
        layout=found.layout,
        classes=list(found.classes),
        positive=found.classes[1] if len(found.classes) == 2 else positive_study_class(found),
        patients_from=found.patients_from or None,
        slices=len(found.manifest),
        slices_of_class=dict(sorted(Counter(row.label for row in found.manifest).items())),
        patients=len({row.patient for row in found.manifest}),
        failed=len(found.failures),
        unit=found.unit,
        series_taken=sum(one.taken for one in found.series.series),
        series_not_taken=sum(not one.taken for one in found.series.series),
        aside=len(found.aside),
        masks=len(found.masks),
        studies_of_class=dict(sorted(Counter(found.study_labels.values()).items())),
        **({"kept": list(attributes.names)} if attributes else {}),
        seconds=round(time.monotonic() - started, 3),
    )
    return found


def _write_series(run: RunDirectory, found: Index) -> None:
    """Write series.csv where there are studies of several series; a file of an earlier index goes."""
    rows = [one.row() for one in found.series.series]
    if any(row["taken"] == "no" or row["findings"] for row in rows):
        write_table(run.path / SERIES, rows)
    else:
        (run.path / SERIES).unlink(missing_ok=True)


def positive_study_class(found: Index) -> str | None:
    """The positive one of two classes of studies; None where labels are of slices, or there are more."""
    names = sorted(set(found.study_labels.values()))
    positive = found.positive if found.positive in names else None
    return order_classes(names, positive)[1] if len(names) == 2 else None


def _warn(index: Index) -> None:
    """Say what will stand in the way of training on this data, or make its figures worth less."""
    classes = index.manifest.classes
    if not classes and index.study_labels:
        _log.warning("labels are of studies and of no slice: what is trained is trained on pooled studies")
    elif not classes:
        _log.warning("no slice has a label: features and predictions can be made, heads cannot be trained")
    elif len(classes) == 1:
        _log.warning(f"all labels are {classes[0]!r}: heads cannot be trained on one class")
    folded = Counter(name.casefold() for name in classes)
    twins = [name for name in classes if folded[name.casefold()] > 1]
    if twins:
        _log.warning(f"classes that differ in nothing but case: {', '.join(twins)}")
    if index.positive is not None and len(classes) > 2:
        _log.warning(f"there are {len(classes)} classes, so none is the positive one")
    patients = {row.patient for row in index.manifest}
    if not index.manifest.patients_known:
        _log.warning(
            "no patient ids: each slice stands as its own patient. Slices of one scan may then be on both "
            "sides of the split, and every figure will look better than it is"
        )
    elif len(patients) == 1:
        _log.warning("all slices are of one patient: they cannot be split into training and test")
    if len(classes) > 1 and len(patients) > 1:
        _warn_of_few_patients(index.manifest)


def _warn_of_few_patients(manifest: Manifest) -> None:
    """Name the classes that cannot be split by patient; where sides are published, training alone counts."""
    rows = manifest.labelled
    published = {"train", "test"} <= {row.part for row in rows}
    least, where = (2, "training ") if published else (LEAST_PATIENTS, "")
    patients = {(row.label, row.patient) for row in rows if not published or row.part == "train"}
    counts = Counter(label for label, _ in patients)
    few = [name for name in manifest.classes if counts[name] < least]
    if few:
        listed = ", ".join(f"{name!r} ({counts[name]})" for name in few)
        _log.warning(
            f"too few {where}patients of class {listed}: nothing can be trained on whole patients until "
            f"there are {least}; {remedy(len(manifest.classes))}"
        )
