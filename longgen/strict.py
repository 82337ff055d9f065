"""Strict construction of dataclasses from YAML: every error names the file, the key, the value and what is allowed."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from longgen.errors import ConfigError, require

__all__ = ["build", "configuration_text", "load_configuration", "load_yaml", "require"]

EXTENDS = "extends"
# class variable of a dataclass: former key -> what to write instead
FORMER = "FORMER"

T = TypeVar("T")


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's own rule for a repeated key is that the last one wins, silently; here it is an error."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    # Before merge keys (<<) are resolved: to override a merged key is what they are for.
    for key_node, _ in node.value:
        if isinstance(key_node, yaml.ScalarNode):
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"key {key_node.value!r} occurs twice (line {line}): names must be unique")
            seen.add(key_node.value)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def configuration_text(path: Path | str) -> str:
    """What a configuration file holds. Raises ConfigError if it is missing, or is not text."""
    advice = "give the path of a configuration such as config/smoke.yaml"
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: {advice}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder: {advice}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): {advice}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text ({error}): {advice}") from None


def load_yaml(path: Path | str) -> Any:
    """Parse a YAML file.

    Raises:
        ConfigError: the file is missing, is not text or YAML, or repeats a key.
    """
    text = configuration_text(path)
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {_in_words(error)}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _in_words(error: yaml.YAMLError) -> str:
    """In one line, where the library draws the place below the text."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and (mark := error.problem_mark):
        return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
    return " ".join(str(error).split())


def load_configuration(path: Path | str) -> tuple[Any, str]:
    """A YAML file, and where its values are from, for error messages.

    A file may say ``extends: other.yaml``, by a path relative to itself: its top-level keys replace those of the other
    file, each as a whole, and the other may extend a third in turn. ``extends`` itself is no key of the result: what
    depends on it depends on the values, not on the files.

    Returns:
        the values, and ``a.yaml (extends b.yaml)`` or just the path.

    Raises:
        ConfigError: as `load_yaml`; a file extends itself, if by way of others, or one that is no mapping.
    """
    chain = [Path(path)]
    values = load_yaml(path)
    while isinstance(values, dict) and EXTENDS in values:
        file, extended = chain[-1], values.pop(EXTENDS)
        if not isinstance(extended, str) or not extended:
            raise ConfigError(f"{file}: {EXTENDS} is {extended!r}: allowed is the path of a configuration, from {file}")
        chain.append(file.parent / extended)
        if chain[-1].resolve() in [each.resolve() for each in chain[:-1]]:
            circle = " extends ".join(map(str, chain))
            raise ConfigError(f"{file}: {EXTENDS} is {extended!r}, which leads in a circle: {circle}")
        try:
            base = load_yaml(chain[-1])
        except ConfigError as error:
            raise ConfigError(f"{file}: {EXTENDS} is {extended!r}: {error}") from None
        if not isinstance(base, dict):
            raise ConfigError(f"{file}: {EXTENDS} is {extended!r}: {chain[-1]} is {base!r}: allowed is a mapping")
        values = base | values
    beyond = f" (extends {', '.join(map(str, chain[1:]))})" if len(chain) > 1 else ""
    return values, f"{path}{beyond}"


def _type_name(expected: Any) -> str:
    if typing.get_origin(expected) is Literal:
        return "one of " + ", ".join(repr(v) for v in typing.get_args(expected))
    if typing.get_origin(expected) in (Union, types.UnionType):
        return " or ".join(_type_name(option) for option in typing.get_args(expected))
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    if dataclasses.is_dataclass(expected) or typing.get_origin(expected) is dict:
        return "a mapping"
    return names.get(expected, "a list")


def build(expected: Any, value: Any, key: str) -> Any:
    """``value`` (from YAML) as the type ``expected``: a dataclass, list, dict, Literal, union or plain type.

    Args:
        expected: the type to make.
        value: plain data.
        key: dotted path of the value, for error messages; may be empty at the top.

    Raises:
        ConfigError: unknown or missing key, wrong type, or a dataclass's own check fails.
    """
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    error = ConfigError(f"{key or 'the file'} is {value!r}: allowed is {_type_name(expected)}")
    if dataclasses.is_dataclass(expected):
        if not isinstance(value, dict):
            raise error
        return _build_dataclass(typing.cast(type, expected), value, key)
    if origin is list:
        if not isinstance(value, list):
            raise error
        return [build(arguments[0], item, f"{key}[{index}]") for index, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise error
        return {build(arguments[0], k, f"key of {key}"): build(arguments[1], v, f"{key}.{k}") for k, v in value.items()}
    if origin is Literal:
        if value not in arguments:
            raise error
        return value
    if origin in (Union, types.UnionType):
        types_but_null = [option for option in arguments if option is not type(None)]
        if value is not None and len(types_but_null) == 1 and dataclasses.is_dataclass(types_but_null[0]):
            return build(types_but_null[0], value, key)  # whose own errors say more than that it is none
        for option in arguments:
            try:
                return build(option, value, key)
            except ConfigError:
                continue
        raise error
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if expected is float and isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value):
        number = f"{float(value):.1e}"  # YAML 1.1 wants the point that people leave out
        raise ConfigError(f"{key} is {value!r}, which YAML reads as text: allowed is a number, so write {number}")
    if type(value) is not expected or (expected is float and not math.isfinite(value)):
        raise error
    return value


def _build_dataclass(cls: type[T], value: dict[str, Any], key: str) -> T:
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls)) if f.init}
    prefix = f"{key}." if key else ""
    for name in value:
        if name not in fields:
            if instead := getattr(cls, FORMER, {}).get(name):
                raise ConfigError(f"{prefix}{name} is no key any more: {instead}")
            near = difflib.get_close_matches(str(name), fields, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(f"{prefix}{name} is not a known key{hint}: allowed are {', '.join(fields)}")
    for name, f in fields.items():
        if name not in value and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{prefix}{name} is missing: {cls.__name__} needs it")
    hints = typing.get_type_hints(cls)
    values = {name: build(hints[name], item, f"{prefix}{name}") for name, item in value.items()}
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from None
