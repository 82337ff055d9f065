"""Records of a benchmark's own data: checked, chosen, and from a folder or the Hugging Face hub."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from longgen.errors import ArtifactError, ConfigError
from longgen.strict import build, require

R = TypeVar("R")
HUB = "hub:"


def hub_dataset(data_root: Path, default: str) -> tuple[str, str | None] | None:
    """Name and revision of the dataset on the hub that ``data_root`` stands for; None if it is a folder.

    ``hub:`` is ``default``, ``hub:owner/name`` another dataset laid out like it; ``@revision`` may follow either.
    """
    if not (address := data_root.as_posix()).startswith(HUB):
        return None
    name, _, revision = address.removeprefix(HUB).partition("@")
    return name or default, revision or None


def json_lines(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, Any]]:
    """(place, value) of every line that is not blank.

    Raises:
        ArtifactError: a line of the file ``name`` is not JSON.
    """
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        place = f"{name}, line {number}"
        try:
            yield place, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{place}: not JSON ({json_fault(error)})") from None


def json_fault(error: Exception) -> str:
    """What is wrong with a line of JSON lines, without the number that it has in itself, which is always 1."""
    return f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)


def checked(record: type[R], value: Any, place: str) -> R:
    """``value`` as a ``record`` (a dataclass); keys that it does not have are left out.

    Raises:
        ArtifactError: a key is missing, has a value of another type, or text that UTF-8 cannot hold.
    """
    if not isinstance(value, dict):
        raise ArtifactError(f"{place}: is {type(value).__name__}, allowed is a mapping")
    names = [field.name for field in dataclasses.fields(record)]  # type: ignore[arg-type]
    if missing := [name for name in names if name not in value]:
        raise ArtifactError(f"{place}: {missing[0]} is missing, allowed are records with {', '.join(names)}")
    content_by_field = {name: value[name] for name in names}
    for name, content in content_by_field.items():
        try:
            json.dumps(content, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
            raise ArtifactError(f"{place}: {name} is not UTF-8 text ({error.reason})") from None
    try:
        return build(record, content_by_field, "")
    except ConfigError as error:
        raise ArtifactError(f"{place}: {error}") from None


def require_field(condition: bool, place: str, name: str, value: object, allowed: str) -> None:
    """Raise ArtifactError ``<place>: <name> is <value>: allowed is <allowed>`` unless ``condition``."""
    if not condition:
        text = repr(value)
        raise ArtifactError(f"{place}: {name} is {text[:200]}{'...' * (len(text) > 200)}: allowed is {allowed}")


def choose(records: int, count: int | None, seed: int, fits: Callable[[int], bool] = lambda index: True) -> list[int]:
    """Indices of ``count`` of so many records, ascending; all of them if ``count`` is None or more than there are.

    A larger count adds to what a smaller one chooses. Records that do not fit are passed over; no more of them are
    looked at than are needed.

    Raises:
        ConfigError: ``count`` is less than 1.
    """
    require(count is None or count >= 1, "count", count, "1 or more, or none for all records")
    if count is None or count >= records:
        return list(filter(fits, range(records)))
    order = np.random.default_rng(seed).permutation(records).tolist()
    return sorted(itertools.islice(filter(fits, order), count))
