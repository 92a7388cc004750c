"""The fingerprint: everything that changes an embedding, readable, beside its hash."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from haemo.atomic import parse_json
from haemo.errors import DamagedStore, FingerprintMismatch

__all__ = ["Fingerprint"]

_ABSENT = "(absent)"


class Fingerprint:
    """The facts that decide what numbers a slice becomes.

    Two embeddings may stand in one store, and meet in one model, only if their fingerprints are equal.

    Parameters
    ----------
    facts : mapping of str to JSON values
        Weights' sha256, network, layer, preprocessing, precision, schema version. Nested mappings are
        allowed; their keys are named with a dot, ``preprocessing.size``.

    Attributes
    ----------
    facts : dict
        As JSON gives them back: tuples have become lists.
    """

    def __init__(self, facts: Mapping[str, Any]):
        self.facts: dict[str, Any] = json.loads(json.dumps(dict(facts), allow_nan=False))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fingerprint) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return f"Fingerprint({self.hash[:12]})"

    @property
    def hash(self) -> str:
        """Sha256, in hexadecimal, of the facts as canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The facts as JSON with sorted keys and no spaces: equal facts give equal text."""
        return json.dumps(self.facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> "Fingerprint":
        """Read what `to_json` wrote.

        Raises
        ------
        DamagedStore
            If the text is not a JSON object.
        """
        try:
            facts = parse_json(text)
        except ValueError as error:
            raise DamagedStore(f"the fingerprint is not JSON ({error})") from error
        if not isinstance(facts, dict):
            raise DamagedStore("the fingerprint is not a JSON object")
        return cls(facts)

    def differences(self, other: "Fingerprint") -> list[tuple[str, Any, Any]]:
        """Keys whose values differ, each with the value here and the value in `other`, sorted by key.

        A key that one side lacks has the value ``(absent)`` there.
        """
        mine, theirs = dict(_flat(self.facts)), dict(_flat(other.facts))
        return [
            (key, mine.get(key, _ABSENT), theirs.get(key, _ABSENT))
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key, _ABSENT) != theirs.get(key, _ABSENT)
        ]

    def require(self, wanted: "Fingerprint", where: str, remedy: str) -> None:
        """Insist that this fingerprint is the one that is wanted.

        Raises
        ------
        FingerprintMismatch
            Naming `where`, every key that differs with both values, and the `remedy`.
        """
        differences = self.differences(wanted)
        if differences:
            listing = "; ".join(
                f"{key} is {_words(mine)}, asked for {_words(theirs)}" for key, mine, theirs in differences
            )
            raise FingerprintMismatch(f"{where} was made in another way: {listing}. {remedy}")


def _words(value: Any) -> str:
    return "none" if value == _ABSENT else repr(value)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
