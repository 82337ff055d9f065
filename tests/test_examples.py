"""The examples run as a user would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent


def run(tmp_path: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *words],
        cwd=tmp_path,  # not the repository: nothing may depend on it
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["middle:1/3", "heads:1/3"])
def test_convert_and_generate(layout, tmp_path):
    outcome = run(tmp_path, "convert_and_generate.py", "--layout", layout)
    assert outcome.returncode == 0, outcome.stderr
    assert "LongGenLlamaForCausalLM" in outcome.stdout
    saved = [float(line.split()[-1].rstrip("%")) for line in outcome.stdout.splitlines() if line.endswith("%")]
    assert len(saved) == 3, outcome.stdout
    assert saved == sorted(saved)
    assert saved[-1] > 60, "a third of the layers full, and little else, at 4,096 tokens"
    assert outcome.stdout.rstrip().endswith("all the same tokens")


@pytest.mark.slow
def test_the_models_that_ship_find_the_needle(tmp_path):
    outcome = run(tmp_path, "find_the_needle.py")
    assert outcome.returncode == 0, outcome.stderr
    shown = re.search(r"\.\.\.\n(key at.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1].splitlines()
    assert shown[1] in [line.rstrip() for line in outcome.stdout.splitlines()], "README asks for the keys of now"
    found = {name: line for line in outcome.stdout.splitlines() for name in re.findall(r"^([a-z-]+) +[\d*]", line)}
    assert list(found) == ["full", "longgen-sink", "all-sparse"]
    right = {name: line.count("*") for name, line in found.items()}
    # README shows 5, 5 and 0; another processor may round a digit to another
    assert min(right["full"], right["longgen-sink"]) >= 4 and right["all-sparse"] == 0, outcome.stdout
    assert found["longgen-sink"].endswith("3.42 MiB (-62%)"), "as planned for 2,048 tokens"
    assert max(map(len, outcome.stdout.splitlines())) <= 80


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--length", "4096"], "--length is 4096: allowed is 192..2048"),
        (["--depths", "2"], "--depths is [2.0]: allowed are numbers within 0..1"),
        (["--seed", "-1"], "--seed is -1: allowed is a whole number >= 0"),
        (["--models", "nowhere"], "--models is nowhere: it has no full, longgen-sink, all-sparse"),
    ],
)
def test_what_cannot_be_asked_is_named(words, message, tmp_path):
    outcome = run(tmp_path, "find_the_needle.py", *words)
    assert outcome.returncode == 2
    assert message in " ".join(outcome.stderr.split())


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_did_when_it_was_kept():
    kept = nbformat.read(ROOT / "examples" / "longgen.ipynb", 4)
    again = nbformat.read(ROOT / "examples" / "longgen.ipynb", 4)
    NotebookClient(again, kernel_name="python3", resources={"metadata": {"path": ROOT / "examples"}}).execute()
    cells = [pair for pair in zip(kept.cells, again.cells, strict=True) if pair[0].cell_type == "code"]
    assert all(cell.outputs for cell, _ in cells), "`make notebook` keeps the outputs"
    assert not [output for cell, _ in cells for output in cell.outputs if output.get("name") == "stderr"]
    plan = [next(output.text for output in cell.outputs if "text" in output) for cell in cells[1]]
    assert plan[0] == plan[1] and "1.81x" in plan[0]
    tables = [cell.outputs[-1].data["text/html"] for cell in cells[-1]]
    assert tables[0] == tables[1] and "longgen-sink" in tables[0]
