"""transformers' own common model tests, run against hybrids and, beside them, their base models.

    python -m tests.peer                                   # all families and patterns
    python -m tests.peer --family llama --pattern sink     # one, and its base
    python -m tests.peer --test torch_compile              # tests whose names contain that

Downloads the source archive of the transformers version that is installed, and keeps its tests in `.peer-tests`. Ends
with status 1 if a test fails without a reason in `tests.peer.expected`, or for another one, or passes in spite of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs the hub
os.environ.setdefault("RUN_SLOW", "1")  # at these sizes they are not
os.environ.setdefault("TRANSFORMERS_TEST_DEVICE", "cpu")  # for which `tests.peer.expected` is

import pytest

from longgen.tables import Table
from tests.peer.expected import EXPECTED
from tests.peer.fetched import fetch
from tests.peer.outcomes import Outcomes
from tests.peer.testers import BASE, CASES, PATTERNS

KINDS = ("passed", "expected", "as base", "skipped", "failed")
CASES_FILE = Path(__file__).with_name("cases.py")


def main() -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.peer", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--family", choices=sorted({case.family for case in CASES}), help="default: all")
    parser.add_argument("--pattern", choices=[BASE, *PATTERNS], help="default: all; the base runs in any case")
    parser.add_argument("--test", default="", help="only tests whose names contain this (or as pytest's -k)")
    parser.add_argument("--processes", type=int, default=0, help="default: this one")
    arguments = parser.parse_args()

    fetch()
    families = {arguments.family} if arguments.family else {case.family for case in CASES}
    patterns = {arguments.pattern, BASE} if arguments.pattern else {BASE, *PATTERNS}
    chosen = [case for case in CASES if case.family in families and case.pattern in patterns]
    outcomes = Outcomes()
    # our own settings of pytest are for our own tests
    options = ["-o", "addopts=", "-o", "filterwarnings=", "-q", "--tb=short", "-rN", "--no-summary"]
    options += ["-p", "no:cacheprovider", "-W", "ignore", "--no-header", "-n", str(arguments.processes)]
    pytest.main([*options, "-k", arguments.test, *(f"{CASES_FILE}::{case.class_name}" for case in chosen)], [outcomes])

    numbers, unexplained, explained = outcomes.judge()
    table = Table(["case"], KINDS)
    for case in chosen:
        table.add(str(case), *(str(numbers[case][kind]) if case in numbers else "-" for kind in KINDS))
    for text in outcomes.outside:
        print(text)
    for failure in unexplained:
        print(f"\n=== {failure.case} {failure.test}\n{failure.shown}\n{failure.what}")
    print()
    table.print()
    for expected, count in explained.items():
        print(f"expected {count} times: {expected.tests}\n    {expected.reason}\n    {expected.error}")
    for failure in unexplained:
        print(f"UNEXPLAINED {failure.case} {failure.test}: {failure.what.splitlines()[0]}")
    everything = not (arguments.family or arguments.pattern or arguments.test)
    stale = [expected.tests for expected in EXPECTED if everything and not explained[expected]]
    for tests in stale:
        print(f"STALE in tests/peer/expected.py, no such test: {tests}")
    ran = any(numbers[case]["passed"] for case in numbers)
    return int(bool(unexplained or stale or outcomes.outside or not ran))


if __name__ == "__main__":
    sys.exit(main())
