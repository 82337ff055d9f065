"""What became of every test, gathered while pytest runs, and what that means."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import NamedTuple

import pytest

from tests.peer.expected import ExpectedFailure, expected_failure
from tests.peer.testers import BASE, CASES, Case


class Unexplained(NamedTuple):
    """A test that does something else than it should, and what pytest shows of it."""

    case: Case
    test: str
    what: str
    shown: str = ""


class Outcomes:
    """A pytest plugin. A test has failed if it or one of its subtests has."""

    def __init__(self) -> None:
        self.seen: dict[Case, dict[str, str]] = defaultdict(dict)
        self.errors: dict[tuple[Case, str], list[tuple[str, str]]] = defaultdict(list)
        self.skipped: dict[tuple[Case, str], str] = {}  # and why
        self.outside: list[str] = []  # errors of collection
        self._cases = {case.class_name: case for case in CASES}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Nothing collected is an error too."""
        if report.failed:
            self.outside.append(report.longreprtext)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One of setup, call, a subtest of call, or teardown."""
        _, class_name, test = report.nodeid.split("::")
        case = self._cases[class_name]
        before = self.seen[case].get(test, "")
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.errors[case, test].append((crash.message if crash else report.longreprtext, report.longreprtext))
            self.seen[case][test] = "failed"
            return
        if report.skipped:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skipped[case, test] = why
        if before != "failed" and (report.skipped or not before):
            self.seen[case][test] = report.outcome

    def judge(self) -> tuple[dict[Case, Counter[str]], list[Unexplained], Counter[ExpectedFailure]]:
        """Numbers per case, what is unexplained, and how many tests every expected failure explains."""
        numbers: dict[Case, Counter[str]] = {}
        unexplained: list[Unexplained] = []
        explained: Counter[ExpectedFailure] = Counter()
        for case, tests in self.seen.items():
            numbers[case] = Counter()
            for test, outcome in tests.items():
                expected = expected_failure(str(case), test)
                kind, wrong = self._judge(case, test, outcome, expected)
                unexplained += wrong
                if kind == "expected" and expected is not None:
                    explained[expected] += 1
                numbers[case][kind] += 1
        return numbers, unexplained, explained

    def _judge(
        self, case: Case, test: str, outcome: str, expected: ExpectedFailure | None
    ) -> tuple[str, list[Unexplained]]:
        said = [(self.skipped[case, test], "")] if outcome == "skipped" else self.errors[case, test]
        if expected is not None:
            others = [] if outcome == "passed" else [pair for pair in said if not re.search(expected.error, pair[0])]
            if outcome != "passed" and not others:
                return "expected", []
            what, shown = others[0] if others else ("nothing", "")
            return "failed", [Unexplained(case, test, f"{outcome} with {what}; expected {expected.error}", shown)]
        of_base = self.seen[Case(case.family, BASE)].get(test)
        if outcome == "skipped" and of_base not in ("skipped", None):
            return "failed", [Unexplained(case, test, f"skipped with {said[0][0]}; the base's is not")]
        if outcome != "failed" or case.pattern == BASE:
            return outcome, []
        errors_of_base = {_comparable(line) for line, _ in self.errors[Case(case.family, BASE), test]}
        if {_comparable(line) for line, _ in said} <= errors_of_base:
            return "as base", []
        return "failed", [Unexplained(case, test, *said[0])]


def _comparable(message: str) -> str:
    """An error's first line without what differs between a model and its hybrid, or from run to run."""
    return re.sub(r"[0-9.e+-]+|LongGen|longgen_", "", message.split("\n")[0])
