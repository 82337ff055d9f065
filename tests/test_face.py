"""What `longgen` itself offers: names from where they are defined, and `python -m longgen`."""

import subprocess
import sys

import pytest

import longgen

CODE = """
import sys
from longgen import Hybrid, Layout, Model, ModelShape, SparsePattern, load_experiment, load_result, make_layout
assert not {"torch", "transformers"} & set(sys.modules), "these take seconds"
import longgen
assert set(longgen.__all__) <= set(dir(longgen))
print(make_layout(6, 2, "middle").num_full)
from longgen import *
assert convert_checkpoint.__module__ == "longgen.modeling.convert" and LongGenCache and sparse_attention
"""


@pytest.mark.slow
def test_names_are_there_when_they_are_asked_for():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"
    with pytest.raises(AttributeError, match="module 'longgen' has no attribute 'nonsense'"):
        longgen.nonsense  # noqa: B018


def test_the_package_is_the_command_too():
    done = subprocess.run([sys.executable, "-m", "longgen", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"longgen {longgen.__version__}\n"
