"""Who may talk to whom: certificates, users, passwords and tokens, none of them from the command line."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from haemo.errors import BadSettings

__all__ = ["Credentials", "Tls", "is_loopback", "require_encryption"]

_NAMES = ("user", "password", "token")
_VARIABLES = {name: f"HAEMO_PACS_{name.upper()}" for name in _NAMES}


@dataclass(frozen=True, repr=False)
class Credentials:
    """How a server knows us: a user with a password, or a token; nothing where it asks for none.

    Attributes
    ----------
    user, password, token : str
    """

    user: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return "Credentials(...)"

    def __bool__(self) -> bool:
        return bool(self.user or self.token)

    @classmethod
    def find(cls, path: Path | None, environment: Mapping[str, str] = os.environ) -> Self:
        """Read them from a file of lines as ``user = NAME``, or else from the environment.

        Raises
        ------
        BadSettings
            If the file cannot be read, others may read it, or a line says something else.
        """
        if path is None:
            return cls._of(
                {name: environment.get(key, "") for name, key in _VARIABLES.items()}, "environment"
            )
        try:
            mode = path.stat().st_mode
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"{path} cannot be read ({type(error).__name__})") from error
        if mode & 0o077:
            raise BadSettings(f"others may read {path}, which holds a password or token: chmod 600 {path}")
        values = {}
        for number, line in enumerate(lines, start=1):
            name, equals, value = (part.strip() for part in line.partition("="))
            if line.strip() and not line.lstrip().startswith("#"):
                if not equals or name not in _NAMES:
                    raise BadSettings(f"line {number} of {path} is none of: user = , password = , token = ")
                values[name] = value
        return cls._of(values, str(path))

    @classmethod
    def _of(cls, values: Mapping[str, str], where: str) -> Self:
        found = cls(**values)
        if found.user and found.token:
            raise BadSettings(f"{where}: there is a user and a token; give one of them")
        if bool(found.user) != bool(found.password):
            raise BadSettings(f"{where}: a user and a password belong together; one is missing")
        return found


@dataclass(frozen=True)
class Tls:
    """Certificates, as PEM files.

    Attributes
    ----------
    certificate, key : Path or None
        Our own; a listener needs them.
    authority : Path or None
        Whose certificates are believed; a listener that has it asks everybody for one.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    def server(self) -> ssl.SSLContext | None:
        """For a listener; None where it has no certificate, and so no TLS.

        Raises
        ------
        BadSettings
            If a file is missing or none of the kind.
        """
        if self.certificate is None:
            if self.key or self.authority:
                raise BadSettings("TLS for a listener needs a certificate: --tls-cert FILE --tls-key FILE")
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.authority:
            context.verify_mode = ssl.CERT_REQUIRED
        return self._loaded(context)

    def client(self) -> ssl.SSLContext | None:
        """For an association that we open; None where there is nothing to do it with."""
        if self.authority is None:
            return None
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._loaded(context)

    def _loaded(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            if self.authority:
                context.load_verify_locations(self.authority)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(one) for one in (self.certificate, self.key, self.authority) if one)
            raise BadSettings(
                f"TLS: {files}: {error}; they must be PEM files that belong together"
            ) from error
        return context


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by a name or address that nobody else can reach."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def require_encryption(url: str, credentials: Credentials) -> None:
    """Refuse to send credentials, and patients' images, unencrypted over a network.

    Raises
    ------
    BadSettings
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSettings(f"{url} is no address of a DICOMweb service: it starts with http:// or https://")
    if parts.username or parts.password:
        raise BadSettings(
            "a user or password does not belong in a URL: --credentials FILE, or HAEMO_PACS_USER"
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname) and credentials:
        raise BadSettings(
            f"{url} is not encrypted, and would show user or token to the network: take https://"
        )
