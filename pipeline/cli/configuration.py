"""A study file: options of commands from TOML, checked against the commands that there are."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from haemo.errors import BadSettings
from haemo.extensions import did_you_mean

__all__ = ["COMMAND", "Configuration", "below"]

COMMAND = "command"
"""The key by which a table of another name says which command it is for."""

_RUN, _STEPS = "run", "steps"
_NAMES = "a study file holds `run`, `steps`, and a table a command, as [svm]"


@dataclass(frozen=True)
class Configuration:
    """What a study file says.

    Attributes
    ----------
    path : Path
        The file.
    run : str or None
        What ``--run`` of every command is, unless its table has another.
    steps : tuple of str
        Tables in the order in which `haemo run` does them; of the file where it does not say so.
    tables : dict
        Of each command, or name that stands for one, its options by name. Subcommands are tables in tables.
    """

    path: Path
    run: str | None
    steps: tuple[str, ...]
    tables: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: Path, commands: click.Group) -> "Configuration":
        """Read a study file, and hold it against the commands that there are.

        Raises
        ------
        BadSettings
            If it cannot be read, is no TOML, or holds a command, an option or a value that there is not.
        """
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadSettings(f"{path} cannot be read: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadSettings(f"{path} is no TOML: {error}") from error
        run, steps = found.pop(_RUN, None), found.pop(_STEPS, None)
        if run is not None and not isinstance(run, str):
            raise BadSettings(f"{path}: run is the run directory, as a text")
        for name, table in found.items():
            if not isinstance(table, dict):
                raise BadSettings(f"{path}: {name!r} is no option of all commands; {_NAMES}")
        if steps is None:
            steps = list(found)
        if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
            raise BadSettings(f'{path}: steps is a list of names, as ["index", "features", "svm"]')
        own = cls(path, run, tuple(steps), found)
        for name in dict.fromkeys([*found, *steps]):
            own._check(name, commands)
        return own

    def command_of(self, name: str) -> list[str]:
        """Words of the command that a table is for, as ``["segment", "train"]``."""
        table = self.tables.get(name, {})
        return str(table.get(COMMAND, name)).split()

    def words(self, name: str, command: click.Command, typed: Sequence[str] = ()) -> list[str]:
        """What a command is given: what was typed, and of the file what was not.

        Parameters
        ----------
        name : str
            Of a table, with its subcommand where it has one, as ``segment train``.
        command : click.Command
        typed : sequence of str
            Options and arguments that stand on the command line.
        """
        table, parameters = self._table(name), _by_key(command)
        try:
            given, _, order = command.make_parser(click.Context(command)).parse_args(list(typed))
        except click.UsageError:
            return list(typed)  # the command will say what is wrong with it
        options, arguments = [], []
        known = {option.name for option in order if isinstance(option, click.Option)}
        if self.run is not None and "run" not in table and "run" in parameters:
            table = {"run": self.run, **table}
        for key, value in table.items():
            parameter = parameters[key]
            if isinstance(parameter, click.Option):
                options += [] if parameter.name in known else self._as_option(key, parameter, value)
            elif not _is_given(given.get(str(parameter.name))):
                arguments += self._as_arguments(key, parameter, value)
        return [*options, *typed, *arguments]

    def _table(self, name: str) -> dict[str, Any]:
        table = self.tables.get(name)
        if table is None:
            table = self.tables
            for word in name.split():
                table = table.get(word, {})
        return {key: value for key, value in table.items() if key != COMMAND and not isinstance(value, dict)}

    def _check(self, name: str, commands: click.Group) -> None:
        command: click.Command = commands
        try:
            for word in self.command_of(name):
                command = below(command, word)
            tables = list(_tables(name, self.tables.get(name, {}), command))
        except BadSettings as error:
            raise BadSettings(f"{self.path}: {error}") from error
        for place, table, own in tables:
            for key, value in table.items():
                self._check_value(place, key, value, own)

    def _check_value(self, place: str, key: str, value: Any, command: click.Command) -> None:
        known = _by_key(command)
        if key not in known:
            raise BadSettings(
                f"{self.path}: [{place}] has no option {key!r}.{did_you_mean(key, known)} "
                f"haemo {' '.join(self.command_of(place))} --help lists them"
            )
        parameter = known[key]
        words = (
            self._as_option(key, parameter, value)
            if isinstance(parameter, click.Option)
            else self._as_arguments(key, parameter, value)
        )
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            for word in words[1::2]:
                try:
                    parameter.type.convert(word, parameter, None)
                except click.UsageError as error:
                    raise BadSettings(f"{self.path}: [{place}] {key}: {error.message}") from error

    def _as_option(self, key: str, option: click.Option, value: Any) -> list[str]:
        name = f"--{key}"
        if option.is_flag:
            if not isinstance(value, bool):
                raise BadSettings(f"{self.path}: {key} is true or false, not {value!r}")
            return [name] if value else list(option.secondary_opts[:1])
        if option.multiple:
            return [word for one in self._texts(key, value) for word in (name, one)]
        return [name, ",".join(self._texts(key, value))]

    def _as_arguments(self, key: str, argument: click.Parameter, value: Any) -> list[str]:
        words = self._texts(key, value)
        if argument.nargs == 1 and len(words) != 1:
            raise BadSettings(f"{self.path}: {key} is one value, not {len(words)}")
        for word in words:
            if word.startswith("-"):
                raise BadSettings(f"{self.path}: {key}: {word!r} would be an option; write ./{word}")
        return words

    def _texts(self, key: str, value: Any) -> list[str]:
        found = value if isinstance(value, list) else [value]
        for one in found:
            if isinstance(one, bool) or not isinstance(one, (str, int, float)):
                raise BadSettings(f"{self.path}: {key} is a text, a number or a list of these, not {one!r}")
        return [str(one) for one in found]


def below(command: click.Command, word: str) -> click.Command:
    """The subcommand of a name.

    Raises
    ------
    BadSettings
        If there is none.
    """
    context = click.Context(command)
    found = command.get_command(context, word) if isinstance(command, click.Group) else None
    if found is None:
        names = command.list_commands(context) if isinstance(command, click.Group) else []
        raise BadSettings(
            f"{word!r} is no command.{did_you_mean(word, names)} A table of another name says which one "
            f'it is for: {COMMAND} = "svm"'
        )
    return found


def _by_key(command: click.Command) -> Mapping[str, click.Parameter]:
    """Parameters of a command by what they are called in a study file: as typed, without the dashes."""
    found: dict[str, click.Parameter] = {}
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            found[str(parameter.name).removesuffix("_path").replace("_", "-")] = parameter
        else:
            found |= {name[2:]: parameter for name in parameter.opts if name.startswith("--")}
    return found


def _is_given(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, tuple) and len(value) > 0)


def _tables(
    place: str, table: Mapping[str, Any], command: click.Command
) -> Iterator[tuple[str, dict[str, Any], click.Command]]:
    """Each table with its place and its command."""
    own = {key: value for key, value in table.items() if key != COMMAND and not isinstance(value, dict)}
    yield place, own, command
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _tables(f"{place} {key}", value, below(command, key))
