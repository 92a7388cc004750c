"""Which slices are scored: of a folder those of the series that `index` would take, of named files all."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from haemo.features.layouts.claims import Headers
from haemo.features.reading.unit import Unit

if TYPE_CHECKING:
    from haemo.features.layouts.folder import Folder

__all__ = ["taken_of_folder", "taken_of_named", "unit_or_told"]

_log = logging.getLogger("haemo")


def unit_or_told(unit: Unit | None, told: Unit | None, name: str) -> Unit | None:
    """What the user says that numbers are; else what the model was told, by its name, which is logged."""
    if unit is None and told is not None:
        _log.info("numbers of files that do not say what they are: %s, as %s was trained on", told, name)
    return unit or told


def taken_of_folder(folder: "Folder", series: str | None, headers: Headers) -> list[Path]:
    """Give the slices of a folder without those of series that are not taken, localizers and the like.

    What is left out is logged. Where the user told a `unit`, it stands in the path of each slice whose file
    says none.
    """
    from haemo.features.series.choosing import choose_series

    headers.read(folder.dicom)
    known = {path: headers.get(path) for path in folder.dicom}
    choice = choose_series({path: header for path, header in known.items() if header}, series)
    for sentence in choice.sentences():
        _log.info(sentence)
    for warning in [*choice.warnings(), *headers.of_other_parts(folder.dicom)]:
        _log.warning(warning)
    aside = {path: headers.aside[path] for path in folder.dicom if path in headers.aside}
    for kind, count in Counter(aside.values()).items():
        _log.info(f"no axial slices, left aside: {count:,}, {kind}")
    left = choice.left_out | set(aside)
    # Pictures were not opened for their tags, and need not be but for their unit.
    headers.read(folder.pictures if headers.unit else ())
    return [headers.with_unit(path) for path in folder.slices if path not in left]


def taken_of_named(paths: Sequence[Path], series: str | None, headers: Headers) -> dict[Path, Path]:
    """Give those of the slices that the user named one by one which are to be scored, and what to call them.

    That is a clear wish, so all are taken, unless `series` says otherwise; but it is logged where they are
    several series of one study, or no plain CT. What is no axial slice stays, to fail with the reason.
    """
    from haemo.features.layouts.folder import Folder
    from haemo.features.series.choosing import ALL, choose_series

    if not paths:
        return {}
    named = Folder(Path.cwd(), slices=list(paths))
    headers.read(named.slices if headers.unit else named.dicom)
    known = {path: header for path in named.dicom if (header := headers.get(path))}
    choice = choose_series(known, series or ALL)
    for sentence in choice.sentences() if series else ():
        _log.info(sentence)
    count = Counter(one.series.study for one in choice.series if one.taken)
    several = sum(number > 1 for number in count.values())
    if several and series is None:
        _log.warning(
            f"files of several series of one study were named, and all are scored (studies: {several:,}); "
            "name the folder to have one series of each study chosen, or give --series"
        )
    for warning in [*choice.warnings(), *headers.of_other_parts(named.dicom)]:
        _log.warning(warning)
    return {path: headers.with_unit(path) for path in paths if path not in choice.left_out}
