"""What slices, patients, studies and files are called in what a run shares: short codes, with a key."""

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from haemo.features.manifest import Manifest, rows_as_bytes

__all__ = ["Codes", "both_names"]

_DIGITS = 10
_KIND_OF = {
    "patient": "patient",
    "train_patient": "patient",
    "test_patient": "patient",
    "study": "study",
    "train": "slice",
    "test": "slice",
    "slice": "slice",
    "slices": "slice",
    "path": "file",
}


def both_names(patient: str, study: str) -> str:
    """A study by its patient and its own name: studies of two patients may be called alike."""
    return f"{patient} / {study}"


class Codes:
    """Codes such as ``patient-3fa2c1d09b``, for those who are not to know names.

    A code is the beginning of an HMAC-SHA256 of the name. The key is made of everything that the manifest
    says (ids, labels, patients and studies of all slices, not where the files lie): the same run has the
    same codes, another run has others, and only who has the manifest can go back, by ``haemo names``.

    Parameters
    ----------
    manifest : Manifest
    """

    def __init__(self, manifest: Manifest):
        self._manifest = manifest
        self._key = hashlib.sha256(b"haemo codes\0" + rows_as_bytes(manifest)).digest()

    def code(self, kind: str, name: str) -> str:
        """The code of a ``patient``, ``study``, ``slice`` or ``file``; of a code, the code itself.

        A rotated copy of a slice, ``ID@ANGLE``, has the slice's code and its angle.
        """
        if name in self.names:
            return name
        original, at, angle = name.rpartition("@")
        if kind == "slice" and at and self._coded(kind, original) in self.names:
            return f"{self._coded(kind, original)}@{angle}"
        return self._coded(kind, name)

    def _coded(self, kind: str, name: str) -> str:
        message = f"{kind}\0{name}".encode(errors="surrogateescape")
        return f"{kind}-{hmac.new(self._key, message, 'sha256').hexdigest()[:_DIGITS]}"

    @cached_property
    def names(self) -> Mapping[str, tuple[str, str]]:
        """Code -> (kind, name), for everything that the manifest names."""
        found: dict[str, tuple[str, str]] = {}
        for row in self._manifest:
            both = both_names(row.patient, row.study)
            named = ("patient", row.patient), ("study", row.study), ("study", both), ("slice", row.slice_id)
            for kind, name in (*named, ("file", str(row.path))):
                found[self._coded(kind, name)] = kind, name
        return found

    @cached_property
    def numbers(self) -> Mapping[str, str]:
        """Code -> kind and number, as ``patient 7``; the order is that of codes, which says nothing."""
        counts: Counter[str] = Counter()
        found = {}
        for code in sorted(self.names):
            kind, _ = self.names[code]
            counts[kind] += 1
            found[code] = f"{kind} {counts[kind]}"
        return found

    def name(self, code: str) -> str:
        """The name behind a code; what is no code of this run stays as it is."""
        own, at, angle = code.rpartition("@")
        if at and own in self.names:
            return f"{self.names[own][1]}@{angle}"
        return self.names[code][1] if code in self.names else code

    def hide(self, items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Cases that name slices, patients, studies or files, with codes in place of the names.

        What a value is, its key says: ``patient``, ``study``, ``slice``, ``path`` and the like.
        """
        return [{key: self._hidden(key, value) for key, value in item.items()} for item in items]

    def _hidden(self, key: str, value: Any) -> Any:
        kind = _KIND_OF.get(key)
        if kind is None:
            return value
        return [self.code(kind, one) for one in value] if isinstance(value, list) else self.code(kind, value)
