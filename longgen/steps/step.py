"""A step, and which steps are left to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longgen.files import read_json, write_json
from longgen.provenance import fingerprint


@dataclass(frozen=True)
class Step:
    """A command of `longgen`, and what is known of it without running it.

    Attributes:
        name: such as ``extend longgen-sink``.
        words: of the command line, after ``longgen``.
        needs: names of the steps whose ``makes`` it reads.
        settings: plain data: what determines the outcome, besides what it reads.
        results: files that it writes, to be kept.
        makes: file or folder that other steps read.
        temporary: ``makes`` is deleted when no step that is left needs it.
        carried: ``makes`` is worth taking to the next machine: it takes long to make, or cannot be made there.
        checkpoint: folder from which it goes on when it was stopped; such a step takes ``--minutes``.
        repeatable: whether a second run gives the same records.
    """

    name: str
    words: tuple[str, ...]
    needs: tuple[str, ...] = ()
    settings: Any = None
    results: tuple[Path, ...] = ()
    makes: Path | None = None
    temporary: bool = False
    carried: bool = False
    checkpoint: Path | None = None
    repeatable: bool = False


@dataclass
class Journal:
    """Which steps were done with which settings, in a file beside what they made.

    Attributes:
        path: of the file.
        done: step -> its identity (`identities`).
        saved: when the last step was done, in seconds since 1970; 0 if none was.
    """

    path: Path
    done: dict[str, str] = field(default_factory=dict)
    saved: float = 0.0

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Read the file, if it is there. Raises ArtifactError if it is damaged."""
        return cls(path, **read_json(path, "python -m longgen.steps")) if path.exists() else cls(path)

    def add(self, name: str, identity: str) -> None:
        """A step is done."""
        self.done[name], self.saved = identity, time.time()
        write_json(self.path, {"done": self.done, "saved": self.saved})


def identities(steps: Sequence[Step]) -> dict[str, str]:
    """Step -> fingerprint of its settings and of those of all steps before it, by way of what it needs."""
    found: dict[str, str] = {}
    for step in steps:
        found[step.name] = fingerprint([step.name, step.settings, [found[name] for name in step.needs]])
    return found


def steps_left(steps: Sequence[Step], journal: Journal) -> list[Step]:
    """The steps to run, in order: those whose results are not there, and those that make what these need.

    Args:
        steps: all of them, each after what it needs.
        journal: of the steps that were done: what is there with other settings counts for nothing.
    """
    wanted_identity, by_name = identities(steps), {step.name: step for step in steps}
    left: set[str] = set()

    def is_there(step: Step, paths: Sequence[Path | None]) -> bool:
        same = journal.done.get(step.name) == wanted_identity[step.name]
        return same and all(path is None or path.exists() for path in paths)

    for step in reversed(steps):
        if step.results and not is_there(step, step.results):
            left.add(step.name)
        if step.name in left:
            left |= {name for name in step.needs if not is_there(by_name[name], [by_name[name].makes])}
    return [step for step in steps if step.name in left]


def needed_by(left: Sequence[Step]) -> set[str]:
    """Names of the steps whose ``makes`` the steps that are left read."""
    return {name for step in left for name in step.needs}
