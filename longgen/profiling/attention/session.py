"""A measuring session: what is done, what is left, how much time there is; every result is on disk at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from longgen.errors import ArtifactError
from longgen.foreign import first_line
from longgen.results import Result, load_result, save_result

Record = dict[str, Any]


@dataclass
class ResultFile:
    """A results file that grows record by record, and goes on where an earlier session of the same kind stopped.

    Attributes:
        path: the file; written anew, atomically, with every record.
        result: what it holds; provenance and settings are those of this session.
        key: the columns that identify a record.
    """

    path: Path
    result: Result
    key: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, result: Result, key: tuple[str, ...]) -> ResultFile:
        """Take over what ``path`` holds, if it was measured by the same code on the same device.

        Raises:
            ArtifactError: the file was made otherwise: it is neither overwritten nor mixed with other numbers.
        """
        if path.exists():
            found = load_result(path, made_by="python -m longgen.profiling.gpu")
            for what in ("git_commit", "device", "packages", "config_hash"):
                if found.provenance.get(what) != result.provenance.get(what):
                    raise ArtifactError(
                        f"{path}: {what} is {found.provenance.get(what)}, now it is {result.provenance.get(what)}: "
                        "numbers of both must not mix; move the file away or choose another --output"
                    )
            result = replace(result, records=found.records)
        return cls(path, result, key)

    def find(self, record: Record) -> Record | None:
        """The record with the same key, if there is one."""
        return next((old for old in self.result.records if all(old[name] == record[name] for name in self.key)), None)

    def drop(self, record: Record, key: tuple[str, ...]) -> None:
        """Forget the records that are like ``record`` in the columns ``key``, in favour of those that follow."""
        self.result.records[:] = [old for old in self.result.records if any(old[name] != record[name] for name in key)]

    def put(self, record: Record) -> None:
        """Add a record, or replace the one with the same key; and write the file."""
        old = self.find(record)
        if old is None:
            self.result.records.append(record)
        else:
            self.result.records[self.result.records.index(old)] = record
        save_result(self.path, self.result)


@dataclass
class Budget:
    """Seconds to spend, from now on."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds left; negative when overdrawn."""
        return self.seconds - (time.monotonic() - self.started)


# What a record says of its measurement. Only the first two are final: the others are tried again in another session.
MEASURED, UNSUPPORTED, FAILED, NOT_MEASURED = "measured", "unsupported", "failed", "not measured"
NO_TIME = "no time left"


def no_time_for(seconds: float) -> str:
    """The reason where what is predicted to take so long is not begun."""
    return f"{NO_TIME}: predicted to take {seconds / 60:,.1f} minutes"


def attempt(measure: Callable[[], Record], empty: Sequence[str], budget: Budget, needed: float) -> Record:
    """What ``measure`` gives, with a status and the reason for every other status than measured.

    Args:
        measure: gives the measured columns.
        empty: the names of these columns; None where nothing was measured.
        budget: of the session.
        needed: seconds that it may take: it is not begun with fewer left.
    """
    blank: Record = dict.fromkeys(empty)
    if budget.left() < needed:
        return {"status": NOT_MEASURED, "reason": NO_TIME, **blank}
    try:
        return {"status": MEASURED, "reason": None, **measure()}
    except ValueError as error:  # how ours, and others, say what they do not serve
        return {"status": UNSUPPORTED, "reason": first_line(error), **blank}
    except Exception as error:  # one that fails, out of memory included, must not cost the session the others
        return {"status": FAILED, "reason": f"{type(error).__name__}: {first_line(error)}", **blank}


def is_done(record: Record | None) -> bool:
    """Whether another session need not try again."""
    return record is not None and record["status"] in (MEASURED, UNSUPPORTED)
