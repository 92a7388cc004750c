"""A cohort of phantom patients on disk: slices, masks, labels.csv, cohort.json and a contact sheet."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from haemo.atomic import json_of, write_text
from haemo.errors import BadDataset
from haemo.features.phantom.settings import CohortSettings
from haemo.features.phantom.sheet import MOST_SAMPLES, Sample, write_contact_sheet
from haemo.features.phantom.study import PhantomSlice, Study, patient_name
from haemo.features.phantom.volume_files import VOLUME_FORMATS, write_mask_volume, write_volume
from haemo.features.phantom.writing import FORMATS, window_gray, write_mask, write_slice
from haemo.processors import usable_processors
from haemo.progress import Progress, silent
from haemo.tables import Records, write_table

__all__ = ["Cohort", "LabelRow", "write_cohort"]

logger = logging.getLogger("haemo")

_SCHEMA = 1


@dataclass(frozen=True)
class LabelRow:
    """One line of labels.csv."""

    path: str
    label: str
    patient: str
    study: str
    position: float
    subtype: str
    seed: int


@dataclass(frozen=True)
class Cohort:
    """What was written.

    Attributes
    ----------
    path : Path
    rows : tuple of LabelRow
    bleeding : int
        Patients who bleed.
    subtypes : dict of str to int
        Slices on which each subtype is seen.
    """

    path: Path
    rows: tuple[LabelRow, ...] = field(repr=False)
    bleeding: int
    subtypes: dict[str, int]


def write_cohort(
    out: Path,
    settings: CohortSettings | None = None,
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> Cohort:
    """Write a cohort: ``P0001/001.dcm`` and so on, ``masks/P0001/001.png``, labels.csv, cohort.json.

    In formats of volumes there is one file a patient, ``P0001.nii.gz``, and ``masks/P0001.nii.gz``.

    The files depend on the settings alone, not on `workers`; patient 7 is the same in any cohort of the same
    seed, format, slices and prevalence. labels.csv comes last, so a folder that has it is complete.

    Parameters
    ----------
    out : Path
        A new or empty folder, or one where the same command was stopped.
    settings : CohortSettings, optional
    workers : int, optional
        Processes; by default one for each processor this process may use.
    progress : Progress

    Raises
    ------
    BadDataset
        If `out` holds something else already. A finished cohort of the same settings is left as it is.
    MissingExtra
        If nilearn is not installed.
    """
    out, settings = Path(out), settings or CohortSettings()
    if _is_finished(out, settings):
        logger.info("%s holds this cohort already; nothing to do", out)
        return _read(out)
    out.mkdir(parents=True, exist_ok=True)
    _write_record(out, settings, [])
    jobs = _in_order(settings, out, workers or usable_processors())
    results = list(progress(jobs, total=settings.patients, label="phantom patients"))
    rows = tuple(row for result in results for row in result.rows)
    write_contact_sheet(
        out / "contact_sheet.png", [sample for result in results for sample in result.samples]
    )
    _write_record(out, settings, [result.record for result in results])
    write_table(out / "labels.csv", [asdict(row) for row in rows])
    return _summary(out, rows, [result.record for result in results])


@dataclass(frozen=True, eq=False)
class _Written:
    """One patient on disk."""

    rows: tuple[LabelRow, ...]
    record: dict[str, Any]
    samples: tuple[Sample, ...]


def _in_order(settings: CohortSettings, out: Path, workers: int) -> Iterator[_Written]:
    """Patients in order, made by several processes, with few of them waiting at a time."""
    numbers = range(1, settings.patients + 1)
    workers = min(workers, settings.patients)
    if workers == 1:
        yield from (_write_patient(settings, out, number) for number in numbers)
        return
    # Spawned, not forked: the caller may hold threads (torch, HDF5) that a fork would cut in half.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        pending = iter(numbers)
        running = {
            pool.submit(_write_patient, settings, out, number): number
            for number in islice(pending, 2 * workers)
        }
        done: dict[int, _Written] = {}
        for wanted in numbers:
            while wanted not in done:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done[running.pop(future)] = future.result()
                    for number in islice(pending, 1):
                        running[pool.submit(_write_patient, settings, out, number)] = number
            yield done.pop(wanted)


def _write_patient(settings: CohortSettings, out: Path, number: int) -> _Written:
    study = Study(
        settings.seed,
        number,
        settings.slices,
        settings.prevalence,
        settings.size,
        population=settings.population,
    )
    name = patient_name(number)
    pixel_mm2 = (study.scan.field_mm / settings.size) ** 2
    rows, truths, samples = [], [], []
    for path, made in _written_slices(out, study, settings.format):
        subtype = "+".join(made.subtypes)
        rows.append(
            LabelRow(
                path,
                made.label,
                name,
                f"{name}-1",
                round(made.position_mm, 3),
                subtype,
                settings.seed,
            )
        )
        area = float(made.mask.sum() * pixel_mm2)
        truths.append(
            {"path": rows[-1].path, "label": made.label, "subtype": subtype, "area_mm2": round(area, 2)}
        )
        samples.append(_sample(study, made, subtype, area))
    record = study.parameters() | {"slices": truths}
    every = -(-2 * settings.patients // MOST_SAMPLES)
    return _Written(tuple(rows), record, _chosen(samples) if number % every == 0 else ())


def _written_slices(out: Path, study: Study, format_: str) -> Iterator[tuple[str, PhantomSlice]]:
    """Write a study and its masks, and give each slice with its path below `out`."""
    name = patient_name(study.patient)
    if format_ in VOLUME_FORMATS:
        slices = list(study)
        write_volume(out / f"{name}{VOLUME_FORMATS[format_]}", study, slices)
        (out / "masks").mkdir(exist_ok=True)
        write_mask_volume(out / "masks" / f"{name}.nii.gz", study, slices)
        for number, made in enumerate(slices, start=1):
            yield f"{name}{VOLUME_FORMATS[format_]}#{number}", made
        return
    (out / name).mkdir(exist_ok=True)
    (out / "masks" / name).mkdir(parents=True, exist_ok=True)
    for index, made in enumerate(study):
        stem = f"{name}/{index + 1:03d}"
        write_slice(out / f"{stem}{FORMATS[format_]}", study, index, made)
        write_mask(out / "masks" / f"{stem}.png", made.mask)
        yield f"{stem}{FORMATS[format_]}", made


def _sample(study: Study, made: PhantomSlice, subtype: str, area_mm2: float) -> Sample:
    gray = window_gray(made.hu, study.scan.window)
    step = max(1, study.size // 256)
    return Sample(
        gray[::step, ::step], made.mask[::step, ::step], patient_name(study.patient), subtype, area_mm2
    )


def _chosen(samples: list[Sample]) -> tuple[Sample, ...]:
    """For the contact sheet: the slice with most blood and one in the middle."""
    most = max(samples, key=lambda sample: sample.area_mm2)
    middle = samples[len(samples) // 2]
    return (most, middle) if most.area_mm2 else (middle,)


def _write_record(out: Path, settings: CohortSettings, patients: list[dict[str, Any]]) -> None:
    record = {"schema": _SCHEMA, "settings": settings.record(), "patients": patients}
    write_text(out / "cohort.json", json.dumps(record, indent=1, sort_keys=True) + "\n")


def _is_finished(out: Path, settings: CohortSettings) -> bool:
    """Whether `out` holds this cohort, complete; False if it is free, or holds the beginning of this one.

    Raises
    ------
    BadDataset
        If it holds anything else.
    """
    if not out.exists() or not any(out.iterdir()):
        return False
    wanted = json.loads(json.dumps({"schema": _SCHEMA, "settings": settings.record()}))
    if (out / "cohort.json").exists():
        record = json_of(out / "cohort.json")
        if {key: record.get(key) for key in wanted} == wanted:
            return (out / "labels.csv").exists()
    raise BadDataset(f"{out} is not empty and holds no such cohort; name a new folder, or delete this one")


def _read(out: Path) -> Cohort:
    record = json_of(out / "cohort.json")
    return _summary(out, _read_rows(out / "labels.csv"), record["patients"])


def _read_rows(path: Path) -> tuple[LabelRow, ...]:
    return tuple(
        LabelRow(**{**entry, "position": float(entry["position"]), "seed": int(entry["seed"])})
        for entry in Records(path)
    )


def _summary(out: Path, rows: tuple[LabelRow, ...], records: list[dict[str, Any]]) -> Cohort:
    subtypes = Counter(name for row in rows for name in row.subtype.split("+") if name)
    return Cohort(
        out, rows, sum(bool(record["bleeds"]) for record in records), dict(sorted(subtypes.items()))
    )
