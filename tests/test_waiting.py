"""No test depends on time: what a busy machine does late is as right as what it does at once."""

import ast
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
CLOCKS = {"sleep", "time", "monotonic", "perf_counter"}
# the one way to wait, a command that tells how long it took, and one that interrupts at random moments
MAY = {"waiting.py", "aot/gate.py", "workflow/interruptions.py"}


def clocks_of(path: Path) -> list[str]:
    """Where a file waits for a time, or looks at one."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            seconds = [key.arg for key in node.keywords if key.arg == "timeout" and isinstance(key.value, ast.Constant)]
            deadline = (
                [key.arg for key in node.keywords if key.arg == "deadline"] if called.endswith("settings") else []
            )
            if (called.startswith("time.") and called.removeprefix("time.") in CLOCKS) or seconds or deadline:
                found.append(f"{path.relative_to(TESTS)}:{node.lineno}: {ast.unparse(node)}")
    return found


def test_examples_of_a_property_take_as_long_as_they_take():
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check


@pytest.mark.slow
def test_no_test_has_a_clock_of_its_own():
    files = [path for path in TESTS.rglob("*.py") if str(path.relative_to(TESTS)) not in MAY]
    assert len(files) > 100
    assert [clock for path in files for clock in clocks_of(path)] == []
