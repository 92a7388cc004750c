"""Studies from a DICOMweb service: looked for by QIDO-RS, fetched by WADO-RS, into the inbox."""

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any

from haemo.errors import BadSettings, HaemoError
from haemo.pipeline.pacs.delivery import web_reason
from haemo.pipeline.pacs.inbox import Inbox
from haemo.progress import Progress, silent

if TYPE_CHECKING:
    from dicomweb_client.web import DICOMwebClient

__all__ = ["NotPulled", "Pulled", "parse_since", "pull", "studies_since"]

log = logging.getLogger("haemo.pacs")

_CT = "1.2.840.10008.5.1.4.1.1.2"
_STUDY, _SERIES, _IMAGE = "0020000D", "0020000E", "00080018"
_DATE, _TIME, _MODALITY = "00080020", "00080030", "00080060"
_PAGE = 200
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class NotPulled(HaemoError):
    """A DICOMweb service does not answer as it should; the message says what it did."""


@dataclass
class Pulled:
    """What was fetched.

    Attributes
    ----------
    studies : int
        That were looked at.
    images : int
        That are new.
    known : int
        Studies of which every image was known.
    failed : int
        Studies that could not be fetched whole.
    """

    studies: int = 0
    images: int = 0
    known: int = 0
    failed: int = 0


def parse_since(text: str) -> timedelta:
    """Read ``30m``, ``24h`` or ``7d``.

    Raises
    ------
    BadSettings
    """
    match = re.fullmatch(r"(\d{1,5})([mhd])", text)
    if not match or not int(match[1]):
        raise BadSettings(f"{text} is no time: write 30m, 24h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def studies_since(client: "DICOMwebClient", moment: datetime) -> list[str]:
    """UIDs of the studies with CT of a moment and after it, by study date and time.

    A study without a time counts with its date; one without a date is not found, as it is not in a range.

    Raises
    ------
    NotPulled
        If the service cannot be reached or does not answer.
    """
    import requests

    filters = {"StudyDate": f"{moment:%Y%m%d}-", "ModalitiesInStudy": "CT"}
    try:
        found = _paged(client.search_for_studies, _STUDY, search_filters=filters)
    except requests.RequestException as error:
        raise NotPulled(f"{client.base_url} cannot be searched: {web_reason(error)}") from error
    start = f"{moment:%Y%m%d%H%M%S}"
    studies = []
    for one in found:
        time = _text(one, _TIME).split(".")[0]
        if not time or f"{_text(one, _DATE)}{time:0<6}" >= start:
            studies.append(_text(one, _STUDY))
    return [study for study in dict.fromkeys(studies) if study]


def pull(client: "DICOMwebClient", studies: list[str], inbox: Inbox, progress: Progress = silent) -> Pulled:
    """Fetch the CT images of studies that are not known yet.

    A study that cannot be fetched whole is counted and logged; those after it are fetched all the same.
    """
    import requests

    done = Pulled()
    for number, study in enumerate(progress(studies, total=len(studies), label="pull"), start=1):
        done.studies += 1
        new = 0
        try:
            for data in _images(client, study, inbox):
                new += inbox.take(study, *data)
        except (requests.RequestException, HaemoError, ValueError) as error:
            done.failed += 1
            reason = str(error) if isinstance(error, HaemoError) else web_reason(error)
            log.warning("study %d of %d was not fetched whole: %s", number, len(studies), reason)
        else:
            done.known += not new
        done.images += new
    return done


def _images(client: "DICOMwebClient", study: str, inbox: Inbox) -> Iterator[tuple[str, bytes]]:
    """SOPInstanceUID and file of every CT image of a study, of series that have one which is not known."""
    import pydicom

    for series in _paged(client.search_for_series, _SERIES, study_instance_uid=study):
        if _text(series, _MODALITY) != "CT":
            continue
        uid = _text(series, _SERIES)
        listed = _paged(
            client.search_for_instances, _IMAGE, study_instance_uid=study, series_instance_uid=uid
        )
        if not any(inbox.state.image_is_new(study, _text(one, _IMAGE)) for one in listed):
            continue
        # In the transfer syntax that it has there: nothing is to be decoded and coded again on the way.
        for dataset in client.iter_series(study, uid, media_types=(("application/dicom", "*"),)):
            if str(dataset.get("SOPClassUID")) != _CT or str(dataset.get("StudyInstanceUID")) != study:
                continue
            stream = BytesIO()
            pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
            yield str(dataset.SOPInstanceUID), stream.getvalue()


def _paged(search: Callable[..., list[Any]], tag: str, **asked: Any) -> list[dict[str, Any]]:
    """Every row of a search, each `tag` once.

    Some services know no offset and give the same rows for ever, others give fewer or more than they are
    asked for: it ends with a page that has nothing new.

    Raises
    ------
    NotPulled
        If the service gives full pages and knows no offset, so that the rest cannot be had.
    """
    rows: dict[str, dict[str, Any]] = {}
    while True:
        page = search(limit=_PAGE, offset=len(rows), **asked)
        new = {_text(row, tag): row for row in page if _text(row, tag) not in rows}
        rows |= new
        if rows and not new and len(page) == _PAGE:
            raise NotPulled(
                f"the service gives no more than {_PAGE} rows of a search and knows no offset; ask for less: "
                f"--study UID, or a shorter --since"
            )
        if not new or len(page) < _PAGE:
            return list(rows.values())


def _text(row: dict[str, Any], tag: str) -> str:
    """The first value of an element of DICOM JSON, as text; empty where it has none."""
    values = row.get(tag, {}).get("Value") or [""]
    return str(values[0])
