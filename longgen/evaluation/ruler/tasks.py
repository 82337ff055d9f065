"""What distinguishes the 13 tasks, read from the benchmark's definitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from longgen.errors import ConfigError
from longgen.evaluation.protocol import protocol

TASKS: tuple[str, ...] = tuple(protocol("ruler")["tasks"])


@dataclass(frozen=True)
class RulerTask:
    """One of the 13 tasks.

    Attributes:
        name: one of `TASKS`.
        family: the official script that makes it.
        template: of the prompt, with the answer prefix at its end, as the official ``base`` model template has it.
        max_new_tokens: the official ``tokens_to_generate``.
        match: ``all`` answers count, each with its share, or ``part``: one is enough.
        options: of the family, such as the type of haystack.
    """

    name: str
    family: str
    template: str
    max_new_tokens: int
    match: str
    options: dict[str, Any]


def find_task(name: str) -> RulerTask:
    """The task called ``name``. Raises ConfigError if there is none."""
    if name not in TASKS:
        raise ConfigError(f"task is {name!r}: allowed with ruler are {', '.join(TASKS)}")
    options = dict(protocol("ruler")["tasks"][name])
    family = options.pop("family")
    strings = protocol("ruler")["families"][family]
    template = strings["template"] + strings["answer_prefix"]
    return RulerTask(name, family, template, strings["max_new_tokens"], strings["match"], options)
