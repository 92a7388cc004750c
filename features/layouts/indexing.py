"""From a data folder to a manifest: recognise the layout, read headers, settle what is left open."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from haemo.errors import BadDataset, BadSettings, HaemoError
from haemo.extensions import Extensions, unknown
from haemo.features.failures import Failure
from haemo.features.labels import HAEMORRHAGE, order_classes
from haemo.features.layouts.claims import Claim, Claims, Headers, Layout, Request
from haemo.features.layouts.folder import Folder, any_format
from haemo.features.layouts.label_sets import labels_of_studies, types_apart
from haemo.features.layouts.outlined import truth_of
from haemo.features.manifest import Manifest, ManifestRow
from haemo.features.outlines.truth import Truth
from haemo.features.pixels.packed import PackedMask
from haemo.features.reading.address import SliceAddress, place_in_order
from haemo.features.reading.slice import SliceHeader
from haemo.features.reading.unit import UNITS, Unit
from haemo.features.series.choosing import Choice, choose_series, pattern_of
from haemo.progress import Progress, silent

__all__ = ["LAYOUTS", "Index", "index_dataset"]

# Published data sets first, then what says most about its labels.
LAYOUTS: Extensions[Layout] = Extensions(
    "layout",
    "haemo.layouts",
    Layout,
    {
        "rsna": "haemo.features.layouts.rsna",
        "ct-ich": "haemo.features.layouts.ct_ich",
        "cq500": "haemo.features.layouts.cq500",
        "masked-volumes": "haemo.features.layouts.masked_volumes",
        "head-ct": "haemo.features.layouts.head_ct",
        "labels-csv": "haemo.features.layouts.labels_csv",
        "class-folders": "haemo.features.layouts.class_folders",
        "dicom-tree": "haemo.features.layouts.dicom_tree",
    },
)
# These take any folder with such files, and are asked when no data set was recognised.
_GENERAL = ("labels-csv", "class-folders", "dicom-tree")

_log = logging.getLogger("haemo")


@dataclass(frozen=True)
class Index:
    """A data folder, indexed.

    Attributes
    ----------
    layout : str
        Name of the layout.
    manifest : Manifest
        The slices that can be used as far as their headers show.
    failures : tuple of Failure
        Those that cannot, and what the labels name and is not there.
    sizes : Counter of (height, width)
    modes : Counter of str
        What the files hold, e.g. ``PNG RGB``.
    patients_from : str
        Where patient ids come from; empty where there are none and each slice is its own patient.
    others : tuple of Path
        Files that are no images and were left aside.
    positive : str or None
        The positive class, where the user or the layout named it.
    study_labels : mapping of str to str
        Labels of whole studies, which are those of no slice.
    types : mapping of str to tuple of str
        Types of bleed of each labelled slice, where slices have several; their label is then haemorrhage.
    aside : tuple of Failure
        Sound DICOM files that are no axial slices (localizers, dose reports ...), and what each is.
    series : Choice
        Which series of each study were taken, and why the others were not.
    unit : {'hu', 'hu+1024', 'gray'} or None
        What the user said the numbers are in files that do not say it.
    masks : mapping of str to PackedMask
        True masks of slices by their ids, from DICOM outlines (SEG, RTSTRUCT) among the files.
    """

    layout: str
    manifest: Manifest
    failures: tuple[Failure, ...]
    sizes: Counter
    modes: Counter
    patients_from: str
    others: tuple[Path, ...] = ()
    positive: str | None = None
    study_labels: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aside: tuple[Failure, ...] = ()
    series: Choice = field(default_factory=Choice)
    unit: Unit | None = None
    masks: Mapping[str, PackedMask] = field(default_factory=dict)

    def __repr__(self) -> str:
        patients = f"patients from {self.patients_from}" if self.patients_from else "patients unknown"
        return f"Index({self.layout}, {self.manifest!r}, {patients}, {len(self.failures)} unusable)"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of score columns: of two, the second is the positive one."""
        names = self.manifest.classes
        return order_classes(names, self.positive) if len(names) > 1 else names


def index_dataset(
    root: Path,
    layout: str = "auto",
    *,
    labels: Path | None = None,
    label: str | None = None,
    patient_column: str | None = None,
    series: str | None = None,
    unpack_to: Path | None = None,
    unit: str | None = None,
    progress: Progress = silent,
) -> Index:
    """Index a data folder without decoding a pixel.

    Parameters
    ----------
    root : Path
        The data folder, or an archive of it.
    layout : str
        A name in `LAYOUTS`, or ``auto`` to recognise it.
    labels : Path, optional
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

    Raises
    ------
    BadDataset
        If there is no such folder, nothing in it that could be a slice, or no layout fits.
    BadSettings
        If `layout` is unknown, a column does not exist, or `series` is no pattern or fits nothing here.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise unknown("layout", layout, ["auto", *LAYOUTS.names()])
    if unit is not None and unit not in UNITS:
        raise unknown("unit", unit, UNITS)
    request = Request(labels, label, patient_column, series, unit)
    pattern_of(series)
    folder = Folder.scan(root, unpack_to, progress)
    if not folder.slices:
        found = [*folder.failures, *folder.others, *folder.tables]
        detail = f", only other files: {len(found):,}" if found else "; it is empty"
        raise BadDataset(f"{folder.root} holds no {any_format()} files{detail}")
    name = _recognised(folder, request) if layout == "auto" else layout
    headers = Headers(progress, request.unit)
    claims = LAYOUTS.get(name).claim(folder, request, headers)
    return _assembled(name, folder, claims, headers, request)


def _recognised(folder: Folder, request: Request) -> str:
    layouts = LAYOUTS.usable()
    for name in sorted(layouts, key=lambda name: name in _GENERAL):
        try:
            if layouts[name].recognise(folder, request):
                return name
        except Exception as error:
            if LAYOUTS.is_builtin(name) or isinstance(error, HaemoError):
                raise
            _log.warning(f"left out: the layout {name!r} failed ({type(error).__name__}: {error})")
    raise BadDataset(
        f"{folder.root} has no labels that could be found: put the slices into one folder a class, or add a "
        "labels.csv with the columns path and label (docs/data.md shows every layout)"
    )


def _assembled(name: str, folder: Folder, claims: Claims, headers: Headers, request: Request) -> Index:
    headers.read(claim.path for claim in claims.slices)
    failures = [*folder.failures, *claims.failures, *headers.each_failure()]
    # What was given a label was meant to be a slice.
    meant = {claim.path for claim in claims.slices if claim.label} if claims.are_listed else set()
    aside = [Failure(str(path), "index", what) for path, what in headers.aside.items() if path not in meant]
    failures += [Failure(str(path), "index", headers.aside[path]) for path in meant if path in headers.aside]
    readable = [claim for claim in claims.slices if headers.get(claim.path)]
    readable, doubles = _without_doubles(readable, headers)
    failures += doubles
    truth = claims.truth
    if truth is None:
        headers.find_outlines(folder.dicom_masks)
        truth = truth_of([claim.path for claim in readable], headers) if headers.outlines else Truth()
    failures += truth.failures
    named = {*map(str, truth.used), *(failure.path for failure in truth.failures)}
    aside = [one for one in aside if one.path not in named]
    series = choose_series(
        {claim.path: headers.get(claim.path) for claim in readable},
        request.series,
        {claim.path: claim.label for claim in readable},
        claims.are_listed,
    )
    if request.series is not None and readable and not series.series:
        raise BadSettings("--series has no meaning here: there are no DICOM files that say their study")
    if headers.unit and readable and not any(headers.get(claim.path).unit_open for claim in readable):
        raise BadSettings("--unit has no meaning here: every file says what its numbers are")
    left_out = series.left_out
    readable = [claim for claim in readable if claim.path not in left_out]
    rows, types = types_apart(_rows(folder, _with_parts(readable), headers))
    studies, disputed = labels_of_studies(rows, {claim.slice_id: claim.of_study for claim in readable})
    found = [headers.get(claim.path) for claim in readable]
    masks = [f"masks, which are no slices: {len(folder.masks):,}"] if folder.masks else []
    for note in [*claims.notes, *masks, *truth.notes, *series.sentences()]:
        _log.info(note)
    parts = headers.of_other_parts(claim.path for claim in readable)
    for warning in [*claims.warnings, *truth.warnings, *series.warnings(), *parts]:
        _log.warning(warning)
    if disputed:
        _log.warning(f"studies of which two things are said, left without a label: {', '.join(disputed[:3])}")
    if not rows:
        first = f"; the first: {failures[0].path}: {failures[0].reason}" if failures else ""
        if left_out:
            first = f"; of {len(series.series):,} series none is taken, --series all takes all"
        elif aside:
            first = f"; the first: {aside[0].path}: {aside[0].reason}"
        raise BadDataset(f"{folder.root} holds no slice that can be used{first}")
    patients_from = claims.patients_from or _tags_patients(readable, headers)
    return Index(
        layout=name,
        manifest=Manifest(rows),
        failures=tuple(sorted(failures, key=lambda failure: failure.path)),
        sizes=Counter(header.size for header in found),
        modes=Counter(header.mode for header in found),
        patients_from=patients_from,
        others=tuple(folder.others),
        positive=HAEMORRHAGE if types else claims.positive,
        study_labels=studies,
        types=types,
        aside=tuple(aside),
        series=series,
        unit=request.unit,
        masks={one.slice_id: truth.masks[one.path] for one in readable if one.path in truth.masks},
    )


def _without_doubles(claims: list[Claim], headers: Headers) -> tuple[list[Claim], list[Failure]]:
    """Leave out DICOM files that are one instance: later copies, or all of them if their labels differ."""
    copies = defaultdict(list)
    for claim in claims:
        tags = headers.get(claim.path).tags
        copies[tags.sop_instance_uid if tags and tags.sop_instance_uid else claim.slice_id].append(claim)
    kept, failures = [], []
    for group in copies.values():
        first = group[0]
        agree = len({claim.label for claim in group}) == 1
        kept += [first] if agree else []
        for claim in group[1:] if agree else group:
            other = first if claim is not first else group[1]
            reason = f"has the same SOPInstanceUID as {other.path}" + (
                "" if agree else ", with another label"
            )
            failures.append(Failure(str(claim.path), "index", reason))
    return kept, failures


def _with_parts(claims: list[Claim]) -> list[Claim]:
    """Count a published validation part as test where there is no other test part, else as training."""
    parts = {claim.part for claim in claims}
    if "val" not in parts:
        return claims
    becomes = "train" if "test" in parts else "test"
    _log.info(f"the published validation part counts as {becomes}")
    return [replace(claim, part=becomes) if claim.part == "val" else claim for claim in claims]


def _rows(folder: Folder, claims: list[Claim], headers: Headers) -> list[ManifestRow]:
    series = defaultdict(set)
    for claim in claims:
        tags = headers.get(claim.path).tags
        if tags:
            series[tags.study].add(tags.series)
    studies = defaultdict(list)
    rows = []
    for claim in claims:
        tags = headers.get(claim.path).tags
        patient, study, position = claim.patient, claim.study, claim.position
        if tags:
            # A study with several series holds the same head several times, each in an order of its own.
            study = study or (tags.series if len(series[tags.study]) > 1 else tags.study)
            patient = patient or tags.patient or tags.study or tags.series
        volume = _volume_of(folder, claim.path)
        study = study or volume
        patient = patient or volume or claim.slice_id
        rows.append(
            ManifestRow(
                claim.slice_id, claim.path, claim.label, patient, study or patient, position, claim.part
            )
        )
        studies[rows[-1].study].append(len(rows) - 1)
    for members in studies.values():
        if all(rows[member].position is None for member in members):
            found = [headers.get(rows[member].path) for member in members]
            for member, position in zip(members, _positions(found), strict=True):
                rows[member] = replace(rows[member], position=position)
    rows = [replace(row, path=headers.with_unit(row.path)) for row in rows]
    return sorted(rows, key=lambda row: (*place_in_order(row.path), row.slice_id))


def _volume_of(folder: Folder, path: Path) -> str:
    """What the volume is called that a slice is of; empty where it is a file of its own."""
    address = SliceAddress.of(path)
    return folder.name_of(address.file) if address.number is not None else ""


def _positions(headers: list[SliceHeader]) -> list[float | None]:
    """Positions within one study, all from the best tag that all of its slices have."""
    for tag in ("z_mm", "slice_location_mm", "instance_number"):
        positions = [getattr(header.tags, tag) if header.tags else None for header in headers]
        if None not in positions:
            return positions
    return [None] * len(headers)


def _tags_patients(claims: Iterable[Claim], headers: Headers) -> str:
    tags = [headers.get(claim.path).tags for claim in claims]
    if any(tag and tag.patient for tag in tags):
        return "DICOM PatientID"
    if any(tag and (tag.study or tag.series) for tag in tags):
        return "DICOM StudyInstanceUID"
    is_volume = [SliceAddress.of(claim.path).number is not None for claim in claims]
    return "volumes, each stands as a patient of its own" if any(is_volume) else ""
