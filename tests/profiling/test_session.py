"""A measuring session, whatever its stage: what is measured again, what a failure costs, and what must not mix."""

import json
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from longgen.errors import ArtifactError
from longgen.profiling.rounds import median_columns
from longgen.profiling.session import Budget, NoTimeError, Session, Stage
from longgen.records.kernels import KernelTuningRecord
from longgen.records.schema import row_of
from longgen.results import load_result


class Numbers(Stage[int, KernelTuningRecord]):
    """Two records of each case, a number; what measuring it does, or raises, is set by hand."""

    kind, title, device = "kernel-tuning", "numbers", "cpu"
    key = ("queries",)
    settings: ClassVar = {}

    def __init__(self, outcomes=None):
        self.outcomes = outcomes or {}
        self.measured, self.ahead, self.open = [], [], False

    def first_cases(self):
        return [1]

    def more_cases(self):
        return [2, 3]

    def blank(self, case):
        heads = {"shape": "small", "num_heads": 1, "num_kv_heads": 1, "head_dim": 8}
        same = {"kernel": "forward", "length": 64, "pattern": "full", "dtype": "float32", "warps": 4, "stages": 1}
        return KernelTuningRecord.blank(**heads, **same, queries=case, keys=0, shipped=False)

    def seconds_to_start(self, case):
        return 10.0

    def resolve(self, case, records):
        return None if case == 0 else case

    @contextmanager
    def prepare(self, cases):
        self.ahead, self.open = list(cases), True
        yield
        self.open = False

    def measure(self, case, budget):
        assert self.open
        self.measured.append(case)
        if isinstance(outcome := self.outcomes.get(case), Exception):
            raise outcome
        found = [replace(self.blank(case), keys=keys, **median_columns([case / 2])) for keys in (0, 1)]
        found[1] = replace(found[1], **outcome or {})
        return found

    def complete(self, records):
        return [replace(record, length=len(records)) for record in records]

    def table(self, records):
        return f"{len(records)} records"


def run(folder, stage, *cases, seconds=3600.0):
    session = Session(stage, folder, "tries", Budget(seconds))
    session.run(cases)
    assert load_result(session.path).records == [row_of(each) for each in session.records], "all of it is on disk"
    return session


def statuses(session) -> list[tuple]:
    return [(record.queries, record.keys, record.status, record.reason) for record in session.records]


def test_another_session_measures_only_what_no_earlier_one_is_done_with(tmp_path):
    first = Numbers({2: torch.OutOfMemoryError("out of memory\nand a long dump"), 3: ValueError("not\nserved")})
    session = run(tmp_path, first, 1, 2, 3, 0)
    assert first.measured == [1, 2, 3], "of 0 there is nothing to do, as the stage decides"
    assert statuses(session) == [
        *((1, 0, "measured", None), (1, 1, "measured", None)),
        (2, 0, "failed", "OutOfMemoryError: out of memory"),
        (3, 0, "unsupported", "not"),
    ]
    second = Numbers()
    session = run(tmp_path, second, 3, 2, 1)
    assert second.measured == second.ahead == [2]
    assert [record[:3] for record in statuses(session)] == [
        *((1, 0, "measured"), (1, 1, "measured"), (2, 0, "measured"), (2, 1, "measured"), (3, 0, "unsupported"))
    ], "in its place"
    assert {record.length for record in session.records} == {5}, "what follows from all of them is up to date"
    assert session.table() == "5 records"


def test_what_there_is_no_time_for_waits_for_another_session(tmp_path):
    late = Numbers({1: NoTimeError("no time left: predicted to take 5.0 minutes")})
    assert statuses(run(tmp_path, late, 1)) == [
        (1, 0, "not measured", "no time left: predicted to take 5.0 minutes"),
    ]
    late = Numbers()
    assert statuses(run(tmp_path, late, 2, seconds=9.0))[1:] == [(2, 0, "not measured", "no time left")]
    assert late.measured == [], "it is not begun"
    assert {record[2] for record in statuses(run(tmp_path, Numbers(), 1, 2))} == {"measured"}


def test_a_budget_says_what_would_take_too_long():
    Budget(100).require(60)
    with pytest.raises(NoTimeError, match=r"8 layers: too large; no time left: predicted to take 10\.0 minutes"):
        Budget(100).require(600, ["8 layers: too large"])


def test_a_record_may_say_itself_that_it_was_refused(tmp_path):
    refused = {"status": "unsupported", "reason": "too large"}
    assert statuses(run(tmp_path, Numbers({1: refused}), 1)) == [
        (1, 0, "measured", None),
        (1, 1, "unsupported", "too large"),
    ]
    again = Numbers()
    run(tmp_path, again, 1)
    assert again.measured == []


@pytest.mark.parametrize("changed", ["git_commit", "device", "packages", "config_hash"])
def test_numbers_of_other_code_are_neither_overwritten_nor_mixed(changed, tmp_path):
    path = run(tmp_path, Numbers(), 1).path
    value = json.loads(path.read_text())
    value["provenance"][changed] = "another"
    path.write_text(json.dumps(value))
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match=f"{changed} is another, now it is .*must not mix; move the file away"):
        run(tmp_path, Numbers(), 1, 2)
    assert path.read_bytes() == before


def test_a_record_that_its_kind_does_not_declare_is_neither_gone_on_with_nor_overwritten(tmp_path):
    path = run(tmp_path, Numbers(), 1).path
    value = json.loads(path.read_text())
    value["records"][1] |= {"seconds": None}
    path.write_text(json.dumps(value))
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match=r"kernel-tuning\.json: records\[1\]: seconds is None: allowed is number"):
        run(tmp_path, Numbers(), 1, 2)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [({"seconds": None}, "seconds is None: allowed is number"), ({"status": "done"}, "status is 'done': allowed are")],
)
def test_a_record_without_what_it_measured_is_not_written(outcome, problem, tmp_path):
    with pytest.raises(TypeError, match=problem):
        run(tmp_path, Numbers({1: outcome}), 1)
    assert not list(tmp_path.rglob("*.json"))
