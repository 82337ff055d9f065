"""What is wrong with the words of a command, in one line: which word, and what is allowed in its place."""

from __future__ import annotations

import difflib
import enum
import inspect
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.models import ParameterInfo

from longgen.cli.options.parameters import value_type
from longgen.errors import ConfigError

# Of errors about words, Typer exports this one alone; the class that it extends is the one of all of them.
_UsageError: Any = typer.BadParameter.__mro__[1]


class PlainUsage:
    """For a command or group of Typer, to extend before Typer's class, which draws a box of many lines instead.

    Attributes:
        parameters: of the command by name, as `longgen.cli.options.parameters.signature` has them.
    """

    parameters: Mapping[str, inspect.Parameter] = {}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer's. Raises ConfigError for an unknown option, an impossible value, or one that is missing."""
        words = list(args)  # Typer takes them out of ``args`` one by one
        above: Any = super()
        try:
            rest: list[str] = above.parse_args(ctx, args)
        except _UsageError as error:
            if not words and ctx.command.no_args_is_help:  # with this error Typer shows --help
                raise
            _fail(ctx, self._problem(ctx, words, error))
        return rest

    def invoke(self, ctx: Any) -> Any:
        """As Typer's. Raises ConfigError for a group without a verb."""
        above: Any = super()
        try:
            return above.invoke(ctx)
        except _UsageError as error:
            _fail(ctx, _in_one_line(error))

    def _problem(self, ctx: Any, words: list[str], error: Any) -> str:
        if hasattr(error, "possibilities"):
            return _unknown_option(ctx, words, error.option_name)
        if hasattr(error, "option_name"):
            return self._value_of_option(ctx, words, error.option_name)
        given, extra, _ = ctx.command.make_parser(ctx).parse_args(args=words)
        parameter = getattr(error, "param", None)
        if parameter is None:
            return _too_many(ctx, extra) if extra else _in_one_line(error)
        if (value := given.get(parameter.name)) is None:
            # what is given is looked at before what is not: nothing is wrong with that
            return self._missing([each for each in ctx.command.params if each.required and not given.get(each.name)])
        return f"{_name(parameter)} is {self._wrong(parameter, value)!r}: {self._allowed(parameter)}"

    def _value_of_option(self, ctx: Any, words: list[str], option: str) -> str:
        """An option without its value, or a switch with one."""
        for word in words:
            if word.startswith(f"{option}="):
                return f"{option} is {word.partition('=')[2]!r}: allowed is the option alone, without a value"
        parameter = next(each for each in ctx.command.params if option in _options(each))
        return f"{option} is without a value: {self._allowed(parameter)}"

    def _missing(self, parameters: list[Any]) -> str:
        names = [_name(each) for each in parameters]
        if len(names) == 1:
            return f"{names[0]} is missing: {self._allowed(parameters[0])}"
        return f"{', '.join(names[:-1])} and {names[-1]} are missing"

    def _allowed(self, parameter: Any) -> str:
        """``allowed is a whole number >= 1``; what --help says where the type does not tell."""
        kind, info = self._type(parameter)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return f"allowed are {', '.join(str(each.value) for each in kind)}"
        if kind in (int, float):
            low, high = getattr(info, "min", None), getattr(info, "max", None)
            bounds = f" >= {low}" if low is not None else ""
            bounds += f" <= {high}" if high is not None else ""
            return f"allowed is {'a whole number' if kind is int else 'a number'}{bounds}"
        text = " ".join((parameter.help or "").split()).rstrip(".")
        return text[:1].lower() + text[1:] if text[1:2].islower() else text

    def _wrong(self, parameter: Any, value: Any) -> Any:
        """``value``; of several the first that is impossible."""
        kind, _ = self._type(parameter)
        for each in value if isinstance(value, list | tuple) else ():
            try:
                kind(each)
            except ValueError:
                return each
        return value

    def _type(self, parameter: Any) -> tuple[Any, ParameterInfo | None]:
        """Of its value, or of each of several."""
        if parameter.name not in self.parameters:  # --help
            return bool, None
        hint, info, *_ = typing.get_args(self.parameters[parameter.name].annotation)
        return value_type(hint), info


def need_verb(ctx: Any, word: str, verbs: Mapping[str, Any]) -> None:
    """Raise ConfigError unless ``word`` is one of ``verbs``; it names what may have been meant."""
    if word in verbs or ctx.resilient_parsing:
        return
    path = ctx.command_path
    below = [f"{path} {name} {word}" for name, verb in verbs.items() if word in verb.verbs]
    takes_config = any("--config" in _options(each) for each in ctx.command.params)
    if below:
        advice = f": did you mean {' or '.join(below)}?"
    elif takes_config and (Path(word).exists() or Path(word).suffix in (".yaml", ".yml")):
        advice = f": did you mean --config {word}?"
    else:
        advice = _closest(word, verbs) or f": allowed are {', '.join(verbs)}"
    _fail(ctx, f"{word!r} is no verb of {path}{advice}")


def is_misspelt(word: str, verbs: Iterable[str]) -> bool:
    """Whether ``word``, which is none of ``verbs``, is close to one, and no file that is there."""
    return bool(_closest(word, verbs)) and not Path(word).exists()


def _unknown_option(ctx: Any, words: list[str], option: str) -> str:
    word = next((word for word in words if word.startswith(option)), option)  # of -output, option is -o
    name = word.partition("=")[0]
    every = [option for each in ctx.command.params for option in _options(each)]
    return f"{name} is no option of {ctx.command_path}{_closest(name, [*every, *ctx.help_option_names])}"


def _too_many(ctx: Any, words: list[str]) -> str:
    arguments = [_name(each) for each in ctx.command.params if not each.opts[0].startswith("-")]
    allowed = f"{' '.join(arguments)} and options" if arguments else "options"
    return f"{' '.join(map(repr, words))} is too much: allowed are {allowed}, which begin with --"


def _closest(word: str, allowed: Iterable[str]) -> str:
    """``: did you mean train?``; nothing where none is close."""
    matches = difflib.get_close_matches(word, list(allowed), n=2)
    return f": did you mean {' or '.join(matches)}?" if matches else ""


def _options(parameter: Any) -> tuple[str, ...]:
    return (*parameter.opts, *parameter.secondary_opts)


def _name(parameter: Any) -> str:
    option = str(parameter.opts[0])
    return option if option.startswith("-") else (parameter.metavar or option).upper()


def _in_one_line(error: Any) -> str:
    return " ".join(error.format_message().split()).rstrip(".")


def _fail(ctx: Any, problem: str) -> NoReturn:
    raise ConfigError(f"{problem} (see `{ctx.command_path} {ctx.help_option_names[-1]}`)") from None
