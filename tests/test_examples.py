"""The examples run as a user would run them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("layout", ["middle:1/3", "heads:1/3"])
def test_convert_and_generate(layout, tmp_path):
    script = ROOT / "examples" / "convert_and_generate.py"
    outcome = subprocess.run(
        [sys.executable, str(script), "--layout", layout],
        cwd=tmp_path,  # not the repository: nothing may depend on it
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "LongGenLlamaForCausalLM" in outcome.stdout
    saved = [float(line.split()[-1].rstrip("%")) for line in outcome.stdout.splitlines() if line.endswith("%")]
    assert len(saved) == 3, outcome.stdout
    assert saved == sorted(saved)
    assert saved[-1] > 60, "a third of the layers full, and little else, at 4,096 tokens"
    assert outcome.stdout.rstrip().endswith("all the same tokens")
