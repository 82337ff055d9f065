"""A measuring session: the cases of a stage, one after another, within a time budget; every result is on disk at once.

What is measured, a `Stage` says: `longgen.profiling` lists them. All else is here: what an earlier session left is not
measured again, what does not fit in the time that is left is not begun, and a case that fails costs itself alone.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

from longgen.errors import ArtifactError
from longgen.foreign import first_line
from longgen.profiling.device import free_memory
from longgen.progress import progress_bar
from longgen.provenance import provenance
from longgen.records.kernels import Status
from longgen.records.schema import FAILED, MEASURED, NOT_MEASURED, UNSUPPORTED
from longgen.results import Result, load_result, save_result, typed_records

Case = TypeVar("Case")
Record = TypeVar("Record", bound=Status)
Columns = dict[str, Any]  # of a record: values by name
NO_TIME = "no time left"


class NoTimeError(Exception):
    """What is not begun, as it would not end within the budget; another session tries again."""


@dataclass
class Budget:
    """Seconds to spend, from now on."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds left; negative when overdrawn."""
        return self.seconds - (time.monotonic() - self.started)

    def require(self, seconds: float, notes: Sequence[str] = ()) -> None:
        """Raise NoTimeError, ``notes`` before its reason, if what is predicted to take ``seconds`` would not end."""
        if self.left() < seconds:
            reason = f"{NO_TIME}: predicted to take {seconds / 60:,.1f} minutes"
            raise NoTimeError("; ".join([*notes, reason]))


class Stage(ABC, Generic[Case, Record]):
    """One kind of measurement: what its cases are, what each measures, what its records hold, and what a table shows.

    Attributes:
        kind: of its results file.
        key: names of columns that tell the records of one case from those of others.
        title: for the progress bar.
        unit: what the progress bar counts.
        makes_models: to free whose memory takes the garbage collector after every case: a tenth of a second.
        device: where it measures: ``cpu`` or ``cuda``.
        settings: of the results file; records that were measured under others do not mix with these.
    """

    kind: ClassVar[str]
    key: ClassVar[tuple[str, ...]] = ()
    title: ClassVar[str]
    unit: ClassVar[str] = "case"
    makes_models: ClassVar[bool] = False
    device: str
    settings: dict[str, Any]

    def first_cases(self) -> list[Case]:
        """What is missed most: the scale of the paper's claims."""
        return []

    @abstractmethod
    def more_cases(self) -> list[Case]:
        """All others, in order of what is missed most."""

    @abstractmethod
    def blank(self, case: Case) -> Record:
        """The one record of a case that was not measured, but for status and reason (`Status.blank`)."""

    def identities(self, case: Case) -> list[Columns]:
        """Columns by which records are known as those of ``case``: all of one of these."""
        blank = self.blank(case)
        return [{name: getattr(blank, name) for name in self.key}]

    @abstractmethod
    def measure(self, case: Case, budget: Budget) -> list[Record]:
        """The records of ``case``.

        Raises:
            ValueError: it is not supported, or does not fit in memory.
            NoTimeError: it would not end within ``budget``.
        """

    @abstractmethod
    def table(self, records: Sequence[Record]) -> str:
        """All records as text to read in a terminal."""

    def seconds_to_start(self, case: Case) -> float:
        """What a case takes at least: with less left it is not begun."""
        return 10.0

    def resolve(self, case: Case, records: Sequence[Record]) -> Case | None:
        """``case`` with what ``records`` of earlier cases decide about it; None if these leave nothing to do."""
        return case

    def prepare(self, cases: Sequence[Case]) -> AbstractContextManager[object]:
        """A context within which all ``cases`` are measured; it may start some of them ahead of their turn."""
        return nullcontext()

    def complete(self, records: list[Record]) -> list[Record]:
        """The records with what follows from all of them together."""
        return records


@dataclass
class ResultFile:
    """A results file that grows case by case, and goes on where an earlier session of the same kind stopped.

    Attributes:
        path: the file; written anew, atomically, with the records of every case.
        result: what it holds; provenance and settings are those of this session.
    """

    path: Path
    result: Result

    @classmethod
    def open(cls, folder: Path, name: str, kind: str, settings: dict[str, Any], device: str) -> ResultFile:
        """The file of run ``name`` below ``folder``, with what an earlier session of the same code left in it.

        Raises:
            ArtifactError: it was made by other code, on another device, or under other settings: it is neither
                overwritten nor mixed with other numbers.
        """
        path = folder / name / "kernels" / f"{kind}.json"
        result = Result(kind, name, [], provenance(settings, seed=0, device=device), settings=settings)
        if path.exists():
            earlier = load_result(path, made_by="python -m longgen.profiling.gpu")
            for what in ("git_commit", "device", "packages", "config_hash"):
                if earlier.provenance.get(what) != result.provenance.get(what):
                    raise ArtifactError(
                        f"{path}: {what} is {earlier.provenance.get(what)}, now it is {result.provenance.get(what)}: "
                        "numbers of both must not mix; move the file away or choose another --output"
                    )
            result = replace(result, records=typed_records(path, replace(earlier, kind=kind)))
        return cls(path, result)

    def put(self, records: Iterable[Any], identities: Sequence[Columns] = ()) -> None:
        """Add ``records``, in place of those that have all columns of one of ``identities``; and write the file."""
        old = self.result.records
        replaced = [any(_has(record, identity) for identity in identities) for record in old]
        place = replaced.index(True) if any(replaced) else len(old)
        others = [record for record, goes in zip(old[place:], replaced[place:], strict=True) if not goes]
        old[place:] = [*records, *others]
        save_result(self.path, self.result)


class Session(Generic[Case, Record]):
    """Measures cases of a stage.

    Args:
        stage: what is measured.
        folder: of the runs.
        name: of the run.
        budget: seconds, which other sessions may share.

    Raises:
        ArtifactError: as `ResultFile.open`.
    """

    def __init__(self, stage: Stage[Case, Record], folder: Path, name: str, budget: Budget) -> None:
        self.stage, self.budget = stage, budget
        self._file = ResultFile.open(folder, name, stage.kind, stage.settings, stage.device)
        self.path, self.records = self._file.path, cast(list[Record], self._file.result.records)

    def run(self, cases: Iterable[Case]) -> None:
        """Measure ``cases`` in this order, those alone that no earlier session is done with."""
        cases, stage = list(cases), self.stage
        with (
            stage.prepare([case for case in cases if not self._is_done(case)]),
            progress_bar(len(cases), stage.title, stage.unit) as bar,
        ):
            for unresolved in cases:
                case = stage.resolve(unresolved, self.records)
                if case is not None and not self._is_done(case):
                    self._file.put(self._records_of(case), stage.identities(case))
                    free_memory(stage.device, stage.makes_models)  # only now: an exception held what was made
                bar.update()
        if (completed := stage.complete(self.records)) != self.records:
            self.records[:] = completed
            self._file.put([])

    def table(self) -> str:
        """All records as text to read in a terminal."""
        return self.stage.table(self.records)

    def _is_done(self, case: Case) -> bool:
        """Whether it was measured, or found to be unsupported."""
        identities = self.stage.identities(case)
        return any(
            record.status in (MEASURED, UNSUPPORTED) and any(_has(record, identity) for identity in identities)
            for record in self.records
        )

    def _records_of(self, case: Case) -> list[Record]:
        """The records of a case, whatever becomes of it."""
        try:
            if self.budget.left() < self.stage.seconds_to_start(case):
                raise NoTimeError(NO_TIME)
            return self.stage.measure(case, self.budget)
        except NoTimeError as error:
            status, reason = NOT_MEASURED, str(error)
        except ValueError as error:  # how ours, and others, say what they do not serve
            status, reason = UNSUPPORTED, first_line(error)
        except Exception as error:  # one that fails, out of memory included, must not cost the session the others
            status, reason = FAILED, f"{type(error).__name__}: {first_line(error)}"
        return [replace(self.stage.blank(case), status=status, reason=reason or None)]


def _has(record: Status, columns: Columns) -> bool:
    return all(getattr(record, name) == value for name, value in columns.items())
