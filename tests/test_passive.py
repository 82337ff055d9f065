"""Every command tells OpenMP how to wait before it imports PyTorch, which reads that once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import longgen
from longgen.passive import WAIT_POLICY

PACKAGE = Path(longgen.__file__).parent
# Imports what it is given up to where torch would be imported, and prints what is then set.
PROGRAM = """
import importlib, os, sys

class Torch(Exception):
    pass

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise Torch

sys.meta_path.insert(0, Finder())
given = os.environ.get(sys.argv[1])
for name in sys.argv[2:]:
    os.environ.pop(sys.argv[1], None)
    if given:
        os.environ[sys.argv[1]] = given
    for loaded in [module for module in sys.modules if module.startswith("longgen")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except Torch:
        pass
    print(name, os.environ.get(sys.argv[1]))
"""


def commands() -> list[str]:
    """Modules that are run: the console's, and those of `python -m`."""
    found = [path for path in PACKAGE.rglob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]
    names = ["longgen." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in found]
    return [
        "longgen.cli",
        *sorted(set(names) - {"longgen.data.packing.python_code", "longgen.workflow.graph"}),
    ]  # never with torch


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_unless_the_user_says_otherwise(given, expected):
    names = commands()
    assert {"longgen.__main__", "longgen.training.launch", "longgen.profiling.gpu"} <= set(names)
    environment = {name: value for name, value in os.environ.items() if name != WAIT_POLICY}
    environment |= {WAIT_POLICY: given} if given else {}
    words = [sys.executable, "-c", PROGRAM, WAIT_POLICY, *names]
    told = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [f"{name} {expected}" for name in names]


def test_a_program_that_imports_longgen_decides_for_itself():
    environment = {name: value for name, value in os.environ.items() if name != WAIT_POLICY}
    program = f"import os, longgen, longgen.config; print(os.environ.get({WAIT_POLICY!r}))"
    words = [sys.executable, "-c", program]
    assert subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout == "None\n"
