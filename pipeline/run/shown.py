"""run.json as it may be shown: without the paths of this machine, which stay in paths.json beside it."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["restored", "shown", "without_paths"]

_LEFT_OUT = "<path>"
_WEIGHTS = {".pt", ".pth", ".safetensors"}  # what their files are called tells of no patient
# Where weights came from is said in words, with the path last; then what looks like a path anywhere.
_AT_END = re.compile(r"(?<=\()[/~].*(?=\)$)|(?<=^file )[/~].*$|(?<= from )[/~].*$")
_ANYWHERE = re.compile(r"(?<![\w./~)])(?:~|/(?=[^/\s]))[^\s\"'(),;:]*/[^\s\"'(),;:]*")


def shown(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What of a record may be shown, and what that leaves out.

    Absolute paths are left out of every text, and of commands also words that name a file or folder here,
    relative or not, or a host of a cluster; of files with weights the name stays.

    Returns
    -------
    record : dict
    left_out : dict of str to list
        JSON pointer -> the text as it is shown, and as it was.
    """
    left_out: dict[str, list[str]] = {}

    def walk(value: Any, pointer: str, is_command: bool = False) -> Any:
        if isinstance(value, Mapping):
            return {
                key: walk(own, f"{pointer}/{_escaped(str(key))}", key == "command")
                for key, own in value.items()
            }
        if isinstance(value, list | tuple):
            return [
                walk(_Word(own, place) if is_command else own, f"{pointer}/{place}")
                for place, own in enumerate(value)
            ]
        text = value.text if isinstance(value, _Word) else value
        if not isinstance(text, str):
            return text
        hidden = value.shown() if isinstance(value, _Word) else without_paths(text)
        if hidden != text:
            left_out[pointer] = [hidden, text]
        return hidden

    return walk(record, ""), left_out


def restored(record: dict[str, Any], left_out: Mapping[str, Any]) -> dict[str, Any]:
    """A record with what `shown` left out of it put back, in place; what was recorded anew stays as it is."""
    for pointer, texts in left_out.items():
        holder: Any = record
        *steps, last = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
        try:
            for step in steps:
                holder = holder[int(step) if isinstance(holder, list) else step]
            place = int(last) if isinstance(holder, list) else last
            hidden, text = texts
            if holder[place] == hidden:
                holder[place] = text
        except (KeyError, IndexError, TypeError, ValueError):
            continue  # run.json has no such place any more
    return record


def without_paths(text: str) -> str:
    """A text without the absolute paths in it."""
    if text.startswith(("/", "~/")):
        return _name(text)
    text = _AT_END.sub(lambda found: _name(found[0]), text)
    return _ANYWHERE.sub(lambda found: _name(found[0]), text)


class _Word:
    """A word of a command; the first is the program, the second may be called as a folder is."""

    def __init__(self, text: Any, place: int):
        self.text = text
        self._place = place

    def shown(self) -> str:
        if self._place == 0:
            return Path(self.text).name
        if self._place == 1:
            return self.text
        option, equals, value = self.text.partition("=")
        if equals and _names_a_place(value):
            return f"{option}={_name(value)}"
        return _name(self.text) if _names_a_place(self.text) else without_paths(self.text)


def _names_a_place(word: str) -> bool:
    try:
        return bool(word) and (
            word.startswith(("/", "~", "tcp://", "tls://"))
            or ".." in Path(word).parts
            or os.path.lexists(word)
        )
    except ValueError:  # a null character
        return False


def _name(path: str) -> str:
    return f"{_LEFT_OUT}/{Path(path).name}" if Path(path).suffix in _WEIGHTS else _LEFT_OUT


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
