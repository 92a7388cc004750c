"""The file of a model that is handed over: a zip archive, which a stranger may have written."""

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from haemo.atomic import replacing
from haemo.errors import BadDataset, MissingStep

__all__ = ["CARD", "FACTS", "Bundle", "is_bundle", "read_bundle", "write_bundle"]

FACTS = "haemo.json"
CARD = "MODEL_CARD.md"

_MEMBER = re.compile(
    r"haemo\.json|MODEL_CARD\.md|([1-9][0-9]?/)?(head\.skops|(scope|average)\.safetensors)"
    r"|(network(-[2-9]|-[1-9][0-9])?|segmenter|held_out)\.safetensors|figures/[a-z0-9_]{1,80}\.png"
)
_SCHEMA = 1
_MOST_MEMBERS = 512
_MOST_FACTS = 2**22
_MOST_BYTES = 4 * 2**30
_WHEN = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file knows
_READABLE = 0o100644 << 16


class Bundle:
    """What a file holds, once it is known to be what it says.

    Attributes
    ----------
    path : Path
    facts : dict
        haemo.json.
    """

    def __init__(self, path: Path, facts: dict[str, Any]):
        self.path = path
        self.facts = facts

    def __contains__(self, name: str) -> bool:
        return name in self.facts["members"]

    def read(self, name: str) -> bytes:
        """One member, checked against its sha256.

        Raises
        ------
        BadDataset
            If it is missing or was changed.
        """
        if name not in self:
            raise BadDataset(f"{self.path} has no {name}; ask for another copy, or for one of this version")
        try:
            with zipfile.ZipFile(self.path) as archive:
                data = archive.read(name)
        except (zipfile.BadZipFile, KeyError, EOFError) as error:
            raise _damaged(self.path, str(error)) from error
        if hashlib.sha256(data).hexdigest() != self.facts["members"][name]:
            raise _damaged(self.path, f"{name} is not what was packed")
        return data


def is_bundle(path: Path) -> bool:
    """Whether a file begins as zip archives do; `read_bundle` says what is wrong with one."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def write_bundle(path: Path, facts: Mapping[str, Any], members: Mapping[str, bytes]) -> str:
    """Write a bundle, atomically; the same facts and members give the same bytes.

    Returns
    -------
    str
        sha256 of the file.
    """
    listed = {name: hashlib.sha256(members[name]).hexdigest() for name in sorted(members)}
    text = json.dumps({"schema": _SCHEMA, **facts, "members": listed}, indent=1, sort_keys=True) + "\n"
    with replacing(path) as temporary:
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
            for name, data in ((FACTS, text.encode()), *((name, members[name]) for name in listed)):
                entry = zipfile.ZipInfo(name, _WHEN)
                entry.create_system, entry.external_attr = 3, _READABLE
                archive.writestr(entry, data)
        with temporary.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bundle(path: Path) -> Bundle:
    """Read what a bundle says of itself, after looking at everything that it declares.

    Nothing is unpacked to a name that the file chose, and nothing is larger than the file.

    Raises
    ------
    MissingStep
        If there is no such file.
    BadDataset
        If it is no bundle, is damaged, or holds what no bundle of this version does.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingStep(f"{path} is not there; make it with: haemo pack --run RUN --head NAME {path}")
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _refuse_strange(path, entries, size)
            text = archive.read(FACTS)
        facts = json.loads(text)
        if not isinstance(facts, dict) or not isinstance(facts.get("members"), dict):
            raise ValueError(f"{FACTS} does not say what the file holds")
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, NotImplementedError, RecursionError) as error:
        if isinstance(error, BadDataset):
            raise
        raise _damaged(path, str(error)) from error
    if facts.get("schema") != _SCHEMA:
        raise BadDataset(
            f"{path} was made by {facts.get('made_by', 'another version of haemo')}, in a form that this "
            "version does not know; bring haemo up to date, or have the model packed again"
        )
    names = {entry.filename for entry in entries} - {FACTS}
    if names != set(facts["members"]):
        odd = sorted(names ^ set(facts["members"]))
        raise _damaged(path, f"what it holds and what it lists differ: {', '.join(map(repr, odd))}")
    return Bundle(path, facts)


def _refuse_strange(path: Path, entries: list[zipfile.ZipInfo], size: int) -> None:
    names = [entry.filename for entry in entries]
    odd = [name for name in names if not _MEMBER.fullmatch(name)]
    reason = ""
    if FACTS not in names:
        reason = f"it has no {FACTS}"
    elif odd:
        reason = f"it holds {odd[0]!r}"
    elif len(set(names)) < len(names) or len(names) > _MOST_MEMBERS:
        reason = f"it holds {len(names)} members, some more than once or too many"
    elif any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        reason = "its members are compressed or encrypted"
    elif sum(entry.file_size for entry in entries) > min(size, _MOST_BYTES):
        reason = "its members declare more bytes than the file or a model has"
    elif next(entry.file_size for entry in entries if entry.filename == FACTS) > _MOST_FACTS:
        reason = f"its {FACTS} is too long"
    if reason:
        raise BadDataset(
            f"{path} is no model that haemo packed: {reason}; nothing of it was used. Ask where it comes from"
        )


def _damaged(path: Path, reason: str) -> BadDataset:
    return BadDataset(
        f"{path} is no model that haemo packed, or it is damaged ({reason}); ask for another copy"
    )
