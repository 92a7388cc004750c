"""Results on their way back: by C-STORE to a DICOM application, or by STOW-RS to a web service."""

import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from haemo.errors import HaemoError, MissingExtra
from haemo.pipeline.pacs.access import Credentials, Tls, require_encryption
from haemo.pipeline.pacs.receiving import Address, require_pynetdicom

if TYPE_CHECKING:
    from dicomweb_client.web import DICOMwebClient

__all__ = ["CStore", "Delivery", "NotDelivered", "Stow", "web_client", "web_reason"]

_SECONDS = 30
_WARNING = 0xB000


class NotDelivered(HaemoError):
    """A PACS did not take results; the message says why, and nothing of the patient. They are sent again."""


class Delivery(Protocol):
    """Where results go."""

    def send(self, files: Sequence[Path]) -> None:
        """Send files, all of them; NotDelivered if one is not taken."""
        ...


class CStore:
    """Sends by C-STORE.

    Parameters
    ----------
    to : Address
    own_aet : str
        Under which title.
    tls : ssl.SSLContext, optional
    """

    def __init__(self, to: Address, own_aet: str, tls: ssl.SSLContext | None = None):
        require_pynetdicom()
        self._to = to
        self._own_aet = own_aet
        self._tls = tls

    def send(self, files: Sequence[Path]) -> None:
        """Send files in one association.

        Raises
        ------
        NotDelivered
            If there is no association, or the status of one of them is a failure.
        """
        import pydicom
        from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian, SegmentationStorage
        from pynetdicom import AE

        entity = AE(self._own_aet)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = (
            _SECONDS
        )
        for kind in (Comprehensive3DSRStorage, SegmentationStorage):
            entity.add_requested_context(kind, ExplicitVRLittleEndian)
        secure = {} if self._tls is None else {"tls_args": (self._tls, self._to.host)}
        to = f"{self._to.aet}@{self._to.host}:{self._to.port}"
        association = entity.associate(self._to.host, self._to.port, ae_title=self._to.aet, **secure)
        if not association.is_established:
            raise NotDelivered(f"{to} gives no association; is it there, and does it know {self._own_aet}?")
        try:
            for path in files:
                dataset = pydicom.dcmread(path)
                try:
                    answer = association.send_c_store(dataset)
                except (ValueError, RuntimeError) as error:
                    kind = pydicom.uid.UID(dataset.SOPClassUID).name
                    raise NotDelivered(f"{to} does not take {kind}") from error
                status = answer.get("Status")
                if status is None:
                    raise NotDelivered(f"{to} ended the association before it answered")
                if status != 0 and status & 0xF000 != _WARNING:
                    raise NotDelivered(f"{to} refused a result with status 0x{status:04X}")
        finally:
            association.release()


class Stow:
    """Sends by STOW-RS.

    Parameters
    ----------
    url : str
        Of the DICOMweb service.
    credentials : Credentials
    tls : Tls
    """

    def __init__(self, url: str, credentials: Credentials, tls: Tls):
        self._url = url
        self._client = web_client(url, credentials, tls)

    def send(self, files: Sequence[Path]) -> None:
        """Send files in one request.

        Raises
        ------
        NotDelivered
            If the service cannot be reached, or does not take one of them.
        """
        import pydicom
        import requests

        datasets = [pydicom.dcmread(path) for path in files]
        try:
            answer = self._client.store_instances(datasets)
        except requests.RequestException as error:
            raise NotDelivered(f"{self._url} did not take the results: {web_reason(error)}") from error
        if answer is not None and answer.get("FailedSOPSequence"):
            codes = {f"0x{int(one.get('FailureReason', 0)):04X}" for one in answer.FailedSOPSequence}
            raise NotDelivered(f"{self._url} refused results with {', '.join(sorted(codes))}")


def web_client(url: str, credentials: Credentials, tls: Tls) -> "DICOMwebClient":
    """A client of a DICOMweb service.

    Raises
    ------
    BadSettings
        If credentials would go over a network unencrypted.
    MissingExtra
        If dicomweb-client is not installed.
    """
    require_encryption(url, credentials)
    try:
        import requests
        from dicomweb_client.web import DICOMwebClient
    except ImportError as error:
        raise MissingExtra(
            "DICOMweb needs dicomweb-client, which is not installed: pip install 'haemo[pacs]'"
        ) from error
    for name in ("dicomweb_client", "urllib3"):  # their log has identifiers in it
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    session = requests.Session()
    session.trust_env = False  # no password from ~/.netrc, no proxy for images of patients
    if credentials.user:
        session.auth = (credentials.user, credentials.password)
    if credentials.token:
        session.headers["Authorization"] = f"Bearer {credentials.token}"
    if tls.authority:
        session.verify = str(tls.authority)
    if tls.certificate:
        session.cert = (str(tls.certificate), str(tls.key)) if tls.key else str(tls.certificate)
    client = DICOMwebClient(url.rstrip("/"), session=session, timeout=_SECONDS)
    client.set_http_retry_params(retry=False)  # what fails is tried again as a whole, and later
    return client


def web_reason(error: Any) -> str:
    """What went wrong with a request, without the address, which names the study."""
    response = getattr(error, "response", None)
    if response is not None:
        meaning = {
            401: " (user, password or token)",
            403: " (not allowed)",
            404: " (no such service or study)",
        }
        return f"it answered {response.status_code}{meaning.get(response.status_code, '')}"
    return f"it cannot be reached ({type(error).__name__})"
