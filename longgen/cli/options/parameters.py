"""From a class of options to a command's parameters, and from a command line back to the class: one way for all verbs.

A field of an `Options` class is an argument or option, with its typer.Argument or typer.Option in ``Annotated``. One
that is ``Annotated[Overrides[C], FieldsOf(...)]`` is several options, which stand for fields of the dataclass ``C``.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import types
import typing
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import typer
from typer.models import ParameterInfo

from longgen.errors import ConfigError
from longgen.files import check_place
from longgen.strict import configuration_text

T = TypeVar("T")


@dataclass(frozen=True)
class Overrides(Generic[T]):
    """The fields of a ``T`` that the command line sets.

    Attributes:
        values: by the names of the fields.
    """

    values: dict[str, Any] = field(default_factory=dict)

    def applied_to(self, defaults: T) -> T:
        """``defaults`` with these values. Raises ConfigError where ``T`` refuses them."""
        return typing.cast(T, dataclasses.replace(typing.cast(Any, defaults), **self.values))


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a verb.

    The docstring of a verb's class is what its --help says after the first sentence, which `longgen.cli.verbs` has.

    Attributes:
        explicit: parameters that were on the command line, in the order of --help.
    """

    explicit: tuple[str, ...] = ()

    def refuse_beside_config(self, *allowed: str) -> None:
        """Raise ConfigError if options other than ``allowed`` were given, which the configuration file decides."""
        names = option_names(name for name in self.explicit if name not in allowed)
        if names:
            raise ConfigError(f"{names} given with --config: allowed is one or the other, since the file says it all")


class Check:
    """Beside a typer.Option or Argument in ``Annotated``: what its value must be.

    It is looked at before what is missing on the command line: it may well be the reason.
    """

    def check(self, option: str, value: Any) -> None:
        """Raise ConfigError if ``option`` has another value; None is none."""
        raise NotImplementedError


@dataclass(frozen=True)
class OneOf(Check):
    """One of these values, or each of several; --help lists them."""

    choices: tuple[str, ...]

    def check(self, option: str, value: str | list[str] | None) -> None:
        """Raise ConfigError if one is none of them."""
        for each in [value] if isinstance(value, str) else value or ():
            if each not in self.choices:
                raise ConfigError(f"{option_names([option])} is {each!r}: allowed are {', '.join(self.choices)}")


class Finite(Check):
    """A number that is one, which NaN and infinity are not; so is every option for a float."""

    def check(self, option: str, value: float | list[float] | None) -> None:
        """Raise ConfigError if it, or one of several, is NaN or infinite."""
        for each in [value] if isinstance(value, float) else value or ():
            if not math.isfinite(each):
                raise ConfigError(f"{option_names([option])} is {each}: allowed is a finite number")


class ConfigurationFile(Check):
    """A file of text; whether it is a configuration shows when it is read."""

    def check(self, option: str, value: Path | None) -> None:
        """Raise ConfigError if it is missing, a folder, or no text."""
        if value is not None:
            configuration_text(value)


class FieldsOf:
    """Options for fields of a dataclass, of which they have type, default, allowed values and help.

    The help is the first sentence on the field in the ``Attributes`` of the class, with the values of a Literal.

    Args:
        defaults: an instance, whose values are the defaults.
        names: fields whose options are called as they are.
        panel: heading in --help.
        default_texts: what --help shows in place of a default, by field.
        aliases: name of the option -> field, where they differ.
    """

    def __init__(
        self,
        defaults: Any,
        *names: str,
        panel: str | None = None,
        default_texts: dict[str, str] | None = None,
        **aliases: str,
    ) -> None:
        self.defaults, self.panel, self.default_texts = defaults, panel, default_texts or {}
        self.fields = {name: name for name in names} | aliases
        self._types = typing.get_type_hints(type(defaults))

    def parameters(self) -> Iterator[inspect.Parameter]:
        """One for every option, as typer reads it."""
        for option, name in self.fields.items():
            default = getattr(self.defaults, name)
            kind: Any = bool if isinstance(default, bool) else _one_type(self._types[name])
            flag = option_names([option])
            words = [f"{flag}/--no-{flag[2:]}" if default else flag] if kind is bool else []
            text = field_help(type(self.defaults), name)
            info = typer.Option(
                *words,
                help=f"{text.rstrip('.')}; repeat for several." if typing.get_origin(kind) is list else text,
                show_default=self.default_texts.get(name, kind is not bool or default),
                rich_help_panel=self.panel,
            )
            hint: Any = Annotated[kind if default is not None else kind | None, info, self._one_of(name)]
            yield _parameter(option, hint, default)

    def read(self, values: dict[str, Any]) -> Overrides[Any]:
        """``values`` of options, as fields."""
        return Overrides({self.fields[option]: value for option, value in values.items()})

    def _one_of(self, name: str) -> OneOf | None:
        kind = self._types[name]
        return OneOf(typing.get_args(kind)) if typing.get_origin(kind) is Literal else None


@dataclass(frozen=True)
class Output(Check):
    """What is written: a file, or a folder. What stands in its way is told before hours of work, not after them."""

    is_folder: bool = False

    def check(self, option: str, value: Path | None) -> None:
        """Raise OutputError if it cannot be there."""
        if value is not None:
            check_place(value, self.is_folder)


OUTPUT_FILE, OUTPUT_FOLDER = Output(), Output(is_folder=True)


def option_names(names: Iterable[str]) -> str:
    """``--full-layers, --batch`` for an error message."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def field_help(cls: type, name: str) -> str:
    """The first sentence on field ``name`` in the ``Attributes`` of a dataclass or of those that it extends; or none.

    What null means is left out: it is YAML's, and --help has the default.
    """
    for each in cls.__mro__:
        attributes = inspect.cleandoc(each.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
        line = re.search(rf"^    (?:\w+, )*{name}(?:, \w+)*: (.*(?:\n     +.*)*)", attributes, re.MULTILINE)
        if line:
            sentence = re.split(r"\. |; null: |\.$", " ".join(line[1].split()), maxsplit=1)[0]
            return f"{sentence[0].upper()}{sentence[1:]}.".replace("`", "")
    return ""


def value_type(hint: Any) -> Any:
    """Of a value that may be none, or of each of several: int of ``list[int] | None``."""
    while typing.get_origin(hint) in (typing.Union, types.UnionType, list):
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    return hint


def signature(options: type[Options]) -> inspect.Signature:
    """Parameters of the command that takes ``options``, with typer's context before them."""
    return inspect.Signature([_parameter("context", typer.Context), *_parameters(options)])


def read_options(options: type[Options], context: typer.Context, values: dict[str, Any]) -> Options:
    """The ``options`` that a command was called with.

    Args:
        options: a class of `Options`.
        context: of the call.
        values: by the names of the parameters of `signature`.

    Raises:
        ConfigError: values that the class itself refuses.
    """
    explicit = tuple(
        name for name in values if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    )
    groups = _extras(options, FieldsOf)
    of_groups = {option for group in groups.values() for option in group.fields}
    plain = {name: value for name, value in values.items() if name not in of_groups}
    for name, group in groups.items():
        plain[name] = group.read({option: values[option] for option in group.fields if option in explicit})
    return options(explicit=explicit, **plain)


def in_words_of_options(message: str, options: type[Options], given: dict[str, str]) -> str:
    """``micro_batch_size is 0: ...`` of a dataclass as ``--micro-batch is 0: ...``, which the user has written.

    Args:
        message: of an error.
        options: of the command.
        given: options on the command line, by the names of their parameters.
    """
    by_field = {field: name for group in _extras(options, FieldsOf).values() for name, field in group.fields.items()}
    subject, verb, rest = message.partition(" is ")
    option = given.get(by_field.get(subject, subject))
    return f"{option}{verb}{rest}" if option else message


def _parameters(options: type[Any]) -> Iterator[inspect.Parameter]:
    hints, groups = typing.get_type_hints(options, include_extras=True), _extras(options, FieldsOf)
    for each in dataclasses.fields(options):
        if each.name in groups:
            yield from groups[each.name].parameters()
        elif each.init and each.name != "explicit":
            factory = each.default_factory
            default = each.default if factory is dataclasses.MISSING else factory()
            yield _parameter(each.name, hints[each.name], default)


def _parameter(name: str, hint: Any, default: Any = dataclasses.MISSING) -> inspect.Parameter:
    """A parameter as typer reads it; the help of a hint with `OneOf` lists the values."""
    kind, *extras = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
    checks = [extra for extra in extras if isinstance(extra, Check)]
    if value_type(kind) is float:
        checks.append(Finite())

    def checked(value: Any) -> Any:
        for check in checks:
            check.check(name, value)
        return value

    for info in (copy(extra) for extra in extras if isinstance(extra, ParameterInfo)):
        for check in checks:
            info.callback = checked
            if isinstance(check, OneOf):
                info.help = f"{(info.help or '').rstrip('.')}: {', '.join(check.choices)}."
        hint = Annotated[kind, info]
    default = inspect.Parameter.empty if default is dataclasses.MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)


def _extras(options: type[Any], kind: type[T]) -> dict[str, T]:
    """What stands in ``Annotated`` of the fields of ``options`` and is a ``kind``, by field."""
    hints = typing.get_type_hints(options, include_extras=True)
    extras = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: extra for name, several in extras.items() for extra in several if isinstance(extra, kind)}


def _one_type(hint: Any) -> Any:
    """What the command line reads for a field of this type: text for a Literal or several types."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    plain = [option for option in options if option is not type(None)]
    is_parsed = len(plain) == 1 and (plain[0] in (int, float, bool) or typing.get_origin(plain[0]) is list)
    return plain[0] if is_parsed else str
