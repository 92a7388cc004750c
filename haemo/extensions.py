"""Tables of what can be chosen by name: what is built in, and what installed distributions add to it."""

import logging
import pkgutil
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, TypeVar

from haemo.errors import BadSettings, BrokenExtension

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Extensions", "did_you_mean", "nearest", "unknown"]

_log = logging.getLogger("haemo")

Kind = TypeVar("Kind")


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Give the `names` that `name` may be a slip for, the likeliest first; upper and lower case are one.

    Likeness is the ratio of `difflib.SequenceMatcher`: from 0.6, and at most 0.1 below that of the likeliest.
    A name such as ``torchvision:resnet18`` is also known by what follows the colon.
    """
    ratios = {known: max(_likeness(name, known), _likeness(name, known.split(":")[-1])) for known in names}
    least = max(0.6, max(ratios.values(), default=0.0) - 0.1)
    return sorted((known for known in ratios if ratios[known] >= least), key=lambda known: -ratios[known])[:3]


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, other.casefold(), one.casefold()).ratio()


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Give a question such as ``" Did you mean svm or softmax?"``, or nothing where no name is near."""
    found = nearest(name, names)
    listed = " or ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
    return f" Did you mean {listed}?" if found else ""


def unknown(noun: str, name: str, names: Iterable[str]) -> BadSettings:
    """Give the error for a name that does not exist: it asks for the nearest ones, and lists them all."""
    names = list(names)
    return BadSettings(
        f"there is no {noun} {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}"
    )


class Extensions(Generic[Kind]):
    """A table of names: built-in things, loaded when they are asked for, and those of plug-ins.

    A plug-in is an entry point of an installed distribution; docs/extending.md has examples.

    Parameters
    ----------
    noun : str
        What one of them is called in messages, for example ``head``.
    group : str
        The entry point group, for example ``haemo.heads``.
    kind : type
        What each must be an instance of; a plug-in that is not is broken.
    builtin : mapping of str to str
        Name -> ``package.module:attribute``, in the order in which they are listed.
    """

    def __init__(self, noun: str, group: str, kind: type[Kind], builtin: Mapping[str, str]):
        self.noun = noun
        self.group = group
        self._kind = kind
        self._builtin = dict(builtin)
        self._loaded: dict[str, Kind] = {}

    @cached_property
    def _plugins(self) -> dict[str, list["EntryPoint"]]:
        from importlib.metadata import entry_points  # here, since it takes its time to import

        found: dict[str, list[EntryPoint]] = {}
        for point in sorted(entry_points(group=self.group), key=lambda point: (point.name, _origin(point))):
            found.setdefault(point.name, []).append(point)
        return found

    def names(self) -> list[str]:
        """Give every name: the built-in ones in their order, then those of plug-ins by the alphabet."""
        return list(self._builtin | self._plugins)

    def added(self) -> list[str]:
        """Give the names of plug-ins, whether these can be used or not."""
        return list(self._plugins)

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._plugins

    def is_builtin(self, name: str) -> bool:
        """Whether this name is built in."""
        return name in self._builtin

    def get(self, name: str) -> Kind:
        """Load what has this name.

        Raises
        ------
        BadSettings
            If there is no such name; the message asks for the nearest ones and lists all.
        BrokenExtension
            If a plug-in cannot be imported or is not what it should be, or claims a name that is built in
            or another one's; the message names its distribution.
        """
        if name not in self:
            raise unknown(self.noun, name, self.names())
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def usable(self) -> Mapping[str, Kind]:
        """Load all, in the order of `names`; broken plug-ins are left out, each with one warning."""
        return self._usable

    @cached_property
    def _usable(self) -> Mapping[str, Kind]:
        found = {}
        for name in self.names():
            try:
                found[name] = self.get(name)
            except BrokenExtension as error:
                _log.warning("left out: %s", error)
        return MappingProxyType(found)

    def _load(self, name: str) -> Kind:
        points = self._plugins.get(name, [])
        origins = " and ".join(map(_origin, points))
        if points and name in self._builtin:
            raise BrokenExtension(
                f"the {self.noun} {name!r} is built in, and {origins} may not replace it; uninstall that, or "
                f"give its {self.noun} another name"
            )
        if len(points) > 1:
            raise BrokenExtension(f"{origins} both bring a {self.noun} {name!r}; uninstall one of them")
        if not points:
            return pkgutil.resolve_name(self._builtin[name])
        try:
            loaded = points[0].load()
        # A plug-in is code of others: whatever it raises means that it cannot be used.
        except Exception as error:
            raise BrokenExtension(
                f"the {self.noun} {name!r} of {origins} cannot be loaded ({type(error).__name__}: {error}); "
                "mend it or uninstall it"
            ) from error
        if not isinstance(loaded, self._kind):
            raise BrokenExtension(
                f"the {self.noun} {name!r} of {origins} is {points[0].value}, a {type(loaded).__name__}; it "
                f"must be a {self._kind.__name__}"
            )
        return loaded


def _origin(point: "EntryPoint") -> str:
    """Name and version of the distribution that an entry point is of."""
    assert point.dist is not None, "it was found among what is installed"  # noqa: S101 - for type checkers
    return f"{point.dist.name} {point.dist.version}"
