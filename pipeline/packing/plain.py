"""A skops file with the same bytes whenever and wherever its head was saved."""

import io
import json
import zipfile
from typing import Any

from haemo.errors import BadDataset

__all__ = ["plain_skops", "refuse_swollen"]

_SCHEMA = "schema.json"
_WHEN = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file knows


def plain_skops(data: bytes) -> bytes:
    """Name arrays and objects of a skops file by their order, where skops took addresses in memory.

    Members keep their bytes and come in the order of their names, stored, with a date that says nothing.
    """
    names: dict[str, str] = {}
    ids: dict[int, int] = {}

    def renamed(node: Any) -> Any:
        if isinstance(node, list):
            return [renamed(one) for one in node]
        if not isinstance(node, dict):
            return node
        found = {key: renamed(value) for key, value in node.items()}
        if isinstance(found.get("__id__"), int):
            found["__id__"] = ids.setdefault(found["__id__"], len(ids) + 1)
        if isinstance(found.get("file"), str):
            suffix = found["file"].rpartition(".")[2]
            found["file"] = names.setdefault(found["file"], f"{len(names) + 1}.{suffix}")
        return found

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = json.dumps(renamed(json.loads(archive.read(_SCHEMA))))
        members = {names.get(name, name): archive.read(name) for name in archive.namelist()}
    members[_SCHEMA] = schema.encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, _WHEN), members[name])
    return stream.getvalue()


def refuse_swollen(data: bytes, where: str) -> None:
    """Refuse a skops file whose members unpack to more than the file itself.

    Raises
    ------
    BadDataset
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BadDataset(f"{where} is no skops file ({error}); ask for another copy") from error
    if any(one.compress_type != zipfile.ZIP_STORED for one in members) or sum(
        one.file_size for one in members
    ) > len(data):
        raise BadDataset(
            f"{where} unpacks to more than it holds, as no file of haemo's does; do not use it, ask where it "
            "comes from"
        )
