"""The listener: CT images by C-STORE, each acknowledged only once it is on disk."""

import logging
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self

from haemo.errors import BadSettings, MissingExtra
from haemo.pipeline.pacs.access import is_loopback
from haemo.pipeline.pacs.inbox import Inbox, Refused

if TYPE_CHECKING:
    from pynetdicom.events import Event

__all__ = ["Address", "Listener", "require_pynetdicom"]

log = logging.getLogger("haemo.pacs")

# Answers to C-STORE (DICOM PS3.4 table B.2-1).
_SUCCESS, _OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
_IDLE_SECONDS = 60


def require_pynetdicom() -> None:
    """Say which extra is missing, if it is; and keep what pynetdicom logs, which names patients, unsaid."""
    try:
        import pynetdicom  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "a PACS needs pynetdicom, which is not installed: pip install 'haemo[pacs]'"
        ) from error
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False


@dataclass(frozen=True)
class Address:
    """A DICOM application.

    Attributes
    ----------
    aet : str
        Its title, of at most 16 characters.
    host : str
    port : int
    """

    aet: str
    host: str
    port: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.aet.strip()) <= 16 or "\\" in self.aet or not self.aet.isprintable():
            raise BadSettings(f"{self.aet!r} is no AE title: it has 1 to 16 characters, and no backslash")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``AET@HOST:PORT``.

        Raises
        ------
        BadSettings
        """
        aet, at, place = text.partition("@")
        host, colon, port = place.rpartition(":")
        if not (at and colon and host and port.isdigit() and 0 < int(port) < 65536):
            raise BadSettings(f"{text} is no address: write AET@HOST:PORT, as in PACS@10.0.0.5:104")
        return cls(aet, host, int(port))


class Listener:
    """Takes CT images until it is closed; a context manager.

    Parameters
    ----------
    own : Address
        Title, and where to listen.
    inbox : Inbox
    allowed : sequence of str
        Titles that may send; none lets everybody, which is refused where others can reach this address.
    tls : ssl.SSLContext, optional

    Raises
    ------
    BadSettings
        If the address cannot be used, or is open to others and nobody is named.
    """

    def __init__(
        self, own: Address, inbox: Inbox, allowed: Sequence[str] = (), tls: ssl.SSLContext | None = None
    ):
        require_pynetdicom()
        from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
        from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

        if not is_loopback(own.host) and not allowed:
            raise BadSettings(
                f"{own.host} can be reached by others: name who may send, with --allow AET, or listen on "
                "127.0.0.1"
            )
        self._inbox = inbox
        self._received: dict[Any, int] = {}
        self._lock = threading.Lock()
        entity = AE(own.aet)
        entity.require_called_aet = True
        entity.require_calling_aet = list(allowed)
        entity.maximum_associations = inbox.limits.associations
        entity.network_timeout = _IDLE_SECONDS
        entity.add_supported_context(Verification)
        entity.add_supported_context(CTImageStorage, ALL_TRANSFER_SYNTAXES)
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda event: _SUCCESS),
            (evt.EVT_DATA_RECV, self._count),
            (
                evt.EVT_REJECTED,
                lambda event: log.warning("an association was rejected: not an allowed title"),
            ),
            (evt.EVT_CONN_CLOSE, self._forget),
        ]
        try:
            self._server = entity.start_server(
                (own.host, own.port), block=False, evt_handlers=handlers, ssl_context=tls
            )
        except OSError as error:
            raise BadSettings(
                f"nothing can listen on {own.host}:{own.port} ({error.strerror or error}); choose another "
                "--port"
            ) from error

    @property
    def port(self) -> int:
        """Where it listens: the one asked for, or a free one for 0."""
        return int(self._server.socket.getsockname()[1])

    def close(self) -> None:
        """Take nothing more."""
        self._server.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _store(self, event: "Event") -> int:
        self._forget(event)
        try:
            data = event.encoded_dataset()
            study, image = _identifiers(data)
        # Hostile bytes make the parser raise whatever they lead to; what they say is not for the log.
        except Exception as error:
            log.warning("an image was refused: it cannot be read (%s)", type(error).__name__)
            return _CANNOT_UNDERSTAND
        if image != str(event.request.AffectedSOPInstanceUID):
            log.warning("an image was refused: it is not the one that was announced")
            return _CANNOT_UNDERSTAND
        try:
            self._inbox.take(study, image, data)
        except Refused as error:
            log.warning("refused: %s", error)
            return _OUT_OF_RESOURCES
        except OSError as error:
            log.error("an image could not be stored: %s", error.strerror or type(error).__name__)
            return _OUT_OF_RESOURCES
        return _SUCCESS

    def _count(self, event: "Event") -> None:
        """End an association whose message passes the limit: it is all in memory before it is seen."""
        most = int(self._inbox.limits.image_mb * 1e6) + (1 << 20)
        with self._lock:
            self._received[event.assoc] = self._received.get(event.assoc, 0) + len(event.data)
            if self._received[event.assoc] <= most:
                return
            self._received[event.assoc] = -(1 << 60)
        log.warning("an association was ended: an image of more than %g MB", self._inbox.limits.image_mb)
        # Not from here: this is the thread that an abort waits for.
        threading.Thread(target=event.assoc.abort, daemon=True).start()

    def _forget(self, event: "Event") -> None:
        with self._lock:
            self._received.pop(event.assoc, None)


def _identifiers(data: bytes) -> tuple[str, str]:
    """StudyInstanceUID and SOPInstanceUID of a file."""
    import pydicom

    wanted = ["StudyInstanceUID", "SOPInstanceUID"]
    with pydicom.config.disable_value_validation():
        header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=wanted)
        study, image = str(header.StudyInstanceUID).strip(), str(header.SOPInstanceUID).strip()
    if not study or not image:
        raise ValueError("an identifier is empty")
    return study, image
